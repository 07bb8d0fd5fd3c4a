"""The table of an episode's frames: every frame found and measured once.

Finding, opening, measuring; what the measurements mean is decided in `judging`.
"""

import hashlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from itertools import islice
from typing import Any

import numpy as np
import polars as pl
from PIL import Image
from upath import UPath

from yokai_assets.frames.decoding import FrameError, decode_thumbnail, read_bytes, shrink_luma
from yokai_assets.frames.duplicates import miniature_distances
from yokai_assets.frames.episodes import EpisodeSource
from yokai_assets.frames.fingerprint import PRINT_VERSION, FramePrint, fingerprint_luma, picture_sha256
from yokai_assets.frames.judging import judge_frames
from yokai_assets.frames.listing import Entry, is_storable_name, list_folder
from yokai_assets.frames.reader import decoder_threads, source_path
from yokai_assets.frames.video import DecodeReport, FrameSampler, decode_video
from yokai_assets.progress import Progress, silent
from yokai_assets.settings.model import FramesSettings
from yokai_assets.tables import FRAMES

_CHUNK_FRAMES = 16
_MEASURED = (
    "reason",
    "size_bytes",
    "modified_ns",
    "print_version",
    "width_px",
    "height_px",
    "content_sha256",
    "dhash",
    "luma_mean",
    "luma_deviation",
    "text_share",
    "miniature",
)


def scan_episode(
    episode: EpisodeSource,
    frames_source: UPath,
    settings: FramesSettings,
    *,
    previous: pl.DataFrame | None = None,
    progress: Progress = silent,
) -> pl.DataFrame:
    """Look at every frame of an episode once.

    Args:
        episode: From `episodes`.
        frames_source: What `source` in the table is relative to.
        settings: Rates and thresholds.
        previous: The episode's table from an earlier scan. Image files of unchanged name, size and time are taken
            from it without opening them, if they were measured in today's way (`PRINT_VERSION`). Frames of videos
            are always decoded.
        progress: Told after every few frames.

    Returns:
        Table `frames`, a row per frame, in order. A frame that cannot be read is a row with status `unreadable` and
        its reason; a video that cannot be opened is one such row.

    Raises:
        OSError: The episode's folder cannot be listed.
    """
    relative = episode.path.relative_to(frames_source).as_posix()
    if episode.kind == "video":
        measured = list(_scan_video(episode.path, relative, settings, progress))
    else:
        measured = _scan_folder(episode.path, relative, frames_source, previous, progress)
    return judge_frames(measured_frames(measured), episode.key, settings)


def scan_stretch(
    episode: EpisodeSource, frames_source: UPath, settings: FramesSettings, first: int, count: int
) -> pl.DataFrame:
    """Look at some neighbouring frames of an episode, as if there were no others; see `scan_episode`.

    Args:
        episode: From `episodes`.
        frames_source: What `source` in the table is relative to.
        settings: Rates and thresholds.
        first: Position of the first frame. Frames of a video are decoded from its beginning.
        count: How many frames.
    """
    relative = episode.path.relative_to(frames_source).as_posix()
    if episode.kind == "video":
        rows = list(islice(_scan_video(episode.path, relative, settings, silent), first, first + count))
    else:
        entries = [e for e in list_folder(episode.path, with_sizes=True) if e.is_image][first : first + count]
        rows = [{"source": _source_of(relative, entry), "size_bytes": entry.size_bytes} for entry in entries]
        _measure_files(rows, list(enumerate(entries)), frames_source, silent)
    return judge_frames(measured_frames(rows), episode.key, settings)


