"""Stronger words for pictures, on request: taggers and captioners that look at the pixels of cut-outs.

Here belong reading a cut-out and keeping what was read. Reading stored vectors with the words of a vocabulary is
`yokai_assets.analysis.zero_shot`; what goes into a caption is `yokai_assets.captioning`.
"""

from yokai_assets.tagging.cache import ReadingCache, read_cutouts
from yokai_assets.tagging.opening import open_readers, read_with
from yokai_assets.tagging.reading import ImageReader, ImageReading, TaggerError, on_white

__all__ = [
    "ImageReader",
    "ImageReading",
    "ReadingCache",
    "TaggerError",
    "on_white",
    "open_readers",
    "read_cutouts",
    "read_with",
]
