"""What is promised in docs/reliability.md, section Security; each test names its promise. Pickles: `test_weights`."""

import ast
import io
import json
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner
from PIL import EpsImagePlugin, Image
from pydantic import BaseModel, SecretStr
from upath import UPath

from yokai_assets import checkup
from yokai_assets.cli import ui
from yokai_assets.cli.main import main
from yokai_assets.definitions import build_definitions
from yokai_assets.defs.operations.alerting import send_alert
from yokai_assets.defs.operations.session import environment_of, run_config_of
from yokai_assets.defs.resources import SettingsResource
from yokai_assets.frames.decoding import FrameError, decode_image
from yokai_assets.frames.episodes import discover_episodes, episode_key, find_episode
from yokai_assets.frames.scan import scan_episode
from yokai_assets.gallery.failures import FailureRecord
from yokai_assets.runs import RunRoom
from yokai_assets.settings import Settings, load_settings
from yokai_assets.settings.loading import SECRET_KEYS, SettingsError
from yokai_assets.settings.model import FramesSettings
from yokai_assets.storage.layout import Layout, plain_name
from yokai_assets.storage.sql import SqlError, render_sql
from yokai_assets_tests.faults.broken import NAMES
from yokai_assets_tests.frames.pictures import encoded, scene, write

ROOT = Path(__file__).parent.parent
SECRET = "hunter2-secret"
LEADING_OUT = ["../evil", "..", ".", "", "/etc/passwd", "a/b", "a\\b", "..\\up", "nul\0", "cluster_000/../../x"]
CODE = {file: ast.parse(file.read_text("utf-8")) for file in (ROOT / "yokai_assets").rglob("*.py")}


