"""The character layer: cut-outs on disk, rows in the table, and how little is done twice."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from upath import UPath

from yokai_assets.frames.decoding import FrameError
from yokai_assets.frames.episodes import find_episode
from yokai_assets.frames.scan import scan_episode
from yokai_assets.segmentation.layers import SegmentationResult, load_cutout, remove_stale_cutouts, segment_episode
from yokai_assets.settings.model import FramesSettings, SegmentationSettings
from yokai_assets.storage.layout import Layout
from yokai_assets.tables import INSTANCES
from yokai_assets_tests.frames.pictures import scene, with_disc, with_grain, write
from yokai_assets_tests.segmentation.mattes import CHARACTER, ColourMatte

SETTINGS = SegmentationSettings.model_validate({"batch_size": 2, "min_side_px": 8})
GREY = [scene(n).convert("L").convert("RGB") for n in range(20)]


def with_character(n: int) -> Image.Image:
    return with_disc(GREY[n], (40 + 5 * n, 50), 20, CHARACTER)


class Series:
    """An episode on disk and the data root that its layers go to."""

    def __init__(self, folder: Path) -> None:
        self.source = UPath(folder / "source")
        self.layout = Layout(UPath(folder / "data"), "series")
        self.matte = ColourMatte()

    def write(self, name: str, image: Image.Image) -> None:
        write(Path(str(self.source)) / "ep" / name, image)

    def scan(self) -> pl.DataFrame:
        episode = find_episode(self.source, "ep")
        return scan_episode(episode, self.source, FramesSettings.model_validate({}))

    def segment(self, frames: pl.DataFrame | None = None, **more) -> SegmentationResult:
        frames = self.scan() if frames is None else frames
        more.setdefault("matte", self.matte)
        more.setdefault("settings", SETTINGS)
        return segment_episode(frames, self.source, layout=self.layout, **more)

    def files(self) -> set[str]:
        return {file.name for file in self.layout.character_layers("ep").iterdir() if file.name.endswith(".webp")}


@pytest.fixture
def series(tmp_path: Path) -> Series:
    series = Series(tmp_path)
    for n in range(4):
        series.write(f"{n}.png", with_character(n))
    series.write("4.png", GREY[4])
    return series


def test_cutouts_show_the_character_in_its_own_colours(series: Series) -> None:
    """Protects: box, alpha and colours; no dark fringe under transparency."""
    result = series.segment()
    assert (result.representative_count, result.present_count, result.reused_count) == (5, 4, 0)
    for row in result.instances.iter_rows(named=True):
        cutout = load_cutout(series.layout, row["cutout"])
        assert cutout.size == (row["x1"] - row["x0"], row["y1"] - row["y0"])
        n = row["frame_index"]
        frame = np.asarray(with_character(n).crop((row["x0"], row["y0"], row["x1"], row["y1"]))).astype(int)
        pixels = np.asarray(cutout).astype(int)
        assert np.abs(pixels[..., :3] - frame).mean() < 8
        is_disc = (frame == CHARACTER).all(axis=2)
        assert pixels[is_disc, 3].min() > 200
        assert abs(row["x0"] - (20 + 5 * n)) <= 2
    assert result.instances["cutout_sha256"].n_unique() == 4


def test_only_representatives_are_cut_and_weighted(series: Series) -> None:
    """Protects: near-duplicates cost nothing and are counted."""
    for n in range(5, 8):
        series.write(f"0_{n}.png", with_grain(with_character(0), n, 2))
    frames = series.scan()
    result = series.segment(frames)
    assert series.matte.seen == result.representative_count == 5
    assert result.instances["weight"].sum() == 7


def test_nothing_is_cut_twice(series: Series) -> None:
    """Protects: a second run asks the network nothing, also not about frames without a character."""
    first = series.segment()
    second = series.segment(previous=first.instances)
    assert series.matte.seen == 5
    assert second.reused_count == 5
    assert second.instances.equals(first.instances)
    assert series.segment(previous=None).instances.equals(first.instances)  # what a killed run left behind
    assert series.matte.seen == 5


def test_reused_rows_follow_their_frames(series: Series) -> None:
    """Protects: after a frame was added in front, ids, indices, shots and weights are the new ones."""
    first = series.segment()
    series.write("0!.png", GREY[9])  # sorts before 0.png
    second = series.segment(previous=first.instances)
    assert series.matte.seen == 6
    assert second.instances["frame_id"].to_list() == [f"ep/{n:06d}" for n in (1, 2, 3, 4)]
    assert second.instances["cutout"].to_list() == first.instances["cutout"].to_list()


def test_what_changed_is_cut_again(series: Series) -> None:
    """Protects: another matte, a changed frame, a lost cut-out and a damaged journal are each noticed."""
    first = series.segment()
    series.layout.absolute(first.instances["cutout"][1]).unlink()
    assert series.segment(previous=first.instances).reused_count == 4
    series.write("2.png", with_character(7))
    assert series.segment(previous=first.instances).reused_count == 4
    (series.layout.character_layers("ep") / "processed.json").write_text('{"version": 1')
    assert series.segment(previous=None).reused_count == 0
    assert series.segment(matte=ColourMatte("other"), previous=first.instances).reused_count == 0


def test_an_interrupted_run_goes_on(series: Series, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects: an episode of hours that is killed starts where it stopped."""
    monkeypatch.setattr("yokai_assets.segmentation.memory._SAVE_SECONDS", 0.0)

    class Failing(ColourMatte):
        def raw(self, images):
            if self.seen >= 10:
                raise RuntimeError("CUDA out of memory")
            return super().raw(images)

    monkeypatch.setattr("yokai_assets.segmentation.layers.decoder_threads", lambda: 1)
    for n in range(5, 16):
        series.write(f"{n}.png", GREY[n])
    with pytest.raises(RuntimeError, match="out of memory"):
        series.segment(matte=Failing())
    result = series.segment()
    assert result.reused_count >= 4
    assert series.matte.seen == 16 - result.reused_count
    assert result.instances.height == 4


