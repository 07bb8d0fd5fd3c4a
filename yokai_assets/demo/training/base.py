"""Makes the demo's diffusion base model: `python -m yokai_assets.demo.training.base --help`.

Pictures, tokenizer and linear latents are prepared once; the autoencoder and the UNet are then trained, one after
the other or at the same time in two processes; `export` writes a diffusers folder from the newest checkpoints.
Here belong the command line and the run folder's layout, not the training loops.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from yokai_assets.demo.models import MODELS_FOLDER, write_manifest
from yokai_assets.demo.training.diffusion import DiffusionData, DiffusionOptions, train_diffusion
from yokai_assets.demo.training.export import open_trained, save_pipeline, save_sample_grid
from yokai_assets.demo.training.latents import PatchPca, fit_patch_pca
from yokai_assets.demo.training.portraits import PortraitSet, render_portraits
from yokai_assets.demo.training.progress import Budget
from yokai_assets.demo.training.resumable import Run
from yokai_assets.demo.training.tokenizer import build_tokenizer, learn_merges

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPTokenizer

SIZE_PX = 64
_HELD_OUT_PICTURES = 500
_FIT_PICTURES = 4000
_JUDGE_SEED, _UNSEEN_SEED = 1001, 2002


@dataclass(frozen=True)
class BaseRun:
    """A run folder, and the choices that everything in it depends on."""

    folder: Path
    pictures: int = 80_000
    seed: int = 0
    latent_channels: int = 24
    workers: int = 1

    @property
    def vae_checkpoint(self) -> Path:
        """The autoencoder's training state."""
        return self.folder / "vae.pt"

    @property
    def unet_checkpoint(self) -> Path:
        """Text encoder's and UNet's training state."""
        return self.folder / "unet.pt"

    def portraits(self) -> PortraitSet:
        """The training pictures, rendered at first use; the last `_HELD_OUT_PICTURES` are never trained on."""
        return render_portraits(self.folder / "data", self.pictures, SIZE_PX, self.seed, self.workers)

    def tokenizer(self, portraits: PortraitSet) -> CLIPTokenizer:
        """The tokenizer, learnt from the first captions at first use and kept: the text encoder depends on it."""
        from transformers import CLIPTokenizer

        folder = self.folder / "tokenizer"
        if not folder.exists():
            captions = [caption for captions in portraits.captions[:_FIT_PICTURES] for caption in captions]
            tokenizer = build_tokenizer(learn_merges(captions))
            tokenizer.save_pretrained(folder.with_suffix(".partial"))
            folder.with_suffix(".partial").rename(folder)
        return CLIPTokenizer.from_pretrained(folder)

    def pca(self, portraits: PortraitSet) -> PatchPca:
        """The latents, fitted to the first pictures at first use and kept: UNet and autoencoder depend on them."""
        path = self.folder / "pca.npz"
        if not path.exists():
            pca = fit_patch_pca(np.array(portraits.pictures[:_FIT_PICTURES]), self.latent_channels)
            np.savez(path.with_suffix(".partial.npz"), mean=pca.mean, components=pca.components, scale=pca.scale)
            path.with_suffix(".partial.npz").rename(path)
        with np.load(path) as stored:
            return PatchPca(stored["mean"], stored["components"], stored["scale"])

    def open_trained(self, portraits: PortraitSet) -> tuple[StableDiffusionPipeline, int]:
        """What has been trained so far as a pipeline, and the UNet's step."""
        return open_trained(
            self.tokenizer(portraits), self.unet_checkpoint, self.vae_checkpoint, self.latent_channels, SIZE_PX
        )

    def trained_count(self, portraits: PortraitSet) -> int:
        """How many pictures are trained on; the rest is held out."""
        return max(1, len(portraits) - _HELD_OUT_PICTURES)


def make_diffusion_data(portraits: PortraitSet, count: int, pca: PatchPca, tokenizer: CLIPTokenizer) -> DiffusionData:
    """Latents and tokens of the first `count` portraits."""
    latents = [pca.encode(portraits.pictures[start : min(start + 1000, count)]) for start in range(0, count, 1000)]
    flat = [caption for captions in portraits.captions[:count] for caption in captions]
    tokens = tokenizer(flat, padding="max_length", truncation=True, max_length=tokenizer.model_max_length)["input_ids"]
    per_picture = len(portraits.captions[0])
    return DiffusionData(
        np.concatenate(latents).astype(np.float16), np.asarray(tokens, dtype=np.int16).reshape(count, per_picture, -1)
    )


@click.group()
@click.option(
    "--run-folder", type=click.Path(path_type=Path), default=Path("build/demo-models/base"), show_default=True
)
@click.option("--pictures", default=80_000, show_default=True, help="Size of the rendered training set.")
@click.option("--seed", default=0, show_default=True)
@click.option("--workers", default=1, show_default=True, help="Drawing processes.")
@click.option("--threads", default=1, show_default=True, help="CPU threads of torch.")
@click.pass_context
def main(context: click.Context, run_folder: Path, pictures: int, seed: int, workers: int, threads: int) -> None:
    """Trains and exports the demo's diffusion base model; every command continues where it was stopped."""
    import torch

    torch.set_num_threads(threads)
    context.obj = BaseRun(run_folder, pictures, seed, workers=workers)


@main.command()
@click.pass_obj
def prepare(run: BaseRun) -> None:
    """Render the training pictures."""
    click.echo(f"{len(run.portraits())} pictures with captions")


