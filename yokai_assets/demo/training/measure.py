"""How well a base model follows its prompts, judged by nearest drawings. Not here: training, sample grids.

For every value of an attribute the model draws a few pictures of one simple creature; each is compared with real
drawings of that creature with all the attribute's values, in many poses, and the nearest (mean squared difference
of pixels) decides. The judge is itself measured on fresh drawings: the score to be compared with.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yokai_assets.demo.creatures import (
    ATTRIBUTES,
    CreatureDesign,
    CreaturePose,
    describe,
    draw_portrait,
    sample_pose,
)

JUDGED_ATTRIBUTES = ("body_colour", "body_shape", "top", "eyes", "pattern", "legs")
_BACKGROUND = "cream"
_SUBJECT = CreatureDesign(body_shape="round", body_colour="red", accent_colour="blue", top="horns")


@dataclass(frozen=True)
class Agreement:
    """Share of pictures (0..1) whose nearest drawing has the value asked for: of the model's, and of fresh drawings."""

    model: float
    drawings: float
    chance: float


def design_with(attribute: str, value: str) -> CreatureDesign:
    """The plain subject with one attribute changed."""
    changes: dict[str, Any] = {attribute: value}
    if attribute == "body_colour" and value == _SUBJECT.accent_colour:
        changes["accent_colour"] = "yellow"
    if attribute == "pattern" and value != "plain":
        changes["pattern_colour"] = "white"
    return dataclasses.replace(_SUBJECT, **changes)


def _draw_poses(design: CreatureDesign, count: int, size_px: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """(count, S, S, 3) float32 drawings of a happy creature with its arms down, in other poses otherwise."""
    poses = [
        dataclasses.replace(sample_pose(rng), expression="happy", arms="down", light=(1.0, 1.0, 1.0))
        for _ in range(count)
    ]
    drawings = [np.asarray(draw_portrait(design, pose, _BACKGROUND, size_px), np.float32) for pose in poses]
    return np.stack(drawings)


def _nearest(pictures: NDArray[np.float32], references: Sequence[NDArray[np.float32]]) -> list[int]:
    """For each picture, the group of references that holds its nearest one."""
    distances = [
        [float(((group - picture) ** 2).mean(axis=(1, 2, 3)).min()) for group in references] for picture in pictures
    ]
    return [int(np.argmin(row)) for row in distances]


def measure_agreement(
    pipeline: Any, samples_per_value: int = 4, guidance: float = 3.0, inference_steps: int = 20, seed: int = 0
) -> Mapping[str, Agreement]:
    """Prompt-following for each of `JUDGED_ATTRIBUTES`.

    Args:
        pipeline: a diffusers text-to-image pipeline for square pictures.
        samples_per_value: pictures for each value of each attribute.
        guidance: strength of classifier-free guidance.
        inference_steps: denoising steps.
        seed: of noise and reference poses.
    """
    import torch

    size_px = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
    pose = CreaturePose()
    report = {}
    for attribute in JUDGED_ATTRIBUTES:
        values = list(ATTRIBUTES[attribute])
        designs = [design_with(attribute, value) for value in values]
        rng = np.random.default_rng([seed, len(report)])
        references = [_draw_poses(design, 40, size_px, rng) for design in designs]
        prompts = [describe(design, pose, _BACKGROUND) for design in designs for _ in range(samples_per_value)]
        drawn = pipeline(
            prompts,
            num_inference_steps=inference_steps,
            guidance_scale=guidance,
            generator=torch.Generator().manual_seed(seed),
            output_type="np",
        ).images
        truth = np.repeat(np.arange(len(values)), samples_per_value)
        fresh = np.concatenate([_draw_poses(design, samples_per_value, size_px, rng) for design in designs])
        report[attribute] = Agreement(
            model=float(np.mean(_nearest(np.asarray(drawn, np.float32) * 255, references) == truth)),
            drawings=float(np.mean(_nearest(fresh, references) == truth)),
            chance=1 / len(values),
        )
    return report
