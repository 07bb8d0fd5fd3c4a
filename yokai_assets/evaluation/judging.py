"""From vectors of drawn pictures to the record of one checkpoint.

Puts the measures together; drawing and files are elsewhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from yokai_assets.evaluation import measures
from yokai_assets.evaluation.choice import Judgement
from yokai_assets.evaluation.grid import GridCell
from yokai_assets.evaluation.record import CheckpointRecord, Measure

_PROMPT_COSINE_FLOOR = 0.1


@dataclass(frozen=True, slots=True)
class Yardsticks:
    """What drawn pictures of a character are held against.

    Attributes:
        character_id: The right answer of identification.
        reference: Unit vectors [R, D] of images that drawn ones are compared with: held-out ones.
        training: Unit vectors [T, D] of training images.
        exemplars: Unit vectors [M, D] per character.
        real_to_real: Mean cosine of real images among each other, per image [R].
        real_diversity: Mean cosine distance of real images among each other.
        memorising: Cosine to a training image beyond which a picture is suspected of copying.
    """

    character_id: str
    reference: np.ndarray
    training: np.ndarray
    exemplars: Mapping[str, np.ndarray]
    real_to_real: np.ndarray
    real_diversity: float
    memorising: float

    @classmethod
    def of(
        cls,
        character_id: str,
        held_out: np.ndarray,
        training: np.ndarray,
        exemplars: Mapping[str, np.ndarray],
    ) -> "Yardsticks":
        """Measure real images against each other; without held-out ones the training images stand in."""
        has_held_out = len(held_out) > 0
        everything = np.concatenate([held_out, training]) if has_held_out else training
        return cls(
            character_id=character_id,
            reference=held_out if has_held_out else training,
            training=training,
            exemplars=exemplars,
            real_to_real=measures.mean_cosines(held_out, training)
            if has_held_out
            else measures.mean_cosines_among(training),
            real_diversity=float(1.0 - measures.mean_cosines_among(everything).mean()),
            memorising=measures.memorising_yardstick(held_out, training)
            if has_held_out
            else measures.memorising_yardstick_among(training),
        )


@dataclass(frozen=True, slots=True)
class DrawnGrid:
    """One checkpoint's pictures as vectors.

    Attributes:
        cells: The grid, N cells.
        subject_vectors: Unit vectors [N, D] of the pictures, characters cut out.
        whole_vectors: Unit vectors [N, D] of the whole pictures: prompts speak of backgrounds too.
        defects: Per picture what is broken about it, or None.
    """

    cells: Sequence[GridCell]
    subject_vectors: np.ndarray
    whole_vectors: np.ndarray
    defects: Sequence[str | None]


@dataclass(frozen=True, slots=True)
class PerPicture:
    """Values of the N pictures of a grid, f64 [N]; names as lists."""

    resemblance: np.ndarray
    recognised_as: list[str]
    nearest_training: np.ndarray
    nearest_training_cosine: np.ndarray


def measure_pictures(grid: DrawnGrid, yardsticks: Yardsticks) -> PerPicture:
    """Return what is known of each picture."""
    index, cosine = measures.nearest(grid.subject_vectors, yardsticks.training)
    return PerPicture(
        resemblance=measures.mean_cosines(grid.subject_vectors, yardsticks.reference),
        recognised_as=measures.identify(grid.subject_vectors, yardsticks.exemplars),
        nearest_training=index,
        nearest_training_cosine=cosine,
    )


def judge(
    step: int,
    checkpoint: str | None,
    grid: DrawnGrid,
    base: DrawnGrid,
    yardsticks: Yardsticks,
    text_vectors: Mapping[str, np.ndarray],
    samples: int,
    seed: int,
) -> CheckpointRecord:
    """Return a checkpoint's measures with their intervals.

    Args:
        step: Training step; 0 is the base model.
        checkpoint: File relative to the data root.
        grid: The checkpoint's pictures.
        base: The base model's pictures of the same cells (for the base model: the same object).
        yardsticks: What to hold them against.
        text_vectors: Per subject text its unit vector [D].
        samples: Bootstrap resamples.
        seed: Seed of the bootstrap.
    """
    own = np.array([cell.has_trigger for cell in grid.cells])
    pictures, base_pictures = measure_pictures(grid, yardsticks), measure_pictures(base, yardsticks)

    def interval(values: np.ndarray) -> Measure:
        found = measures.bootstrap_mean(values, samples, seed)
        return Measure(mean=found.mean, low=found.low, high=found.high)

    resemblance = interval(pictures.resemblance[own])
    real = float(yardsticks.real_to_real.mean())
    names = [name for name, is_own in zip(pictures.recognised_as, own, strict=True) if is_own]
    texts = _text_cosines(grid, text_vectors)
    control = 1.0 - (grid.whole_vectors[~own] * base.whole_vectors[~own]).sum(axis=1) if not own.all() else None
    groups = [cell.prompt_index for cell, is_own in zip(grid.cells, own, strict=True) if is_own]
    return CheckpointRecord(
        step=step,
        checkpoint=checkpoint,
        image_count=len(grid.cells),
        defect_count=sum(defect is not None for defect in grid.defects),
        resemblance=resemblance,
        resemblance_gain=interval((pictures.resemblance - base_pictures.resemblance)[own]) if step else None,
        covered_share=measures.covered_share(resemblance.mean, float(base_pictures.resemblance[own].mean()), real),
        identification=interval(np.array([name == yardsticks.character_id for name in names], dtype=float)),
        prompt_following=interval(texts) if len(texts) else None,
        diversity=interval(measures.diversity_values(grid.subject_vectors[own], groups)),
        memorised_share=interval((pictures.nearest_training_cosine[own] > yardsticks.memorising).astype(float)),
        bleeding=interval(control) if control is not None and step else None,
        recognised_as={name: names.count(name) for name in sorted(set(names), key=lambda n: (-names.count(n), n))},
        score=None,
    )


def judgement_of(record: CheckpointRecord, base: CheckpointRecord, yardsticks: Yardsticks) -> Judgement:
    """Return the inputs of a checkpoint's score."""
    prompt_loss = 0.0
    if record.prompt_following and base.prompt_following:
        before, after = base.prompt_following.mean, record.prompt_following.mean
        # Below the floor the base follows no prompt itself, and a share of next to nothing would be noise.
        prompt_loss = min(1.0, max(0.0, (before - after) / max(before, _PROMPT_COSINE_FLOOR)))
    diversity, covered = yardsticks.real_diversity, record.covered_share
    return Judgement(
        step=record.step,
        likeness=record.resemblance.mean if covered is None else min(1.5, max(-1.0, covered)),
        identification=record.identification.mean,
        prompt_loss=prompt_loss,
        diversity_ratio=record.diversity.mean / diversity if diversity > 1e-6 else 1.0,
        memorised_share=record.memorised_share.mean,
        defect_share=record.defect_count / record.image_count,
    )


def _text_cosines(grid: DrawnGrid, text_vectors: Mapping[str, np.ndarray]) -> np.ndarray:
    pairs = [
        float(vector @ text_vectors[cell.subject])
        for cell, vector in zip(grid.cells, grid.whole_vectors, strict=True)
        if cell.subject and cell.has_trigger
    ]
    return np.array(pairs)
