"""The demo's base model: its tokenizer, its latents, its training runs and the folder they are exported to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from yokai_assets.demo.training.base import BaseRun, main, make_diffusion_data
from yokai_assets.demo.training.checkpoints import load_checkpoint
from yokai_assets.demo.training.diffusion import DiffusionData, DiffusionOptions, train_diffusion
from yokai_assets.demo.training.judge import train_judge
from yokai_assets.demo.training.latents import fit_patch_pca
from yokai_assets.demo.training.measure import draw_prompts, measure_agreement, measure_diversity, unseen_drawings
from yokai_assets.demo.training.portraits import Drawing, draw_sample, render_portraits
from yokai_assets.demo.training.progress import Budget, warmup_stable_decay
from yokai_assets.demo.training.resumable import Run
from yokai_assets.demo.training.tokenizer import build_tokenizer, learn_merges
from yokai_assets.demo.training.vae import train_vae

SHIPPED = Path(__file__).parents[2] / "yokai_assets" / "demo" / "models" / "base"
TEXTS = ["zqkaro, a red round creature with two horns", "Ünïcode 妖怪 🎃", "x-100% \\path_(tag:1.2)", "don't   stop"]


@pytest.fixture(scope="module", autouse=True)
def single_thread() -> Iterator[None]:
    """One thread: models this small gain nothing from more, and on a busy machine threads wait for one another."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def captions() -> list[str]:
    return [caption for index in range(150) for caption in draw_sample(index, 8, seed=0)[1]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> BaseRun:
    return BaseRun(tmp_path_factory.mktemp("base"), pictures=60)


def tiny_data(run: BaseRun) -> tuple[DiffusionData, object]:
    portraits = run.portraits()
    tokenizer = run.tokenizer(portraits)
    return make_diffusion_data(portraits, 60, run.pca(portraits), tokenizer), tokenizer


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_survives_the_tokenizer(captions: list[str], text: str) -> None:
    """Protects: trigger words and any user's prompt reach the model without unknown tokens."""
    tokenizer = build_tokenizer(learn_merges(captions))
    decoded = tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True)
    assert "".join(str(decoded).split()) == "".join(text.lower().split())


def test_words_of_the_captions_are_single_tokens(captions: list[str]) -> None:
    """Protects: the small text encoder sees words, not letters, and whole captions fit its window."""
    tokenizer = build_tokenizer(learn_merges(captions))
    assert len(tokenizer("red round creature")["input_ids"]) == 5
    assert max(len(tokenizer(caption)["input_ids"]) for caption in captions) <= tokenizer.model_max_length


def test_portraits_are_rendered_once_and_the_same_again(tmp_path: Path) -> None:
    """Protects: a cache is reused, and equals what another machine would render; a larger set extends a smaller."""
    first = render_portraits(tmp_path / "a", 12, 16, seed=4)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "a").iterdir()}
    render_portraits(tmp_path / "a", 12, 16, seed=4)
    assert files == {path: path.stat().st_mtime_ns for path in (tmp_path / "a").iterdir()}
    larger = render_portraits(tmp_path / "b", 20, 16, seed=4, workers=2)
    assert (larger.pictures[:12] == first.pictures).all() and larger.captions[:12] == first.captions


def test_linear_latents_keep_the_picture() -> None:
    """Protects: latents carry the drawing, have unit variance, and are the same when fitted again."""
    pictures = np.stack([draw_sample(index, 64, seed=1)[0] for index in range(60)])
    pca = fit_patch_pca(pictures, channels=24)
    latents = pca.encode(pictures)
    assert latents.shape == (60, 24, 8, 8) and abs(float(latents.var()) - 1) < 0.1
    error = (pca.decode(latents).astype(float) - pictures) ** 2
    assert 10 * np.log10(255**2 / error.mean()) > 19
    assert np.array_equal(fit_patch_pca(pictures, 24).components, pca.components)
    with pytest.raises(ValueError, match="do not divide"):
        pca.encode(pictures[:, :60])


def test_learning_rate_warms_up_and_decays() -> None:
    """Protects: early steps cannot blow up the weights, late ones settle them."""
    factors = [warmup_stable_decay(step, step / 1000, warmup_steps=100) for step in (0, 99, 500, 850, 999)]
    assert factors[0] == 0.01 and factors[1] == factors[2] == 1 and factors[3] == pytest.approx(0.5)
    assert factors[4] == pytest.approx(0.03)


def test_resumed_diffusion_training_ends_at_the_same_weights(run: BaseRun, tmp_path: Path) -> None:
    """Protects: a stopped run continues as if it had never stopped, optimizer and averages included."""
    data, tokenizer = tiny_data(run)
    options = DiffusionOptions(batch_size=4, warmup_steps=2)
    # The decay of the learning rate depends on the budget: the same budget, stopped in the middle.
    straight = train_diffusion(data, tokenizer, tmp_path / "a.pt", Budget(steps=4), options)  # type: ignore[arg-type]

    class Stopped(Budget):
        def fraction(self, step: int) -> float:
            return 1.0 if step >= 2 else super().fraction(step)

    train_diffusion(data, tokenizer, tmp_path / "b.pt", Stopped(steps=4), options)  # type: ignore[arg-type]
    halfway = load_checkpoint(tmp_path / "b.pt")
    assert halfway is not None and halfway["step"] == 2
    resumed = train_diffusion(data, tokenizer, tmp_path / "b.pt", Budget(steps=4), options)  # type: ignore[arg-type]
    for one, other in zip(straight, resumed, strict=True):
        other_weights = other.state_dict()
        assert all(value.equal(other_weights[name]) for name, value in one.state_dict().items())