@main.command()
@click.option("--minutes", type=float, default=None, help="Training time in all.")
@click.option("--steps", type=int, default=None, help="Steps in all.")
@click.option("--device", default="cpu", show_default=True)
@click.pass_obj
def vae(run: BaseRun, minutes: float | None, steps: int | None, device: str) -> None:
    """Train the autoencoder."""
    from yokai_assets.demo.training.vae import measure_psnr, train_vae

    portraits = run.portraits()
    trained = train_vae(
        portraits.pictures[: run.trained_count(portraits)],
        run.pca(portraits),
        run.vae_checkpoint,
        Budget(steps, minutes),
        seed=run.seed,
        device=device,
    )
    psnr_db = measure_psnr(trained, np.array(portraits.pictures[-_HELD_OUT_PICTURES:]))
    click.echo(f"held-out PSNR {psnr_db:.2f} dB")


@main.command()
@click.option("--minutes", type=float, default=None, help="Training time in all.")
@click.option("--steps", type=int, default=None, help="Steps in all.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--batch-size", default=32, show_default=True)
@click.option("--learning-rate", default=1e-3, show_default=True)
@click.pass_obj
def unet(
    run: BaseRun, minutes: float | None, steps: int | None, device: str, batch_size: int, learning_rate: float
) -> None:
    """Train the text encoder and the UNet."""
    portraits = run.portraits()
    tokenizer, pca = run.tokenizer(portraits), run.pca(portraits)
    data = make_diffusion_data(portraits, run.trained_count(portraits), pca, tokenizer)
    options = DiffusionOptions(seed=run.seed, batch_size=batch_size, learning_rate=learning_rate, device=device)
    train_diffusion(data, tokenizer, run.unet_checkpoint, Budget(steps, minutes), options)


@main.command()
@click.option("--vae-minutes", type=float, default=155.0, show_default=True, help="The autoencoder's time in all.")
@click.option("--unet-minutes", type=float, default=332.0, show_default=True, help="The UNet's time in all.")
@click.option("--device", default="cpu", show_default=True)
@click.pass_context
def make(context: click.Context, vae_minutes: float, unet_minutes: float, device: str) -> None:
    """Train everything, export the shipped folder and measure it: the whole way in one command."""
    context.invoke(prepare)
    context.invoke(vae, minutes=vae_minutes, device=device)
    context.invoke(unet, minutes=unet_minutes, device=device)
    context.invoke(export, folder=MODELS_FOLDER / "base")
    context.invoke(measure, folder=MODELS_FOLDER / "base")


@main.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--columns", default=8, show_default=True)
@click.option("--rows", default=4, show_default=True)
@click.option("--guidance", default=[3.0], multiple=True, show_default=True, help="May be given several times.")
@click.option("--steps", default=20, show_default=True)
@click.pass_obj
def samples(run: BaseRun, path: Path, columns: int, rows: int, guidance: tuple[float, ...], steps: int) -> None:
    """Draw a grid from the newest checkpoints: truth above samples, with the held-out captions."""
    portraits = run.portraits()
    pipeline, step = run.open_trained(portraits)
    shown = columns * rows
    captions = [captions[0] for captions in portraits.captions[-shown:]]
    save_sample_grid(path, pipeline, np.array(portraits.pictures[-shown:]), captions, columns, guidance, steps)
    click.echo(f"{path}: UNet step {step}")


@main.command()
@click.argument("folder", type=click.Path(path_type=Path), default=MODELS_FOLDER / "base")
@click.pass_obj
def export(run: BaseRun, folder: Path) -> None:
    """Write the diffusers folder (fp16) from the newest checkpoints, by default the one that ships."""
    pipeline, step = run.open_trained(run.portraits())
    bytes_written = save_pipeline(pipeline, folder)
    if folder.resolve() == (MODELS_FOLDER / "base").resolve():
        write_manifest("base")
    click.echo(f"{folder}: {bytes_written / 1e6:.1f} MB, UNet step {step}")


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.option("--prompts", default=256, show_default=True, help="Unseen prompts to draw.")
@click.option("--guidance", default=3.0, show_default=True)
@click.option("--judge-steps", default=2000, show_default=True, help="Training of the judge, once a run folder.")
@click.pass_obj
def measure(run: BaseRun, folder: Path, prompts: int, guidance: float, judge_steps: int) -> None:
    """Measure how well an exported folder follows prompts, and how much its pictures of one prompt differ."""
    import torch
    from diffusers import StableDiffusionPipeline

    from yokai_assets.demo.training.judge import train_judge
    from yokai_assets.demo.training.measure import draw_prompts, measure_agreement, measure_diversity, unseen_drawings

    # Without a dtype the text encoder would stay in half precision, and the UNet would not.
    pipeline: Any = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    judge = train_judge(Run(run.folder / "judge", judge_steps, None), run.seed + _JUDGE_SEED, SIZE_PX)
    drawings = unseen_drawings(prompts, SIZE_PX, run.seed + _UNSEEN_SEED)
    drawn = draw_prompts(pipeline, [drawing.caption for drawing in drawings], guidance)
    for attribute, agreement in measure_agreement(judge, drawings, drawn).items():
        found = agreement.model
        click.echo(
            f"{attribute:12} {found.mean:.3f} ({found.low:.3f}-{found.high:.3f}), real drawings "
            f"{agreement.drawings.mean:.3f}: {agreement.ratio:.3f} of these; chance {agreement.chance:.2f}"
        )
    click.echo(f"diversity over seeds {measure_diversity(pipeline, drawings, guidance):.2f} of that of real drawings")


if __name__ == "__main__":
    main()
