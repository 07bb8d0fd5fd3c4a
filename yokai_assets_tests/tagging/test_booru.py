"""WD14-family taggers: the network sees what it was trained on, and misfits are told."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from yokai_assets.tagging.booru import open_booru_tagger
from yokai_assets.tagging.reading import ImageReader, TaggerError
from yokai_assets_tests.tagging.networks import SIDE_PX, TAGS, put_in_hub_cache, write_tagger

pytest.importorskip("onnx", reason="writing test networks needs onnx, part of the extra `dev`")


def opened(folder: Path, *, least: float = 0.0, batch_size: int = 2) -> ImageReader:
    return open_booru_tagger(str(folder), "cpu", min_probability=least, batch_size=batch_size)


@pytest.mark.parametrize("batch", ["batch", 1])
def test_channels_are_bgr_and_run_from_0_to_255(tmp_path: Path, batch: int | str) -> None:
    """Protects: red is not read as blue, and no network is shown 0-1; with batches and without."""
    tagger = opened(write_tagger(tmp_path, batch=batch))
    colours = [(200, 100, 50), (0, 255, 0), (10, 20, 250)]
    for (red, green, blue), reading in zip(
        colours, tagger.read([Image.new("RGB", (9, 9), colour) for colour in colours]), strict=True
    ):
        assert reading.tags["red ground"] == pytest.approx(red / 255, abs=1e-5)
        assert reading.tags["green ground"] == pytest.approx(green / 255, abs=1e-5)
        assert reading.tags["blue ground"] == pytest.approx(blue / 255, abs=1e-5)
    assert tagger.read([]) == []


def test_pictures_are_padded_with_white_on_both_sides(tagger_folder: Path) -> None:
    """Protects: rows are rows, nothing is stretched, and the ground is the one that these networks know."""
    wide, high = opened(tagger_folder).read([Image.new("RGB", size, "black") for size in ((48, 24), (24, 48))])
    assert wide.tags["^_^"] == pytest.approx(1.0) and wide.tags["left side (place)"] == pytest.approx(0.5, abs=0.02)
    assert high.tags["^_^"] == pytest.approx(0.5, abs=0.02) and high.tags["left side (place)"] == pytest.approx(1.0)


def test_pictures_are_scaled_bicubically(tagger_folder: Path) -> None:
    """Protects: probabilities are those of the author's own preprocessing."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (61, 61, 3), dtype=np.uint8))
    (reading,) = opened(tagger_folder).read([noise])
    scaled = np.asarray(noise.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)) / 255
    assert reading.tags["^_^"] == pytest.approx(scaled[0].mean(), abs=1e-5)
    assert reading.tags["left side (place)"] == pytest.approx(scaled[:, 0].mean(), abs=1e-5)


def test_general_tags_alone_are_told_most_probable_first(tagger_folder: Path) -> None:
    """Protects: no ratings, no names of other people's characters; underscores are spaces, but faces stay faces."""
    (reading,) = opened(tagger_folder, least=0.35).read([Image.new("RGB", (9, 9), (200, 100, 50))])
    assert list(reading.tags) == ["red ground", "^_^", "left side (place)", "green ground"]
    assert list(reading.tags.values()) == sorted(reading.tags.values(), reverse=True)


def test_fingerprint_changes_with_whatever_changes_tags(tagger_folder: Path, tmp_path: Path) -> None:
    """Protects: kept readings are of this network, these names and this threshold, wherever the files lie."""
    first = opened(tagger_folder).fingerprint
    copy = write_tagger(tmp_path / "copy")
    assert opened(copy, batch_size=7).fingerprint == first
    assert opened(copy, least=0.4).fingerprint != first
    assert opened(write_tagger(tmp_path / "names", tags=(*TAGS[:-1], ("hero", 4)))).fingerprint != first
    assert opened(write_tagger(tmp_path / "weights", scale=0.5 / 255)).fingerprint != first


def test_files_that_do_not_fit_are_told(tmp_path: Path) -> None:
    """Protects: a network with another one's list would give confident nonsense."""
    with pytest.raises(
        TaggerError, match=r"selected_tags\.csv: it has 6 tags, but .*model\.onnx gives \[1, 7\] outputs"
    ):
        opened(write_tagger(tmp_path / "short", tags=TAGS[:-1]))
    with pytest.raises(TaggerError, match=r"expected one tensor\(float\) \[N, side, side, 3\] \(channels last\)"):
        opened(write_tagger(tmp_path / "first", channels_first=True))
    with pytest.raises(TaggerError, match="channels last"):
        opened(write_tagger(tmp_path / "free", side="side"))
    with pytest.raises(TaggerError, match=r"no probabilities\. Export the network with the sigmoid"):
        opened(write_tagger(tmp_path / "logits", scale=1.0))


def test_damaged_files_are_told(tmp_path: Path) -> None:
    """Protects: an unfinished download, or a page of HTML in its place, is named."""
    folder = write_tagger(tmp_path)
    (folder / "selected_tags.csv").write_text("<!DOCTYPE html>\n<html></html>\n")
    with pytest.raises(TaggerError, match=r"selected_tags\.csv: not a list of tags .*Expected columns tag_id, name"):
        opened(folder)
    (folder / "selected_tags.csv").write_bytes(b"tag_id,name,category\n1,\xff\xfe,0\n")
    with pytest.raises(TaggerError, match=r"selected_tags\.csv: not a list of tags"):
        opened(folder)
    write_tagger(folder)
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:100])
    with pytest.raises(TaggerError, match=r"model\.onnx: not a usable ONNX file .*Fetch it again"):
        opened(folder)
    (folder / "selected_tags.csv").unlink()
    with pytest.raises(TaggerError, match=r"selected_tags\.csv not found in this folder"):
        opened(folder)


def test_a_fetched_hub_model_is_used_without_a_connection(tagger_folder: Path, offline_hub: Path) -> None:
    """Protects: a hub id works, and what was fetched once is not asked for again."""
    put_in_hub_cache(offline_hub, "someone/tagger", tagger_folder)
    tagger = open_booru_tagger("someone/tagger", "cpu", min_probability=0.0, batch_size=2)
    assert tagger.fingerprint == opened(tagger_folder).fingerprint
