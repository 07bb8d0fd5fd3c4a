"""What a series will cost is foretold from a sample, with nothing started and nothing left behind."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from upath import UPath

from yokai_assets.cli.main import main
from yokai_assets.demo.series import generate_series
from yokai_assets.forecast import Forecast, NoFramesError, forecast
from yokai_assets.frames.episodes import discover_episodes
from yokai_assets.frames.scan import scan_episode
from yokai_assets.settings import Settings, load_settings
from yokai_assets_tests.frames.pictures import scene, write, write_video


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six episodes of 40 drawn frames, with a broken file each."""
    folder = tmp_path_factory.mktemp("planned") / "frames"
    generate_series(folder, episodes=6, frames_per_episode=40, characters=3, seed=2)
    return folder


def settings_of(series: Path) -> Settings:
    return load_settings(
        environment={},
        overrides={"profile": "demo", "frames_source": str(series), "data_root": str(series / "no-data")},
    )


def made(series: Path, **options) -> Forecast:
    return forecast(UPath(series), settings_of(series), "cpu", **options)


def test_it_agrees_with_what_a_scan_finds(series: Path) -> None:
    """Protects: a plan that a weekend is booked on. Sampled whole it is exact; from a third it is near."""
    settings, source = settings_of(series), UPath(series)
    tables = [scan_episode(episode, source, settings.frames) for episode in discover_episodes(source)[0]]
    frames = pl.concat(tables)
    unique = frames.filter(pl.col("representative") == pl.col("frame_id")).height
    whole = made(series, sample_frames=10_000, cut_frames=4)
    assert (whole.episode_count, whole.frame_count, whole.sampled_count) == (6, 240, 240)
    assert whole.stages[1].count == pytest.approx(unique)
    assert whole.unusable_share == pytest.approx(frames.filter(pl.col("status") != "ok").height / 240)
    third = made(series, sample_frames=90, cut_frames=4)
    assert third.sampled_count == 90
    assert third.stages[1].count == pytest.approx(unique, rel=0.2)
    _, low, high = third.unique_share
    assert low <= unique / 240 <= high
    assert not (series / "no-data").exists()


def test_stages_follow_from_each_other(series: Path) -> None:
    """Protects: hours and bytes are counts times what was measured, and a given rate takes the place of ours."""
    ours = made(series, sample_frames=60, cut_frames=6)
    assert [stage.name for stage in ours.stages] == ["frames", "character_layers", "background_layers", "embeddings"]
    assert all(stage.seconds_each > 0 and stage.disk_bytes > 0 for stage in ours.stages)
    frames, layers, _, vectors = ours.stages
    assert layers.count == pytest.approx(frames.count * ours.unique_share[0])
    assert vectors.count == pytest.approx(layers.count * ours.instances_per_unique)
    assert 0.5 < ours.instances_per_unique < 2.5
    assert ours.hours == pytest.approx(sum(stage.count * stage.seconds_each for stage in ours.stages) / 3600)
    given = made(series, sample_frames=60, cut_frames=6, given_rates={"character_layers": 50.0})
    assert given.stages[1].seconds_each == 0.02
    assert given.stages[1].is_given and not given.stages[0].is_given


def test_videos_count_at_the_chosen_rate(tmp_path: Path) -> None:
    """Protects: a series of videos is planned without decoding it."""
    write_video(tmp_path / "ep.mp4", [scene(n // 12, 160, 96) for n in range(60)], frames_per_second=12)
    found = forecast(UPath(tmp_path), settings_of(tmp_path), "cpu", sample_frames=100, cut_frames=2)
    assert found.frame_count == pytest.approx(10, abs=1)
    assert found.sampled_count == 10


def test_nothing_to_plan_is_said(tmp_path: Path) -> None:
    """Protects: an empty folder, and one of broken files, end in one sentence."""
    with pytest.raises(NoFramesError, match="no frame found"):
        forecast(UPath(tmp_path), settings_of(tmp_path), "cpu")
    for number in range(3):
        write(tmp_path / f"ep/{number}.jpg", b"broken")
    with pytest.raises(NoFramesError, match="3 unreadable"):
        forecast(UPath(tmp_path), settings_of(tmp_path), "cpu")


def test_the_command(series: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Protects: what a person types; numbers for scripts; a missing folder is one message."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("YOKAI_PROFILE", "demo")
    options = ["plan", str(series), "--sample-frames", "48", "--cut-frames", "2", "--device", "cpu"]
    shown = CliRunner().invoke(main, [*options, "--characters", "10", "--steps-rate", "5"])
    assert shown.exit_code == 0, shown.output
    assert "240 frames in 6 episodes" in shown.output
    assert "lora_model" in shown.output
    numbers = json.loads(CliRunner().invoke(main, [*options, "--json"]).stdout)
    assert numbers["frame_count"] == 240
    assert np.isfinite(numbers["hours"])
    missing = CliRunner().invoke(main, ["plan", str(tmp_path / "nowhere")])
    assert missing.exit_code == 2
    assert "nowhere" in missing.output
