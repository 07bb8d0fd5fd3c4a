"""How true clean plates are: against the scene drawn without its characters, on a demo series.

`python -m yokai_assets_tests.benchmarks.plates [--seed N]`. Frames go through the production stages; each plate is held
against the empty drawing of that frame of its shot which it is nearest to (where the camera pans, a plate shows one
frame). PSNR in dB over pixels that are free in that frame, and over those behind its characters: as the platform finds
them, and as they are when they are only filled from around. Shadows that characters cast are in the plates, not in the
truth.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from upath import UPath

from yokai_assets.demo.series import generate_series, render_drawing
from yokai_assets.demo.story import plan_episode
from yokai_assets.frames.episodes import discover_episodes
from yokai_assets.frames.scan import scan_episode
from yokai_assets.segmentation.backgrounds import build_backgrounds
from yokai_assets.segmentation.inpainting import fill_hidden
from yokai_assets.segmentation.layers import segment_episode
from yokai_assets.segmentation.matte import open_matte
from yokai_assets.settings import load_settings
from yokai_assets.storage.layout import Layout

SIZE_PX = 640, 360
FRAMES = 60


def empty_frames(cast: list, episode: int, seed: int) -> list[Image.Image]:
    """Every frame of an episode, drawn without its characters."""
    pictures: list[Image.Image] = []
    for drawing in plan_episode(cast, episode, FRAMES, seed, SIZE_PX[1]):
        drawn = render_drawing(replace(drawing, performances=()), cast, episode, seed, SIZE_PX)
        pictures += [drawn.image] * drawing.hold
    return pictures


def squared_error(plate: NDArray[np.float32], truth: Image.Image) -> NDArray[np.float32]:
    return ((plate - np.asarray(truth, np.float32)) ** 2).mean(axis=2)


def psnr(errors: list[NDArray[np.float32]]) -> str:
    values = np.concatenate([one.ravel() for one in errors]) if errors else np.zeros(0)
    return (
        f"{10 * np.log10(255**2 / max(float(values.mean()), 1e-9)):.1f} dB, {values.size:,} px"
        if values.size
        else "none"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=91, help="Of the series.")
    seed = parser.parse_args().seed
    settings = load_settings(environment={}, overrides={"profile": "demo"})
    free: list[NDArray[np.float32]] = []
    behind: list[NDArray[np.float32]] = []
    only_filled: list[NDArray[np.float32]] = []
    shots = plates_made = 0
    with tempfile.TemporaryDirectory() as scratch:
        source, layout = UPath(scratch) / "frames", Layout(UPath(scratch) / "data", "series")
        truth = generate_series(
            Path(str(source)), episodes=3, frames_per_episode=FRAMES, characters=5, seed=seed, size_px=SIZE_PX
        )
        matte = open_matte(settings.segmentation, "cpu")
        for number, episode in enumerate(discover_episodes(source)[0], start=1):
            frames = scan_episode(episode, source, settings.frames)
            instances = segment_episode(frames, source, matte, settings.segmentation, layout).instances
            plates = build_backgrounds(frames, instances, source, settings.background, layout)
            empty = empty_frames(list(truth.characters), number, seed)
            shots, plates_made = (
                shots + frames.filter(pl.col("status") == "ok")["shot"].n_unique(),
                plates_made + plates.height,
            )
            for row in plates.iter_rows(named=True):
                own = frames.filter(pl.col("shot") == row["shot"], pl.col("frame_id") == pl.col("representative"))
                with Image.open(str(layout.absolute(row["plate"]))) as image:
                    plate = np.asarray(image.convert("RGB").resize(SIZE_PX), np.float32)
                errors = {
                    row["frame_index"]: squared_error(plate, empty[row["frame_index"]])
                    for row in own.iter_rows(named=True)
                }
                nearest = min(errors, key=lambda index: float(np.median(errors[index])))
                is_hidden = truth.alpha(f"{episode.key}/{nearest:06d}") > 12
                free.append(errors[nearest][~is_hidden])
                behind.append(errors[nearest][is_hidden])
                alone = np.where(is_hidden[..., None], 0, np.asarray(empty[nearest])).astype(np.uint8)
                grown = np.asarray(ndimage.binary_dilation(is_hidden, iterations=3), dtype=np.bool_)
                filled = fill_hidden(alone, grown)
                only_filled.append(squared_error(filled.astype(np.float32), empty[nearest])[is_hidden])
    print(f"{plates_made} plates of {shots} shots, {SIZE_PX[0]}x{SIZE_PX[1]}")
    print(f"free in the frame itself:          {psnr(free)}")
    print(f"behind characters:                 {psnr(behind)}")
    print(f"... if only filled from around:    {psnr(only_filled)}")


if __name__ == "__main__":
    main()
