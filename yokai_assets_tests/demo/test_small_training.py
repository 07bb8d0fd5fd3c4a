"""The scripts that train the matte and CLIP: they go on exactly where they stopped, and what they export loads."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from yokai_assets.demo.creatures import ATTRIBUTES
from yokai_assets.demo.scenes import paint_scene
from yokai_assets.demo.training import clip, clip_measures, matte
from yokai_assets.demo.training.random_crops import CropSet, render_crops
from yokai_assets.demo.training.random_frames import FRAME_PX, FrameSet, draw_frame
from yokai_assets.demo.training.resumable import Run


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def frames() -> FrameSet:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (40, 4, 8, 3), dtype=np.uint8).repeat(16, axis=1).repeat(16, axis=2)
    return FrameSet(pictures, np.where(pictures[..., 0] > 128, 255, 0).astype(np.uint8))


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> CropSet:
    return render_crops(tmp_path_factory.mktemp("crops"), 40, 2, 96, seed=1)


def test_stopped_matte_training_goes_on_to_the_same_weights(tmp_path: Path, frames: FrameSet):
    """Protects long trainings on machines that are switched off: a pause changes nothing."""
    straight = matte.train(Run(tmp_path / "straight", 6, None), frames, "cpu", seed=0)
    matte.train(Run(tmp_path / "paused", 6, minutes=0.0), frames, "cpu", seed=0)
    paused = Run(tmp_path / "paused", 6, None)
    resumed = matte.train(paused, frames, "cpu", seed=0)
    assert paused.step == 6
    for name, weights in straight.state_dict().items():
        assert torch.equal(weights, resumed.state_dict()[name]), name


def test_matte_learns_and_its_export_gives_probabilities_for_any_batch(tmp_path: Path, frames: FrameSet):
    """Protects the loop (the loss falls on a learnable rule) and the exported graph's free axes."""
    import onnxruntime

    network = matte.train(Run(tmp_path / "run", 30, None), frames, "cpu", seed=0)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    path = matte.export(network, tmp_path / "models" / "matte")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"image": matte.normalise(frames.pictures[:3])})
    found = np.asarray(found)
    assert found.shape == (3, 1, 64, 128) and found.min() >= 0 and found.max() <= 1
    true = frames.alphas[:3] > 128
    assert found[:, 0][true].mean() > found[:, 0][~true].mean() + 0.1
    assert losses[0] > 0.9


def test_rembg_sees_what_the_matte_was_trained_on():
    """Protects the preprocessing contract: division by the picture's maximum, then mean and deviation."""
    picture = np.full((1, 32, 32, 3), 51, np.uint8)
    expected = (1.0 - np.array(matte.MEAN)) / np.array(matte.STD)
    assert matte.normalise(picture)[0, :, 5, 5] == pytest.approx(expected, rel=1e-5)


def test_random_frames_have_alpha_where_creatures_are():
    """Protects the matte's training data: frames with and without creatures, alpha of the frame's size."""
    rng = np.random.default_rng(4)
    scene = paint_scene("sea", rng, FRAME_PX)
    shares = []
    for _ in range(12):
        picture, alpha = draw_frame(rng, scene)
        assert picture.size == alpha.size == FRAME_PX
        shares.append((np.asarray(alpha) > 128).mean())
    assert min(shares) == 0 and max(shares) > 0.05


def test_stopped_clip_training_goes_on_and_open_clip_loads_the_export(tmp_path: Path, crops: CropSet):
    """Protects resumption, and the folder's shape: open_clip finds configuration, weights and tokenizer offline."""
    tokenizer = clip.build_clip_tokenizer(crops.captions)
    straight = clip.train(Run(tmp_path / "straight", 2, None), crops, tokenizer, "cpu", seed=0)
    clip.train(Run(tmp_path / "paused", 2, minutes=0.0), crops, tokenizer, "cpu", seed=0)
    resumed = clip.train(Run(tmp_path / "paused", 2, None), crops, tokenizer, "cpu", seed=0)
    for name, weights in straight.state_dict().items():
        assert torch.equal(weights, resumed.state_dict()[name]), name
    clip.export(straight, tokenizer, tmp_path / "clip")
    model = clip_measures.open_folder(tmp_path / "clip")
    images = model.embed_images([Image.fromarray(picture) for picture in np.asarray(crops.pictures[:2])])
    texts = model.embed_texts(["a red creature", "zqkaro, ünïcode"])
    assert images.shape == texts.shape == (2, 128)
    assert np.linalg.norm(texts, axis=1) == pytest.approx(1.0, abs=1e-3)
    assert not np.allclose(texts[0], texts[1])
    measures = clip_measures.measure_clip(tmp_path / "clip", crops, crops)
    shares = [one for name, one in measures.items() if not name.startswith(("cosine", "overconfidence"))]
    assert len(shares) >= 4 + 2 * len(ATTRIBUTES)
    assert all(0 <= one.low <= one.mean <= one.high <= 1 for one in shares)