# Servers


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands that would have been executed."""
    commands: list[list[str]] = []
    monkeypatch.setattr(ui.subprocess, "call", lambda command, **_: commands.append(command) or 0)
    return commands


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "yokai.toml"
    file.write_text(
        f'profile = "demo"\nframes_source = "{tmp_path}/frames"\ndata_root = "{tmp_path}/data"\nseries = "town"\n',
        "utf-8",
    )
    return file


def test_the_ui_is_for_this_machine_only_unless_told(config: Path, started: list[list[str]]) -> None:
    """Protects: a UI without log-in is not put on the network by default."""
    result = CliRunner().invoke(main, ["ui", "--config", str(config)])
    assert started[0][started[0].index("-h") + 1] == "127.0.0.1"
    assert "Warning" not in result.output


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "workstation.lan"])
def test_whoever_opens_the_ui_to_others_is_told(config: Path, started: list[list[str]], host: str) -> None:
    """Protects: who widens it knows what that means."""
    result = CliRunner().invoke(main, ["ui", "--config", str(config), "--host", host])
    assert started[0][started[0].index("-h") + 1] == host
    assert "Warning: it has no log-in" in result.output and host in result.output


def test_this_machines_own_addresses_are_known() -> None:
    """Protects: no warning where there is nothing to warn of."""
    assert all(ui.is_loopback(host) for host in ("127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost"))


# Names


@pytest.mark.parametrize("name", LEADING_OUT)
def test_no_name_of_an_episode_or_character_leads_out_of_the_data_root(name: str) -> None:
    """Protects: whatever a partition key, decision or file says, nothing is written elsewhere."""
    layout = Layout(UPath("/data"), "town")
    ways = (
        lambda: layout.table("frames", name), layout.character_layers, layout.background_layers, layout.training_data,
        layout.lora, layout.training_state, layout.ai_analysis, layout.lora_tests, layout.overrides,
    )  # fmt: skip
    for way in ways[1:]:
        with pytest.raises(ValueError, match="cannot be the name of a file"):
            way(name)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="cannot be the name of a file"):
        ways[0]()  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="cannot be the name of a file"):
        Layout(UPath("/data"), name)
    with pytest.raises(SettingsError, match="series"):
        load_settings(overrides={"series": name}, environment={})


def test_a_partition_key_that_is_a_path_makes_nothing(tmp_path: Path) -> None:
    """Protects: a key typed into the UI is refused by the assets themselves, before anything is written."""
    write(tmp_path / "frames" / "ep" / "1.png", scene(1))
    overrides = {"profile": "demo", "data_root": str(tmp_path / "data"), "frames_source": str(tmp_path / "frames")}
    definitions = build_definitions({"settings": SettingsResource.of(overrides=overrides)})
    before = {file for file in tmp_path.rglob("*") if file.is_file()}
    key = "../../../evil"
    with dg.DagsterInstance.ephemeral() as instance:
        for partitions, job, asset in (("episodes", "episodes", "frames"), ("characters", "characters", "captions")):
            instance.add_dynamic_partitions(partitions, [key])
            result = definitions.resolve_job_def(job).execute_in_process(
                instance=instance, partition_key=key, asset_selection=[dg.AssetKey(asset)], raise_on_error=False
            )
            assert not result.success
    assert {file for file in tmp_path.rglob("*") if file.is_file()} == before


def test_every_folder_that_can_be_made_is_an_episode_with_a_safe_key(tmp_path: Path) -> None:
    """Protects: names of folders and videos are read as they are; their keys are plain, differ, and fit Windows too."""
    made = []
    for number, name in enumerate(name for name in NAMES if name and not name.startswith(".")):
        folder = name[:200]
        write(tmp_path / folder / f"{number}.png", scene(number))
        made.append(folder)
    episodes, problems = discover_episodes(UPath(tmp_path))
    assert len(episodes) + len(problems) == len(made)
    assert [problem.reason for problem in problems] == ["its name is not valid UTF-8"]
    for episode in episodes:
        assert plain_name(episode.key) == episode.key and episode.key.split(".")[0].upper() not in ("CON", "NUL")
        assert find_episode(UPath(tmp_path), episode.key) == episode
        frames = scan_episode(episode, UPath(tmp_path), FramesSettings())
        assert frames["status"].to_list() == ["ok"], episode


@pytest.mark.parametrize("name", ["../up", "/etc", "a/../b", ""])
def test_an_episode_key_never_comes_from_a_path_upwards(name: str) -> None:
    """Protects: keys are of places below the source."""
    with pytest.raises(ValueError, match="no path below"):
        episode_key(name)


@pytest.mark.parametrize("name", ["../evil", "a/b", "/tmp/x"])
def test_the_name_of_a_trained_lora_is_no_path(tmp_path: Path, name: str) -> None:
    """Protects: `yokai train --name` writes into --output only."""
    given = ["train", str(tmp_path), "--base", "demo", "--output", str(tmp_path / "out"), "--name", name]
    result = CliRunner().invoke(main, given)
    assert result.exit_code == 2 and "names a path" in result.output


# What is read


def _calls(tree: ast.AST, *names: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in names:
            yield node


def _argument(call: ast.Call, name: str) -> object:
    return next((ast.literal_eval(k.value) for k in call.keywords if k.arg == name), None)


def test_the_linter_watches_over_unsafe_readers() -> None:
    """Protects: pickle, unsafe YAML, SQL put together from text, shells and archives are errors of `make lint`."""
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["ruff"]["lint"]
    assert "S" in lint["select"]
    assert {rule for rule in lint["ignore"] if rule.startswith("S")} <= {"S101", "S311", "S603"}
    assert not [rules for path, rules in lint["per-file-ignores"].items() if "tests" not in path and "S" in rules]
    text = "\n".join(file.read_text("utf-8") for file in CODE)
    excused = sorted(line.split("noqa: ")[1].split(" ")[0] for line in text.splitlines() if "noqa: S" in line)
    assert excused == ["S310", "S310", "S701", "SIM905"], "a new exception wants its reason, and a place here"


def test_nothing_is_unpickled() -> None:
    """Protects: what the linter does not see: torch and numpy are told to make no objects out of files."""
    for file, tree in CODE.items():
        for call in _calls(tree, "torch.load"):
            assert _argument(call, "weights_only") is True, file
        for call in _calls(tree, "np.load", "numpy.load"):
            assert _argument(call, "allow_pickle") is None, file
        assert not [*_calls(tree, "pickle.load", "pickle.loads", "joblib.load")], file


def test_archives_are_read_never_unpacked() -> None:
    """Protects: no name in an archive becomes a path."""
    for file, tree in CODE.items():
        methods = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
        assert not methods & {"extractall", "unpack_archive"}, file


def test_a_picture_is_never_executed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects: PostScript named `frame.png` is no picture; Pillow would hand it to an installed Ghostscript."""
    asked: list[object] = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *given, **_: asked.append(given))
    data = encoded(Image.new("RGB", (8, 8)), "EPS")
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.format == "EPS"
    with pytest.raises(FrameError, match="no image in a known format"):
        decode_image(data, "frame.png")
    assert asked == []


