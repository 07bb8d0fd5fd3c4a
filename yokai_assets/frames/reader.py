"""Pixels of frames that the table names: in order, read ahead, each decoded once.

Reading only. A frame that cannot be read is handed over as an error, so that the caller goes on with the next.
"""

import os
import re
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from typing import Any

import polars as pl
from PIL import Image
from upath import UPath

from yokai_assets.frames.decoding import FrameError, decode_rgb, read_bytes
from yokai_assets.frames.listing import VIDEO_SUFFIXES
from yokai_assets.frames.seeking import pays, seek_frames
from yokai_assets.frames.video import DecodedFrame, decode_video
from yokai_assets.storage.files import path_below

_VIDEO_FRAME = re.compile(r"(.+)#([0-9]+)")


def decoder_threads() -> int:
    """Return how many threads decode images: one for each core that this process may use, at most 16."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(16, cores)


def source_path(frames_source: UPath, source: str) -> UPath:
    """Return the file that a `source` of the table means."""
    return path_below(frames_source, source)


def video_frame_of(source: str) -> tuple[str, int] | None:
    """Split `video.mkv#12` into file and decoded frame number; None for an image file."""
    match = _VIDEO_FRAME.fullmatch(source)
    if match and os.path.splitext(match[1])[1].lower() in VIDEO_SUFFIXES:  # noqa: PTH122
        return match[1], int(match[2])
    return None


def read_frame(path: UPath) -> Image.Image:
    """Decode one image file in full.

    Returns:
        RGB, 8 bits, upright.

    Raises:
        FrameError: It is missing, damaged or no image.
    """
    return decode_rgb(read_bytes(path), str(path))


def iter_frames(
    rows: pl.DataFrame, frames_source: UPath, *, threads: int | None = None
) -> Iterator[tuple[dict[str, Any], Image.Image | FrameError]]:
    """Read the frames of `rows`, in their order.

    Images are decoded in threads, two a thread ahead of the caller: memory stays bounded. A run of rows of one video
    is one pass over that file from its beginning to the last frame wanted; a few frames of a long video are sought
    by key frames, where `content_sha256` is there to prove them.

    Args:
        rows: Rows with a column `source` (table `frames`), `content_sha256` where there is one; other columns are
            handed back untouched.
        frames_source: What `source` is relative to.
        threads: Decoding threads; None: `decoder_threads()`.

    Yields:
        Each row as a dictionary, with its RGB image or the `FrameError` that says why there is none.
    """
    for video, run in groupby(rows.iter_rows(named=True), key=lambda row: (video_frame_of(row["source"]) or ("",))[0]):
        if video:
            yield from _iter_video(source_path(frames_source, video), list(run))
        else:
            yield from _iter_images(run, frames_source, threads or decoder_threads())


def _iter_images(
    rows: Iterable[dict[str, Any]], frames_source: UPath, threads: int
) -> Iterator[tuple[dict[str, Any], Image.Image | FrameError]]:
    def read(source: str) -> Image.Image | FrameError:
        try:
            return read_frame(source_path(frames_source, source))
        except FrameError as error:
            return error

    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    ahead: deque[tuple[dict[str, Any], Future[Image.Image | FrameError]]] = deque()
    try:
        for row in rows:
            ahead.append((row, pool.submit(read, row["source"])))
            if len(ahead) >= 2 * threads:
                done_row, future = ahead.popleft()
                yield done_row, future.result()
        while ahead:
            done_row, future = ahead.popleft()
            yield done_row, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _iter_video(path: UPath, rows: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], Image.Image | FrameError]]:
    done = 0
    wanted = [((video_frame_of(row["source"]) or ("", 0))[1], row.get("content_sha256")) for row in rows]
    if pays([number for number, _ in wanted]) and all(sha256 for _, sha256 in wanted) and path.exists():
        for row, picture in zip(rows, seek_frames(path, wanted), strict=False):  # pyright: ignore[reportArgumentType]
            if picture is None:
                break
            done += 1
            yield row, picture
    yield from _iter_video_frames(path, rows[done:])


def _iter_video_frames(
    path: UPath, rows: list[dict[str, Any]]
) -> Iterator[tuple[dict[str, Any], Image.Image | FrameError]]:
    frames: Iterator[DecodedFrame] = iter(())
    position = -1
    current: DecodedFrame | None = None
    is_open = False
    for row in rows:
        wanted = (video_frame_of(row["source"]) or ("", 0))[1]
        try:
            if not is_open or wanted < position:
                frames, position, current, is_open = decode_video(path), -1, None, True
            while position < wanted:
                current = next(frames, None)
                if current is None:
                    break
                position = current.number
            yield row, current.image() if current is not None else _no_such_frame(path, wanted)
        except FrameError as error:
            is_open = False
            yield row, error


def _no_such_frame(path: UPath, number: int) -> FrameError:
    return FrameError(
        f"{path}#{number}",
        "the video ends before this frame",
        "Materialize the episode's `frames` again: the video has changed.",
    )
