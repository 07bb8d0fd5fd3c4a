"""What is behind a character, taken from other frames of a moving camera: shifts between frames, region by region.

Layers of a drawn panorama move at different speeds, so one shift for a frame is not enough. Which frames are looked at,
and what is filled when none helps, is decided in `backgrounds` and `inpainting`.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MISMATCH_LEVELS = 16
"""A pixel does not fit when it is this far (0-255) from the reference."""

MAX_MISMATCH_SHARE = 0.15
"""A shift is not believed when more than this share of the surroundings does not fit."""

_SEARCH_PX = 160
_MARGIN_SHARE = 0.6
_MIN_MARGIN_PX = 24
_MIN_OVERLAP_SHARE = 0.3
_MIN_HOLE_SHARE = 0.0002

Shift = tuple[int, int]
Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Picture:
    """A frame, uint8 [H, W, 3], and the pixels that characters hide, bool [H, W]."""

    pixels: NDArray[np.uint8]
    is_hidden: NDArray[np.bool_]


def uncover(reference: Picture, others: list[Picture]) -> tuple[Picture, int]:
    """Fill hidden pixels of a frame from other frames of its shot that show the same place from elsewhere.

    For each hidden region, each other frame is shifted so that the region's surroundings fit (masked normalized
    cross-correlation, Padfield 2012, on a small picture; then the best shift around it). The frame that fits best
    gives its pixels first.

    Args:
        reference: The frame to be completed.
        others: Frames of the same size.

    Returns:
        The frame with the pixels found, hidden only where none was; and how many frames gave some.
    """
    from scipy import ndimage

    pixels, is_hidden = reference.pixels.copy(), reference.is_hidden.copy()
    labelled: tuple[NDArray[np.int32], int] = ndimage.label(is_hidden)  # pyright: ignore[reportAssignmentType]
    regions = [box for box in ndimage.find_objects(labelled[0]) if box is not None]
    shifts = [_coarse_shift(reference, other) for other in others]
    givers: set[int] = set()
    for label, slices in enumerate(regions, start=1):
        if (labelled[0][slices] == label).sum() < _MIN_HOLE_SHARE * is_hidden.size:
            continue
        box = _with_margin(slices, is_hidden.shape)
        fits = sorted(
            (fit, number, shift)
            for number, (other, coarse) in enumerate(zip(others, shifts, strict=True))
            for fit, shift in [_fitting_shift(reference, other, box, coarse)]
            if fit <= MAX_MISMATCH_SHARE
        )
        for _, number, shift in fits:
            moved = _shifted(others[number], box, shift)
            window = tuple(slice(*side) for side in (box[:2], box[2:]))
            is_found = is_hidden[window] & ~moved.is_hidden & (labelled[0][window] == label)
            if is_found.any():
                pixels[window][is_found] = moved.pixels[is_found]
                is_hidden[window][is_found] = False
                givers.add(number)
    return Picture(pixels, is_hidden), len(givers)


def _coarse_shift(reference: Picture, other: Picture) -> Shift:
    height, width = reference.is_hidden.shape
    return _correlated(reference, other, step=max(1, -(-max(height, width) // _SEARCH_PX)))


def _correlated(reference: Picture, other: Picture, step: int) -> Shift:
    """Return (dy, dx) such that `reference[y, x]` shows what `other[y - dy, x - dx]` does, to the step's precision."""
    from skimage.registration import phase_cross_correlation

    (first, seen_first), (second, seen_second) = _small(reference, step), _small(other, step)
    if min(seen_first.mean(), seen_second.mean()) < _MIN_OVERLAP_SHARE:
        return 0, 0
    with np.errstate(all="ignore"):
        shift = phase_cross_correlation(
            first, second, reference_mask=seen_first, moving_mask=seen_second, overlap_ratio=_MIN_OVERLAP_SHARE
        )[0]
    return round(float(shift[0])) * step, round(float(shift[1])) * step


def _small(picture: Picture, step: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    luma = Image.fromarray(picture.pixels).convert("L").reduce(step)
    is_hidden = Image.fromarray(picture.is_hidden.astype(np.uint8) * 255).reduce(step)
    return np.asarray(luma, np.float32), np.asarray(is_hidden) == 0


def _fitting_shift(reference: Picture, other: Picture, box: Box, coarse: Shift) -> tuple[float, Shift]:
    """Return the share of the surroundings that does not fit, and the shift with which it is smallest."""
    target = _shifted(reference, box, (0, 0))
    step = max(1, -(-max(target.is_hidden.shape) // _SEARCH_PX))
    local = _correlated(target, _shifted(other, box, coarse), step)
    reach = range(-step - 1, step + 2)
    centres = {coarse, (coarse[0] + local[0], coarse[1] + local[1])}
    tried = {(dy + y, dx + x) for dy, dx in centres for y, x in product(reach, reach)}
    sparse = max(1, max(target.is_hidden.shape) // _SEARCH_PX)
    return min((_mismatch(target, _shifted(other, box, shift), sparse), shift) for shift in tried)


def _mismatch(target: Picture, moved: Picture, sparse: int) -> float:
    at = slice(None, None, sparse), slice(None, None, sparse)
    is_common = ~target.is_hidden[at] & ~moved.is_hidden[at]
    if is_common.mean() < _MIN_OVERLAP_SHARE:
        return 1.0
    distance = np.abs(target.pixels[at][is_common].astype(np.int16) - moved.pixels[at][is_common]).max(axis=1)
    return float((distance >= MISMATCH_LEVELS).mean())


def _with_margin(slices: tuple[slice, ...], shape: tuple[int, ...]) -> Box:
    rows, columns = slices[0], slices[1]
    margins = [max(_MIN_MARGIN_PX, round(_MARGIN_SHARE * (side.stop - side.start))) for side in (rows, columns)]
    return (
        max(0, rows.start - margins[0]),
        min(shape[0], rows.stop + margins[0]),
        max(0, columns.start - margins[1]),
        min(shape[1], columns.stop + margins[1]),
    )


def _shifted(picture: Picture, box: Box, shift: Shift) -> Picture:
    """Return a box of the picture moved by a shift; what lies outside the frame is hidden."""
    height, width = picture.is_hidden.shape
    top, bottom, left, right = box[0] - shift[0], box[1] - shift[0], box[2] - shift[1], box[3] - shift[1]
    inside = slice(max(0, top), max(0, min(height, bottom))), slice(max(0, left), max(0, min(width, right)))
    pixels = np.zeros((bottom - top, right - left, 3), np.uint8)
    is_hidden = np.ones((bottom - top, right - left), bool)
    found = picture.is_hidden[inside]
    at = (
        slice(inside[0].start - top, inside[0].start - top + found.shape[0]),
        slice(inside[1].start - left, inside[1].start - left + found.shape[1]),
    )
    if found.size:
        pixels[at], is_hidden[at] = picture.pixels[inside], found
    return Picture(pixels, is_hidden)