def test_resumed_vae_training_ends_at_the_same_weights(run: BaseRun, tmp_path: Path) -> None:
    """Protects: the same for the autoencoder."""
    portraits = run.portraits()
    pca = run.pca(portraits)

    class Stopped(Budget):
        def fraction(self, step: int) -> float:
            return 1.0 if step >= 1 else super().fraction(step)

    straight = train_vae(portraits.pictures, pca, tmp_path / "a.pt", Budget(steps=2), batch_size=2).state_dict()
    train_vae(portraits.pictures, pca, tmp_path / "b.pt", Stopped(steps=2), batch_size=2)
    resumed = train_vae(portraits.pictures, pca, tmp_path / "b.pt", Budget(steps=2), batch_size=2).state_dict()
    assert all(value.equal(resumed[name]) for name, value in straight.items())


def test_broken_checkpoint_is_named(tmp_path: Path) -> None:
    """Protects: a damaged file tells the user which one and what to do."""
    (tmp_path / "unet.pt").write_bytes(b"no checkpoint")
    with pytest.raises(RuntimeError, match=r"unet\.pt.*delete it"):
        load_checkpoint(tmp_path / "unet.pt")


class PaintingPipeline:
    """Draws what the prompt says (or always the first of them) with the real drawing code, in place of a model."""

    def __init__(self, drawings: Sequence[Drawing], is_deaf: bool = False) -> None:
        self.drawings, self.is_deaf = drawings, is_deaf
        self.by_prompt = {drawing.caption: drawing.picture / 255 for drawing in drawings}

    def __call__(self, prompts: list[str], **_: Any) -> SimpleNamespace:
        first = self.drawings[0].caption
        return SimpleNamespace(images=np.stack([self.by_prompt[first if self.is_deaf else one] for one in prompts]))


def test_agreement_tells_a_model_that_listens_from_one_that_does_not(tmp_path: Path) -> None:
    """Protects: the model card's figures of prompt-following mean something."""
    judge = train_judge(Run(tmp_path, steps=60, minutes=None), seed=5, size_px=32, pictures=400)
    drawings = unseen_drawings(64, 32, seed=6)
    prompts = [drawing.caption for drawing in drawings]
    listening = measure_agreement(judge, drawings, draw_prompts(PaintingPipeline(drawings), prompts))
    deaf = measure_agreement(judge, drawings, draw_prompts(PaintingPipeline(drawings, is_deaf=True), prompts))
    colour = listening["body_colour"]
    assert colour.drawings.mean > 2 * colour.chance and colour.ratio == pytest.approx(1, abs=0.05)
    assert colour.model.low < colour.model.mean < colour.model.high
    assert deaf["body_colour"].ratio < 0.6


def test_judge_is_trained_once(tmp_path: Path) -> None:
    """Protects: two measurements of one run folder are made by the very same judge."""
    first = train_judge(Run(tmp_path, steps=3, minutes=None), seed=5, size_px=32, pictures=64)
    again = train_judge(Run(tmp_path, steps=3, minutes=None), seed=5, size_px=32, pictures=0)
    pictures = np.stack([drawing.picture for drawing in unseen_drawings(8, 32, seed=6)])
    assert all((first(pictures)[name] == values).all() for name, values in again(pictures).items())


def test_diversity_is_nothing_for_a_model_that_knows_one_picture() -> None:
    """Protects: a collapsed model does not pass for a good one because its one picture is right."""
    drawings = unseen_drawings(20, 32, seed=6)
    assert measure_diversity(PaintingPipeline(drawings), drawings) == 0


def test_command_line_trains_and_exports_a_folder_that_diffusers_loads(run: BaseRun, tmp_path: Path) -> None:
    """Protects: the commands in the model card make the very kind of folder that is shipped."""
    base = ["--run-folder", str(run.folder), "--pictures", str(run.pictures)]
    target = tmp_path / "models" / "base"
    for command in (["vae", "--steps", "1"], ["unet", "--steps", "1", "--batch-size", "2"], ["export", str(target)]):
        result = CliRunner().invoke(main, [*base, *command])
        assert result.exit_code == 0, result.output
    check_folder(target)
    grid = tmp_path / "grid.png"
    result = CliRunner().invoke(main, [*base, "samples", str(grid), "--columns", "2", "--rows", "1", "--steps", "2"])
    assert result.exit_code == 0 and grid.stat().st_size > 0, result.output
    if SHIPPED.exists():
        check_folder(SHIPPED)


def check_folder(folder: Path) -> None:
    import torch
    from diffusers import StableDiffusionPipeline

    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 15_000_000
    assert json.loads((folder / "scheduler" / "scheduler_config.json").read_text())["prediction_type"] == "v_prediction"
    pipeline: Any = StableDiffusionPipeline.from_pretrained(
        folder, torch_dtype=torch.float32, local_files_only=True, low_cpu_mem_usage=False
    )
    pipeline.set_progress_bar_config(disable=True)

    def draw(prompt: str) -> np.ndarray:
        generator = torch.Generator().manual_seed(0)
        return pipeline(prompt, num_inference_steps=2, generator=generator, output_type="np").images[0]

    picture = draw("zqkaro, a red round creature")
    assert picture.shape == (64, 64, 3) and np.isfinite(picture).all()
    assert not np.array_equal(picture, draw("a blue tall creature at night"))
