"""From a foreground probability to character instances: gate, threshold, components, soft alpha, measures.

Pure functions of one frame. The network is `matte`'s matter, files and tables are `layers`'.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from yokai_assets.segmentation.refinement import refine_alpha
from yokai_assets.settings.model import SegmentationSettings

WORKING_PX = 512
"""Components are found on the probability scaled down to at most this side: about the network's own resolution."""

JOIN_GAP_SHARE = 0.012
"""A fragment joins a larger component across a gap of this share of the frame's short side (a drawn outline)."""

FRAGMENT_SHARE = 0.25
"""Only components of at most this share of the larger one's area join it; two characters do not."""

MAX_HOLE_SHARE = 0.02
"""Holes of at most this share of the instance are filled (an eye, a button); larger ones show real background."""

NECK_SHARE, LOBE_SHARE = 0.6, 0.7
"""Lobes are joined by necks thinner than this share of the figure's thickest part, and are this thick themselves.

On 525 cut-outs of two drawn series, 19 of 19 touching pairs had two lobes, and 1 of 506 single figures. A big head on a
thin neck has two as well: the count is a hint, to be held against what the character usually has.
"""

MIN_ALPHA = 0.06
"""Fainter pixels are background."""

_LOBES_PX = 128


@dataclass(frozen=True, slots=True)
class Instance:
    """A character instance of a frame: box (half-open, px), soft alpha of the box, measures (table `instances`)."""

    x0: int
    y0: int
    x1: int
    y1: int
    alpha: NDArray[np.uint8]
    area_share: float
    presence: float
    edge_contact_share: float
    lobe_count: int
    sharpness: float
    luma_mean: float


def find_instances(
    image: Image.Image, probability: NDArray[np.float32], settings: SegmentationSettings
) -> list[Instance]:
    """Find the character instances of a frame, largest first.

    A pixel is character where the raw probability reaches `presence_threshold`; a frame that nowhere does has none.
    8-connected components are instances, after small fragments near a larger component (a hand or hat cut off by its
    outline) have joined it. Instances outside the limits of area and side are dropped, small holes are filled, and the
    network's soft edge is kept as alpha.

    Args:
        image: The frame, RGB.
        probability: float32 [height, width] of the frame, 0-1, raw (not stretched).
        settings: Thresholds and limits.

    Raises:
        ValueError: Image and probability differ in size.
    """
    if probability.shape != (image.height, image.width):
        raise ValueError(f"probability {probability.shape} is not of the frame's size {(image.height, image.width)}")
    if float(probability.max(initial=0.0)) < settings.presence_threshold:
        return []
    factor = math.ceil(max(image.size) / WORKING_PX)
    small = np.asarray(Image.fromarray(probability).reduce(factor)) if factor > 1 else probability
    labels = _components(small >= settings.presence_threshold)
    territory = _with_soft_edge(labels)
    found = (
        instance
        for label in _largest_first(labels, 0.5 * settings.min_area_share)
        if (instance := _cut(image, probability, labels, territory, label, factor, settings)) is not None
    )
    kept = list(_take(found, settings.max_instances_per_frame))
    return sorted(kept, key=lambda instance: -instance.area_share)


def _take(instances: Iterator[Instance], count: int) -> Iterator[Instance]:
    for _, instance in zip(range(count), instances, strict=False):
        yield instance


def count_lobes(is_character: NDArray[np.bool_]) -> int:
    """Count the thick parts of a figure, bool [H, W], that only narrow necks join: two for two who touch."""
    from scipy import ndimage

    small = is_character[tuple(slice(None, None, math.ceil(max(is_character.shape) / _LOBES_PX)) for _ in range(2))]
    filled = np.asarray(ndimage.binary_fill_holes(np.pad(small, 1)))
    thickness: Any = ndimage.distance_transform_edt(filled)
    lobes, count = _label(thickness > NECK_SHARE * thickness.max(), is_diagonal_near=False)
    if count < 2:
        return count
    return int((ndimage.maximum(thickness, lobes, np.arange(1, count + 1)) >= LOBE_SHARE * thickness.max()).sum())


