"""Random cut-outs of random creatures, several of each, with attributes and captions: what CLIP learns from.

Cut-outs look as the platform's own do: from painted frames, of any size, partly hidden, with imperfect mattes, on
neutral grey, some with their background. Not here: whole frames (:mod:`yokai_assets.demo.training.random_frames`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from yokai_assets.demo.compositing import Actor, compose
from yokai_assets.demo.creatures import (
    ATTRIBUTES,
    IDENTITY_ATTRIBUTES,
    CreatureDesign,
    CreaturePose,
    attribute_value,
    describe,
    sample_design,
    sample_pose,
)
from yokai_assets.demo.scenes import PLACES, Scene, paint_scene
from yokai_assets.demo.training.fingerprint import samples_fingerprint
from yokai_assets.demo.training.random_frames import FRAME_PX, compressed
from yokai_assets.progress import Progress, silent
from yokai_assets.storage.files import write_json

GREY = (128, 128, 128)
CAPTIONS_PER_CROP = 2
BACKGROUND_SHARE = 0.2
_DESIGNS_PER_CHUNK = 64
_SCENES_PER_CHUNK = 4
_FINGERPRINT_DESIGNS = 6
_MIN_VISIBLE_SHARE = 0.4


@dataclass(frozen=True)
class CropSet:
    """Crops of `views` pictures for each design, one design after the other.

    `pictures` is (N, S, S, 3) uint8, memory-mapped; `labels` (N, attributes) int64 in the order of
    :data:`ATTRIBUTES`; `captions` has :data:`CAPTIONS_PER_CROP` for each picture; `views` is the number of
    pictures per design.
    """

    pictures: NDArray[np.uint8]
    labels: NDArray[np.int64]
    captions: list[list[str]]
    views: int

    @property
    def designs(self) -> int:
        """Number of different creatures."""
        return len(self.captions) // self.views


def attribute_labels(design: CreatureDesign, pose: CreaturePose) -> list[int]:
    """Index of the value of every attribute of :data:`ATTRIBUTES`."""
    return [
        list(values).index(attribute_value(design if attribute in IDENTITY_ATTRIBUTES else pose, attribute))
        for attribute, values in ATTRIBUTES.items()
    ]


def _imperfect(alpha: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The alpha as a matte might give it: a pixel too much or too little, softened, with a stray patch."""
    chance = rng.random()
    if chance < 0.25:
        alpha = alpha.filter(ImageFilter.MinFilter(3))
    elif chance < 0.5:
        alpha = alpha.filter(ImageFilter.MaxFilter(3))
    return alpha.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.2, 1.0)))) if rng.random() < 0.6 else alpha


