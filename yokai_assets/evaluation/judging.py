"""From vectors of drawn pictures to the record of one model: base, checkpoint, or checkpoint at a weight.

Puts the measures together; drawing and files are elsewhere.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from yokai_assets.evaluation import measures
from yokai_assets.evaluation.choice import Judgement
from yokai_assets.evaluation.grid import GridCell
from yokai_assets.evaluation.record import CheckpointRecord, Measure

_PROMPT_FLOOR = 0.01
"""Prompt-following that the base model must surely have, for a lost share of it not to be noise."""


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
        all_real: Unit vectors [R + T, D] of all real images.
        memorising: Cosine to a training image beyond which a picture is suspected of copying.
    """

    character_id: str
    reference: np.ndarray
    training: np.ndarray
    exemplars: Mapping[str, np.ndarray]
    real_to_real: np.ndarray
    real_diversity: float
    all_real: np.ndarray
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
            all_real=everything,
            memorising=measures.memorising_yardstick(held_out, training)
            if has_held_out
            else measures.memorising_yardstick_among(training),
        )


@dataclass(frozen=True, slots=True)
class DrawnGrid:
    """One model's pictures as vectors.

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

    @property
    def is_own(self) -> np.ndarray:
        """Whether each picture's prompt has the trigger word, bool [N]."""
        return np.array([cell.has_trigger for cell in self.cells])

    def only(self, indices: Sequence[int]) -> "DrawnGrid":
        """Return some of the pictures."""
        wanted = list(indices)
        return DrawnGrid(
            [self.cells[index] for index in wanted],
            self.subject_vectors[wanted],
            self.whole_vectors[wanted],
            [self.defects[index] for index in wanted],
        )


@dataclass(frozen=True, slots=True)
class PerPicture:
    """Values of the N pictures of a grid, f64 [N]; names as lists."""

    resemblance: np.ndarray
    recognised_as: list[str]
    nearest_training: np.ndarray
    nearest_training_cosine: np.ndarray


def measure_pictures(vectors: np.ndarray, yardsticks: Yardsticks) -> PerPicture:
    """Return what is known of each picture, given unit vectors [N, D] of cut-out characters."""
    index, cosine = measures.nearest(vectors, yardsticks.training)
    return PerPicture(
        resemblance=measures.mean_cosines(vectors, yardsticks.reference),
        recognised_as=measures.identify(vectors, yardsticks.exemplars),
        nearest_training=index,
        nearest_training_cosine=cosine,
    )


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges grids by the same yardsticks.

    Attributes:
        yardsticks: What pictures are held against.
        text_vectors: Per subject text its unit vector [D].
        samples: Bootstrap resamples.
        seed: Seed of the bootstrap.
    """

    yardsticks: Yardsticks
    text_vectors: Mapping[str, np.ndarray]
    samples: int
    seed: int

    def interval(self, values: np.ndarray) -> Measure:
        """Return mean and interval of per-picture values [N]."""
        found = measures.bootstrap_mean(values, self.samples, self.seed)
        return Measure(mean=found.mean, low=found.low, high=found.high)

    def covered(self, resemblance: np.ndarray, base_resemblance: np.ndarray) -> Measure | None:
        """Return the covered share of the distance base to real, from resemblances [N] of the same cells."""
        real = self.yardsticks.real_to_real
        share = measures.bootstrap_covered_share(resemblance, base_resemblance, real, self.samples, self.seed)
        return Measure(mean=share.mean, low=share.low, high=share.high) if share else None

    def of(self, step: int, checkpoint: str | None, grid: DrawnGrid, base: DrawnGrid) -> CheckpointRecord:
        """Return a model's measures with their intervals.

        Args:
            step: Training step; 0 is the base model.
            checkpoint: File relative to the data root.
            grid: The model's pictures.
            base: The base model's pictures of the same cells (for the base model: the same object).
        """
        yardsticks, own = self.yardsticks, grid.is_own
        pictures = measure_pictures(grid.subject_vectors[own], yardsticks)
        base_pictures = measure_pictures(base.subject_vectors[own], yardsticks)
        names = pictures.recognised_as
        texts, contrasts = self._text_cosines(grid)
        base_contrasts = self._text_cosines(base)[1]
        control = 1.0 - (grid.whole_vectors[~own] * base.whole_vectors[~own]).sum(axis=1) if not own.all() else None
        groups = [cell.prompt_index for cell in grid.cells if cell.has_trigger]
        return CheckpointRecord(
            step=step,
            checkpoint=checkpoint,
            image_count=len(grid.cells),
            defect_count=sum(defect is not None for defect in grid.defects),
            resemblance=self.interval(pictures.resemblance),
            resemblance_gain=self.interval(pictures.resemblance - base_pictures.resemblance) if step else None,
            covered=self.covered(pictures.resemblance, base_pictures.resemblance),
            identification=self.interval(np.array([name == yardsticks.character_id for name in names], dtype=float)),
            text_similarity=self.interval(texts) if len(texts) else None,
            prompt_following=self.interval(contrasts) if len(contrasts) else None,
            prompt_loss=self._prompt_loss(contrasts, base_contrasts) if step else None,
            diversity=self.interval(measures.diversity_values(grid.subject_vectors[own], groups)),
            memorised_share=self.interval((pictures.nearest_training_cosine > yardsticks.memorising).astype(float)),
            bleeding=self.interval(control) if control is not None and step else None,
            recognised_as={name: names.count(name) for name in sorted(set(names), key=lambda n: (-names.count(n), n))},
            score=None,
        )

    def judgement(self, record: CheckpointRecord, refusals: Collection[str] = ()) -> Judgement:
        """Return the inputs of a checkpoint's score, and which verdicts forbid its publication."""
        diversity, covered = self.yardsticks.real_diversity, record.covered_share
        # Where the base follows no prompt itself there is nothing to lose.
        prompt_loss = record.prompt_loss.mean if record.prompt_loss else 0.0
        return Judgement(
            step=record.step,
            likeness=record.resemblance.mean if covered is None else min(1.5, max(-1.0, covered)),
            identification=record.identification.mean,
            prompt_loss=min(1.0, max(0.0, prompt_loss)),
            diversity_ratio=record.diversity.mean / diversity if diversity > 1e-6 else 1.0,
            memorised_share=record.memorised_share.mean,
            defect_share=record.defect_count / record.image_count,
            refusals=tuple(refusals),
        )

    def _text_cosines(self, grid: DrawnGrid) -> tuple[np.ndarray, np.ndarray]:
        """Return for pictures whose prompt says more than the trigger: cosines to their own text, and contrasts."""
        indices = [index for index, cell in enumerate(grid.cells) if cell.subject and cell.has_trigger]
        if not indices:
            return np.zeros(0), np.zeros(0)
        subjects = sorted({grid.cells[index].subject for index in indices})
        cosines = grid.whole_vectors[indices] @ np.stack([self.text_vectors[subject] for subject in subjects]).T
        own = [subjects.index(grid.cells[index].subject) for index in indices]
        contrasts = measures.prompt_contrasts(cosines, own) if len(subjects) > 1 else np.zeros(0)
        return cosines[np.arange(len(own)), own], contrasts

    def _prompt_loss(self, contrasts: np.ndarray, base_contrasts: np.ndarray) -> Measure | None:
        if not len(base_contrasts) or self.interval(base_contrasts).low < _PROMPT_FLOOR:
            return None
        return self.interval((base_contrasts - contrasts) / base_contrasts.mean())
