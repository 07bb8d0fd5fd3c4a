"""Scanning: what the frames table says about good, bad and nasty files, and how little is opened again."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageDraw, ImageFont
from upath import UPath

from yokai_assets.frames import scan
from yokai_assets.frames.episodes import EpisodeSource, find_episode
from yokai_assets.frames.reader import iter_frames
from yokai_assets.frames.scan import scan_episode
from yokai_assets.settings.model import FramesSettings
from yokai_assets_tests.frames.pictures import blurred, encoded, scene, with_disc, with_grain, write, write_video

SETTINGS = FramesSettings.model_validate({})


def table(source: Path | UPath, key: str = "ep", **options) -> pl.DataFrame:
    source = UPath(source)
    return scan_episode(find_episode(source, key), source, options.pop("settings", SETTINGS), **options)


def column(frames: pl.DataFrame, name: str) -> dict[str, object]:
    return {Path(source).name: value for source, value in frames.select("source", name).iter_rows()}


def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record which files a scan opens."""
    paths: list[str] = []
    measure = scan._measure_file
    monkeypatch.setattr(scan, "_measure_file", lambda path: (paths.append(path.name), measure(path))[1])
    return paths


def test_rows_are_in_natural_order_and_conform(tmp_path: Path) -> None:
    """Protects: ids, order and sources of a plain episode."""
    for number in (1, 2, 10):
        write(tmp_path / f"ep/frame{number}.png", scene(number))
    write(tmp_path / "ep/readme.txt", b"x")
    frames = table(tmp_path)
    assert frames["source"].to_list() == ["ep/frame1.png", "ep/frame2.png", "ep/frame10.png"]
    assert frames["frame_id"].to_list() == ["ep/000000", "ep/000001", "ep/000002"]
    assert frames["status"].to_list() == ["ok"] * 3
    assert frames["width_px"].to_list() == [160] * 3


def test_nasty_files_are_rows_with_reasons(tmp_path: Path) -> None:
    """Protects: one bad file is one row; every status is told with its reason; wrong names are read by content."""
    folder = tmp_path / "ep"
    write(folder / "1_good.png", scene(1))
    write(folder / "2_named_wrong.jpg", scene(2), "PNG")
    write(folder / "3_empty.png", b"")
    write(folder / "4_truncated.jpg", encoded(scene(4, 640, 360), "JPEG")[:3000])
    write(folder / "5_text.png", b"this is a text file")
    write(folder / "6_black.png", Image.new("RGB", (160, 96), (4, 4, 4)))
    write(folder / "7_white.png", Image.new("RGB", (160, 96), "white"))
    write(folder / "8_pixel.png", Image.new("RGB", (1, 1), "grey"))
    (folder / "9_dead.png").symlink_to(folder / "gone.png")
    (folder / "91_self.png").symlink_to(folder / "91_self.png")
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    frames = table(tmp_path)
    status = column(frames, "status")
    assert [status[name] for name in sorted(status)] == ["ok", "ok", *["unreadable"] * 3, "dark", "blank", "blank"] + [
        "unreadable"
    ] * 2
    assert frames.filter(pl.col("status") != "ok")["reason"].null_count() == 0
    assert frames.filter(pl.col("status") == "ok")["reason"].null_count() == 2
    assert "0 bytes" in str(column(frames, "reason")["3_empty.png"])
    unreadable = frames.filter(pl.col("status") == "unreadable")
    assert unreadable["shot"].null_count() == unreadable.height
    assert frames["representative"].null_count() == frames.height - 2


def test_names_in_another_encoding_are_rows(tmp_path: Path) -> None:
    """Protects: a file name that is not UTF-8 does not break the table."""
    write(tmp_path / "ep/good.png", scene(1))
    try:
        write(tmp_path / "ep/caf\udce9.png", scene(2))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    frames = table(tmp_path)
    assert sorted(frames["status"].to_list()) == ["ok", "unreadable"]
    frames.write_parquet(tmp_path / "table.parquet")


