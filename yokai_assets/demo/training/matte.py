"""Trains the demo's matte: a small U-Net that tells creatures from painted backgrounds, exported to ONNX.

``python -m yokai_assets.demo.training.matte --help``. The network follows Ronneberger et al. 2015
(arXiv:1505.04597) at the size of a toy. Not here: how the product runs a matte
(:mod:`yokai_assets.segmentation`), or the frames it learns from (:mod:`yokai_assets.demo.training.random_frames`).
"""

from __future__ import annotations

import json
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from numpy.typing import NDArray

from yokai_assets.demo.models import MODELS_FOLDER, write_manifest
from yokai_assets.demo.training.random_frames import FrameSet, render_frames
from yokai_assets.demo.training.resumable import Run
from yokai_assets.evaluation.measures import Interval, bootstrap_mean

if TYPE_CHECKING:
    import torch
    from torch import nn

SIZE_PX = (320, 192)
"""Width and height that the network sees."""
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
_WIDTHS = (8, 16, 32, 48, 64, 96)
_BATCH = 8
_RESAMPLES = 2000
_HALF_SIZE_SHARE = 0.35
"""The first steps see frames at half size: four times as many for the same time."""


def build_network(widths: tuple[int, ...] = _WIDTHS) -> nn.Module:
    """The U-Net: (B, 3, H, W) normalised RGB to (B, 1, H, W) logits; H and W divisible by 2**(len(widths) - 1)."""
    from torch import nn

    def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
        )

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = convolution(3, widths[0])
            self.down = nn.ModuleList(
                nn.Sequential(convolution(a, b, 2), convolution(b, b)) for a, b in pairwise(widths)
            )
            self.reduce = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(widths))
            self.up = nn.ModuleList(convolution(a, a) for a in widths[:-1])
            self.head = nn.Conv2d(widths[0], 1, 3, 1, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.stem(x)
            skips = []
            for stage in self.down:
                skips.append(x)
                x = stage(x)
            for reduce, up, skip in reversed(list(zip(self.reduce, self.up, skips, strict=True))):
                x = nn.functional.interpolate(reduce(x), scale_factor=2.0, mode="bilinear")
                x = up(x + skip)
            return self.head(x)

    return UNet()


def normalise(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, H, W, 3) uint8 to (N, 3, H, W) float32, as rembg does it: divided by each picture's maximum first."""
    brightest = np.maximum(pictures.max(axis=(1, 2, 3), keepdims=True).astype(np.float32), np.float32(1e-6))
    scaled = pictures.astype(np.float32) / brightest
    return ((scaled - np.array(MEAN, np.float32)) / np.array(STD, np.float32)).transpose(0, 3, 1, 2)


def _batch(frames: FrameSet, seed: int, step: int, is_half_size: bool) -> tuple[torch.Tensor, torch.Tensor]:
    import torch
    from torch.nn import functional

    rng = np.random.default_rng([seed, step])
    chosen = np.sort(rng.choice(len(frames), _BATCH * (4 if is_half_size else 1), replace=False))
    pictures, alphas = frames.pictures[chosen], frames.alphas[chosen]
    if rng.random() < 0.5:
        pictures, alphas = pictures[:, :, ::-1], alphas[:, :, ::-1]
    x = torch.from_numpy(np.ascontiguousarray(normalise(pictures)))
    y = torch.from_numpy(np.ascontiguousarray(alphas)).float().div(255).unsqueeze(1)
    if is_half_size:
        x, y = functional.avg_pool2d(x, 2), functional.avg_pool2d(y, 2)
    return x.contiguous(memory_format=torch.channels_last), y


def _loss(logits: torch.Tensor, alphas: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy plus soft Dice over the batch."""
    from torch.nn import functional

    probabilities = logits.sigmoid()
    dice = 1 - (2 * (probabilities * alphas).sum() + 1) / (probabilities.sum() + alphas.sum() + 1)
    return functional.binary_cross_entropy_with_logits(logits, alphas) + dice


def train(run: Run, frames: FrameSet, device: str, seed: int, peak_learning_rate: float = 4e-3) -> nn.Module:
    """Trains until the run's budget is spent; continues where its checkpoint stopped."""
    import torch

    torch.manual_seed(seed)
    network = build_network().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), lr=peak_learning_rate, weight_decay=1e-3)
    run.track(network, optimizer)
    network.train()
    is_running = run.step < run.steps
    while is_running:
        x, y = _batch(frames, seed, run.step, run.step < _HALF_SIZE_SHARE * run.steps)
        for group in optimizer.param_groups:
            group["lr"] = run.learning_rate(peak_learning_rate)
        loss = _loss(network(x.to(device)), y.to(device))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if run.step % 50 == 0:
            run.log(loss=float(loss.detach()))
        is_running = run.advance()
    return network.eval()


