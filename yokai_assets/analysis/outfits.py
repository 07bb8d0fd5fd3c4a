"""The looks of one character: what it wears, told by its colours, and which of its images show which look.

Groups of images only. Palettes and exemplars of a look belong to `profile`, balance over looks to the training set;
who is who was decided before, by `yokai_assets.clustering`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MIN_STRENGTH = 0.12
"""Strength (silhouette times mean distance between) from which two looks are told apart. See `find_outfits`.

Chosen on 304 drawn characters with several looks and 200 with one: .10 found 93 % and split 7 %, .11 found 92 % and
split 2.5 %, .12 found 88 % and split 1 %, .13 found 84 % and split none. On fresh draws (benchmark `outfits`) .12 finds
83 % and splits 1 %. One look is the normal case."""

MIN_SHARE, MIN_IMAGES = 0.07, 5
"""A look has at least this share of the images, and this many."""

MIN_ALL_IMAGES = 20
"""Of fewer images only one look is told: measured were 30 and more, and 14 cut-outs of clouds were split."""

_SOLID_ALPHA = 200
_PIXELS, _MIN_PIXELS = 400, 40
_VIEWS = (
    (0, 0, 1, 1),
    (0, 0, 1, 0.25), (0, 0, 1, 0.35), (0, 0, 1, 0.45), (0, 0, 1, 0.55), (0, 0, 1, 0.7),
    (0, 0.3, 1, 1), (0, 0, 0.65, 1), (0.35, 0, 1, 1),
)  # fmt: skip
"""What is seen of a figure, whole first: left, top, right, bottom as shares of the box around its solid pixels.

Mostly its upper part, as in close-ups. With two upper parts instead of five, 9 % of the one-look figures of which three
in ten images were close-ups were split, with these none."""

_SPREAD, _LEAST_SPREAD_SHARE, _LEAST_SPREAD = 0.2, 0.2, 0.02
_LAB_BINS, _LAB_RANGE, _LAB_BLUR = (6, 15, 15), ((-10, 110), (-75, 75), (-75, 75)), (0.36, 0.6, 0.6)
"""Lightness counts, but coarsely: without it .06 fewer were found at as many false splits."""
_MOST_CUTS, _MOST_ROUNDS = 11, 5


@dataclass(frozen=True, slots=True)
class Outfits:
    """The looks found.

    Attributes:
        labels: int32 [N], look of each image; 0 is the most frequent, and every image has one.
        shares: Share of the images of each look, falling; they sum to 1. Empty where there is no image.
    """

    labels: NDArray[np.int32]
    shares: tuple[float, ...]


def find_outfits(cutouts: Sequence[Image.Image], vectors: NDArray[np.float32], seed: int) -> Outfits:
    """Tell the looks of one character apart by its colours; one look, where more are not certain.

    Light is taken out of each image first: every channel is brought to one mean and one spread, which undoes any gain
    and offset per channel (statistics matched as by Reinhard et al. 2001): darkening, tint, fog. Images are compared by
    the Hellinger distance of their CIELAB histograms, one as a whole, the other as a whole or partly hidden, whichever
    is nearer, so that a close-up is near to the figure that it shows. Average linkage proposes two groups; they are
    two looks where their silhouette (Rousseeuw 1987) times the mean distance between them reaches `MIN_STRENGTH`. Each
    is then tried in the same way.

    Args:
        cutouts: RGBA, of one character; all N x N distances are held. 3 ms an image, so that 1,000 are no trouble.
        vectors: Unit vectors float32 [N, D]. They have no say in what a look is: by them, no measure finds outfits.
            An image with next to no solid pixel is given the look of the nearest one that has some.
        seed: Of the pixels that are read.

    Raises:
        ValueError: There is not one vector for each cut-out.
    """
    if len(cutouts) != len(vectors):
        raise ValueError(f"{len(cutouts)} cut-outs, but {len(vectors)} vectors: pass one vector for each cut-out.")
    labels = np.zeros(len(cutouts), np.int32)
    read = [
        (row, *pixels)
        for row, cutout in enumerate(cutouts)
        if (pixels := _solid_pixels(cutout, np.random.default_rng([seed, row]))) is not None
    ]
    if len(read) >= MIN_ALL_IMAGES:
        rows, places, colours = (np.stack(part) for part in zip(*read, strict=True))
        labels[rows] = _looks(_distances(places, colours))
        unread = np.setdiff1d(np.arange(len(labels)), rows)
        labels[unread] = labels[rows][(vectors[unread] @ vectors[rows].T).argmax(axis=1)]
    return _by_frequency(labels)


def _by_frequency(labels: NDArray[np.int32]) -> Outfits:
    sizes = np.bincount(labels)
    order = np.argsort(-sizes, kind="stable")
    return Outfits(np.argsort(order)[labels].astype(np.int32), tuple((sizes[order] / len(labels)).tolist()))


def _solid_pixels(cutout: Image.Image, rng: np.random.Generator) -> tuple[NDArray, NDArray] | None:
    """Return places [P, 2] (x, y as shares of the solid box) and colours [P, 3] (0-1) of some pixels."""
    rgba = np.asarray(cutout.convert("RGBA"))
    rows, columns = np.nonzero(rgba[..., 3] >= _SOLID_ALPHA)
    if len(rows) < _MIN_PIXELS:
        return None
    chosen = rng.choice(len(rows), _PIXELS, replace=len(rows) < _PIXELS)
    places = np.stack([columns, rows], axis=1).astype(np.float64)
    low, high = places.min(axis=0), places.max(axis=0)
    return (places[chosen] - low) / np.maximum(high - low, 1), rgba[rows[chosen], columns[chosen], :3] / 255.0


def _distances(places: NDArray, colours: NDArray) -> NDArray[np.float64]:
    whole, *parts = (_root_histograms(colours, _is_within(places, view)) for view in _VIEWS)
    likeness = whole @ whole.T
    for part in parts:
        to_part = whole @ part.T
        likeness = np.maximum(likeness, np.maximum(to_part, to_part.T))
    distances = np.sqrt(np.clip(1 - likeness, 0, None))
    np.fill_diagonal(distances, 0)
    return distances


def _is_within(places: NDArray, view: tuple[float, float, float, float]) -> NDArray[np.bool_]:
    is_seen = np.all((places >= view[:2]) & (places <= view[2:]), axis=2)
    return is_seen | (is_seen.sum(axis=1, keepdims=True) < _MIN_PIXELS)


def _root_histograms(colours: NDArray, is_seen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the square roots of colour histograms, [N, B]: unit vectors, whose products tell how alike they are."""
    from scipy.ndimage import gaussian_filter
    from skimage.color import rgb2lab

    lab = np.asarray(rgb2lab(_without_light(colours, is_seen)))
    lab = np.clip(lab, *np.array(_LAB_RANGE, np.float64).T)
    counts = np.stack(
        [np.histogramdd(pixels[own], _LAB_BINS, _LAB_RANGE)[0] for pixels, own in zip(lab, is_seen, strict=True)]
    )
    blurred = gaussian_filter(counts, (0, *_LAB_BLUR)).reshape(len(counts), -1)
    return np.sqrt(blurred / blurred.sum(axis=1, keepdims=True))


