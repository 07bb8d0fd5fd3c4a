"""Frames of a video file, decoded once, in order, through PyAV; numbered as they come out of the decoder.

A frame is named `video.mkv#<number>`; the number counts decoded frames from 0, so that reading it back needs no
seeking and no trust in time stamps. Which frames of an episode are wanted is decided in `scan`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from PIL import Image
from upath import UPath

from yokai_assets.frames.decoding import FrameError

if TYPE_CHECKING:
    import av
    import av.container


@dataclass(slots=True)
class DecodeReport:
    """How a decoding went, filled in while it goes: frames that came out, packets that could not be decoded."""

    decoded_count: int = 0
    failed_count: int = 0
    first_error: str = ""


@dataclass(frozen=True, slots=True)
class DecodedFrame:
    """A frame as decoded: its number, its time from the start, and how to get its picture."""

    number: int
    time_seconds: float
    _frame: "av.VideoFrame"
    _pixel_aspect: float

    def image(self) -> Image.Image:
        """Return the picture: RGB, square pixels, upright."""
        width_px = max(1, round(self._frame.width * self._pixel_aspect))
        picture = Image.fromarray(
            self._frame.reformat(width=width_px, height=self._frame.height, format="rgb24").to_ndarray()
        )
        turn = int(getattr(self._frame, "rotation", 0) or 0) % 360
        return picture.rotate(turn, expand=True) if turn else picture


@dataclass(slots=True)
class FrameSampler:
    """Chooses frames at an even rate, by their time: the first of each interval of `1 / frames_per_second`."""

    frames_per_second: float
    _next: int = field(default=0)

    def wants(self, time_seconds: float) -> bool:
        """Say whether the frame of this time is taken; to be asked once a frame, in order."""
        # Time stamps are rounded to the container's clock (1 ms in Matroska): a frame just before its tick is on it.
        tick = math.floor((time_seconds + 0.002) * self.frames_per_second)
        if tick < self._next:
            return False
        self._next = tick + 1
        return True


def video_seconds(path: UPath) -> float:
    """Return the length that a video file claims, without decoding it; 0 where it claims none or cannot be opened."""
    import av

    try:
        with path.open("rb") as file, av.open(file, "r", metadata_errors="ignore") as container:
            return float((container.duration or 0) / av.time_base)
    except (av.FFmpegError, OSError):
        return 0.0


def decode_video(path: UPath, report: DecodeReport | None = None) -> Iterator[DecodedFrame]:
    """Decode every frame of a video file in order of presentation; packets that are damaged are passed over.

    Args:
        path: The file; opened as a stream, so any fsspec store will do.
        report: Filled in while decoding, if given.

    Raises:
        FrameError: The file cannot be opened, or has no video stream.
    """
    import av

    report = report if report is not None else DecodeReport()
    try:
        with path.open("rb") as file, av.open(file, "r", metadata_errors="ignore") as container:
            if not container.streams.video:
                raise FrameError(str(path), "holds no video stream", "Remove the file from the source of frames.")
            yield from _decode_stream(container, report)
    except (av.FFmpegError, OSError) as error:
        raise _cannot_open(path, error) from error


def _cannot_open(path: UPath, error: Exception) -> FrameError:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return FrameError(str(path), f"cannot be opened as a video ({reason})", "Copy or download the video again.")


def _decode_stream(container: "av.container.InputContainer", report: DecodeReport) -> Iterator[DecodedFrame]:
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    pixel_aspect = pixel_aspect_of(stream)
    rate = float(stream.average_rate or stream.guessed_rate or 25)
    start_seconds: float | None = None
    for frame in _frames_of(container, stream, report):
        number = report.decoded_count
        report.decoded_count += 1
        time_seconds = frame.time if frame.time is not None else number / rate
        start_seconds = time_seconds if start_seconds is None else start_seconds
        yield DecodedFrame(number, time_seconds - start_seconds, frame, pixel_aspect)


def pixel_aspect_of(stream: "av.VideoStream") -> float:
    """Return the width of a pixel over its height."""
    aspect = stream.codec_context.sample_aspect_ratio
    return float(aspect) if aspect else 1.0


def _frames_of(
    container: "av.container.InputContainer", stream: "av.VideoStream", report: DecodeReport
) -> Iterator["av.VideoFrame"]:
    import av

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                return
            frames = packet.decode()
        except av.FFmpegError as error:
            report.failed_count += 1
            report.first_error = report.first_error or error.strerror or str(error)
            # A broken container may fail on every further packet; a damaged stream recovers at a key frame.
            if report.failed_count > 10_000 or isinstance(error, av.EOFError):
                return
            continue
        yield from frames
