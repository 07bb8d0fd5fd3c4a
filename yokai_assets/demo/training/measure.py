"""How well a base model follows its prompts, and how much its pictures of one prompt differ.

Prompts that no model has seen are drawn by the model and by the drawing code; the same judge looks at both, so that
what the judge itself gets wrong is known. Not here: training, the judge, sample grids.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yokai_assets.demo.creatures import ATTRIBUTES, PROPORTIONS, draw_portrait, sample_design, sample_pose
from yokai_assets.demo.training.portraits import Drawing, draw_random
from yokai_assets.demo.training.random_crops import attribute_labels
from yokai_assets.evaluation.measures import Interval, bootstrap_mean

JudgePictures = Callable[[NDArray[np.uint8]], Mapping[str, NDArray[np.int64]]]
"""Pictures (N, S, S, 3) to the index of each attribute's value, (N,) by attribute."""

_BATCH = 32
_RESAMPLES = 2000
_DIVERSITY_PROMPTS, _DIVERSITY_SEEDS = 8, 8


@dataclass(frozen=True)
class Agreement:
    """Share of pictures (0..1) in which the judge finds what the prompt asked for: the model's and real drawings.

    `chance` is one over the number of values.
    """

    model: Interval
    drawings: Interval
    chance: float

    @property
    def ratio(self) -> float:
        """The model's share over that of real drawings."""
        return self.model.mean / max(1e-9, self.drawings.mean)


def unseen_drawings(count: int, size_px: int, seed: int) -> list[Drawing]:
    """Random drawings; with another seed than a training set's, none of its pictures is among them."""
    return [draw_random(np.random.default_rng([seed, index]), size_px) for index in range(count)]


def draw_prompts(
    pipeline: Any, prompts: Sequence[str], guidance: float = 3.0, inference_steps: int = 20, seed: int = 0
) -> NDArray[np.uint8]:
    """(N, S, S, 3) pictures by a diffusers text-to-image pipeline; each prompt has its own noise."""
    import torch

    pictures = []
    for start in range(0, len(prompts), _BATCH):
        batch = list(prompts[start : start + _BATCH])
        drawn = pipeline(
            batch,
            num_inference_steps=inference_steps,
            guidance_scale=guidance,
            generator=[torch.Generator().manual_seed(seed * 1_000_003 + start + index) for index in range(len(batch))],
            output_type="np",
        ).images
        pictures.append((np.asarray(drawn, np.float32) * 255 + 0.5).clip(0, 255).astype(np.uint8))
    return np.concatenate(pictures)


def measure_agreement(
    judge: JudgePictures, drawings: Sequence[Drawing], drawn: NDArray[np.uint8], seed: int = 0
) -> Mapping[str, Agreement]:
    """For every attribute, how often the judge finds its value in real drawings and in the model's, (N, S, S, 3)."""
    truth = np.array([attribute_labels(drawing.design, drawing.pose) for drawing in drawings])
    by_model, by_hand = judge(drawn), judge(np.stack([drawing.picture for drawing in drawings]))

    def share(found: NDArray[np.int64], index: int) -> Interval:
        return bootstrap_mean((found == truth[:, index]).astype(float), _RESAMPLES, seed)

    return {
        name: Agreement(share(by_model[name], index), share(by_hand[name], index), 1 / len(values))
        for index, (name, values) in enumerate(ATTRIBUTES.items())
    }


def measure_diversity(pipeline: Any, drawings: Sequence[Drawing], guidance: float = 3.0, seed: int = 0) -> float:
    """How much pictures of one prompt differ, over how much the drawing code's pictures of that prompt do.

    Mean absolute difference of pixels; 0 means that every seed gives the same picture, 1 as much as drawings differ.
    """
    rng = np.random.default_rng(seed)
    own, real = [], []
    for drawing in [one for one in drawings if one.background][:_DIVERSITY_PROMPTS]:
        prompts = [drawing.caption] * _DIVERSITY_SEEDS
        own.append(_mean_difference(draw_prompts(pipeline, prompts, guidance, seed=seed)))
        real.append(_mean_difference(np.stack([_redrawn(drawing, rng) for _ in prompts])))
    return float(np.mean(own) / np.mean(real))


def _redrawn(drawing: Drawing, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Another picture with the same caption: another posture and other proportions, which captions don't tell."""
    pose = replace(sample_pose(rng), expression=drawing.pose.expression, arms=drawing.pose.arms)
    other = sample_design(rng)
    design = replace(drawing.design, **{name: getattr(other, name) for name in PROPORTIONS})
    return np.asarray(draw_portrait(design, pose, str(drawing.background), len(drawing.picture)))


def _mean_difference(pictures: NDArray[np.uint8]) -> float:
    values = pictures.astype(np.float32)
    differences = np.abs(values[:, None] - values[None]).mean(axis=(2, 3, 4))
    return float(differences.sum() / (len(values) * (len(values) - 1)))
