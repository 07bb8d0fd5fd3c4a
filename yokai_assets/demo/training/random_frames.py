"""Random frames of the demo's family with their foreground alpha: what the matte learns from.

Not here: a series with a story and a truth (:mod:`yokai_assets.demo.series`), networks.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from yokai_assets.datasets.grounds import draw_ground
from yokai_assets.demo.cards import credits_card, faded, made_up_name, title_card
from yokai_assets.demo.compositing import Actor, compose
from yokai_assets.demo.creatures import draw_creature, sample_design, sample_pose
from yokai_assets.demo.scenes import PLACES, Scene, paint_scene
from yokai_assets.demo.training.augmentation import softened
from yokai_assets.demo.training.fingerprint import samples_fingerprint
from yokai_assets.frames.decoding import open_image
from yokai_assets.progress import Progress, silent

FRAME_PX = (384, 216)
_FRAMES_PER_SCENE = 12
_WITHOUT_PLACE_SHARE, _CLOSE_UP_SHARE = 0.07, 0.08


@dataclass(frozen=True)
class FrameSet:
    """`pictures` (N, H, W, 3) and `alphas` (N, H, W), both uint8, memory-mapped."""

    pictures: NDArray[np.uint8]
    alphas: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.pictures)


def _random_actor(rng: np.random.Generator, scene: Scene, height_px: int) -> Actor:
    share = float(np.exp(rng.uniform(np.log(0.22), np.log(1.35))))
    feet_y = scene.ground_y + float(rng.uniform(-0.1, 0.12)) + max(0.0, share - 0.8) * float(rng.uniform(0.2, 1.0))
    return Actor(sample_design(rng), sample_pose(rng), float(rng.uniform(0.0, 1.0)), feet_y, round(share * height_px))


def compressed(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The picture after JPEG at a random quality."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=int(rng.integers(60, 97)))
    return open_image(buffer).convert("RGB")


def _without_place(rng: np.random.Generator) -> Image.Image:
    kind = int(rng.integers(4))
    if kind == 0:
        return title_card(rng, FRAME_PX, f"{made_up_name(rng)} {made_up_name(rng)}", f"Episode {rng.integers(1, 300)}")
    if kind == 1:
        return credits_card(rng, FRAME_PX)
    brightest = 12 if kind == 2 else 256
    red, green, blue = (int(level) for level in rng.integers(0, brightest, 3))
    flat = np.full((FRAME_PX[1], FRAME_PX[0], 3), (red, green, blue), np.float32)
    flat += rng.normal(0, rng.uniform(0, 2), flat.shape)
    return Image.fromarray(np.clip(flat, 0, 255).astype(np.uint8))


def _close_up(rng: np.random.Generator) -> tuple[Image.Image, Image.Image]:
    """A square picture of one creature on plain ground, perhaps soft, stretched to a frame; and its alpha.

    Pictures that diffusion models draw look so to a matte, which must find the creature in them too.
    """
    side_px = FRAME_PX[1]
    creature = draw_creature(sample_design(rng), sample_pose(rng), round(side_px * rng.uniform(0.6, 1.1)))
    picture, alpha = Image.new("RGB", (side_px, side_px), draw_ground(rng).color), Image.new("L", (side_px, side_px), 0)
    x_px, y_px = ((side_px - creature.width) / 2 + rng.uniform(-0.08, 0.08, 2) * side_px).astype(int).tolist()
    corner = (x_px, y_px)
    picture.paste(creature, corner, creature)
    alpha.paste(creature.getchannel("A"), corner)
    if rng.random() < 0.6:
        picture = Image.fromarray(softened(np.asarray(picture), rng))
    return picture.resize(FRAME_PX, Image.Resampling.BICUBIC), alpha.resize(FRAME_PX, Image.Resampling.BICUBIC)


def draw_frame(rng: np.random.Generator, scene: Scene) -> tuple[Image.Image, Image.Image]:
    """A random frame (RGB) before the scene, and its foreground alpha (L)."""
    kind = rng.random()
    if kind < _WITHOUT_PLACE_SHARE:
        return compressed(_without_place(rng), rng), Image.new("L", FRAME_PX, 0)
    if kind < _WITHOUT_PLACE_SHARE + _CLOSE_UP_SHARE:
        return _close_up(rng)
    count = int(rng.choice(4, p=(0.14, 0.44, 0.3, 0.12)))
    actors = [_random_actor(rng, scene, FRAME_PX[1]) for _ in range(count)]
    frame = compose(scene, float(rng.random()), actors, has_foreground=bool(rng.random() < 0.45))
    alpha = np.clip(np.sum([np.zeros(FRAME_PX[::-1]), *frame.alphas], axis=0), 0, 255).astype(np.uint8)
    picture = frame.image
    if rng.random() < 0.2:
        picture = faded(picture, float(rng.uniform(0, 0.6)))
    if rng.random() < 0.5:
        return compressed(picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT), rng), Image.fromarray(
            alpha[:, ::-1].copy()
        )
    return compressed(picture, rng), Image.fromarray(alpha)


def _draw_chunk(seed: int, start: int, count: int) -> Iterator[tuple[Image.Image, Image.Image]]:
    """`count` frames before one scene, and their alphas."""
    rng = np.random.default_rng([seed, start])
    scene = paint_scene(PLACES[(start // _FRAMES_PER_SCENE) % len(PLACES)], rng, FRAME_PX)
    for _ in range(count):
        yield draw_frame(rng, scene)


def render_frames(
    folder: Path, count: int, size_px: tuple[int, int], seed: int, progress: Progress = silent
) -> FrameSet:
    """Renders `count` frames at `size_px` (width, height), or maps them if they are already there.

    The set is written under a temporary name and renamed, so a killed run leaves nothing that is read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawings = samples_fingerprint((np.asarray(picture), None) for picture, _ in _draw_chunk(0, 0, _FRAMES_PER_SCENE))
    path = folder / f"frames-{drawings}-{size_px[0]}x{size_px[1]}-{count}-seed{seed}.npy"
    if not path.exists():
        temporary = path.with_suffix(".partial")
        shape = (count, size_px[1], size_px[0], 4)
        array = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        for start in range(0, count, _FRAMES_PER_SCENE):
            end = min(count, start + _FRAMES_PER_SCENE)
            for index, (picture, alpha) in enumerate(_draw_chunk(seed, start, end - start), start):
                array[index, ..., :3] = np.asarray(picture.resize(size_px, Image.Resampling.LANCZOS))
                array[index, ..., 3] = np.asarray(alpha.resize(size_px, Image.Resampling.BOX))
            progress(end, count, "frames rendered")
        array.flush()
        del array
        temporary.replace(path)
    stored = np.load(path, mmap_mode="r")
    return FrameSet(stored[..., :3], stored[..., 3])
