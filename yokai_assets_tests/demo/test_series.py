"""The demo series: repeatable, growing without rewriting, faulty on purpose, and true about itself."""

import hashlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from yokai_assets.demo.series import NotADemoSeriesError, generate_series
from yokai_assets.demo.story import choose_cast, design_distance, plan_episode
from yokai_assets.demo.truth import NoTruthError, Truth, load_truth

SMALL = {"frames_per_episode": 20, "characters": 3, "rare_characters": 1, "seed": 5, "size_px": (192, 108)}


def _digests(folder: Path) -> dict[str, str]:
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    return generate_series(tmp_path_factory.mktemp("series"), episodes=2, **SMALL)


def test_same_seed_gives_same_bytes_and_another_seed_other_ones(truth: Truth, tmp_path: Path):
    """Protects determinism: results held against the truth can be repeated anywhere."""
    again = generate_series(tmp_path / "again", episodes=1, **SMALL)
    other = generate_series(tmp_path / "other", episodes=1, **{**SMALL, "seed": 6})
    first_episode = {name: sha for name, sha in _digests(truth.folder).items() if name.startswith("episode_001/")}
    assert first_episode == {
        name: sha for name, sha in _digests(again.folder).items() if name.startswith("episode_001/")
    }
    assert not set(first_episode.values()) & set(_digests(other.folder / "episode_001").values()) - {
        hashlib.sha256(b"Scanned from reel 1.\n").hexdigest()
    }


def test_adding_an_episode_leaves_the_others_untouched(tmp_path: Path):
    """Protects incremental runs: a new episode must not look like a change of the old ones."""
    generate_series(tmp_path, episodes=1, **SMALL)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "episode_001").iterdir()}
    grown = generate_series(tmp_path, episodes=2, **SMALL)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "episode_001").iterdir()} == before
    assert grown.frames["episode"].unique().sort().to_list() == ["episode_001", "episode_002"]


def test_an_incomplete_episode_is_made_again(tmp_path: Path):
    """Protects resumption: a generator killed in the middle leaves nothing that passes for finished."""
    generate_series(tmp_path, episodes=1, **SMALL)
    before = _digests(tmp_path)
    (tmp_path / "episode_001" / "frame_000003.jpg").unlink()
    generate_series(tmp_path, episodes=1, **SMALL)
    assert _digests(tmp_path) == before


def test_foreign_folders_are_left_alone(tmp_path: Path):
    """Protects a user's own frames, and a series of other parameters, from being overwritten."""
    (tmp_path / "mine" / "episode_001").mkdir(parents=True)
    with pytest.raises(NotADemoSeriesError, match="holds no demo series"):
        generate_series(tmp_path / "mine", episodes=1, **SMALL)
    generate_series(tmp_path / "demo", episodes=1, **SMALL)
    with pytest.raises(NotADemoSeriesError, match="other parameters"):
        generate_series(tmp_path / "demo", episodes=1, **{**SMALL, "characters": 4})


def test_truth_lists_exactly_the_frames_on_disk(truth: Truth):
    """Protects the join of results and truth: frame ids count the files in order, other files left out."""
    for (episode,), rows in truth.frames.group_by("episode"):
        files = sorted(path.name for path in (truth.folder / str(episode)).glob("frame_*"))
        in_order = rows.sort("frame_index")
        assert in_order["file"].to_list() == [f"{episode}/{name}" for name in files]
        assert in_order["frame_id"].to_list() == [f"{episode}/{index:06d}" for index in range(len(files))]


def test_box_is_where_the_alpha_is_visible(truth: Truth):
    """Protects the truth that mattes and instances are measured by."""
    assert truth.instances.height >= 15
    for row in truth.instances.filter("is_distinct").iter_rows(named=True):
        y, x = np.nonzero(truth.instance_alpha(row["truth_id"]) >= 128)
        assert (x.min(), y.min(), x.max() + 1, y.max() + 1) == (row["x0"], row["y0"], row["x1"], row["y1"])
        assert row["area_share"] == pytest.approx(len(x) / (192 * 108), rel=1e-5)


