"""What `yokai doctor` says: true, in words that help, and of use to scripts."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from yokai_assets import checkup
from yokai_assets.checkup import Doubt, Examination, examined
from yokai_assets.cli.main import main
from yokai_assets.defs.operations.health import dagster_examinations
from yokai_assets.defs.operations.session import instance_home
from yokai_assets.settings import Settings, load_settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    episode = tmp_path / "frames" / "e1"
    episode.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(episode / "1.png")
    values = {
        "profile": "demo",
        "series": "s",
        "data_root": str(tmp_path / "data"),
        "frames_source": str(episode.parent),
    }
    return load_settings(overrides=values)


def config_of(settings: Settings, folder: Path) -> Path:
    file = folder / "yokai.toml"
    values = settings.model_dump(include={"profile", "series", "data_root", "frames_source"})
    file.write_text("\n".join(f'{name} = "{value}"' for name, value in values.items()))
    return file


def test_one_trouble_does_not_hide_another() -> None:
    """Whatever an examination raises is its finding, and the next one is still made."""

    def looks() -> Iterator[Examination]:
        def doubtful() -> str:
            raise Doubt("slow")

        def broken() -> str:
            raise ZeroDivisionError

        yield from (("a", broken), ("b", doubtful), ("c", lambda: "fine"))

    found = [(finding.name, finding.state, finding.words) for finding in examined(looks())]
    assert found == [("a", "missing", "ZeroDivisionError"), ("b", "warning", "slow"), ("c", "ok", "fine")]


def test_a_whole_machine_is_well_and_nothing_is_left_behind(settings: Settings, tmp_path: Path) -> None:
    """Everything that the demo needs is bundled; examining leaves no probe in the data root."""
    result = CliRunner().invoke(main, ["doctor", "--config", str(config_of(settings, tmp_path)), "--json"])
    findings = {finding["name"]: finding for finding in json.loads(result.output)}
    assert result.exit_code == 0, findings
    assert {"Python", "packages", "GPU", "disk", "matte", "base model", "Dagster", "pools", "daemon"} <= set(findings)
    assert "1 episodes" in findings["frames"]["words"]
    assert findings["pools"]["words"] == "gpu: 1 at once, duckdb: 1 at once"
    assert findings["daemon"]["words"] == "not running"
    assert not list(tmp_path.rglob("*doctor*"))


def test_an_instance_of_an_earlier_version_is_told(settings: Settings) -> None:
    """The file is copied once: what later versions guard with it is missing there, and only a crash would show it."""
    queue = dict(dagster_examinations(settings))["queue"]
    assert "tried again" in queue()
    file = instance_home(settings) / "dagster.yaml"
    file.write_text("telemetry:\n  enabled: false\n")
    with pytest.raises(Doubt, match=r"run_launcher.*run_retries.*tag_concurrency_limits.*Take these sections over"):
        queue()


def test_missing_frames_fail_with_the_setting_to_mend(settings: Settings, tmp_path: Path) -> None:
    """The exit code is for scripts, the words for people."""
    other = settings.model_copy(update={"frames_source": str(tmp_path / "nowhere")})
    result = CliRunner().invoke(main, ["doctor", "--config", str(config_of(other, tmp_path))])
    assert result.exit_code == 1
    assert "missing  frames" in result.output
    assert "Set `frames_source`" in result.output


def test_a_data_root_that_cannot_be_written_is_told(settings: Settings, tmp_path: Path) -> None:
    """A file where the folder should be; permissions do not stop the root user of a container."""
    (tmp_path / "data").write_text("a file")
    with pytest.raises(OSError, match=r"cannot be written to.*data_root"):
        checkup.look_at_data_root(settings)


def test_wrong_packages_are_named_with_both_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """An upgrade of one package by hand is the usual reason for strange errors."""
    monkeypatch.setattr(checkup, "requires", lambda _name: ["numpy>=999", "no-such-package>=1", "ruff; extra == 'dev'"])
    with pytest.raises(ImportError, match=r"numpy>=999 is wanted, \d.*no-such-package>=1 is not installed") as caught:
        checkup.look_at_packages()
    assert "ruff" not in str(caught.value)


def test_a_full_disk_is_told_before_a_run_fills_it(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The remedy is in the words."""
    monkeypatch.setattr(checkup.shutil, "disk_usage", lambda _path: type("Usage", (), {"free": 10**9})())
    with pytest.raises(OSError, match=r"only 1\.0 GB free.*data_root"):
        checkup.look_at_disk(settings)
