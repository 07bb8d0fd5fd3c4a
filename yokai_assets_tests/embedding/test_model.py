from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from yokai_assets.embedding.model import EmbeddingModelError, open_image_text_model
from yokai_assets.settings.model import EmbeddingSettings
from yokai_assets_tests.embedding.conftest import save_model


def image(colour: tuple[int, int, int], size: tuple[int, int] = (20, 30)) -> Image.Image:
    return Image.new("RGB", size, colour)


def settings_for(folder: Path, **options: object) -> EmbeddingSettings:
    return EmbeddingSettings.model_validate({"model": f"local-dir:{folder}", **options})


def test_images_and_texts_share_a_space_of_unit_vectors(settings: EmbeddingSettings) -> None:
    """Everything downstream takes cosines as dot products of float32 [N, D]."""
    model = open_image_text_model(settings, "cpu")
    images = model.embed_images([image((200, 0, 0)), image((0, 200, 0)), image((0, 0, 200)), image((9, 9, 9))])
    texts = model.embed_texts(["a fox", "a very long text " * 50])
    assert (images.shape, texts.shape, model.dimension) == ((4, 16), (2, 16), 16)
    assert images.dtype == texts.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(np.vstack([images, texts]), axis=1), 1.0, atol=1e-5)
    assert model.embed_images([]).shape == (0, 16) and model.embed_texts([]).shape == (0, 16)


def test_batches_do_not_change_vectors(settings: EmbeddingSettings) -> None:
    """An image has one vector, whatever is embedded beside it; else caches would lie."""
    model = open_image_text_model(settings, "cpu")
    images = [image((40 * n, 100, 255 - 40 * n)) for n in range(6)]
    together = model.embed_images(images)
    alone = np.concatenate([model.embed_images([one]) for one in images])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert np.abs(together[0] - together[5]).max() > 1e-3


def test_memory_that_runs_out_costs_speed_alone(settings: EmbeddingSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that is partly taken still embeds, and the vectors are the same."""
    import torch

    model = open_image_text_model(settings, "cpu")
    images = [image((40 * n, 100, 255 - 40 * n)) for n in range(6)]
    wanted, encode, sizes = model.embed_images(images), model._network.encode_image, []

    def with_room_for_one(batch: torch.Tensor) -> torch.Tensor:
        sizes.append(len(batch))
        if len(batch) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return encode(batch)  # pyright: ignore[reportCallIssue]

    monkeypatch.setattr(model._network, "encode_image", with_room_for_one)
    np.testing.assert_allclose(model.embed_images(images), wanted, atol=1e-5)
    assert sizes == [3, 1, 1, 1, 1, 1, 1]


def test_a_process_opens_a_model_once(settings: EmbeddingSettings) -> None:
    """Several assets of one process share the model in memory."""
    assert open_image_text_model(settings, "cpu") is open_image_text_model(settings, "cpu")


def test_fingerprint_follows_weights_preprocessing_and_ground(tmp_path: Path) -> None:
    """A cached vector is reused exactly when it would come out the same."""
    folders = {
        "one": save_model(tmp_path / "one", seed=1),
        "copy": save_model(tmp_path / "copy", seed=1),
        "weights": save_model(tmp_path / "weights", seed=2),
        "preprocess": save_model(tmp_path / "preprocess", seed=1, mean=0.4),
    }
    found = {name: open_image_text_model(settings_for(f), "cpu").fingerprint for name, f in folders.items()}
    found["ground"] = open_image_text_model(settings_for(folders["one"], neutral_grey=0), "cpu").fingerprint
    found["context"] = open_image_text_model(settings_for(folders["one"], context_share=0.3), "cpu").fingerprint
    found["batch"] = open_image_text_model(settings_for(folders["one"], batch_size=7), "cpu").fingerprint
    assert found["one"] == found["copy"] == found["batch"]
    assert len({found["one"], found["weights"], found["preprocess"], found["ground"]}) == 4


def test_fingerprint_is_the_same_in_every_process(model_folder: Path) -> None:
    """Nothing of one process (addresses, hash seeds) may slip into the cache key."""
    import subprocess
    import sys

    code = (
        "import sys; from yokai_assets.embedding.model import open_image_text_model as o;"
        "from yokai_assets.settings.model import EmbeddingSettings as S;"
        "print(o(S(model='local-dir:' + sys.argv[1]), 'cpu').fingerprint)"
    )
    there = subprocess.run([sys.executable, "-c", code, str(model_folder)], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == open_image_text_model(settings_for(model_folder), "cpu").fingerprint


def test_what_is_missing_is_named_with_a_remedy(tmp_path: Path) -> None:
    """An offline machine is told what to fetch and where to name it, before any work is done."""
    cases: list[tuple[dict[str, object], str]] = [
        ({"model": "local-dir:/nowhere/at-all"}, "open_clip_config.json"),
        ({"model": "ViT-B-32", "pretrained": None}, "embedding.pretrained"),
        ({"model": "ViT-B-32", "pretrained": str(tmp_path / "none.safetensors")}, "no such checkpoint"),
        ({"model": "ViT-B-32", "pretrained": "no_such_tag"}, "Known: "),
        ({"model": "ViT-No-Such", "pretrained": "openai"}, "knows no such architecture"),
    ]
    for options, message in cases:
        with pytest.raises(EmbeddingModelError, match=message):
            open_image_text_model(EmbeddingSettings.model_validate(options), "cpu")


def test_a_folder_without_weights_is_no_model(tmp_path: Path) -> None:
    """Random weights must never pass for a model: open_clip itself would only warn."""
    folder = save_model(tmp_path / "bare", seed=1)
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(EmbeddingModelError, match="no weights"):
        open_image_text_model(settings_for(folder), "cpu")


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    """A truncated download is told as such."""
    folder = save_model(tmp_path / "cut", seed=1)
    file = folder / "open_clip_model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(EmbeddingModelError, match="cut"):
        open_image_text_model(settings_for(folder), "cpu")


def test_weights_of_not_a_number_are_refused(tmp_path: Path) -> None:
    """Broken weights stop the work instead of filling the tables with NaN."""
    from safetensors.torch import load_file, save_file

    folder = save_model(tmp_path / "nan", seed=1)
    file = folder / "open_clip_model.safetensors"
    weights = load_file(file)
    weights["text_projection"] = weights["text_projection"] * float("nan")
    save_file(weights, file)
    with pytest.raises(EmbeddingModelError, match="not finite"):
        open_image_text_model(settings_for(folder), "cpu")