def square_crop(
    picture: Image.Image, alpha: Image.Image | None, size_px: int, margin_share: float = 0.0
) -> Image.Image:
    """The picture on neutral grey, padded to a square and resized: RGB `size_px` × `size_px`."""
    side = round(max(picture.size) * (1 + 2 * margin_share))
    square = Image.new("RGB", (side, side), GREY)
    corner = ((side - picture.width) // 2, (side - picture.height) // 2)
    square.paste(picture, corner, alpha)
    return square.resize((size_px, size_px), Image.Resampling.BICUBIC)


def draw_crop(
    rng: np.random.Generator,
    design: CreatureDesign,
    pose: CreaturePose,
    scene: Scene,
    size_px: int,
    background_share: float = BACKGROUND_SHARE,
) -> Image.Image:
    """One cut-out of the creature; drawn again, with less before it, if too little of it is visible.

    With a probability of `background_share` the background stays in it.
    """
    for attempt in range(3):
        canvas_px = round(float(np.exp(rng.uniform(np.log(52), np.log(250)))))
        is_at_edge = attempt == 0 and rng.random() < 0.12
        x = float(rng.choice([0.02, 0.98])) if is_at_edge else float(rng.uniform(0.25, 0.75))
        feet_y = scene.ground_y + max(0.0, canvas_px / FRAME_PX[1] - 0.8) * float(rng.uniform(0.5, 1.0))
        actors = [Actor(design, pose, x, feet_y, canvas_px)]
        if attempt == 0 and rng.random() < 0.1:
            beside = x + float(rng.choice([-1, 1])) * 0.8 * canvas_px / FRAME_PX[0]
            actors.append(Actor(sample_design(rng), sample_pose(rng), beside, feet_y, round(0.9 * canvas_px)))
        frame = compose(scene, float(rng.random()), actors, has_foreground=attempt == 0 and rng.random() < 0.25)
        alpha = frame.alphas[0]
        if alpha.sum() / 255 >= _MIN_VISIBLE_SHARE * frame.full_areas_px[0]:
            break
    y, x_at = np.nonzero(np.asarray(alpha >= 128))
    jitter = rng.integers(-2, 3, 4)
    box = (
        max(0, int(x_at.min() + jitter[0])), max(0, int(y.min() + jitter[1])),
        min(FRAME_PX[0], int(x_at.max() + 1 + jitter[2])), min(FRAME_PX[1], int(y.max() + 1 + jitter[3])),
    )  # fmt: skip
    picture = compressed(frame.image, rng).crop(box)
    matte = None if rng.random() < background_share else _imperfect(Image.fromarray(alpha), rng).crop(box)
    return square_crop(picture, matte, size_px, margin_share=float(rng.uniform(0, 0.1)))


def _draw_chunk(
    seed: int, start: int, count: int, views: int, size_px: int, background_share: float = BACKGROUND_SHARE
) -> list[tuple[NDArray[np.uint8], tuple[list[int], list[str]]]]:
    """`views` crops of each of `count` designs before a few common scenes, with labels and captions."""
    rng = np.random.default_rng([seed, start])
    places = rng.choice(list(PLACES), _SCENES_PER_CHUNK, replace=False)
    scenes = [paint_scene(str(place), rng, FRAME_PX) for place in places]
    samples = []
    for _ in range(count):
        design = sample_design(rng)
        for _ in range(views):
            pose = sample_pose(rng)
            scene = scenes[int(rng.integers(len(scenes)))]
            crop = np.asarray(draw_crop(rng, design, pose, scene, size_px, background_share))
            captions = [
                describe(design, pose, rng=rng, drop=float(rng.uniform(0, 0.6))) for _ in range(CAPTIONS_PER_CROP)
            ]
            samples.append((crop, (attribute_labels(design, pose), captions)))
    return samples


def render_crops(
    folder: Path,
    designs: int,
    views: int,
    size_px: int,
    seed: int,
    progress: Progress = silent,
    background_share: float = BACKGROUND_SHARE,
) -> CropSet:
    """Renders `views` crops of each of `designs` random creatures, or maps them if they are already there.

    A share of them keeps its background.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawings = samples_fingerprint(_draw_chunk(0, 0, _FINGERPRINT_DESIGNS, 2, 32))
    path = folder / f"crops-{drawings}-{size_px}px-{designs}x{views}-background{background_share:g}-seed{seed}.npy"
    facts_path = path.with_suffix(".json")
    if not (path.exists() and facts_path.exists()):
        temporary = path.with_suffix(".partial")
        array = np.lib.format.open_memmap(
            temporary, mode="w+", dtype=np.uint8, shape=(designs * views, size_px, size_px, 3)
        )
        labels: list[list[int]] = []
        captions: list[list[str]] = []
        for start in range(0, designs, _DESIGNS_PER_CHUNK):
            count = min(_DESIGNS_PER_CHUNK, designs - start)
            for crop, facts in _draw_chunk(seed, start, count, views, size_px, background_share):
                array[len(labels)] = crop
                labels.append(facts[0])
                captions.append(facts[1])
            progress(min(designs, start + _DESIGNS_PER_CHUNK), designs, "creatures rendered")
        array.flush()
        del array
        write_json(facts_path, {"labels": labels, "captions": captions})
        temporary.replace(path)
    facts = json.loads(facts_path.read_text(encoding="utf-8"))
    return CropSet(np.load(path, mmap_mode="r"), np.array(facts["labels"], dtype=np.int64), facts["captions"], views)
