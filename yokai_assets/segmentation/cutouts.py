"""Cut-outs in batches, read ahead by threads while a network works on the batch before.

Reading only. What is made of the pictures belongs to `yokai_assets.embedding` and `yokai_assets.tagging`.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

import polars as pl
from PIL import Image

from yokai_assets.frames.decoding import FrameError
from yokai_assets.segmentation.layers import load_cutout
from yokai_assets.storage.layout import Layout

_READ_THREADS = 8


def cutout_batches(
    wanted: pl.DataFrame,
    layout: Layout,
    batch_size: int,
    prepare: Callable[[Image.Image], Image.Image],
    unreadable: dict[str, FrameError],
) -> Iterator[list[tuple[str, Image.Image]]]:
    """Yield batches of (cutout_sha256, picture), reading up to two batches ahead; note what cannot be read.

    Args:
        wanted: Columns `cutout_sha256` and `cutout`.
        layout: Where cut-outs lie.
        batch_size: Pictures of a batch; the last one may have fewer.
        prepare: Makes the picture of a cut-out (RGBA); runs in the threads.
        unreadable: Gets cutout_sha256 -> why, for every cut-out that cannot be read.
    """

    def read(cutout: str) -> Image.Image:
        return prepare(load_cutout(layout, cutout))

    rows = iter(wanted.select("cutout_sha256", "cutout").iter_rows())
    batch: list[tuple[str, Image.Image]] = []
    with ThreadPoolExecutor(_READ_THREADS, thread_name_prefix="cutouts") as pool:
        ahead: deque[tuple[str, Future[Image.Image]]] = deque(
            (sha256, pool.submit(read, cutout)) for sha256, cutout in islice(rows, 2 * batch_size)
        )
        while ahead:
            sha256, future = ahead.popleft()
            ahead.extend((following, pool.submit(read, cutout)) for following, cutout in islice(rows, 1))
            try:
                batch.append((sha256, future.result()))
            except FrameError as error:
                unreadable[sha256] = error
            if len(batch) == batch_size:
                yield batch
                batch = []
    if batch:
        yield batch
