"""The readers that the settings ask for, opened once per process, and what they say together.

Choosing only; opening is `booru` and `captioner`, keeping is `cache`.
"""

import threading
from functools import lru_cache

import polars as pl

from yokai_assets.progress import Progress, silent
from yokai_assets.segmentation.restoring import Restore, nothing_to_restore
from yokai_assets.settings.model import CaptionSettings
from yokai_assets.storage.layout import Layout
from yokai_assets.tagging.booru import open_booru_tagger
from yokai_assets.tagging.cache import ReadingCache, cache_file, read_cutouts
from yokai_assets.tagging.captioner import open_captioner
from yokai_assets.tagging.reading import ImageReader, ImageReading

_OPEN_LOCK = threading.Lock()
_open_tagger = lru_cache(maxsize=1)(open_booru_tagger)
_open_captioner = lru_cache(maxsize=1)(open_captioner)


def open_readers(settings: CaptionSettings, device: str) -> list[ImageReader]:
    """Open the readers that the settings name: the tagger first; none where none is named.

    The same settings give the same objects in a process.

    Args:
        settings: Tagger, its least probability, captioner, batch size.
        device: `cpu` or `cuda:N`, as `resolve_device` returns it.

    Raises:
        TaggerError: A model that is missing, damaged, of another kind, or out of reach.
    """
    size = settings.reader_batch_size
    readers: list[ImageReader] = []
    with _OPEN_LOCK:
        if settings.tagger:
            least = settings.tagger_min_probability
            readers.append(_open_tagger(settings.tagger, device, min_probability=least, batch_size=size))
        if settings.captioner:
            readers.append(_open_captioner(settings.captioner, device, batch_size=size))
    return readers


def read_with(
    settings: CaptionSettings,
    device: str,
    rows: pl.DataFrame,
    layout: Layout,
    progress: Progress = silent,
    *,
    restore: Restore = nothing_to_restore,
) -> dict[str, ImageReading]:
    """Return instance_id -> tags of the tagger and sentence of the captioner; empty where neither is set.

    Args:
        settings: As for `open_readers`.
        device: `cpu` or `cuda:N`.
        rows: INSTANCES to read.
        layout: Where cut-outs and the cache lie.
        progress: Told about each reader's pictures.
        restore: Called with the cut-outs that will be read.

    Raises:
        TaggerError: A model or the cache cannot be used.
    """
    cache, found = ReadingCache(cache_file(layout)), dict[str, ImageReading]()
    for reader in open_readers(settings, device):
        size = settings.reader_batch_size
        for name, said in read_cutouts(rows, layout, reader, cache, size, progress, restore=restore).items():
            before = found.get(name, ImageReading({}))
            found[name] = ImageReading(said.tags or before.tags, said.sentence or before.sentence)
    return found
