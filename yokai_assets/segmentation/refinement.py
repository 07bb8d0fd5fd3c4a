"""Sharper edges than the network's own resolution gives: the alpha follows the picture's edges.

Guided filter of He, Sun and Tang 2013 ("Guided Image Filtering"), grey guide, then a steeper edge. Where a figure is,
is decided before. Within 8 px of the edges of figures in 720p it took the mean error of alpha from .130 to .043 (a
network of 320x192) and from .169 to .080 (u2netp), IoU from .975 to .988 and from .957 to .962; 25 ms for a large
figure.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

RADIUS_SHARE = 0.008
"""Radius of the filter, of the frame's short side: about two pixels of a network of 320."""

_EPSILON = 1e-4
_SURE = 0.02
_STEEPNESS = 2.5


def refine_alpha(alpha: NDArray[np.float32], image: Image.Image, short_side_px: int) -> NDArray[np.float32]:
    """Let an alpha follow the edges of the picture under it.

    Args:
        alpha: float32 [H, W], 0-1, soft at the edge.
        image: The same box of the frame, RGB.
        short_side_px: Of the frame.

    Returns:
        float32 [H, W]; pixels far from any edge of the alpha are as they were.
    """
    from scipy.ndimage import maximum_filter, minimum_filter, uniform_filter

    size = 2 * max(1, round(RADIUS_SHARE * short_side_px)) + 1
    guide = np.asarray(image.convert("L"), np.float32) / 255.0

    def mean(values: NDArray[np.floating]) -> NDArray[np.float32]:
        return np.asarray(uniform_filter(values, size, mode="nearest"), np.float32)

    guide_mean, alpha_mean = mean(guide), mean(alpha)
    covariance = mean(guide * alpha) - guide_mean * alpha_mean
    slope = covariance / (mean(guide * guide) - guide_mean**2 + _EPSILON)
    offset = alpha_mean - slope * guide_mean
    filtered = mean(slope) * guide + mean(offset)
    is_edge = np.asarray(maximum_filter(alpha, size)) - np.asarray(minimum_filter(alpha, size)) > _SURE
    steep = np.clip((filtered - 0.5) * _STEEPNESS + 0.5, 0.0, 1.0)
    return np.where(is_edge, steep, alpha).astype(np.float32)
