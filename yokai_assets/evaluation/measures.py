"""What is measured on drawn pictures: plain numpy on unit vectors, one value per picture, with intervals.

No model, file or table here. Every measure is a mean of per-picture values, so that one bootstrap serves all.
Identity as mean cosine of drawn to real pictures follows CLIP-I of DreamBooth (Ruiz et al. 2023, arXiv
2208.12242); here against held-out pictures, with the character cut out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


def bootstrap_mean(values: np.ndarray, samples: int, seed: int) -> Interval:
    """Return the mean of `values` [N] and its percentile bootstrap interval over the N values.

    Raises:
        ValueError: There are no values.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.size == 0:
        raise ValueError("no values to average")
    generator = np.random.default_rng(seed)
    means = np.empty(samples)
    # A bounded number of indices at once: 1,000 pictures x 100,000 resamples would be 800 MB.
    step = max(1, 4_000_000 // values.size)
    for start in range(0, samples, step):
        count = min(step, samples - start)
        means[start : start + count] = values[generator.integers(0, values.size, (count, values.size))].mean(axis=1)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(values.mean()), float(low), float(high))


def bootstrap_covered_share(
    drawn: np.ndarray, base: np.ndarray, real: np.ndarray, samples: int, seed: int
) -> Interval | None:
    """Return the covered share of the distance base to real with its interval; None where there is no distance.

    Args:
        drawn: Resemblance of each picture [N].
        base: Resemblance of the base model's pictures of the same cells [N]; resampled in pairs with `drawn`.
        real: Resemblance of real images [R].
        samples: Resamples.
        seed: Seed of the bootstrap.
    """
    share = covered_share(float(drawn.mean()), float(base.mean()), float(real.mean()))
    if share is None:
        return None
    generator = np.random.default_rng(seed)
    cells = generator.integers(0, len(drawn), (samples, len(drawn)))
    images = generator.integers(0, len(real), (samples, len(real)))
    below, reached, above = base[cells].mean(axis=1), drawn[cells].mean(axis=1), real[images].mean(axis=1)
    # A resample whose base is as near as its real images says nothing of the share.
    counts = above - below > 1e-6
    shares = (reached - below)[counts] / (above - below)[counts]
    low, high = np.quantile(shares, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]) if len(shares) else (share, share)
    return Interval(share, min(float(low), share), max(float(high), share))


def prompt_contrasts(cosines: np.ndarray, own: Sequence[int]) -> np.ndarray:
    """Return by how much each picture is nearer to its own text than the pictures of other texts are: f64 [N].

    The plain image-text cosine changes with *who* is drawn: a purple creature is nearer to `meadow` than a yellow one,
    whatever the ground. All pictures of one LoRA show the same figure, so that this offset cancels here.

    Args:
        cosines: Image-text cosines [N, S].
        own: Per picture the index of its own text; at least two different ones.
    """
    labels = np.asarray(own)
    columns = cosines[:, labels]
    is_other = labels[:, None] != labels[None, :]
    others = np.where(is_other, columns, 0.0).sum(axis=0) / is_other.sum(axis=0)
    return cosines[np.arange(len(labels)), labels] - others


def mean_cosines(vectors: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return for each unit vector [N, D] its mean cosine to the reference unit vectors [M, D]: f64 [N]."""
    return np.asarray(vectors, np.float64) @ np.asarray(reference, np.float64).mean(axis=0)


def mean_cosines_among(vectors: np.ndarray) -> np.ndarray:
    """Return for each unit vector [N, D], N >= 2, its mean cosine to the others: f64 [N]."""
    cosines = _cosines(vectors, vectors)
    return (cosines.sum(axis=1) - np.diag(cosines)) / (len(cosines) - 1)


def nearest(vectors: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each unit vector the index and cosine of the nearest reference: i64 [N], f64 [N]."""
    cosines = _cosines(vectors, reference)
    index = cosines.argmax(axis=1)
    return index, cosines[np.arange(len(cosines)), index]


def memorising_yardstick(held_out: np.ndarray, training: np.ndarray) -> float:
    """Return how near a picture may come to a training picture without being suspected of copying it.

    That is the nearest that any real, unseen picture of the character comes to a training picture. Comparing
    a drawn picture's nearest training picture with its nearest held-out picture instead would call most
    pictures memorised, only because training pictures are many and held-out pictures few.
    """
    return float(_cosines(held_out, training).max())


def memorising_yardstick_among(training: np.ndarray) -> float:
    """Return the yardstick where nothing is held out: the highest cosine of two training pictures."""
    cosines = _cosines(training, training)
    np.fill_diagonal(cosines, -1.0)
    return float(cosines.max())


def diversity_values(vectors: np.ndarray, groups: Sequence[int]) -> np.ndarray:
    """Return each picture's mean cosine distance to the other pictures of its prompt: f64 [N].

    Pictures of one prompt differ by the seed alone, so a LoRA that always draws the same picture scores 0.
    Where a prompt has one picture, it is compared with all others.
    """
    distances = 1.0 - _cosines(vectors, vectors)
    labels = np.asarray(groups)
    values = np.zeros(len(vectors))
    for index in range(len(vectors)):
        others = labels == labels[index]
        others[index] = False
        if not others.any():
            others = np.arange(len(vectors)) != index
        values[index] = distances[index, others].mean() if others.any() else 0.0
    return values


def identify(vectors: np.ndarray, exemplars: Mapping[str, np.ndarray], neighbors: int = 3) -> list[str]:
    """Return for each unit vector the character it resembles most.

    A character's score is the mean of the `neighbors` highest cosines to its exemplars (fewer where it has
    fewer): one odd exemplar cannot win alone, and characters with many exemplars have no advantage.

    Args:
        vectors: Unit vectors [N, D].
        exemplars: Per character the unit vectors [M, D] of its exemplars, M >= 1.
        neighbors: Exemplars that count.
    """
    names = sorted(exemplars)
    scores = np.stack([_top_mean(_cosines(vectors, exemplars[name]), neighbors) for name in names], axis=1)
    return [names[column] for column in scores.argmax(axis=1)]


def covered_share(drawn: float, base: float, real: float) -> float | None:
    """Return the covered share of the distance base to real; None where the base is as near as real."""
    return None if real - base <= 1e-6 else (drawn - base) / (real - base)


def _cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.asarray(left, np.float64) @ np.asarray(right, np.float64).T


def _top_mean(cosines: np.ndarray, count: int) -> np.ndarray:
    count = min(count, cosines.shape[1])
    return np.sort(cosines, axis=1)[:, -count:].mean(axis=1)