def measured_frames(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Put measurements into columns; a row that lacks one could not be read."""
    schema = {name: FRAMES.schema[name] for name in ("source", *_MEASURED)}
    return pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema=schema)


def _scan_folder(
    folder: UPath, relative: str, frames_source: UPath, previous: pl.DataFrame | None, progress: Progress
) -> list[dict[str, Any]]:
    entries = [entry for entry in list_folder(folder, with_sizes=True) if entry.is_image]
    known = _measured_before(previous)
    rows: list[dict[str, Any]] = []
    to_open: list[tuple[int, Entry]] = []
    for entry in entries:
        source = _source_of(relative, entry)
        seen = known.get(source)
        if seen and _is_unchanged(seen, entry):
            rows.append(seen)
        else:
            to_open.append((len(rows), entry))
            rows.append({"source": source, "size_bytes": entry.size_bytes, "modified_ns": entry.modified_ns})
    _measure_files(rows, to_open, frames_source, progress)
    return rows


def _is_unchanged(seen: dict[str, Any], entry: Entry) -> bool:
    if entry.modified_ns is None:
        return False
    return (seen["size_bytes"], seen["modified_ns"]) == (entry.size_bytes, entry.modified_ns)


def _source_of(relative: str, entry: Entry) -> str:
    name = entry.name if is_storable_name(entry.name) else entry.name.encode("utf-8", "backslashreplace").decode()
    return f"{relative}/{name}"


def _measured_before(previous: pl.DataFrame | None) -> dict[str, dict[str, Any]]:
    """Return the rows, by source, of frames that were read and measured in today's way."""
    if previous is None:
        return {}
    current = previous.filter(pl.col("print_version") == PRINT_VERSION).select("source", *_MEASURED)
    return {row["source"]: row for row in current.iter_rows(named=True)}


def _measure_files(
    rows: list[dict[str, Any]], to_open: list[tuple[int, Entry]], frames_source: UPath, progress: Progress
) -> None:
    """Fill in `rows` at the given positions, in threads: Pillow and sha256 let the interpreter go while they work."""
    done = len(rows) - len(to_open)
    progress(done, len(rows), "unchanged" if done else "")

    def measure(chunk: list[tuple[int, Entry]]) -> list[tuple[int, dict[str, Any]]]:
        return [(at, _measure_or_reason(rows[at]["source"], entry, frames_source)) for at, entry in chunk]

    chunks = (to_open[i : i + _CHUNK_FRAMES] for i in range(0, len(to_open), _CHUNK_FRAMES))
    with ThreadPoolExecutor(decoder_threads(), thread_name_prefix="scan") as pool:
        for result in _in_order(pool, measure, chunks):
            for position, values in result:
                rows[position].update(values)
            done += len(result)
            progress(done, len(rows))


def _in_order(pool: ThreadPoolExecutor, work: Any, chunks: Iterator[Any]) -> Iterator[Any]:
    ahead: deque[Future[Any]] = deque()
    for chunk in chunks:
        ahead.append(pool.submit(work, chunk))
        if len(ahead) > 4 * decoder_threads():
            yield ahead.popleft().result()
    while ahead:
        yield ahead.popleft().result()


def _measure_or_reason(source: str, entry: Entry, frames_source: UPath) -> dict[str, Any]:
    if not is_storable_name(entry.name):
        return {"reason": "its name is not valid UTF-8. Rename it, e.g. with `convmv -t utf-8`."}
    try:
        return _measure_file(source_path(frames_source, source))
    except FrameError as error:
        return {"reason": f"{error.reason}. {error.remedy}"}


def _measure_file(path: UPath) -> dict[str, Any]:
    data = read_bytes(path)
    thumbnail, (width_px, height_px) = decode_thumbnail(data, str(path))
    digest = hashlib.sha256(data).hexdigest()
    return _measurement(width_px, height_px, digest, fingerprint_luma(thumbnail))


def _measurement(width_px: int, height_px: int, content_sha256: str, found: FramePrint) -> dict[str, Any]:
    return {
        "reason": None,
        "print_version": PRINT_VERSION,
        "width_px": width_px,
        "height_px": height_px,
        "content_sha256": content_sha256,
        **asdict(found),
    }


def _scan_video(path: UPath, relative: str, settings: FramesSettings, progress: Progress) -> Iterator[dict[str, Any]]:
    sampler = FrameSampler(settings.video_frames_per_second)
    report = DecodeReport()
    taken = 0
    previous: dict[str, Any] | None = None
    try:
        for frame in decode_video(path, report):
            if not sampler.wants(frame.time_seconds):
                continue
            measured = _measure_picture(frame.image())
            if (
                settings.video_sampling == "change"
                and previous is not None
                and _are_alike(previous, measured, settings)
            ):
                continue
            taken, previous = taken + 1, measured
            yield {"source": f"{relative}#{frame.number}", **measured}
            if taken % _CHUNK_FRAMES == 0:
                progress(taken, taken, f"{frame.time_seconds / 60:.1f} min decoded")
    except FrameError as error:
        yield {"source": f"{relative}#{report.decoded_count}", "reason": f"{error.reason}. {error.remedy}"}
        return
    if report.failed_count or not report.decoded_count:
        reason = f"{report.failed_count} packets cannot be decoded ({report.first_error or 'the video has no frames'})"
        yield {"source": f"{relative}#{report.decoded_count}", "reason": f"{reason}. Copy or download the video again."}
    progress(taken, taken)


def _are_alike(one: dict[str, Any], other: dict[str, Any], settings: FramesSettings) -> bool:
    if (one["dhash"] ^ other["dhash"]).bit_count() > settings.near_duplicate_bits:
        return False
    first, second = (np.frombuffer(measured["miniature"], np.uint8) for measured in (one, other))
    return float(miniature_distances(first, second[None])[0]) <= settings.near_duplicate_luma


def _measure_picture(image: Image.Image) -> dict[str, Any]:
    return _measurement(*image.size, picture_sha256(image), fingerprint_luma(shrink_luma(image.convert("L"))))
