"""From a picture to what a matte network was trained on: rembg's own preprocessing, learnt from its session.

rembg's sessions know size, mean and deviation of each model, and compute in float64; this computes the same numbers by
a table of 256 values. What a session does beyond `normalize` is left to it. Running the network is `matte`'s.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Channels = tuple[float, float, float]


class NotCalledError(RuntimeError):
    """A rembg session returned without having called its network."""


@dataclass(frozen=True, slots=True)
class Normalization:
    """Resize (Lanczos, aspect ratio not kept), division by the picture's maximum, mean, deviation."""

    mean: Channels
    deviation: Channels
    size_px: tuple[int, int]

    def __call__(self, image: Image.Image) -> NDArray[np.float32]:
        """Return float32 [1, 3, H, W] of an RGB image, bit for bit what `rembg.sessions.base.normalize` returns."""
        pixels = np.asarray(image.resize(self.size_px, Image.Resampling.LANCZOS))
        levels = np.arange(256, dtype=np.float64) / max(int(pixels.max()), 1e-6)
        feed = np.empty((1, 3, *pixels.shape[:2]), np.float32)
        for channel in range(3):
            table = ((levels - self.mean[channel]) / self.deviation[channel]).astype(np.float32)
            np.take(table, pixels[..., channel], out=feed[0, channel], mode="clip")
        return feed


def preprocessing_of(session: Any, input_name: str, probe: Image.Image) -> Callable[[Image.Image], NDArray[np.float32]]:
    """Return the fastest function that gives a session's network what the session itself would give it.

    Args:
        session: A rembg session.
        input_name: Name of the network's input.
        probe: A picture on which a table must agree with the session, bit for bit; otherwise the session is asked
            for every picture.

    Raises:
        NotCalledError: The session does not call its network.
    """
    network, normalize = session.inner_session, session.normalize
    seen: list[Normalization] = []

    def spy(image: Image.Image, mean: Channels, std: Channels, size: tuple[int, int], *args: Any, **named: Any) -> Any:
        seen.append(Normalization((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]), (size[0], size[1])))
        return normalize(image, mean, std, size, *args, **named)

    def ask(image: Image.Image) -> NDArray[np.float32]:
        try:
            session.predict(image)
        except _FeedsTakenError as taken:
            return taken.feeds[input_name]
        raise NotCalledError(f"rembg session `{type(session).__name__}` did not call its network")

    session.inner_session, session.normalize = _Tap(network), spy
    try:
        expected = ask(probe)
    finally:
        session.normalize = normalize
    return seen[0] if len(seen) == 1 and np.array_equal(seen[0](probe), expected) else ask


class _FeedsTakenError(Exception):
    """Carries the network's input out of a session's `predict`, which would go on to stretch the mask."""

    def __init__(self, feeds: dict[str, NDArray[np.float32]]) -> None:
        super().__init__()
        self.feeds = feeds


@dataclass(frozen=True, slots=True)
class _Tap:
    """Stands in a session's `inner_session` and hands over what the network would get."""

    network: Any

    def run(self, _outputs: Any, feeds: dict[str, NDArray[np.float32]], *_: Any, **__: Any) -> None:
        raise _FeedsTakenError(feeds)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)
