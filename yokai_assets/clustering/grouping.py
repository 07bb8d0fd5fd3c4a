"""What a clustering method is given and gives: the interface that `methods` and `communities` share."""

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from yokai_assets.clustering.neighbors import Neighbors
from yokai_assets.settings.model import ClusteringSettings

NOISE = -1


def consecutive(labels: np.ndarray) -> np.ndarray:
    """Number groups from 0 without gaps, in their order; noise stays noise. int32 [N]."""
    found = np.unique(labels[labels != NOISE])
    numbers = np.full(int(labels.max(initial=NOISE)) + 2, NOISE, np.int32)
    numbers[found] = np.arange(len(found))
    return numbers[labels]


@dataclass(frozen=True, slots=True)
class Grouping:
    """Raw groups of a method.

    Attributes:
        labels: int32 [N]; -1 is noise.
        probabilities: float32 [N] in 0..1; 0 for noise.
        fine_labels: int32 [N]; groups of at least `min_rare_cluster_size`, -1 elsewhere. Where they lie among what
            `labels` leaves over, they are candidates for rare characters: the caller checks them.
        parameters: What it takes to make the same groups again, for records.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    fine_labels: np.ndarray
    parameters: dict[str, Any] = field(default_factory=dict)


class GroupingMethod(Protocol):
    """Finds groups in unit vectors float32 [N, D], given their nearest neighbours by cosine."""

    def __call__(self, vectors: np.ndarray, neighbors: Neighbors, settings: ClusteringSettings, seed: int) -> Grouping:
        """Return the groups; equal arguments give equal groups."""
        ...
