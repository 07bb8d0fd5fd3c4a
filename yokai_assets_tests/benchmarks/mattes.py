"""How well characters are cut out that no model here has seen: drawn figures on drawn scenes, with the truth known.

`python -m yokai_assets_tests.benchmarks.mattes [--models demo,u2netp,...] [--weights FOLDER]`. Figures, and the weights
of u2netp and ISNet, come from package registries; what cannot be fetched is left out. A quarter of the frames is empty,
a quarter shows two figures, in half of these apart, in half touching.
"""

import argparse
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image

from yokai_assets.demo.real_data import NotFetched, fetch_figures, fetch_isnet, fetch_u2netp
from yokai_assets.demo.scenes import PLACES, paint_scene
from yokai_assets.demo.series import generate_series
from yokai_assets.segmentation.instances import Instance, find_instances
from yokai_assets.segmentation.matte import open_matte
from yokai_assets.settings.model import SegmentationSettings

SIZE_PX = 1280, 720
MIN_IOU = 0.5


@dataclass(frozen=True, slots=True)
class Composed:
    """A frame, the visible mask of each figure (bool [H, W]), and whether two of them touch."""

    image: Image.Image
    masks: list[NDArray[np.bool_]]
    are_touching: bool


@dataclass
class Counts:
    """What a model made of the frames."""

    present_right: int = 0
    present_wrong: int = 0
    present_missed: int = 0
    figures: int = 0
    found: int = 0
    ious: list[float] = field(default_factory=list)
    pairs: int = 0
    pairs_apart: int = 0
    touching: int = 0
    touching_known: int = 0
    single_flagged: int = 0

    def add(self, truth: Composed, instances: list[Instance]) -> None:
        """Count one frame."""
        self.present_right += bool(instances and truth.masks)
        self.present_wrong += bool(instances and not truth.masks)
        self.present_missed += bool(truth.masks and not instances)
        best = [max((iou(mask, one) for one in instances), default=0.0) for mask in truth.masks]
        self.figures += len(best)
        self.ious += best
        found = sum(one >= MIN_IOU for one in best)
        self.found += found
        is_flagged = any(one.lobe_count > 1 for one in instances)
        if truth.are_touching:
            self.touching += 1
            self.touching_known += is_flagged or found == 2
        elif len(best) == 2:
            self.pairs += 1
            self.pairs_apart += found == 2
        elif len(best) == 1:
            self.single_flagged += is_flagged

    def row(self) -> str:
        """One line of the table."""
        precision = self.present_right / max(1, self.present_right + self.present_wrong)
        recall = self.present_right / max(1, self.present_right + self.present_missed)
        return (
            f"{precision:.3f} | {recall:.3f} | {self.found / self.figures:.3f} | {np.mean(self.ious):.3f} | "
            f"{np.median(self.ious):.3f} | {self.pairs_apart} of {self.pairs} | "
            f"{self.touching_known} of {self.touching} | {self.single_flagged}"
        )


def iou(mask: NDArray[np.bool_], instance: Instance) -> float:
    found = np.zeros_like(mask)
    found[instance.y0 : instance.y1, instance.x0 : instance.x1] = instance.alpha > 127
    return float((mask & found).sum() / max(1, (mask | found).sum()))


