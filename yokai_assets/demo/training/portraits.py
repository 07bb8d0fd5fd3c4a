"""Training pictures of random creatures with captions, rendered once and kept as a memory-mapped array.

Not here: the drawings themselves (:mod:`yokai_assets.demo.creatures`), tokens, latents.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from yokai_assets.datasets.grounds import draw_ground
from yokai_assets.demo.creatures import (
    BACKGROUNDS,
    CreatureDesign,
    CreaturePose,
    describe,
    draw_creature,
    draw_portrait,
    sample_design,
    sample_pose,
)
from yokai_assets.demo.training.fingerprint import samples_fingerprint

CAPTIONS_PER_PICTURE = 3
_SHARD_PICTURES = 1000
_FINGERPRINT_SAMPLES = 24
_CLOSE_UP_SHARE = 0.6
_OTHER_LIGHT_SHARE = 0.3
_SYLLABLES = ("ka", "ro", "zq", "mi", "xu", "to", "be", "li", "no", "vy", "sa", "pe", "gru", "oh", "ni", "wa")


@dataclass(frozen=True)
class PortraitSet:
    """Pictures (N, S, S, 3) uint8 RGB, and `CAPTIONS_PER_PICTURE` captions for each of the N."""

    pictures: NDArray[np.uint8]
    captions: list[list[str]]

    def __len__(self) -> int:
        return len(self.captions)


def _caption_variants(caption: str, partial_captions: list[str], rng: np.random.Generator) -> list[str]:
    """The full caption and partial ones, some as plain lists of tags, some led by a made-up name.

    Names (trigger words) stand before LoRA captions; a base that has seen such words does not stumble over them.
    """
    variants = [caption, *partial_captions]
    for index, variant in enumerate(variants):
        if rng.random() < 0.3:
            variant = variant.replace(" with ", ", ")
        if rng.random() < 0.15:
            name = "".join(rng.choice(_SYLLABLES, size=int(rng.integers(2, 4))))
            variant = f"{name}, {variant}"
        variants[index] = variant
    return variants


@dataclass(frozen=True)
class Drawing:
    """A picture (S, S, 3) uint8 of a creature and all that is true of it.

    `background` is the name of a painted ground, or None where a plain one has the tag `ground_tag`.
    """

    picture: NDArray[np.uint8]
    design: CreatureDesign
    pose: CreaturePose
    background: str | None
    ground_tag: str

    @property
    def caption(self) -> str:
        """All that is there, in words."""
        caption = describe(self.design, self.pose, self.background)
        return f"{caption}, {self.ground_tag}" if self.ground_tag else caption


def draw_random(rng: np.random.Generator, size_px: int) -> Drawing:
    """A random creature.

    Two of five are portraits on painted grounds, as prompts ask for; the others are close-ups on plain grounds,
    under any light, as the training images of a character are: a base that never saw such pictures would have to
    learn them anew with every LoRA.
    """
    design, pose = sample_design(rng), sample_pose(rng)
    if rng.random() < _CLOSE_UP_SHARE:
        return draw_close_up(design, pose, size_px, rng)
    background = str(rng.choice(list(BACKGROUNDS)))
    return Drawing(np.asarray(draw_portrait(design, pose, background, size_px)), design, pose, background, "")


def draw_close_up(design: CreatureDesign, pose: CreaturePose, size_px: int, rng: np.random.Generator) -> Drawing:
    """A creature that fills the picture but for a margin, on a plain ground."""
    if rng.random() < _OTHER_LIGHT_SHARE:
        brightness = rng.uniform(0.62, 1.0)
        pose = replace(pose, light=tuple(float(min(1.05, brightness * rng.uniform(0.85, 1.2))) for _ in range(3)))
    creature = draw_creature(design, pose, 3 * size_px, supersample=2)
    creature = creature.crop(creature.getbbox())
    ground = draw_ground(rng)
    side = round(max(creature.size) * (1 + 2 * rng.uniform(0.04, 0.2)))
    picture = Image.new("RGB", (side, side), ground.color)
    picture.paste(creature, ((side - creature.width) // 2, (side - creature.height) // 2), creature)
    pixels = np.asarray(picture.resize((size_px, size_px), Image.Resampling.LANCZOS))
    return Drawing(pixels, design, pose, None, ground.tag)


def draw_sample(index: int, size_px: int, seed: int) -> tuple[NDArray[np.uint8], list[str]]:
    """Picture number `index` of the set with this seed: (S, S, 3) uint8, and its captions."""
    rng = np.random.default_rng([seed, index])
    drawing = draw_random(rng, size_px)
    most_dropped = 0.9 if drawing.ground_tag else 0.6
    partial_captions = [
        describe(drawing.design, drawing.pose, drawing.background, rng=rng, drop=float(rng.uniform(0.05, most_dropped)))
        for _ in range(CAPTIONS_PER_PICTURE - 1)
    ]
    whole_caption = describe(drawing.design, drawing.pose, drawing.background)
    captions = _caption_variants(whole_caption, partial_captions, rng)
    if drawing.ground_tag:
        captions = [f"{caption}, {drawing.ground_tag}" if rng.random() < 0.8 else caption for caption in captions]
    return drawing.picture, captions


def _draw_shard(start: int, count: int, size_px: int, seed: int) -> tuple[NDArray[np.uint8], list[list[str]]]:
    samples = [draw_sample(index, size_px, seed) for index in range(start, start + count)]
    return np.stack([picture for picture, _ in samples]), [captions for _, captions in samples]


def render_portraits(folder: Path, count: int, size_px: int, seed: int, workers: int = 1) -> PortraitSet:
    """Renders the set, or maps it if it is already there.

    Args:
        folder: where the cache lies; pictures and captions are written whole or not at all.
        count: number of pictures.
        size_px: side of a picture.
        seed: each picture depends on the seed and its own number only, so a smaller set is a prefix of a larger.
        workers: drawing processes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawings = samples_fingerprint(draw_sample(index, 32, seed=0) for index in range(_FINGERPRINT_SAMPLES))
    name = f"portraits-{drawings}-{size_px}px-{count}-seed{seed}"
    pictures_path, captions_path = folder / f"{name}.npy", folder / f"{name}.json"
    if not (pictures_path.exists() and captions_path.exists()):
        starts = list(range(0, count, _SHARD_PICTURES))
        counts = [min(_SHARD_PICTURES, count - start) for start in starts]
        temporary = folder / f".{name}.{os.getpid()}.npy"
        shape = (count, size_px, size_px, 3)
        pictures = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        captions: list[list[str]] = []
        draw = partial(_draw_shard, size_px=size_px, seed=seed)
        with ProcessPoolExecutor(max_workers=workers) as pool:
            shards = map(draw, starts, counts) if workers == 1 else pool.map(draw, starts, counts)
            for start, (shard, shard_captions) in zip(starts, shards, strict=True):
                pictures[start : start + len(shard)] = shard
                captions += shard_captions
        pictures.flush()
        captions_temporary = temporary.with_suffix(".json")
        captions_temporary.write_text(json.dumps(captions))
        captions_temporary.replace(captions_path)
        temporary.replace(pictures_path)
    pictures = np.load(pictures_path, mmap_mode="r")
    return PortraitSet(pictures, json.loads(captions_path.read_text()))
