"""The bundled demo models: only the shipped files are used, and they do what they are shipped for."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from yokai_assets.demo.compositing import Actor, compose
from yokai_assets.demo.creatures import ATTRIBUTES, sample_design, sample_pose
from yokai_assets.demo.models import BundledModelError, bundled_model, write_manifest
from yokai_assets.demo.scenes import paint_scene
from yokai_assets.demo.training.clip_measures import open_folder
from yokai_assets.demo.training.matte import SIZE_PX, measure, normalise
from yokai_assets.demo.training.random_crops import attribute_labels, draw_crop


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """A folder of models with one matte in it."""
    (tmp_path / "matte").mkdir()
    (tmp_path / "matte" / "matte.onnx").write_bytes(b"weights")
    (tmp_path / "matte" / "preprocessing.json").write_text("{}")
    write_manifest("matte", tmp_path)
    return tmp_path


def test_untouched_model_is_given(shelf: Path):
    """Protects the normal case."""
    assert bundled_model("matte", shelf) == shelf / "matte"


def test_changed_file_is_refused_by_name_with_a_remedy(shelf: Path):
    """Protects results from a damaged download or a half-written training run."""
    bundled_model("matte", shelf)
    (shelf / "matte" / "matte.onnx").write_bytes(b"weighty")
    with pytest.raises(BundledModelError, match=r"matte\.onnx: not the file .* Install the package again"):
        bundled_model("matte", shelf)


def test_missing_file_and_missing_model_are_told_apart(shelf: Path):
    """Protects the person who has to mend an installation."""
    (shelf / "matte" / "preprocessing.json").unlink()
    with pytest.raises(BundledModelError, match=r"preprocessing\.json: this file of the bundled model is missing"):
        bundled_model("matte", shelf)
    with pytest.raises(BundledModelError, match="lists no model 'clip'"):
        bundled_model("clip", shelf)


def test_manifest_of_one_model_leaves_the_others(shelf: Path):
    """Protects training scripts that run side by side from each other's entries."""
    shutil.copytree(shelf / "matte", shelf / "clip")
    write_manifest("clip", shelf)
    assert set(json.loads((shelf / "manifest.json").read_text())) == {"clip", "matte"}
    assert bundled_model("matte", shelf) and bundled_model("clip", shelf)


def test_bundled_matte_finds_unseen_creatures():
    """Protects the shipped matte: on creatures, places and sizes that it was not trained on."""
    import onnxruntime

    folder = bundled_model("matte")
    settings = json.loads((folder / "preprocessing.json").read_text())
    assert tuple(settings["size_px"]) == SIZE_PX
    session = onnxruntime.InferenceSession(str(folder / settings["file"]), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(987_654)
    pictures, alphas = [], []
    for place in ("sea", "room", "night town"):
        scene = paint_scene(place, rng, (384, 216))
        for size_px in (80, 120, 180):
            actor = Actor(sample_design(rng), sample_pose(rng), 0.5, scene.ground_y, size_px)
            frame = compose(scene, 0.4, [actor], has_foreground=False)
            pictures.append(np.asarray(frame.image.resize(SIZE_PX)))
            alphas.append(frame.alphas[0])
    found = np.asarray(session.run(None, {session.get_inputs()[0].name: normalise(np.stack(pictures))})[0])[:, 0]
    assert found.shape == (9, SIZE_PX[1], SIZE_PX[0]) and found.min() >= 0 and found.max() <= 1
    rows = np.linspace(0, 215, SIZE_PX[1]).round().astype(int)
    columns = np.linspace(0, 383, SIZE_PX[0]).round().astype(int)
    assert measure(found, np.stack(alphas)[:, rows][:, :, columns])["mean_iou"].mean > 0.85


def test_bundled_clip_tells_unseen_creatures_apart_and_their_colours():
    """Protects the shipped CLIP, loaded through open_clip: identity, and attributes by prompts."""
    rng = np.random.default_rng(123_987)
    scene = paint_scene("meadow", rng, (384, 216))
    pictures, labels = [], []
    for _ in range(8):
        design = sample_design(rng)
        for _ in range(4):
            pose = sample_pose(rng)
            pictures.append(np.asarray(draw_crop(rng, design, pose, scene, 96)))
            labels.append(attribute_labels(design, pose))
    prompts = list(ATTRIBUTES["body_colour"].values())
    model = open_folder(bundled_model("clip"))
    images, texts = model.embed_images([Image.fromarray(one) for one in pictures]), model.embed_texts(prompts)
    assert np.linalg.norm(images, axis=1) == pytest.approx(1.0, abs=1e-3)
    cosines = images @ images.T - 2 * np.eye(len(images))
    owner = np.repeat(np.arange(8), 4)
    assert (owner[cosines.argmax(axis=1)] == owner).mean() > 0.85
    assert ((images @ texts.T).argmax(axis=1) == np.array(labels)[:, 0]).mean() > 0.75
