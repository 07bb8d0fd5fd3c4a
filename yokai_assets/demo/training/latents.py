"""Linear latents: principal components of 8×8 patches, the fixed target of the demo autoencoder.

Fixing the latents first lets the diffusion model and the autoencoder be trained at the same time: the decoder
learns to draw from these latents, the encoder to produce them. Not here: the autoencoder itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PATCH_PX = 8


@dataclass(frozen=True)
class PatchPca:
    """An orthogonal projection of patches of `PATCH_PX` × `PATCH_PX` RGB pixels to C numbers.

    `mean` is (192,), `components` (C, 192) with orthonormal rows, `scale` (C,), all float32, for pixels in -1..1.
    Latents are divided by `scale`, the square root of a component's deviation (half-whitening: fine components
    count for more than in pixels, for less than in whitened space), normalised so that latents have unit variance
    on average.
    """

    mean: NDArray[np.float32]
    components: NDArray[np.float32]
    scale: NDArray[np.float32]

    @property
    def channels(self) -> int:
        """Number of latent channels, C."""
        return len(self.components)

    def encode(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, S, S, 3) uint8 pictures to (N, C, S/8, S/8) float32 latents."""
        patches = _to_patches(pictures)
        latents = (patches - self.mean) @ (self.components / self.scale[:, None]).T
        return np.ascontiguousarray(latents.transpose(0, 3, 1, 2), dtype=np.float32)

    def decode(self, latents: NDArray[np.float32]) -> NDArray[np.uint8]:
        """(N, C, H, W) latents to (N, 8H, 8W, 3) uint8 pictures: the linear preview, blocky by nature."""
        patches = latents.transpose(0, 2, 3, 1) @ (self.components * self.scale[:, None]) + self.mean
        count, rows, columns, _ = patches.shape
        grid = patches.reshape(count, rows, columns, PATCH_PX, PATCH_PX, 3).transpose(0, 1, 3, 2, 4, 5)
        pixels = grid.reshape(count, rows * PATCH_PX, columns * PATCH_PX, 3)
        return np.clip((pixels + 1) * 127.5 + 0.5, 0, 255).astype(np.uint8)


def _to_patches(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, S, S, 3) uint8 to (N, S/8, S/8, 192) float32 in -1..1."""
    count, height, width, _ = pictures.shape
    if height % PATCH_PX or width % PATCH_PX:
        raise ValueError(f"pictures of {width}×{height} px do not divide into patches of {PATCH_PX} px")
    grid = pictures.reshape(count, height // PATCH_PX, PATCH_PX, width // PATCH_PX, PATCH_PX, 3)
    patches = grid.transpose(0, 1, 3, 2, 4, 5).reshape(count, height // PATCH_PX, width // PATCH_PX, -1)
    return patches.astype(np.float32) / np.float32(127.5) - np.float32(1)


def fit_patch_pca(pictures: NDArray[np.uint8], channels: int) -> PatchPca:
    """Fits the projection on (N, S, S, 3) uint8 pictures; deterministic up to rounding."""
    patches = _to_patches(pictures).reshape(-1, PATCH_PX * PATCH_PX * 3).astype(np.float64)
    mean = patches.mean(axis=0)
    centred = patches - mean
    variances, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    order = np.argsort(variances)[::-1][:channels]
    components = vectors[:, order].T
    # An eigenvector's sign is arbitrary; fix it, so that a second fit gives the same latents.
    components *= np.sign(components[np.arange(channels), np.abs(components).argmax(axis=1)])[:, None]
    deviations = np.sqrt(np.maximum(variances[order], 1e-12))
    scale = np.sqrt(deviations)
    scale *= np.sqrt(np.mean((deviations / scale) ** 2))
    return PatchPca(mean.astype(np.float32), components.astype(np.float32), scale.astype(np.float32))
