"""Readings kept by content: nothing is read twice, whoever asks, and damage costs time only."""

import logging
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from yokai_assets.storage.layout import Layout
from yokai_assets.tagging.cache import ReadingCache, read_cutouts
from yokai_assets.tagging.reading import ImageReading, TaggerError
from yokai_assets_tests.embedding.conftest import write_instances

COLOURS = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0), (0, 250, 250), (250, 0, 250), (10, 10, 10)]
WRITER = """
import sys
from pathlib import Path
from yokai_assets.tagging.cache import ReadingCache
from yokai_assets.tagging.reading import ImageReading
file, name, count = sys.argv[1:]
sys.stdin.read()
cache = ReadingCache(Path(file))
for number in range(int(count)):
    cache.put("reader", {f"{name}{number}": ImageReading({name: 0.5, "both": 0.1 + number}, "a sentence, ö")})
"""


class MiddleColourReader:
    """A fake reader: the tag is the colour in the middle; it remembers what it was shown, and may break down."""

    def __init__(self, fingerprint: str = "middle-colour", *, breaks_after: int | None = None) -> None:
        self.fingerprint = fingerprint
        self.seen: list[tuple[int, ...]] = []
        self._breaks_after = breaks_after

    def read(self, images: Sequence[Image.Image], /) -> list[ImageReading]:
        if self._breaks_after is not None and len(self.seen) >= self._breaks_after:
            raise KeyboardInterrupt
        assert all(image.mode == "RGB" and np.asarray(image)[0, 0].tolist() == [255] * 3 for image in images)
        middles = [tuple(np.asarray(image)[image.height // 2, image.width // 2].tolist()) for image in images]
        self.seen += middles
        return [reading_of(middle) for middle in middles]


def reading_of(colour: tuple[int, ...]) -> ImageReading:
    return ImageReading({str(colour): 1 / 3, "disc": 0.1}, f"a disc of {colour}")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "readings.sqlite"


def test_equal_pixels_are_read_once(layout: Layout, file: Path) -> None:
    """Protects: every instance gets the reading of its own pixels, and a still that lasts costs one look."""
    shown = [*COLOURS, COLOURS[2], COLOURS[2]]
    rows, reader, told = write_instances(layout, shown), MiddleColourReader(), []
    found = read_cutouts(
        rows, layout, reader, ReadingCache(file), 3, lambda done, total, note="": told.append((done, total))
    )
    assert list(found) == rows["instance_id"].to_list()
    assert list(found.values()) == [reading_of(colour) for colour in shown]
    assert sorted(reader.seen) == sorted(COLOURS)
    assert told == [(3, 7), (6, 7), (7, 7)]


def test_a_changed_picture_alone_is_read_anew(layout: Layout, file: Path) -> None:
    """Protects: a second run costs what has changed; another reader starts from nothing."""
    first = read_cutouts(write_instances(layout, COLOURS), layout, MiddleColourReader(), ReadingCache(file), 3)
    changed = [*COLOURS[:4], (0, 250, 251), *COLOURS[5:]]
    rows, reader = write_instances(layout, changed), MiddleColourReader()
    second = read_cutouts(rows, layout, reader, ReadingCache(file), 3)
    assert reader.seen == [(0, 250, 251)]
    assert list(second.values()) == [reading_of(colour) for colour in changed]
    assert {k: v for k, v in second.items() if k != rows[4, "instance_id"]} == {
        k: v for k, v in first.items() if k != rows[4, "instance_id"]
    }
    other = MiddleColourReader("another")
    read_cutouts(rows, layout, other, ReadingCache(file), 3)
    assert len(other.seen) == len(COLOURS)


def test_an_interrupted_run_loses_one_batch(layout: Layout, file: Path) -> None:
    """Protects: hours of reading survive a kill."""
    rows = write_instances(layout, COLOURS)
    with pytest.raises(KeyboardInterrupt):
        read_cutouts(rows, layout, MiddleColourReader(breaks_after=4), ReadingCache(file), 2)
    reader = MiddleColourReader()
    assert len(read_cutouts(rows, layout, reader, ReadingCache(file), 2)) == 7
    assert reader.seen == COLOURS[4:]


def test_known_cutouts_are_not_opened(layout: Layout, file: Path) -> None:
    """Protects: readings of cut-outs that were removed meanwhile stay usable."""
    rows = write_instances(layout, COLOURS)
    first = read_cutouts(rows, layout, MiddleColourReader(), ReadingCache(file), 3)
    for cutout in rows["cutout"]:
        layout.absolute(cutout).unlink()
    assert read_cutouts(rows, layout, MiddleColourReader(), ReadingCache(file), 3) == first


def test_unreadable_cutouts_are_left_out_and_told_once(
    layout: Layout, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Protects: a damaged file costs one reading, is not drowned in lines, and is tried again next time."""
    rows = write_instances(layout, COLOURS)
    whole = layout.absolute(rows[2, "cutout"]).read_bytes()
    layout.absolute(rows[2, "cutout"]).write_bytes(b"RIFF damaged")
    layout.absolute(rows[4, "cutout"]).unlink()
    with caplog.at_level(logging.WARNING):
        found = read_cutouts(rows, layout, MiddleColourReader(), ReadingCache(file), 3)
    assert list(found) == [one for n, one in enumerate(rows["instance_id"]) if n not in (2, 4)]
    (record,) = caplog.records
    assert "2 cut-out(s) cannot be read" in record.getMessage() and "character_layers" in record.getMessage()
    layout.absolute(rows[2, "cutout"]).write_bytes(whole)
    assert len(read_cutouts(rows, layout, MiddleColourReader(), ReadingCache(file), 3)) == 6


def test_no_rows_and_no_known_keys(layout: Layout, file: Path) -> None:
    """Protects: a character without images, and a cache that nobody has written to."""
    rows = write_instances(layout, COLOURS[:1]).clear()
    assert read_cutouts(rows, layout, MiddleColourReader(), ReadingCache(file), 3) == {}
    assert ReadingCache(file).get("reader", [f"{number:064x}" for number in range(5000)]) == {}


def test_processes_share_one_file(file: Path) -> None:
    """Protects: runs side by side lose nothing, and what one process read another one knows, to the last digit."""
    write_at_once(file, ["a", "b", "c"], 40)
    keys = [f"{name}{number}" for name in "abc" for number in range(40)]
    found = ReadingCache(file).get("reader", keys)
    assert sorted(found) == sorted(keys)
    assert found["b3"] == ImageReading({"b": 0.5, "both": 3.1}, "a sentence, ö")
    assert list(found["b3"].tags) == ["b", "both"]
    assert ReadingCache(file).get("another reader", keys) == {}


def test_a_file_that_is_no_database_is_renamed_and_begun_anew(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Protects: damage costs time, never a run; nothing is thrown away unasked."""
    file.parent.mkdir()
    file.write_bytes(b"not a database at all" * 500)
    cache = ReadingCache(file)
    with caplog.at_level(logging.WARNING):
        assert cache.get("reader", ["x"]) == {}
    assert "is damaged" in caplog.text and "renamed to" in caplog.text
    (aside,) = file.parent.glob("*.damaged-*")
    assert aside.read_bytes().startswith(b"not a database")
    cache.put("reader", {"x": ImageReading({"a": 0.5})})
    assert cache.get("reader", ["x"]) == {"x": ImageReading({"a": 0.5})}


def test_a_database_with_broken_pages_is_renamed_and_begun_anew(file: Path) -> None:
    """Protects: damage in the middle is found too, by whatever is done first."""
    cache = ReadingCache(file)
    cache.put("reader", {f"{n}": ImageReading({"long tag " * 20: 0.5}) for n in range(500)})
    data = bytearray(file.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    file.write_bytes(data)
    cache.put("reader", {"new": ImageReading({}, "b")})
    assert cache.get("reader", ["new", "7"]) == {"new": ImageReading({}, "b")}
    assert len(list(file.parent.glob("*.damaged-*"))) == 1


def test_processes_that_find_damage_at_once_rename_it_once(file: Path) -> None:
    """Protects: the second one does not throw away what the first one has begun anew."""
    file.parent.mkdir()
    file.write_bytes(b"not a database at all" * 500)
    write_at_once(file, ["a", "b", "c"], 5)
    assert len(ReadingCache(file).get("reader", [f"{name}{n}" for name in "abc" for n in range(5)])) == 15
    assert len(list(file.parent.glob("*.damaged-*"))) == 1


def test_a_damaged_entry_is_read_anew(layout: Layout, file: Path) -> None:
    """Protects: one bad entry costs one picture."""
    rows, cache = write_instances(layout, COLOURS), ReadingCache(file)
    first = read_cutouts(rows, layout, MiddleColourReader(), cache, 3)
    with sqlite3.connect(file) as connection:
        for colour, text in zip(COLOURS, ("{", "[]", '{"tags": {}}', b"\xff\xfe"), strict=False):
            connection.execute("UPDATE readings SET reading = ? WHERE cutout_sha256 = ?", (text, str(colour)))
    connection.close()
    reader = MiddleColourReader()
    assert read_cutouts(rows, layout, reader, cache, 3) == first
    assert reader.seen == COLOURS[:4]


def test_a_file_that_cannot_be_used_is_told(file: Path) -> None:
    """Protects: what is no damage is not renamed; the message says what to look at."""
    file.mkdir(parents=True)
    with pytest.raises(TaggerError, match=r"readings\.sqlite: the cache of readings cannot be used .*may be deleted"):
        ReadingCache(file).get("reader", ["x"])
    assert file.is_dir()


def write_at_once(file: Path, names: Sequence[str], count: int) -> None:
    command = [sys.executable, "-c", WRITER, str(file)]
    writers = [subprocess.Popen([*command, name, str(count)], stdin=subprocess.PIPE) for name in names]
    for writer in writers:
        assert writer.stdin
        writer.stdin.close()
    assert [writer.wait(timeout=120) for writer in writers] == [0] * len(names)
