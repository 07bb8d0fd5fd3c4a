"""A few frames of a long video, by key frames instead of from the beginning; every frame is proven by its hash.

A frame's number counts decoded frames, so it is known only if the whole video was decoded. Here it is inferred from
the packets' time stamps, which costs reading the file but no decoding, and then proven: pixels that do not have the
hash that the scan wrote down are not handed out. Whoever asks then decodes in full (`video`).
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from PIL import Image
from upath import UPath

from yokai_assets.frames.fingerprint import picture_sha256
from yokai_assets.frames.video import DecodedFrame, pixel_aspect_of

if TYPE_CHECKING:
    import av
    import av.container

DECODED_PER_SEEK = 250
"""Frames that a seek is taken to cost: the usual longest distance between key frames (x264's default)."""

_KEPT_INDEXES = 256


@dataclass(frozen=True, slots=True)
class PacketIndex:
    """Presentation time stamps of all frames in order, and the numbers of those that are key frames."""

    time_stamps: tuple[int, ...]
    key_numbers: tuple[int, ...]

    def key_before(self, number: int) -> int:
        """Return the number of the last key frame at or before a frame."""
        return self.key_numbers[bisect_right(self.key_numbers, number) - 1]


def pays(numbers: Sequence[int]) -> bool:
    """Say whether seeking to these frames is cheaper than decoding up to the last of them."""
    return bool(numbers) and len(set(numbers)) * DECODED_PER_SEEK < max(numbers)


def packet_index(path: UPath) -> PacketIndex | None:
    """Return the index of a video, read once per process while it is unchanged.

    Returns:
        None where time stamps do not number the frames: missing, repeated, or damaged packets among them.
    """
    status = path.stat()
    return _packet_index(path, status.st_size, status.st_mtime)


@lru_cache(maxsize=_KEPT_INDEXES)
def _packet_index(path: UPath, size_bytes: int, modified: float) -> PacketIndex | None:  # noqa: ARG001
    import av

    stamps: list[int] = []
    keys: set[int] = set()
    try:
        with path.open("rb") as file, av.open(file, "r", metadata_errors="ignore") as container:
            for packet in container.demux(container.streams.video[0]):
                if packet.size == 0:
                    continue  # the end
                if packet.pts is None or packet.is_corrupt or packet.is_discard:
                    return None
                stamps.append(packet.pts)
                if packet.is_keyframe:
                    keys.add(packet.pts)
    except (av.FFmpegError, OSError, IndexError):
        return None
    ordered = sorted(stamps)
    if not ordered or len(set(ordered)) != len(ordered) or ordered[0] not in keys:
        return None
    return PacketIndex(tuple(ordered), tuple(number for number, stamp in enumerate(ordered) if stamp in keys))


def seek_frames(path: UPath, wanted: Sequence[tuple[int, str]]) -> Iterator[Image.Image | None]:
    """Read frames of a video by seeking.

    Args:
        path: The video.
        wanted: Number and sha256 of the pixels (`content_sha256`) of each frame.

    Yields:
        For each one its picture; None, and nothing more, as soon as one cannot be found with that hash.
    """
    import av

    index = packet_index(path)
    if index is None:
        yield None
        return
    number_of = {stamp: number for number, stamp in enumerate(index.time_stamps)}
    try:
        with path.open("rb") as file, av.open(file, "r", metadata_errors="ignore") as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            current: DecodedFrame | None = None
            frames: Iterator[DecodedFrame] = iter(())
            for number, sha256 in wanted:
                if current is None or not index.key_before(number) <= current.number <= number:
                    key_stamp = index.time_stamps[index.key_before(number)] if number < len(number_of) else None
                    if key_stamp is None:
                        break
                    container.seek(key_stamp, stream=stream, backward=True)
                    frames, current = _numbered(container, stream, number_of), None
                while current is None or current.number < number:
                    current = next(frames)
                picture = current.image()
                if current.number != number or picture_sha256(picture) != sha256:
                    break
                yield picture
            else:
                return
    except (av.FFmpegError, OSError, StopIteration, KeyError):
        pass
    yield None


def _numbered(
    container: "av.container.InputContainer", stream: "av.VideoStream", number_of: dict[int, int]
) -> Iterator[DecodedFrame]:
    aspect = pixel_aspect_of(stream)
    for frame in container.decode(stream):
        if frame.pts is None:
            return
        yield DecodedFrame(number_of[frame.pts], float(frame.time or 0.0), frame, aspect)
