"""Scoring against the truth: perfect, merged and split results get the numbers that they deserve."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from yokai_assets.demo.score import box_iou, match_instances, score_against_truth
from yokai_assets.demo.series import generate_series
from yokai_assets.demo.truth import Truth


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    return generate_series(
        tmp_path_factory.mktemp("series"),
        episodes=2,
        frames_per_episode=24,
        characters=3,
        rare_characters=0,
        seed=3,
        size_px=(192, 108),
    )


@pytest.fixture
def found(truth: Truth) -> pl.DataFrame:
    """What a perfect segmentation of all readable frames finds."""
    readable = truth.readable_frames().select("frame_id")
    return (
        truth.instances.filter(pl.col("visible_share") >= 0.5)
        .join(readable, on="frame_id", how="semi")
        .select(pl.col("truth_id").alias("instance_id"), "frame_id", "character", "x0", "y0", "x1", "y1")
    )


def _assign(found: pl.DataFrame, naming: dict[str, str]) -> dict[str, str | None]:
    return {row["instance_id"]: naming.get(row["character"]) for row in found.iter_rows(named=True)}


def test_perfect_result_scores_perfectly(truth: Truth, found: pl.DataFrame):
    """Protects against a scorer that finds fault with the truth itself."""
    naming = {member.name: f"cluster_{index:03d}" for index, member in enumerate(truth.characters)}
    score = score_against_truth(truth, found, _assign(found, naming), masks=lambda one: _true_mask(truth, one))
    assert score.adjusted_rand_index == 1.0 and score.noise_share == 0 and score.unmatched_count == 0
    assert score.matte_iou == 1.0
    for one in score.characters:
        assert (one.best_id, one.recall, one.purity, one.others) == (naming[one.name], 1.0, 1.0, {})


def _true_mask(truth: Truth, truth_id: str) -> np.ndarray:
    row = truth.instances.filter(pl.col("truth_id") == truth_id).row(0, named=True)
    return truth.instance_alpha(truth_id)[row["y0"] : row["y1"], row["x0"] : row["x1"]]


def test_merged_characters_lose_purity_and_keep_recall(truth: Truth, found: pl.DataFrame):
    """Protects the sight of two characters thrown together."""
    first, second, third = (member.name for member in truth.characters)
    score = score_against_truth(truth, found, _assign(found, {first: "a", second: "a", third: "b"}))
    by_name = {one.name: one for one in score.characters}
    assert by_name[first].recall == by_name[second].recall == 1.0
    assert by_name[first].purity + by_name[second].purity == pytest.approx(1.0)
    assert by_name[third].purity == 1.0
    assert 0 < score.adjusted_rand_index < 1


def test_split_character_loses_recall_and_keeps_purity(truth: Truth, found: pl.DataFrame):
    """Protects the sight of one character that became two."""
    name = truth.characters[0].name
    assignments = _assign(found, {member.name: member.name for member in truth.characters})
    own = found.filter(pl.col("character") == name)["instance_id"].to_list()
    assignments |= dict.fromkeys(own[: len(own) // 3], "other half")
    one = next(one for one in score_against_truth(truth, found, assignments).characters if one.name == name)
    assert one.best_id == name and one.purity == 1.0 and 0.4 < one.recall < 0.9
    assert one.others == {"other half": len(own) // 3}


def test_noise_and_ghosts_are_counted(truth: Truth, found: pl.DataFrame):
    """Protects the shares of what was left out and of what never was there."""
    ghost = pl.DataFrame(
        {"instance_id": ["ghost"], "frame_id": [truth.frames["frame_id"][0]], "character": [""]}
        | {side: [value] for side, value in zip(("x0", "y0", "x1", "y1"), (0, 0, 30, 30), strict=True)},
        schema=found.schema,
    )
    name = truth.characters[0].name
    naming = {member.name: member.name for member in truth.characters[1:]}
    score = score_against_truth(truth, pl.concat([found, ghost]), {**_assign(found, naming), "ghost": "phantom"})
    own = found.filter(pl.col("character") == name).height
    assert score.noise_share == pytest.approx(own / found.height)
    assert score.unmatched_count == 1 and score.group_count == 0 and score.foreign_ids == ("phantom",)
    assert next(one for one in score.characters if one.name == name).recall == 0.0


def test_one_box_round_two_creatures_is_a_group(truth: Truth):
    """Protects the count of cut-outs that hold several creatures, the usual fault when they touch."""
    pair = (
        truth.instances.group_by("frame_id")
        .agg(pl.len(), pl.col("x0", "y0").min(), pl.col("x1", "y1").max())
        .filter(pl.col("len") == 2)
        .sort("frame_id")
        .head(1)
        .with_columns(pl.lit("both").alias("instance_id"))
    )
    assert pair.height == 1
    assert match_instances(truth, pair)["covered"].to_list() == [2]


def test_box_iou_of_half_open_boxes():
    """Protects the geometry: x1 and y1 are exclusive."""
    boxes = np.array([[0.0, 0, 10, 10]])
    assert box_iou(boxes, np.array([[5.0, 0, 15, 10], [10.0, 0, 20, 10]])).tolist() == [[pytest.approx(1 / 3), 0.0]]


def test_summary_can_be_printed(truth: Truth, found: pl.DataFrame, tmp_path: Path):
    """Protects the report that a person reads at the end of the demo."""
    with (tmp_path / "out.txt").open("w") as file:
        Console(file=file, width=120).print(score_against_truth(truth, found, {}))
    text = (tmp_path / "out.txt").read_text()
    assert "noise 100.0%" in text and truth.characters[0].name in text