@pytest.mark.parametrize("part", ['x"; DROP TABLE frames; --', "Frames", "a b", "", -1, 0])
def test_nothing_but_identifiers_and_numbers_goes_into_sql_text(part: str | int) -> None:
    """Protects: values are bound; what cannot be bound is checked."""
    with pytest.raises(SqlError, match="cannot go into SQL"):
        render_sql("publishing/delete_rows", table=part)


_QUERIES = ("sql", "execute")


def test_sql_is_never_put_together_from_text() -> None:
    """Protects: whatever is executed comes from `sql/`, is a constant, or is what the user typed into `yokai sql`."""
    for file, tree in CODE.items():
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            if isinstance(call.func, ast.Attribute) and call.func.attr in _QUERIES:
                assert not isinstance(call.args[0], ast.JoinedStr | ast.BinOp), f"{file}:{call.lineno}"


# Secrets


@pytest.fixture
def secret_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOKAI_OPERATIONS__FAILURE_WEBHOOK", f"http://127.0.0.1:9/{SECRET}")
    for name in ("YOKAI_POSTGRES_PASSWORD", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, SECRET)


def test_every_secret_setting_is_known_as_one() -> None:
    """Protects: a new secret among the settings is kept out of messages like the others."""

    def secrets(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
        for name, field in section.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                yield from secrets(field.annotation, f"{prefix}{name}.")
            elif "SecretStr" in str(field.annotation):
                yield f"{prefix}{name}"

    assert set(secrets(Settings)) == SECRET_KEYS


@pytest.mark.usefixtures("secret_environment")
def test_commands_show_no_secret(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects: what is pasted into a bug report."""
    for slow in ("_matte", "_clip", "_base", "look_at_gpu"):
        monkeypatch.setattr(checkup, slow, lambda *_: "not opened here")
    for command in (["settings"], ["doctor", "--json"], ["status", "--json"]):
        result = CliRunner().invoke(main, [*command, "--config", str(config)])
        assert result.output and SECRET not in result.output, command


@pytest.mark.usefixtures("secret_environment")
def test_the_configuration_of_runs_holds_no_secret(config: Path) -> None:
    """Protects: the UI shows the run configuration to everybody, and records keep it for good."""
    source = SettingsResource.of(config)
    webhook = source.load().operations.failure_webhook
    assert webhook is not None and SECRET in webhook.get_secret_value()
    room = RunRoom.of(source.load())
    for said in (run_config_of(source, room), environment_of(source, room), source.load().model_dump(mode="json")):
        assert SECRET not in json.dumps(said)
    assert SECRET not in repr(source.load())


@pytest.mark.usefixtures("secret_environment")
@pytest.mark.parametrize(
    "wrong",
    [
        {"clustering": {"min_cluster_size": 5, "min_rare_cluster_size": 9}},
        {"operations": {"settle_seconds": -1}},
        {"operations": {"failure_webhook": [f"https://{SECRET}"]}},
        {"operations": f"https://{SECRET}"},
        {"data_root": f"ftp://user:{SECRET}@host/data"},
        {"frames_source": f"sftp://user:{SECRET}@host/frames"},
    ],
    ids=str,
)
def test_wrong_settings_are_told_without_the_secrets_beside_them(wrong: dict[str, Any]) -> None:
    """Protects: an error message quotes what was given, but never a secret; a password has no place in a URL."""
    with pytest.raises(SettingsError) as caught:
        load_settings(overrides=wrong, environment=os.environ)
    assert SECRET not in str(caught.value)
    assert next(iter(wrong)) in str(caught.value) or "clustering" in str(caught.value)


@pytest.mark.parametrize("url", [f"http://127.0.0.1:9/{SECRET}", f"file:///{SECRET}", f"no url {SECRET}"])
def test_a_webhook_that_fails_is_not_quoted(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Protects: the URL of a chat's webhook is its password."""
    failure = FailureRecord.model_validate(
        {"at": "2026-01-01T00:00:00Z", "step": "frames", "asset": "frames", "partition": "ep", "reason": "broken"}
    )
    said = send_alert(SecretStr(url), "town", "run", [failure])
    assert said and SECRET not in said and SECRET not in caplog.text
