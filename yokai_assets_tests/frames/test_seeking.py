"""A few frames of a long video, sought: the very pictures that a full decoding gives, or none."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image
from upath import UPath

from yokai_assets.frames import reader
from yokai_assets.frames.decoding import FrameError
from yokai_assets.frames.fingerprint import picture_sha256
from yokai_assets.frames.reader import iter_frames
from yokai_assets.frames.seeking import DECODED_PER_SEEK, packet_index, pays, seek_frames
from yokai_assets.frames.video import decode_video
from yokai_assets_tests.frames.pictures import scene, write_video

FRAME_COUNT = 120


def write_film(path: Path, *, key_distance: int = 25, open_gop: bool = False) -> Path:
    """A film of 120 frames with B-frames and a key frame every so often, each frame another picture."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(24000, 1001))
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.options = {
            "bf": "3", "g": str(key_distance), "keyint_min": str(key_distance), "sc_threshold": "0", "threads": "1",
            "x264-params": f"open-gop={int(open_gop)}:b-adapt=0",
        }  # fmt: skip
        ground, mover = scene(0, 96, 64), scene(5, 24, 24)
        for number in range(FRAME_COUNT):
            picture = ground.copy()
            picture.paste(mover, (number % 72, (number * 7) % 40))
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module", params=["film.mkv", "film.mp4", "open.mkv", "open.mp4"])
def film(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> UPath:
    folder = tmp_path_factory.mktemp("films")
    return UPath(write_film(folder / request.param, open_gop=request.param.startswith("open")))


@pytest.fixture(scope="module")
def decoded(film: UPath) -> list[Image.Image]:
    """Every frame, by decoding in full."""
    return [frame.image() for frame in decode_video(film)]


def wanted(decoded: list[Image.Image], *numbers: int) -> list[tuple[int, str]]:
    return [(number, picture_sha256(decoded[number])) for number in numbers]


def test_the_film_has_frames_out_of_order(film: UPath) -> None:
    """The premise: without B-frames and several key frames the tests below would show nothing."""
    import av

    with av.open(str(film)) as container:
        stamps = [packet.pts for packet in container.demux(container.streams.video[0]) if packet.size]
    index = packet_index(film)
    assert stamps != sorted(stamps)  # type: ignore[type-var]
    assert index is not None and len(index.time_stamps) == FRAME_COUNT and len(index.key_numbers) >= 4


def test_every_frame_sought_is_the_frame_decoded(film: UPath, decoded: list[Image.Image]) -> None:
    """Around key frames and between them, forwards, backwards and repeated."""
    numbers = [*range(FRAME_COUNT), 119, 3, 3, 51, 50, 49, 24, 25, 26, 0]
    found = list(seek_frames(film, wanted(decoded, *numbers)))
    assert len(found) == len(numbers)
    for number, picture in zip(numbers, found, strict=True):
        assert picture is not None, f"frame {number} was not found"
        assert np.array_equal(np.asarray(picture), np.asarray(decoded[number]))


def test_a_frame_without_its_hash_is_not_handed_out(film: UPath, decoded: list[Image.Image]) -> None:
    """A wrong number would put a character into another frame: what cannot be proven ends the seeking."""
    first, second = wanted(decoded, 60, 70)
    assert [picture is None for picture in seek_frames(film, [first, (70, first[1]), second])] == [False, True]
    assert list(seek_frames(film, [(FRAME_COUNT + 5, "x")])) == [None]


def test_a_film_that_is_torn_is_not_sought(tmp_path: Path) -> None:
    """Time stamps of a damaged file do not number its frames reliably; nothing may be raised either."""
    film = write_film(tmp_path / "film.mkv")
    decoded = [frame.image() for frame in decode_video(UPath(film))]
    data = bytearray(film.read_bytes())
    film.write_bytes(data[: len(data) // 3])
    assert list(seek_frames(UPath(film), wanted(decoded, 100))) == [None]
    film.write_bytes(b"no film")
    assert list(seek_frames(UPath(film), wanted(decoded, 100))) == [None]


@pytest.fixture
def decoded_counts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many frames the reader decoded from the beginning, per pass."""
    passes: list[int] = []

    def counting(path: UPath) -> Iterator[Any]:
        passes.append(0)
        for frame in decode_video(path):
            passes[-1] += 1
            yield frame

    monkeypatch.setattr(reader, "decode_video", counting)
    monkeypatch.setattr("yokai_assets.frames.seeking.DECODED_PER_SEEK", 10)
    return passes


def test_the_reader_seeks_where_it_pays(film: UPath, decoded: list[Image.Image], decoded_counts: list[int]) -> None:
    """A character seen five times in an episode must not cost a decoding of the whole episode."""
    numbers = [12, 55, 110]
    rows = pl.DataFrame({"source": [f"{film.name}#{n}" for n in numbers]})
    hashes = pl.Series("content_sha256", [sha256 for _, sha256 in wanted(decoded, *numbers)])
    for frame, passes in ((rows.with_columns(hashes), []), (rows, [111])):
        decoded_counts.clear()
        for (row, picture), number in zip(iter_frames(frame, film.parent), numbers, strict=True):
            assert row["source"].endswith(f"#{number}")
            assert isinstance(picture, Image.Image)
            assert np.array_equal(np.asarray(picture), np.asarray(decoded[number]))
        assert decoded_counts == passes


def test_the_reader_decodes_in_full_where_seeking_fails(
    film: UPath, decoded: list[Image.Image], decoded_counts: list[int]
) -> None:
    """A video exchanged since the scan: what is proven is sought, the rest is read as before, errors included."""
    numbers, hashes = [30, 60, 119], [sha256 for _, sha256 in wanted(decoded, 30, 60, 119)]
    frame = pl.DataFrame({"source": [f"{film.name}#{n}" for n in numbers], "content_sha256": [hashes[0], "x", "y"]})
    found = [picture for _, picture in iter_frames(frame, film.parent)]
    assert decoded_counts == [120]
    for number, picture in zip(numbers, found, strict=True):
        assert np.array_equal(np.asarray(picture), np.asarray(decoded[number]))
    gone = pl.DataFrame({"source": ["gone.mkv#90"], "content_sha256": ["x"]})
    assert isinstance(next(iter(iter_frames(gone, film.parent)))[1], FrameError)


def test_dense_reading_is_one_pass() -> None:
    """Segmentation reads most frames: seeking to each would be far slower."""
    assert not pays(list(range(0, 30_000, 12))) and not pays([]) and not pays([3])
    assert pays([2 * DECODED_PER_SEEK])


def test_an_older_codec_is_sought_as_well(tmp_path: Path) -> None:
    """MPEG-4 in Matroska, as many archives have it."""
    film = UPath(write_video(tmp_path / "old.mkv", [scene(n, 64, 48) for n in range(40)]))
    decoded = [frame.image() for frame in decode_video(film)]
    numbers = (39, 11, 12)
    for number, picture in zip(numbers, seek_frames(film, wanted(decoded, *numbers)), strict=True):
        assert np.array_equal(np.asarray(picture), np.asarray(decoded[number]))
