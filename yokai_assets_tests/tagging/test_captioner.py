"""Captioners: the road through transformers, end to end, on a tiny BLIP."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from yokai_assets.tagging.captioner import Captioner, open_captioner
from yokai_assets.tagging.reading import ImageReader, TaggerError
from yokai_assets_tests.tagging.networks import WORDS, put_in_hub_cache, write_captioner


def opened(folder: Path, *, batch_size: int = 2, max_new_tokens: int = 8) -> ImageReader:
    return open_captioner(str(folder), "cpu", batch_size=batch_size, max_new_tokens=max_new_tokens)


def pictures(count: int) -> list[Image.Image]:
    noise = np.random.default_rng(1)
    return [
        Image.fromarray(np.repeat(np.repeat(noise.integers(0, 256, (4, 3, 3), dtype=np.uint8), 16, 0), 16, 1))
        for _ in range(count)
    ]


def test_every_picture_gets_its_own_sentence(captioner_folder: Path) -> None:
    """Protects: sentences come of the pictures, in their order, in words of the tokenizer."""
    shown = pictures(5)
    said = [reading.sentence for reading in opened(captioner_folder).read(shown)]
    assert len(set(said)) > 1
    words = {word for sentence in said for word in (sentence or "").replace(".", " ").split()}
    assert words and words <= set(WORDS) - {"[PAD]", "[SEP]", "[CLS]"}
    assert [reading.sentence for reading in opened(captioner_folder).read(shown[::-1])] == said[::-1]
    assert opened(captioner_folder).read([]) == []


def test_sentences_do_not_depend_on_chance_or_batches(captioner_folder: Path) -> None:
    """Protects: greedy decoding, so that a kept reading is what would be read again."""
    shown = pictures(5)
    first = opened(captioner_folder, batch_size=1).read(shown)
    assert opened(captioner_folder, batch_size=1).read(shown) == first
    assert opened(captioner_folder, batch_size=5).read(shown) == first


def test_length_is_bounded(captioner_folder: Path) -> None:
    """Protects: a captioner that finds no end does not talk for ever."""
    for reading in opened(captioner_folder, max_new_tokens=3).read(pictures(3)):
        assert len((reading.sentence or "").split()) <= 3


def test_a_sentence_is_one_line_without_a_full_stop() -> None:
    """Protects: captions are one line, joined by commas."""

    class Inputs(dict[str, Any]):
        def to(self, *_: object) -> "Inputs":
            return self

    class Processor:
        def __call__(self, images: Sequence[Image.Image], return_tensors: str) -> Inputs:
            return Inputs(pictures=images)

        def batch_decode(self, tokens: list[str], skip_special_tokens: bool) -> list[str]:
            return tokens

    class Network:
        def to(self, *_: object) -> "Network":
            return self

        def generate(self, pictures: Sequence[Image.Image], **_: object) -> list[str]:
            return [" a red  cat\nwith a hat. ", "e.g. a cat", " . "]

    reader = Captioner(Network(), Processor(), fingerprint="x", device="cpu", batch_size=3, max_new_tokens=9)
    assert [r.sentence for r in reader.read(pictures(3))] == ["a red cat with a hat", "e.g. a cat", None]


def test_fingerprint_changes_with_whatever_changes_sentences(captioner_folder: Path, tmp_path: Path) -> None:
    """Protects: kept sentences are of these weights, this preprocessing and this length, wherever the files lie."""
    first = opened(captioner_folder).fingerprint
    copy = tmp_path / "elsewhere"
    shutil.copytree(captioner_folder, copy)
    assert opened(copy, batch_size=3).fingerprint == first
    assert opened(copy, max_new_tokens=9).fingerprint != first
    described = copy / "processor_config.json"
    described.write_text(described.read_text().replace("0.48", "0.47"))
    assert opened(copy).fingerprint != first
    assert opened(write_captioner(tmp_path / "other", seed=1)).fingerprint != first


def test_weights_that_lack_a_matrix_are_refused(captioner_folder: Path, tmp_path: Path) -> None:
    """Protects: transformers would go on with random numbers, and only warn."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "holes"
    shutil.copytree(captioner_folder, folder)
    weights = load_file(folder / "model.safetensors")
    del weights["text_decoder.bert.encoder.layer.0.attention.self.query.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TaggerError, match=r"holes: the weights lack 1 of the network's matrices, e\.g\. text_decoder"):
        opened(folder)


def test_unusable_folders_are_told(captioner_folder: Path, tmp_path: Path) -> None:
    """Protects: missing weights, missing preprocessing and models of another kind are named, with the remedy."""
    without_weights = tmp_path / "empty"
    shutil.copytree(captioner_folder, without_weights)
    (without_weights / "model.safetensors").unlink()
    with pytest.raises(TaggerError, match=r"empty: transformers cannot open this model .*fetch it again, in full"):
        opened(without_weights)
    unfinished = tmp_path / "unfinished"
    shutil.copytree(captioner_folder, unfinished)
    (unfinished / "model.safetensors").write_bytes(b"\x08\x00")
    with pytest.raises(TaggerError, match="unfinished: transformers cannot open this model"):
        opened(unfinished)
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(TaggerError, match="other: transformers cannot open this model"):
        opened(other)


def test_a_chat_model_is_refused(captioner_folder: Path, tmp_path: Path) -> None:
    """Protects: a model that waits for a question does not answer with whatever comes."""
    folder = tmp_path / "chat"
    shutil.copytree(captioner_folder, folder)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(TaggerError, match="chat: this is a chat model"):
        opened(folder)


def test_a_fetched_hub_model_is_used_without_a_connection(captioner_folder: Path, offline_hub: Path) -> None:
    """Protects: a hub id works, and what was fetched once is not asked for again."""
    put_in_hub_cache(offline_hub, "someone/captioner", captioner_folder)
    reader = open_captioner("someone/captioner", "cpu", batch_size=2, max_new_tokens=8)
    assert reader.fingerprint == opened(captioner_folder).fingerprint