def test_unchanged_files_are_not_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects: a second scan of a long episode opens only what is new, changed or was unreadable."""
    for number in range(20):
        write(tmp_path / f"ep/{number:03d}.png", scene(number))
    write(tmp_path / "ep/bad.png", b"x")
    first = table(tmp_path)
    write(tmp_path / "ep/004.png", scene(99))
    write(tmp_path / "ep/500.png", scene(100))
    os.utime(tmp_path / "ep/004.png", ns=(1, 1))
    paths = opened(monkeypatch)
    second = table(tmp_path, previous=first)
    assert sorted(paths) == ["004.png", "500.png", "bad.png"]
    paths.clear()
    table(tmp_path, previous=second.filter(pl.col("status") != "unreadable"))
    assert paths == ["bad.png"]
    monkeypatch.undo()
    assert second.equals(table(tmp_path))


def test_new_thresholds_apply_to_reused_rows(tmp_path: Path) -> None:
    """Protects: status and groups follow the settings, not the earlier table."""
    write(tmp_path / "ep/1.png", scene(1))
    first = table(tmp_path)
    strict = FramesSettings.model_validate({"dark_luma": 255})
    assert table(tmp_path, previous=first, settings=strict)["status"].to_list() == ["dark"]
    assert table(tmp_path, previous=table(tmp_path, settings=strict))["reason"].to_list() == [None]


def test_a_table_of_another_hash_is_not_trusted(tmp_path: Path) -> None:
    """Protects: after the way of measuring has changed, old hashes are not mixed with new ones."""
    for number in range(10):
        write(tmp_path / f"ep/{number}.png", scene(number))
    fresh = table(tmp_path)
    stale = fresh.with_columns(dhash=pl.lit(7, dtype=pl.UInt64), print_version=pl.col("print_version") - 1)
    assert table(tmp_path, previous=stale).equals(fresh)


def test_shots_and_near_duplicates(tmp_path: Path) -> None:
    """Protects: grain does not make a new picture, a cut does, black is a shot of its own."""
    black = Image.new("RGB", (160, 96))
    pictures = [
        *(with_grain(scene(1), n) for n in range(4)),
        *(with_grain(scene(2), n) for n in range(3)),
        black,
        scene(1),
    ]
    for number, picture in enumerate(pictures):
        write(tmp_path / f"ep/{number}.png", picture)
    frames = table(tmp_path)
    assert frames["shot"].to_list() == [0, 0, 0, 0, 1, 1, 1, 2, 3]
    assert frames["representative"].to_list() == [*["ep/000000"] * 4, *["ep/000004"] * 3, None, "ep/000008"]


def test_a_blurred_first_frame_does_not_stand_for_its_group(tmp_path: Path) -> None:
    """Protects: of near-duplicates a sharp one is segmented and trained on."""
    detailed = with_grain(scene(1), 0, amount=90)
    for number, picture in enumerate([blurred(detailed), detailed, with_grain(detailed, 1)]):
        write(tmp_path / f"ep/{number}.png", picture)
    assert table(tmp_path)["representative"].to_list() == ["ep/000001"] * 3


def test_videos_are_sampled_and_read_back(tmp_path: Path) -> None:
    """Protects: rate, names and pixels of video frames; each is read back as the frame that was measured."""
    pictures = [scene(number // 12) for number in range(48)]
    write_video(tmp_path / "ep.mkv", pictures, frames_per_second=12)
    frames = table(tmp_path)
    assert frames["source"].to_list() == [f"ep.mkv#{n}" for n in range(0, 48, 6)]
    assert frames["shot"].to_list() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert frames["size_bytes"].null_count() == frames.height
    assert table(tmp_path).equals(frames)
    for row, image in iter_frames(frames, UPath(tmp_path)):
        assert isinstance(image, Image.Image)
        assert scan._measure_picture(image)["content_sha256"] == row["content_sha256"]


@pytest.mark.parametrize("damage", ["empty", "text", "cut"])
def test_damaged_videos_are_told(tmp_path: Path, damage: str) -> None:
    """Protects: a video that cannot be decoded fails its check instead of looking like a short episode."""
    path = write_video(tmp_path / "ep.mp4", [with_grain(scene(n), n, 40) for n in range(24)])
    data = {"empty": b"", "text": b"hello", "cut": path.read_bytes()[: path.stat().st_size // 3]}[damage]
    path.write_bytes(data)
    frames = table(tmp_path)
    assert frames["status"].to_list()[-1] == "unreadable"
    assert "again" in frames["reason"].to_list()[-1]


def test_remote_sources(tmp_path: Path) -> None:
    """Protects: images and videos on an object store, and reuse there."""
    source = UPath("memory://scan-test")
    (source / "ep").mkdir(parents=True)
    (source / "ep/1.png").write_bytes(encoded(scene(1)))
    (source / "film.mkv").write_bytes(write_video(tmp_path / "film.mkv", [scene(2)] * 12).read_bytes())
    frames = table(source)
    assert frames["source"].to_list() == ["ep/1.png"]
    assert table(source, previous=frames).equals(frames)
    film = table(source, "film")
    assert film["status"].to_list() == ["ok", "ok"]
    both = pl.concat([frames, film])
    assert all(isinstance(image, Image.Image) for _, image in iter_frames(both, source))


def test_progress_reaches_its_total(tmp_path: Path) -> None:
    """Protects: whoever shows progress sees all of it."""
    for number in range(40):
        write(tmp_path / f"ep/{number}.png", scene(number))
    calls: list[tuple[int, int]] = []
    table(tmp_path, progress=lambda done, total, note="": calls.append((done, total)))
    assert calls[-1] == (40, 40)
    assert calls == sorted(calls)


def test_an_empty_episode_is_an_empty_table(tmp_path: Path) -> None:
    """Protects: a folder that lost its frames gives no rows and no error."""
    (tmp_path / "ep").mkdir()
    assert scan_episode(EpisodeSource("ep", UPath(tmp_path / "ep"), "folder"), UPath(tmp_path), SETTINGS).is_empty()


def credits_page(seed: int) -> Image.Image:
    page = Image.new("RGB", (640, 360), (18, 18, 28))
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(22)
    for line in range(6):
        name = "".join(np.random.default_rng([seed, line]).choice(list("abcdeghilmnoprstu"), 14))
        pen.text((150, 40 + 50 * line), f"{name.title()} {name[::-1].title()}", (235, 235, 235), font)
    return page


def test_credits_are_known(tmp_path) -> None:
    """Protects: lines of text become no character; pictures on plain ground stay."""
    figure = with_disc(with_disc(Image.new("RGB", (640, 360), (240, 240, 240)), (300, 180), 90, (200, 60, 60)),
                       (270, 150), 20, (20, 20, 20))  # fmt: skip
    for number in range(2):
        write(tmp_path / f"ep/c{number}.png", credits_page(number))
    for number in range(6):
        write(tmp_path / f"ep/p{number}.png", with_grain(figure, number) if number % 2 else scene(number, 640, 360))
    frames = table(tmp_path)
    assert frames["status"].to_list() == ["credits"] * 2 + ["ok"] * 6
    assert frames["representative"].null_count() == 2
    assert "lines of text" in frames["reason"][0]
    kept = table(tmp_path, settings=FramesSettings(credits_text_share=1.0))
    assert set(kept["status"]) == {"ok"}


def test_a_series_drawn_in_lines_is_not_all_credits(tmp_path) -> None:
    """Protects: where most frames look like text, that is how they are drawn, and none is left out."""
    for number in range(5):
        write(tmp_path / f"ep/c{number}.png", credits_page(number))
    assert set(table(tmp_path)["status"]) == {"ok"}


def test_a_video_may_give_only_what_changes(tmp_path) -> None:
    """Protects: a held picture is taken once; a cut and somebody who enters are taken, at most at the chosen rate."""
    place = scene(1, 320, 192)
    entering = with_disc(place, (160, 96), 20, (250, 250, 250))
    write_video(tmp_path / "ep.mp4", [place] * 12 + [entering] * 12 + [scene(2, 320, 192)] * 24)
    rate = FramesSettings(video_frames_per_second=12)
    assert table(tmp_path, settings=rate).height == 48
    changes = table(tmp_path, settings=rate.model_copy(update={"video_sampling": "change"}))
    assert [int(source.rpartition("#")[2]) for source in changes["source"]] == pytest.approx([0, 12, 24], abs=1)
