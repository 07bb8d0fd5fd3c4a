"""Filling pixels that no frame shows from the picture around them.

Smooth continuation only: what was behind a character is not invented.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def fill_hidden(picture: NDArray[np.uint8], is_hidden: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Fill hidden pixels smoothly from the visible ones, in time linear in the number of pixels.

    Pull-push (Gortler et al. 1996, "The Lumigraph", section 3.4): visible pixels are averaged up a pyramid until
    nothing is hidden, then every level fills its hidden pixels from the coarser one, enlarged bilinearly.

    Args:
        picture: uint8 [H, W, 3].
        is_hidden: bool [H, W].

    Returns:
        uint8 [H, W, 3]; visible pixels are as they were. With nothing visible, `picture` itself.
    """
    if not is_hidden.any() or is_hidden.all():
        return picture
    weight = (~is_hidden).astype(np.float32)
    filled = _pull_push(picture.astype(np.float32), weight)
    return np.where(is_hidden[..., None], np.clip(np.round(filled), 0, 255), picture).astype(np.uint8)


def _pull_push(colour: NDArray[Any], weight: NDArray[Any]) -> NDArray[Any]:
    """Fill float32 `colour` [H, W, C] where `weight` [H, W] (0-1) says that it is not known."""
    if max(weight.shape) <= 1 or bool((weight >= 1.0).all()):
        return colour
    coarse_weight = _sum_blocks(weight[..., None])
    coarse_colour = _sum_blocks(colour * weight[..., None]) / np.maximum(coarse_weight, 1e-6)
    coarse = _pull_push(coarse_colour, np.minimum(coarse_weight[..., 0], 1.0))
    return colour * weight[..., None] + _double(coarse, weight.shape) * (1.0 - weight[..., None])


def _sum_blocks(values: NDArray[Any]) -> NDArray[Any]:
    """Sum 2x2 blocks; beyond a last odd row or column there is nothing."""
    height, width = values.shape[:2]
    padded = np.pad(values, ((0, height % 2), (0, width % 2), (0, 0)))
    return padded[::2, ::2] + padded[1::2, ::2] + padded[::2, 1::2] + padded[1::2, 1::2]


def _double(values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Enlarge twofold, bilinearly, and cut to `shape`."""
    for axis in (0, 1):
        before = np.concatenate([values.take([0], axis), values.take(range(values.shape[axis] - 1), axis)], axis)
        after = np.concatenate([values.take(range(1, values.shape[axis]), axis), values.take([-1], axis)], axis)
        doubled = np.stack([0.75 * values + 0.25 * before, 0.75 * values + 0.25 * after], axis + 1)
        values = doubled.reshape(*values.shape[:axis], 2 * values.shape[axis], *values.shape[axis + 1 :])
    return values[: shape[0], : shape[1]]
