"""What a reader says of a picture, and what it is shown: the one interface of all taggers and captioners.

How a reader knows belongs to `booru` and `captioner`; keeping what was read to `cache`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from yokai_assets.embedding.instances import neutral_ground

WHITE = 255


class TaggerError(RuntimeError):
    """A reader or its cache cannot be used; the message names the file, the reason and the remedy."""


@dataclass(frozen=True, slots=True)
class ImageReading:
    """What a reader says of one picture.

    Attributes:
        tags: Tag -> probability (0-1), most probable first; empty for captioners.
        sentence: One line without a full stop at its end; None for taggers, and where nothing was said.
    """

    tags: dict[str, float]
    sentence: str | None = None


class ImageReader(Protocol):
    """Something that looks at pictures and says what is on them."""

    fingerprint: str
    """Sha256 of weights, preprocessing, thresholds and the version of the code."""

    def read(self, images: Sequence[Image.Image], /) -> list[ImageReading]:
        """Return one reading per picture (RGB, of any sizes), in order; no pictures give no readings."""
        ...


def on_white(cutout: Image.Image) -> Image.Image:
    """Lay a cut-out (RGBA) in the middle of a white square: RGB, as wide and as high as its longer side."""
    return neutral_ground(cutout, WHITE)
