"""What only a GPU can show: recorded steps, memory that really runs out, half precision, resuming there.

Skipped without one. The bases have random weights; numbers are compared with tolerances, because kernels differ.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from upath import UPath

from yokai_assets.settings.training import TrainingSettings
from yokai_assets.training.base_model import BaseModel
from yokai_assets.training.cache import TensorCache
from yokai_assets.training.encoding import encode_dataset
from yokai_assets.training.files import TrainingFiles
from yokai_assets.training.images import TrainingItem
from yokai_assets.training.loop import TrainingLoop
from yokai_assets.training.trainer import train_lora
from yokai_assets_tests.benchmarks.random_bases import make_base
from yokai_assets_tests.training.tiny import make_settings

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
DEVICE = "cuda:0"


def make_items(folder: Path, sizes: list[tuple[int, int]], held_out: int = 1) -> list[TrainingItem]:
    rng = np.random.default_rng(0)
    items = []
    for index, (width, height) in enumerate(sizes):
        path = folder / f"{index:03d}.png"
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
        split = "held_out" if index < held_out else "train"
        items.append(TrainingItem(path.stem, UPath(path), None, f"zqkaro, number {index % 3}", split))
    return items


def make_loop(base: BaseModel, items: list[TrainingItem], folder: Path, settings: TrainingSettings) -> TrainingLoop:
    caches = TensorCache(UPath(folder / "latents")), TensorCache(UPath(folder / "text"))
    return TrainingLoop(
        base, encode_dataset(items, base, *caches, settings, prior_captions=["someone else"]), settings, 0
    )


def losses_of(loop: TrainingLoop, steps: int) -> list[float]:
    for _ in range(steps):
        loop.train_step()
    loop.flush()
    return loop.losses


@pytest.fixture
def whole_memory() -> Iterator[None]:
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_recorded_steps_train_the_same_lora(precision: Any, tmp_path: Path) -> None:
    """Several sizes, the prior, accumulation: replayed graphs must read each step's own numbers."""
    base = make_base("tiny", DEVICE, precision)
    items = make_items(tmp_path, [(32, 32), *[(32, 32)] * 6, *[(16, 64)] * 4])
    options = {
        "resolution_px": 32, "bucket_step_px": 16, "max_train_steps": 60, "prior_preservation": 0.4,
        "gradient_accumulation_steps": 2,
    }  # fmt: skip
    loops = [
        make_loop(base, items, tmp_path, make_settings(Path("tiny"), **options, cuda_graphs=is_recorded))
        for is_recorded in (False, True)
    ]
    plain, recorded = (losses_of(loop, 40) for loop in loops)
    passes = loops[1]._recorded
    assert all(one.trouble is None for one in passes.values())
    assert len(passes["gradients"]._recordings) >= 2
    assert len(passes["prior"]._recordings) >= 1
    assert recorded == pytest.approx(plain, rel=2e-2 if precision != "no" else 1e-3)
    assert loops[1].validation_loss() == pytest.approx(loops[0].validation_loss(), rel=2e-2)


def test_sdxl_steps_are_recorded(tmp_path: Path) -> None:
    """Pooled text and sizes are inputs of the recording, too."""
    from yokai_assets.training.base_model import open_base_model
    from yokai_assets_tests.training.tiny import make_base as write_base

    folder = write_base(tmp_path / "base", family="sdxl", use_linear_projection=True)
    base = open_base_model(str(folder), DEVICE, precision="bf16")
    items = make_items(tmp_path, [(32, 32)] * 5)
    loops = [make_loop(base, items, tmp_path, make_settings(folder, cuda_graphs=on)) for on in (False, True)]
    plain, recorded = (losses_of(loop, 12) for loop in loops)
    assert loops[1]._recorded["gradients"].trouble is None
    assert recorded == pytest.approx(plain, rel=2e-2)


@pytest.mark.usefixtures("whole_memory")
def test_memory_that_really_runs_out_is_survived(tmp_path: Path) -> None:
    """A UNet of SD 1.5's size with far too large a batch, also while steps are recorded."""
    base = make_base("sd15", DEVICE, "bf16")
    items = make_items(tmp_path, [(512, 512)] * 17)
    options = {"resolution_px": 512, "bucket_step_px": 64, "train_batch_size": 16, "network_dim": 8}
    loop = make_loop(base, items, tmp_path, make_settings(Path("sd15"), **options, prior_preservation=0.0))
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(14 * 2**30 / total)
    losses = losses_of(loop, 5)
    assert len(losses) == 5
    assert np.isfinite(losses).all()
    assert loop.micro_batch_size < 16
    assert "out of memory" in loop.notes[0][1]
    assert torch.cuda.max_memory_reserved() < 15 * 2**30


def test_a_stopped_training_goes_on_there(tmp_path: Path) -> None:
    """States of a GPU are loaded onto it; the curve goes on where it was, as that of a run that was not stopped."""
    base = make_base("tiny", DEVICE, "bf16")
    items = make_items(tmp_path, [(32, 32)] * 6)
    settings = make_settings(Path("tiny"), max_train_steps=24, save_every_n_steps=6)
    whole = train_lora(items, _files(tmp_path / "whole"), settings, DEVICE, 0, header={}, base=base)

    class StoppedError(Exception):
        pass

    def stop(done: int, total: int, note: str = "") -> None:
        if done >= 14:
            raise StoppedError

    with pytest.raises(StoppedError):
        train_lora(items, _files(tmp_path / "cut"), settings, DEVICE, 0, header={}, base=base, progress=stop)
    resumed = train_lora(items, _files(tmp_path / "cut"), settings, DEVICE, 0, header={}, base=base)
    assert 0 < resumed.resumed_from_step < 24
    assert resumed.losses == pytest.approx(whole.losses, rel=5e-2)
    assert [checkpoint.step for checkpoint in resumed.checkpoints] == [6, 12, 18, 24]


def test_text_encoders_train_on_a_gpu(tmp_path: Path) -> None:
    """Their captions are encoded anew in every step, which cannot be recorded and need not."""
    base = make_base("tiny", DEVICE, "bf16")
    items = make_items(tmp_path, [(32, 32)] * 4)
    loop = make_loop(base, items, tmp_path, make_settings(Path("tiny"), train_text_encoder=True))
    assert np.isfinite(losses_of(loop, 5)).all()


def test_a_function_that_cannot_be_recorded_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a library does that a graph cannot hold: the training goes on, says so, and torch is sound."""
    original = TrainingLoop._error

    def waiting(self: TrainingLoop, **inputs: Any) -> torch.Tensor:
        error = original(self, **inputs)
        float(error.sum())
        return error

    monkeypatch.setattr(TrainingLoop, "_error", waiting)
    base = make_base("tiny", DEVICE, "bf16")
    items = make_items(tmp_path, [(32, 32)] * 4)
    loop = make_loop(base, items, tmp_path, make_settings(Path("tiny"), prior_preservation=0.0))
    losses = losses_of(loop, 6)
    assert [setting for setting, words in loop.notes if "cannot be recorded" in words] == ["training.cuda_graphs"]
    assert np.isfinite(losses).all()
    # Memory must be given back as before, or running out of it would be the end.
    large = torch.empty(2**30, dtype=torch.uint8, device=DEVICE)
    before = torch.cuda.memory_reserved()
    del large
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() <= before - 2**30
    assert torch.isfinite(torch.randn(4, device=DEVICE)).all()


def _files(folder: Path) -> TrainingFiles:
    return TrainingFiles("zqkaro", UPath(folder), UPath(folder / "state"), UPath(folder / "cache"))