def _components(is_character: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Label 8-connected components, fragments joined to their larger neighbour; 0 is background."""
    from scipy import ndimage

    labels, count = _label(is_character, is_diagonal_near=True)
    if count <= 1:
        return labels
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    areas[0] = 0
    reach_px = max(2, round(JOIN_GAP_SHARE * min(labels.shape))) + 1
    parent = np.arange(count + 1)
    boxes: Any = ndimage.find_objects(labels)
    for label in np.argsort(areas)[1:]:  # ascending; the first is the background
        neighbour = _larger_neighbour(labels, int(label), boxes[label - 1], areas, reach_px)
        if neighbour:
            parent[label] = neighbour
    for label in np.argsort(-areas):  # descending: a parent is larger, so its own root is known
        parent[label] = parent[parent[label]]
    return parent[labels].astype(np.int32)


def _label(mask: NDArray[np.bool_], *, is_diagonal_near: bool) -> tuple[NDArray[np.int32], int]:
    from scipy import ndimage

    structure = ndimage.generate_binary_structure(2, 2 if is_diagonal_near else 1)
    labelled: Any = ndimage.label(mask, structure=structure)
    return labelled[0], int(labelled[1])


def _larger_neighbour(
    labels: NDArray[np.int32], label: int, box: tuple[slice, slice], areas: NDArray[np.int64], reach_px: int
) -> int:
    from scipy import ndimage

    if areas[label] > FRAGMENT_SHARE * areas.max():
        return 0
    crop = labels[tuple(slice(max(0, side.start - reach_px), side.stop + reach_px) for side in box)]
    reach: Any = ndimage.binary_dilation(crop == label, structure=np.ones((3, 3)), iterations=reach_px)
    near = np.unique(crop[reach])
    near = near[(near != 0) & (near != label) & (areas[near] * FRAGMENT_SHARE >= areas[label])]
    return int(near[areas[near].argmax()]) if near.size else 0


def _with_soft_edge(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Grow every component by two pixels into the background, where its soft edge lies."""
    from scipy import ndimage

    for _ in range(2):
        labels = np.where(labels == 0, ndimage.grey_dilation(labels, size=(3, 3)), labels)
    return labels


def _largest_first(labels: NDArray[np.int32], min_share: float) -> list[int]:
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    order = np.argsort(-areas, kind="stable")
    return [int(label) for label in order if areas[label] > min_share * labels.size]


def _cut(
    image: Image.Image,
    probability: NDArray[np.float32],
    labels: NDArray[np.int32],
    territory: NDArray[np.int32],
    label: int,
    factor: int,
    settings: SegmentationSettings,
) -> Instance | None:
    rows = np.flatnonzero((territory == label).any(axis=1))
    columns = np.flatnonzero((territory == label).any(axis=0))
    y0, y1, x0, x1 = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    is_own = territory[y0:y1, x0:x1] == label
    is_hole = _small_holes(labels[y0:y1, x0:x1], label)
    box = (slice(y0 * factor, min(y1 * factor, image.height)), slice(x0 * factor, min(x1 * factor, image.width)))
    raw = probability[box]
    alpha = np.where(_enlarge(is_own, factor, raw.shape), raw, 0.0)
    presence = float(alpha.max())
    alpha = np.where(_enlarge(is_hole, factor, raw.shape), 1.0, alpha)
    tight = _bounding_box(alpha >= MIN_ALPHA)
    area_share = float((alpha >= settings.presence_threshold).sum()) / (image.width * image.height)
    if tight is None or not _is_within_limits(tight, area_share, settings):
        return None
    top, bottom, left, right = tight
    alpha = alpha[top:bottom, left:right]
    crop = image.crop((box[1].start + left, box[0].start + top, box[1].start + right, box[0].start + bottom))
    if settings.refine_alpha:
        alpha = refine_alpha(alpha, crop, min(image.size))
    x0, y0 = box[1].start + left, box[0].start + top
    x1, y1 = box[1].start + right, box[0].start + bottom
    sharpness, luma_mean = _measure(crop, alpha >= settings.presence_threshold)
    return Instance(
        x0=x0,
        y0=y0,
        x1=x1,
        y1=y1,
        alpha=np.round(np.where(alpha >= MIN_ALPHA, alpha, 0.0) * 255).astype(np.uint8),
        area_share=area_share,
        presence=presence,
        edge_contact_share=_edge_contact_share(x0, y0, x1, y1, image.size),
        lobe_count=count_lobes(alpha >= settings.presence_threshold),
        sharpness=sharpness,
        luma_mean=luma_mean,
    )


def _is_within_limits(tight: tuple[int, int, int, int], area_share: float, settings: SegmentationSettings) -> bool:
    top, bottom, left, right = tight
    is_large_enough = min(bottom - top, right - left) >= settings.min_side_px
    return is_large_enough and settings.min_area_share <= area_share <= settings.max_area_share


def _small_holes(labels: NDArray[np.int32], label: int) -> NDArray[np.bool_]:
    """Return where holes of a component are small enough to be filled, and the ring of pixels around them."""
    from scipy import ndimage

    is_component = labels == label
    outside, count = _label(np.pad(~is_component, 1, constant_values=True), is_diagonal_near=False)
    if count <= 1:
        return np.zeros_like(is_component)
    areas = np.bincount(outside.ravel())
    is_fillable = areas <= MAX_HOLE_SHARE * is_component.sum()
    is_fillable[[0, outside[0, 0]]] = False
    is_fillable[np.unique(outside[1:-1, 1:-1][(labels != 0) & ~is_component])] = False  # another instance lies in it
    holes = is_fillable[outside[1:-1, 1:-1]]
    return np.asarray(ndimage.binary_dilation(holes), dtype=bool) if holes.any() else holes


def _enlarge(mask: NDArray[np.bool_], factor: int, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    if factor == 1:
        return mask
    return mask.repeat(factor, axis=0).repeat(factor, axis=1)[: shape[0], : shape[1]]


def _bounding_box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int] | None:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _edge_contact_share(x0: int, y0: int, x1: int, y1: int, frame_size_px: tuple[int, int]) -> float:
    width_px, height_px = x1 - x0, y1 - y0
    contact_px = height_px * ((x0 == 0) + (x1 == frame_size_px[0])) + width_px * ((y0 == 0) + (y1 == frame_size_px[1]))
    return contact_px / (2 * (width_px + height_px))


def _measure(crop: Image.Image, is_character: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the variance of the Laplacian (Pech-Pacheco et al. 2000) and the mean of luma inside the mask."""
    from scipy import ndimage

    luma = np.asarray(crop.convert("L"), dtype=np.float32)
    laplacian = ndimage.laplace(luma)
    return float(laplacian[is_character].var()), float(luma[is_character].mean())
