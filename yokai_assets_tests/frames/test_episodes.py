"""Episodes: which are found, under which key, and what is told about the rest."""

import re
import unicodedata
from pathlib import Path

import pytest
from upath import UPath

from yokai_assets.frames.episodes import EpisodeNotFoundError, discover_episodes, episode_key, find_episode
from yokai_assets.frames.listing import natural_key
from yokai_assets_tests.frames.pictures import scene, write, write_video


def keys(source: UPath | Path) -> list[str]:
    return [episode.key for episode in discover_episodes(UPath(source))[0]]


def reasons(source: UPath | Path) -> dict[str, str]:
    return {problem.path: problem.reason for problem in discover_episodes(UPath(source))[1]}


@pytest.mark.parametrize(
    ("path", "key"),
    [("ep001", "ep001"), ("season 1/ep 2", None), ("s1/ep1", "s1.ep1"), ("Ep-1_b.c", "Ep-1_b.c")],
)
def test_plain_names_stay_readable(path: str, key: str | None) -> None:
    """Protects: a name that is a legal key already is the key; anything else carries a hash."""
    made = episode_key(path)
    assert made == key if key else re.fullmatch(r"season_1\.ep_2-[0-9a-f]{8}", made)


@pytest.mark.parametrize(
    "path", ["第1話", "a...b", ".hidden", "-dash", "ep.", "a b/c?", "é" * 300, "x" * 300, "😀", "a/.../b"]
)
def test_keys_are_legal_partition_keys(path: str) -> None:
    """Protects: Dagster's range separator, hidden files, option-like names and file name limits."""
    key = episode_key(path)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", key)
    assert ".." not in key
    assert not key.endswith(".")
    assert len(key) <= 100
    assert episode_key(key) == key


def test_names_that_clean_to_the_same_stay_apart() -> None:
    """Protects: non-Latin series, where every title would become underscores."""
    names = ["第1話", "第2話", "第一話", "第二話", "a b", "a_b", "a?b", "x" * 150, "x" * 151]
    assert len({episode_key(name) for name in names}) == len(names)


def test_key_is_the_same_for_both_unicode_forms() -> None:
    """Protects: a series copied from a Mac keeps its partitions."""
    assert episode_key(unicodedata.normalize("NFD", "ポケ")) == episode_key(unicodedata.normalize("NFC", "ポケ"))


@pytest.mark.parametrize("path", ["", "/abs", "a/../b", "a//b", "."])
def test_paths_outside_the_source_have_no_key(path: str) -> None:
    """Protects: a key never stands for a path that leaves the source."""
    with pytest.raises(ValueError, match="no path below"):
        episode_key(path)


def test_finds_folders_at_any_depth_and_videos(tmp_path: Path) -> None:
    """Protects: season folders, videos beside folders, hidden and foreign files ignored."""
    for name in ("ep1/f1.png", "season2/ep1/f1.JPG", "season2/ep1/extras/f1.webp"):
        write(tmp_path / name, scene(1))
    write(tmp_path / "ep1/notes.txt", b"x")
    write(tmp_path / ".trash/f1.png", scene(1))
    write(tmp_path / "movie.mkv", b"x")
    episodes, problems = discover_episodes(UPath(tmp_path))
    assert [(e.key, e.kind) for e in episodes] == [
        ("ep1", "folder"),
        ("movie", "video"),
        ("season2.ep1", "folder"),
        ("season2.ep1.extras", "folder"),
    ]
    assert problems == []


def test_problems_name_place_reason_and_remedy(tmp_path: Path) -> None:
    """Protects: nothing in the source is left out silently."""
    write(tmp_path / "loose.png", scene(1))
    (tmp_path / "empty").mkdir()
    write(tmp_path / "a.b/f.png", scene(1))
    write(tmp_path / "a/b/f.png", scene(1))
    write(tmp_path / "ep.mp4", b"x")
    write(tmp_path / "ep/f.png", scene(1))
    found = reasons(tmp_path)
    assert "directly in the source" in found[str(tmp_path)]
    assert "no image and no video" in found["empty"]
    assert "already belongs to `a.b`" in found["a/b"]
    assert "already belongs to `ep`" in found["ep.mp4"]
    assert all(problem.remedy for problem in discover_episodes(UPath(tmp_path))[1])
    assert keys(tmp_path) == ["a.b", "ep"]


def test_a_source_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    """Protects: a sensor keeps running when a disk is not mounted."""
    episodes, (problem,) = discover_episodes(UPath(tmp_path / "gone"))
    assert episodes == []
    assert "does not exist" in problem.reason
    assert "frames_source" in problem.remedy


def test_links_in_circles_end(tmp_path: Path) -> None:
    """Protects: a link to a parent folder neither hangs the walk nor doubles an episode; linked episodes count."""
    write(tmp_path / "source/real/f.png", scene(1))
    write(tmp_path / "elsewhere/f.png", scene(2))
    (tmp_path / "source/a_loop").symlink_to(tmp_path / "source", target_is_directory=True)
    (tmp_path / "source/a_copy").symlink_to(tmp_path / "source/real", target_is_directory=True)
    (tmp_path / "source/linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "source/self").symlink_to(tmp_path / "source/self")
    assert keys(tmp_path / "source") == ["linked", "real"]
    assert set(reasons(tmp_path / "source")) == {"a_loop", "a_copy"}


def test_names_in_another_encoding_are_reported(tmp_path: Path) -> None:
    """Protects: a folder name that is not UTF-8 stops nothing and is named."""
    folder = tmp_path / "caf\udce9"
    try:
        write(folder / "f.png", scene(1))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    write(tmp_path / "ep/f.png", scene(1))
    assert keys(tmp_path) == ["ep"]
    assert "UTF-8" in reasons(tmp_path)["caf\\udce9"]


def test_find_episode_by_key(tmp_path: Path) -> None:
    """Protects: every discovered key leads back to its own folder; an unknown one names its neighbours."""
    for name in ("ep1", "s1/ep 2", "第1話", "a.b", "a/b"):
        write(tmp_path / name / "f.png", scene(1))
    write_video(tmp_path / "film.mp4", [scene(1)])
    for episode in discover_episodes(UPath(tmp_path))[0]:
        assert find_episode(UPath(tmp_path), episode.key) == episode
    with pytest.raises(EpisodeNotFoundError, match="Near: ep1"):
        find_episode(UPath(tmp_path), "ep11")
    with pytest.raises(EpisodeNotFoundError):
        find_episode(UPath(tmp_path), "../ep1")


def test_remote_sources_are_walked() -> None:
    """Protects: an object store as source of frames."""
    source = UPath("memory://episodes-test/frames")
    (source / "s1/ep1").mkdir(parents=True)
    (source / "s1/ep1/f1.png").write_bytes(b"x")
    (source / "film.mkv").write_bytes(b"x")
    assert keys(source) == ["film", "s1.ep1"]
    assert find_episode(source, "s1.ep1").path == source / "s1/ep1"


def test_numbers_in_names_count_as_numbers() -> None:
    """Protects: frame order where numbers are not padded."""
    names = ["frame10.png", "frame2.png", "Frame1.png", "a.png", "2.png", "10.png"]
    assert sorted(names, key=natural_key) == ["2.png", "10.png", "a.png", "Frame1.png", "frame2.png", "frame10.png"]