def test_alpha_is_where_the_creature_is_in_the_picture(truth: Truth):
    """Protects against a truth that is shifted against the pixels: outlines are dark only inside the alpha."""
    rows = truth.instances.filter(pl.col("is_distinct") & (pl.col("visible_share") > 0.95)).head(6)
    for row in rows.iter_rows(named=True):
        file = truth.frames.filter(pl.col("frame_id") == row["frame_id"])["file"][0]
        luma = np.asarray(Image.open(truth.folder / file).convert("L"), dtype=float)
        inside = truth.instance_alpha(row["truth_id"]) >= 128
        rim = inside & ~np.roll(inside, 2, axis=1)
        beyond = np.roll(inside, -4, axis=1) & ~(truth.alpha(row["frame_id"]) > 0)
        if beyond.sum() > 20:
            assert luma[rim].mean() < luma[beyond].mean()


def test_planted_faults_are_in_the_files(truth: Truth):
    """Protects the demo of bad input: truncated and empty files fail, a misnamed one works, a text file lies about."""
    faults = {
        row["fault"]: truth.folder / row["file"] for row in truth.frames.drop_nulls("fault").iter_rows(named=True)
    }
    assert set(faults) == {"truncated", "empty", "misnamed"}
    with pytest.raises(OSError, match="truncated"):
        Image.open(faults["truncated"]).load()
    assert faults["empty"].stat().st_size == 0
    with Image.open(faults["misnamed"]) as image:
        assert image.format == "PNG" and faults["misnamed"].suffix == ".jpg" and image.convert("RGB")
    assert (truth.folder / "episode_001" / "notes.txt").exists()


def test_held_frames_are_near_but_not_byte_identical(truth: Truth):
    """Protects near-duplicate detection's test bed: a held frame shows the same drawing in other bytes."""
    held = truth.readable_frames().drop_nulls("duplicate_of").filter(pl.col("kind") == "story")
    assert held.height > 0
    for row in held.iter_rows(named=True):
        first = truth.frames.filter(pl.col("frame_id") == row["duplicate_of"]).row(0, named=True)
        if first["fault"] in ("truncated", "empty"):
            continue
        paths = [truth.folder / first["file"], truth.folder / row["file"]]
        one, two = (np.asarray(Image.open(path).convert("RGB"), dtype=float) for path in paths)
        assert np.abs(one - two).mean() < 4
        assert paths[0].read_bytes() != paths[1].read_bytes()


def test_default_series_shows_everybody_often_enough():
    """Protects the demo's promise: every regular can be trained (35 distinct drawings), the guest cannot (about 10)."""
    for seed in range(3):
        cast = choose_cast(seed, 5, 1)
        counts: dict[str, set[tuple[int, int]]] = {member.name: set() for member in cast}
        for number in range(1, 7):
            plan = plan_episode(cast, number, 60, seed, 216)
            assert sum(drawing.hold for drawing in plan) == 60
            for index, drawing in enumerate(plan):
                for one in drawing.performances:
                    counts[one.name].add((number, index))
        for member in cast:
            seen = counts[member.name]
            assert 8 <= len(seen) <= 10 if member.is_rare else len(seen) >= 35
            assert len({number for number, _ in seen}) >= (2 if member.is_rare else 3)


def test_cast_is_clearly_told_apart_and_keeps_its_first_members():
    """Protects clustering against impossible tasks, and growth of the cast against recasting."""
    cast = choose_cast(0, 8, 2)
    pairs = [(a, b) for index, a in enumerate(cast) for b in cast[index + 1 :]]
    assert min(design_distance(a.design, b.design) for a, b in pairs) >= 5
    assert len({member.name for member in cast}) == 10
    assert choose_cast(0, 5, 0) == cast[:5]


def test_no_truth_says_how_to_get_one(tmp_path: Path):
    """Protects the reader of a wrong folder from a stack trace without a remedy."""
    with pytest.raises(NoTruthError, match="yokai demo"):
        load_truth(tmp_path)