class PickyMatte(ColourMatte):
    """Cannot be shown a frame of a single column."""

    def raw(self, images):
        if any(image.width == 1 for image in images):
            raise ValueError("height and width must be > 1")
        return super().raw(images)


def test_an_odd_frame_is_a_problem_and_no_failure(series: Series) -> None:
    """Protects: a frame that no network or file format can take is named; its neighbours in the batch are cut."""
    series.write("1!.png", scene(5, 1, 90))
    wide = with_disc(Image.new("RGB", (17000, 40)), (8000, 20), 19, CHARACTER)
    wide.paste(CHARACTER, (100, 10, 16900, 30))
    series.write("2!.png", wide)
    result = series.segment(matte=PickyMatte())
    assert {problem.source: problem.reason.split(" px")[0] for problem in result.problems} == {
        "ep/1!.png": "a frame of 1x90",
        "ep/2!.png": "a frame of 17000x40",
    }
    assert all(problem.remedy for problem in result.problems)
    assert result.present_count == result.instances["frame_id"].n_unique() == 4


def test_a_network_that_fails_is_no_odd_frame(series: Series) -> None:
    """Protects: an episode is not told as done, all frames odd, when the GPU has gone."""

    class Gone(ColourMatte):
        def raw(self, images):
            raise RuntimeError("CUDA error: device-side assert triggered")

    with pytest.raises(RuntimeError, match="device-side"):
        series.segment(matte=Gone())


def test_memory_that_runs_out_costs_speed_alone(series: Series) -> None:
    """Protects: a GPU that is partly taken still segments."""

    class Small(ColourMatte):
        def raw(self, images):
            if len(images) > 1:
                raise RuntimeError("Failed to allocate memory for requested buffer of size 4194304")
            return super().raw(images)

    assert series.segment(matte=Small()).instances.equals(series.segment(matte=ColourMatte()).instances)


def test_a_bad_frame_is_a_problem_and_no_failure(series: Series) -> None:
    """Protects: a file that breaks between scan and cutting stops nothing, and is tried again next time."""
    frames = series.scan()
    path = Path(str(series.source)) / "ep/1.png"
    good = path.read_bytes()
    path.write_bytes(good[:200])
    result = series.segment(frames)
    (problem,) = result.problems
    assert (problem.frame_id, problem.source) == ("ep/000001", "ep/1.png")
    assert problem.reason
    assert problem.remedy
    assert result.instances["frame_index"].to_list() == [0, 2, 3]
    path.write_bytes(good)
    assert series.segment(frames).instances["frame_index"].to_list() == [0, 1, 2, 3]


def test_stale_cutouts_go_after_the_table_is_stored(series: Series) -> None:
    """Protects: readers of the old table keep their files until the new one is in place; then disk is freed."""
    first = series.segment()
    series.write("2.png", with_character(8))
    second = series.segment(previous=first.instances)
    assert len(series.files()) == 5
    assert remove_stale_cutouts(second.instances, series.layout, "ep") == 1
    assert series.files() == {Path(cutout).name for cutout in second.instances["cutout"]}
    assert remove_stale_cutouts(second.instances, series.layout, "nowhere") == 0
    assert series.segment(previous=second.instances).reused_count == 5


def test_the_same_picture_in_two_shots(series: Series) -> None:
    """Protects: identical frames share their cut-outs and keep their own ids."""
    series.write("5.png", with_character(0))
    result = series.segment()
    same = result.instances.filter(pl.col("frame_index").is_in([0, 5]))
    assert same["cutout"].n_unique() == 1
    assert same["instance_id"].to_list() == ["ep/000000/0", "ep/000005/0"]
    assert series.segment(previous=result.instances).instances.equals(result.instances)


def test_episodes_without_usable_frames(series: Series) -> None:
    """Protects: an episode of black frames gives an empty, conforming table."""
    frames = series.scan().with_columns(status=pl.lit("dark"), representative=pl.lit(None, dtype=pl.String))
    result = series.segment(frames)
    assert result.instances.schema == INSTANCES.empty().schema
    assert result.representative_count == 0


def test_progress_and_journal(series: Series) -> None:
    """Protects: progress ends at its total; the journal holds finite JSON numbers."""
    calls: list[tuple[int, int]] = []
    series.segment(progress=lambda done, total, note="": calls.append((done, total)))
    assert calls[-1] == (5, 5)
    json.loads((series.layout.character_layers("ep") / "processed.json").read_text(), parse_constant=pytest.fail)


def test_a_lost_cutout_is_told(series: Series) -> None:
    """Protects: readers learn which asset to materialize."""
    with pytest.raises(FrameError, match="character_layers"):
        load_cutout(series.layout, "layers/series/ep/characters/gone.webp")


def test_remote_data_root(series: Series) -> None:
    """Protects: cut-outs and journal on an object store."""
    series.layout = Layout(UPath("memory://layers-test"), "series")
    first = series.segment()
    assert load_cutout(series.layout, first.instances["cutout"][0]).mode == "RGBA"
    assert series.segment(previous=first.instances).reused_count == 5
    assert remove_stale_cutouts(first.instances[:2], series.layout, "ep") == 2