def measure(
    probabilities: NDArray[np.float32], alphas: NDArray[np.uint8], min_area_share: float = 0.004
) -> dict[str, Interval]:
    """Mean IoU over frames that show a creature, F1 of "a creature is there", each with its 95 % interval over frames.

    `false_area_share_of_empty_frames` is what is taken for a creature where there is none, and left out where every
    frame shows one.

    Args:
        probabilities: (N, H, W), 0..1.
        alphas: (N, H, W), 0..255.
        min_area_share: share of the frame above 0.5 from which a creature counts as there, found or true.
    """
    found, true = probabilities >= 0.5, alphas >= 128
    iou = (found & true).sum(axis=(1, 2)) / np.maximum(1, (found | true).sum(axis=(1, 2)))
    is_there, is_found = true.mean(axis=(1, 2)) >= min_area_share, found.mean(axis=(1, 2)) >= min_area_share
    is_empty = ~true.any(axis=(1, 2))

    def f1(frames: NDArray[np.int64]) -> float:
        there, seen = is_there[frames], is_found[frames]
        return float(2 * (there & seen).sum() / max(1, there.sum() + seen.sum()))

    everything, rng = np.arange(len(true)), np.random.default_rng(0)
    resampled = [f1(rng.integers(0, len(true), len(true))) for _ in range(_RESAMPLES)]
    measures = {
        "mean_iou": bootstrap_mean(iou[is_there], _RESAMPLES, seed=0),
        "presence_f1": Interval(f1(everything), *(float(edge) for edge in np.quantile(resampled, (0.025, 0.975)))),
    }
    if is_empty.any():
        areas = found[is_empty].mean(axis=(1, 2))
        measures["false_area_share_of_empty_frames"] = bootstrap_mean(areas, _RESAMPLES, seed=0)
    return measures


def export(network: nn.Module, folder: Path) -> Path:
    """Writes ``matte.onnx`` (normalised RGB in, probability of foreground out) and ``preprocessing.json``.

    Batch, height and width are free; height and width must be divisible by 32.

    Raises:
        RuntimeError: the ONNX graph does not compute what the network computes.
    """
    import onnxruntime
    import torch
    from torch import nn

    folder.mkdir(parents=True, exist_ok=True)
    model = nn.Sequential(network.cpu(), nn.Sigmoid()).to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    example = torch.randn(2, 3, SIZE_PX[1], SIZE_PX[0])
    axes = {0: "batch", 2: "height", 3: "width"}
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        path = Path(scratch) / "matte.onnx"
        torch.onnx.export(
            model, (example,), str(path), input_names=["image"], output_names=["foreground"],
            dynamic_axes={"image": axes, "foreground": axes}, opset_version=17, dynamo=False,
        )  # fmt: skip
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        for shape in ((2, 3, SIZE_PX[1], SIZE_PX[0]), (1, 3, 96, 160)):
            probe = torch.randn(shape)
            with torch.no_grad():
                expected = model(probe).numpy()
            difference = np.abs(np.asarray(session.run(None, {"image": probe.numpy()})[0]) - expected).max()
            if difference > 1e-3:
                raise RuntimeError(f"the ONNX graph differs from the network by {difference:.4f} on input {shape}")
        path.replace(folder / "matte.onnx")
    preprocessing = {"file": "matte.onnx", "size_px": list(SIZE_PX), "mean": list(MEAN), "std": list(STD)}
    (folder / "preprocessing.json").write_text(json.dumps(preprocessing, indent=2) + "\n")
    return folder / "matte.onnx"


def evaluate_onnx(path: Path, frames: FrameSet) -> dict[str, Interval]:
    """:func:`measure` of an exported matte on rendered frames."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    parts = [
        np.asarray(session.run(None, {name: normalise(frames.pictures[start : start + 16])})[0])[:, 0]
        for start in range(0, len(frames), 16)
    ]
    return measure(np.concatenate(parts), np.asarray(frames.alphas))


@click.command()
@click.option(
    "--run-folder", type=click.Path(path_type=Path), default=Path("build/demo-models/matte"), show_default=True
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=MODELS_FOLDER / "matte",
    show_default=False,
    help="Where the export goes.",
)
@click.option("--frames", "frame_count", default=4000, show_default=True, help="Training frames to render.")
@click.option("--steps", default=2400, show_default=True)
@click.option("--minutes", type=float, default=None, help="Stop after so many minutes; start again to go on.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(
    run_folder: Path,
    output: Path,
    frame_count: int,
    steps: int,
    minutes: float | None,
    device: str,
    threads: int,
    seed: int,
) -> None:
    """Train the matte, export it, and measure the export on frames that it has not seen."""
    import torch

    torch.set_num_threads(threads)

    def show(done: int, total: int, note: str = "") -> None:
        if done % 600 == 0 or done == total:
            print(f"{done}/{total} {note}", flush=True)

    frames = render_frames(run_folder / "data", frame_count, SIZE_PX, seed, show)
    unseen = render_frames(run_folder / "data", 384, SIZE_PX, seed + 10_000, show)
    run = Run(run_folder, steps, minutes)
    network = train(run, frames, device, seed)
    path = export(network, output)
    write_manifest("matte", output.parent)
    for name, found in evaluate_onnx(path, unseen).items():
        run.log(measure=name, mean=found.mean, low=found.low, high=found.high)


if __name__ == "__main__":
    main()