def compose(figures: list[Image.Image], count: int, seed: int = 0) -> Iterator[Composed]:
    """Put none, one or two figures into scenes, on the ground."""
    scene = None
    for number in range(count):
        rng, kind = np.random.default_rng([seed, number]), number % 8
        if scene is None or kind == 0:
            scene = paint_scene(PLACES[number // 8 % len(PLACES)], rng, SIZE_PX)
        image = scene.view(float(rng.random()))
        left, alphas = int(rng.integers(60, 400)), []
        for _ in range(0 if kind < 2 else 2 if kind < 4 else 1):
            figure = scaled(figures[rng.integers(len(figures))], int(rng.integers(220, 460)))
            at = left, round((scene.ground_y + 0.08) * SIZE_PX[1]) - figure.height
            image.paste(figure, at, figure)
            alpha = Image.new("L", SIZE_PX)
            alpha.paste(figure.getchannel("A"), at)
            alphas = [before & (np.asarray(alpha) <= 127) for before in alphas] + [np.asarray(alpha) > 127]
            left += figure.width - 30 if kind == 2 else figure.width + 110
        yield Composed(image, alphas, kind == 2)


def drawn_series(folder: Path, seed: int, size_px: tuple[int, int]) -> Iterator[Composed]:
    """Distinct frames of a demo series that the bundled matte was not trained on, with their truth."""
    truth = generate_series(folder, episodes=3, frames_per_episode=60, characters=5, seed=seed, size_px=size_px)
    rows = truth.readable_frames().filter(
        pl.col("duplicate_of").is_null(), pl.col("kind").is_in(["story", "landscape"])
    )
    for frame in rows.iter_rows(named=True):
        own = truth.instances.filter(pl.col("frame_id") == frame["frame_id"], pl.col("area_share") >= 0.004)
        masks = [truth.instance_alpha(row["truth_id"]) > 127 for row in own.iter_rows(named=True)]
        with Image.open(folder / frame["file"]) as image:
            yield Composed(image.convert("RGB"), masks, bool(own["touches_other"].any()))


def scaled(figure: Image.Image, height: int) -> Image.Image:
    cropped = figure.crop(figure.getbbox())
    return cropped.resize((max(1, height * cropped.width // cropped.height), height), Image.Resampling.LANCZOS)


def main() -> None:
    """Measure and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", default="demo,u2netp,isnet-general-use", help="Of segmentation.model, with commas.")
    parser.add_argument("--count", type=int, default=160, help="Frames.")
    parser.add_argument("--weights", type=Path, default=Path("build/real"), help="Where fetched files are kept.")
    options = parser.parse_args()
    os.environ["U2NET_HOME"] = str(options.weights)
    options.weights.mkdir(parents=True, exist_ok=True)
    fetchers = {"u2netp": fetch_u2netp, "isnet-general-use": fetch_isnet}
    print_head("frames of a drawn series, bundled matte")
    with tempfile.TemporaryDirectory() as scratch:
        for size_px in ((384, 216), SIZE_PX):
            settings = SegmentationSettings.model_validate({"model": "demo"})
            found = measure(settings, drawn_series(Path(scratch) / str(size_px[1]), 91, size_px))
            print(f"| demo, {size_px[0]}x{size_px[1]} | {found.row()} |", flush=True)
    try:
        figures = [Image.open(file).convert("RGBA") for file in fetch_figures(options.weights)]
    except NotFetched as error:
        print(f"nothing to measure on: {error}")
        return
    print_head(f"{options.count} frames of {SIZE_PX[0]}x{SIZE_PX[1]}, {len(figures)} figures")
    for model in options.models.split(","):
        try:
            fetchers.get(model, lambda _: None)(options.weights)
        except NotFetched as error:
            print(f"| {model} | {error} |")
            continue
        settings = SegmentationSettings.model_validate({"model": model})
        print(f"| {model} | {measure(settings, compose(figures, options.count)).row()} |", flush=True)


def measure(settings: SegmentationSettings, frames: Iterable[Composed]) -> Counts:
    """Cut out the frames with a model and count what came of it."""
    matte, counts = open_matte(settings, "cpu"), Counts()
    for truth in frames:
        (probability,) = matte.raw([truth.image])
        counts.add(truth, find_instances(truth.image, probability, settings))
    return counts


def print_head(title: str) -> None:
    print(f"\n{title}\n| model | presence precision | recall | figures found | mean IoU | median IoU |", end="")
    print(" apart, both found | touching, known | single, flagged |\n|---|---|---|---|---|---|---|---|---|")


if __name__ == "__main__":
    main()