def _without_light(colours: NDArray, is_seen: NDArray[np.bool_]) -> NDArray[np.float64]:
    weights = (is_seen / is_seen.sum(axis=1, keepdims=True))[..., None]
    mean = (weights * colours).sum(axis=1, keepdims=True)
    spread = np.sqrt((weights * (colours - mean) ** 2).sum(axis=1, keepdims=True))
    # A channel without contrast holds noise only, which must not be raised to the height of the others.
    least = _LEAST_SPREAD_SHARE * spread.mean(axis=2, keepdims=True) + _LEAST_SPREAD
    return np.clip((colours - mean) / np.maximum(spread, least) * _SPREAD + 0.5, 0, 1)


def _looks(distances: NDArray[np.float64]) -> NDArray[np.int32]:
    fewest = max(MIN_IMAGES, int(np.ceil(MIN_SHARE * len(distances))))
    labels = np.zeros(len(distances), np.int32)
    waiting = [0]
    while waiting:
        rows = np.flatnonzero(labels == (look := waiting.pop()))
        inside = distances[np.ix_(rows, rows)]
        halves = _halves(inside, fewest)
        if halves is not None and _strength(inside, halves) >= MIN_STRENGTH:
            other = int(labels.max()) + 1
            labels[rows[halves == 1]] = other
            waiting += [look, other]
    return labels


def _halves(distances: NDArray[np.float64], fewest: int) -> NDArray[np.intp] | None:
    """Return of each image 0 or 1: the two largest groups of the first cut that leaves two large enough, grown."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if len(distances) < 2 * fewest:
        return None
    tree = linkage(squareform(distances, checks=False), "average")
    for count in range(2, _MOST_CUTS + 1):
        groups = fcluster(tree, count, "maxclust") - 1
        sizes = np.bincount(groups, minlength=2)
        first, second = np.argsort(-sizes, kind="stable")[:2]
        if sizes[second] >= fewest:
            halves = _grown(distances, groups == first, groups == second, fewest)
            if halves is not None:
                return halves
    return None


def _grown(
    distances: NDArray[np.float64], first: NDArray[np.bool_], second: NDArray[np.bool_], fewest: int
) -> NDArray[np.intp] | None:
    """Give every image to the nearer of two groups, until they stay; None where one becomes too small."""
    halves = np.zeros(len(distances), np.intp)
    for _ in range(1 + _MOST_ROUNDS):
        halves = np.argmin([distances[:, group].mean(axis=1) for group in (first, second)], axis=0)
        first, second = halves == 0, halves == 1
        if min(first.sum(), second.sum()) < fewest:
            return None
    return halves


def _strength(distances: NDArray[np.float64], halves: NDArray[np.intp]) -> float:
    from sklearn.metrics import silhouette_score

    between = distances[np.ix_(halves == 0, halves == 1)].mean()
    return float(silhouette_score(distances, halves, metric="precomputed") * between)
