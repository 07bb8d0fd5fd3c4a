"""Which group of a new clustering is which known character.

Overlap of members decides first (Jaccard, after Greene, Doyle and Cunningham 2010), likeness of centroids second,
and one global assignment settles it. What follows from a match (states, events) is `registry`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from yokai_assets.settings.model import RegistrySettings

RETURN_MIN_SHARE = 0.5
"""Share of a retired character's exemplars that a group must hold to be that character again."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A known character or a new group, as far as matching needs it.

    Attributes:
        members: instance_ids; of a retired character its exemplars, for its members are no more.
        centroid: Unit vector float32 [D].
        model_fingerprint: Model of the centroid.
        is_retired: Whether it is a retired character.
        is_frozen: Its members are held by decision: what only looks like it is somebody else.
    """

    members: frozenset[str]
    centroid: np.ndarray
    model_fingerprint: str
    is_retired: bool = False
    is_frozen: bool = False


@dataclass(frozen=True, slots=True)
class Matches:
    """What became of known characters in new groups.

    Attributes:
        known_of_group: Group -> the known character it is.
        overlap: [known, group] members in common.
        shared_of_known: Of each known character, members that exist still (in any group or as noise).
        shared_of_group: Of each group, members that belonged to some known character.
    """

    known_of_group: Mapping[int, int]
    overlap: np.ndarray
    shared_of_known: np.ndarray
    shared_of_group: np.ndarray


def match_groups(
    known: Sequence[Candidate], groups: Sequence[Candidate], existing_ids: frozenset[str], settings: RegistrySettings
) -> Matches:
    """Assign groups to known characters, one to one.

    A pair may match by members when its Jaccard index reaches `match_min_jaccard`. The index is taken over shared
    instances: those that belonged to a known character and exist still, so a new episode, however large, dilutes
    nothing. A pair without such overlap may match by centroids when both are of one model, the cosine reaches
    `match_min_centroid_cosine`, and each is the other's most similar. A retired character returns when a group holds
    half of its exemplars, or by its centroid. Any match by members outweighs any by centroids; among equals the sum
    of all is made largest (Hungarian method).

    Args:
        known: Known characters.
        groups: New groups.
        existing_ids: Every instance that was clustered now.
        settings: Thresholds.
    """
    living = frozenset().union(*(candidate.members for candidate in known if not candidate.is_retired))
    overlap = np.zeros((len(known), len(groups)), dtype=np.int64)
    shared_of_known = np.array([len(candidate.members & existing_ids) for candidate in known], dtype=np.int64)
    shared_of_group = np.array([len(group.members & living) for group in groups], dtype=np.int64)
    owner = {member: column for column, group in enumerate(groups) for member in group.members}
    for row, candidate in enumerate(known):
        for member in candidate.members:
            if (column := owner.get(member)) is not None:
                overlap[row, column] += 1
    score = _member_scores(known, overlap, shared_of_known, shared_of_group, settings)
    by_centroid = _centroid_scores(known, groups, settings)
    score = np.where(score > 0.0, score + 10.0, by_centroid)
    return Matches(_assign(score), overlap, shared_of_known, shared_of_group)


def _member_scores(
    known: Sequence[Candidate],
    overlap: np.ndarray,
    shared_of_known: np.ndarray,
    shared_of_group: np.ndarray,
    settings: RegistrySettings,
) -> np.ndarray:
    is_retired = np.array([candidate.is_retired for candidate in known], dtype=bool)
    union = shared_of_known[:, None] + shared_of_group[None, :] - overlap
    jaccard = overlap / np.maximum(union, 1)
    exemplar_share = overlap / np.maximum(shared_of_known, 1)[:, None]
    scores = np.where(jaccard >= settings.match_min_jaccard, jaccard, 0.0)
    # A returning character must not take a group away from one that lives: it scores below every living match.
    returns = np.where(exemplar_share >= RETURN_MIN_SHARE, exemplar_share * 1e-3, 0.0)
    scores[is_retired] = returns[is_retired]
    return np.where(overlap > 0, scores, 0.0)


def _centroid_scores(known: Sequence[Candidate], groups: Sequence[Candidate], settings: RegistrySettings) -> np.ndarray:
    cosines = np.full((len(known), len(groups)), -2.0)
    for row, candidate in enumerate(known):
        for column, group in enumerate(groups):
            if candidate.model_fingerprint == group.model_fingerprint and not candidate.is_frozen:
                cosines[row, column] = float(candidate.centroid @ group.centroid)
    if cosines.size == 0:
        return cosines
    is_best = (cosines == cosines.max(axis=1, keepdims=True)) & (cosines == cosines.max(axis=0, keepdims=True))
    return np.where(is_best & (cosines >= settings.match_min_centroid_cosine), 1.0 + cosines, 0.0)


def _assign(score: np.ndarray) -> dict[int, int]:
    if score.size == 0:
        return {}
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(score, maximize=True)
    return {int(column): int(row) for row, column in zip(rows, columns, strict=True) if score[row, column] > 0.0}
