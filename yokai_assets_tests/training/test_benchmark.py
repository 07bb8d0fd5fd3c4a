"""The benchmark `training` on networks of a second: that its ways run, not how fast they are."""

import sys
from pathlib import Path

import pytest

from yokai_assets.training.base_model import open_base_model
from yokai_assets_tests.benchmarks import training
from yokai_assets_tests.benchmarks.diffusers_loop import DiffusersLoop
from yokai_assets_tests.benchmarks.random_bases import SHAPES, make_networks
from yokai_assets_tests.benchmarks.training_workers import write_images
from yokai_assets_tests.training.tiny import make_base, make_settings


@pytest.mark.parametrize(("shape", "millions"), [("sd15", 859.5), ("sdxl", 2567.5)])
def test_random_bases_are_as_large_as_the_real_ones(shape: str, millions: float):
    import torch

    with torch.device("meta"):
        unet = make_networks(SHAPES[shape], torch.bfloat16)["unet"]
    assert sum(weight.numel() for weight in unet.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_the_counterpart_trains(family: str, tmp_path: Path):
    base = open_base_model(str(make_base(tmp_path / "base", family=family)), "cpu")
    write_images(tmp_path, 4, 32)
    files = [(file, "a red one") for file in sorted((tmp_path / "images").glob("*.png"))]
    loop = DiffusersLoop(base, files, make_settings(tmp_path / "base", lr_warmup_steps=0), 0)
    before = [weight.detach().clone() for weight in loop.parameters]
    for _ in range(3):
        loop.train_step()
    assert len(loop.losses) == 3
    assert all(0 < loss < 100 for loss in loop.losses)
    assert any(not old.equal(new) for old, new in zip(before, loop.parameters, strict=True))


def test_it_prints_a_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    options = "--shape tiny --batch-size 1 --resolution 32 --threads 1 --warmup 1 --steps 1 --turns 1 --images 2"
    ways = ["--ways", "diffusers", "ours"]
    monkeypatch.setattr(sys, "argv", ["training", *options.split(), *ways])
    training.main()
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert [row[0].strip("| ") for row in rows[2:]] == ["diffusers", "ours"]
    assert len({len(row) for row in rows if len(row) > 1}) == 1
