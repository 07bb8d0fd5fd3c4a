"""A person sees who was found and decides; what was decided shows, holds, and can be taken back."""

from pathlib import Path

import dagster as dg
import pytest
import yaml
from click.testing import CliRunner, Result
from PIL import Image

from yokai_assets.cli.main import main
from yokai_assets.definitions import build_definitions
from yokai_assets.defs.operations.session import open_instance, open_road
from yokai_assets.defs.resources import SettingsResource
from yokai_assets.registry import Registry, RegistryStore
from yokai_assets.settings import load_settings
from yokai_assets.storage.layout import Layout
from yokai_assets_tests.cli.imported import copy_of, import_series
from yokai_assets_tests.cli.test_importing import write_tree


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return import_series(tmp_path_factory.mktemp("characters"))


@pytest.fixture
def config(imported: Path, tmp_path: Path) -> Path:
    """A copy of a series with two characters of twelve and eight images."""
    return copy_of(imported, tmp_path)


def call(config: Path, *arguments: object) -> Result:
    command = ["characters", *(str(argument) for argument in arguments), "--config", str(config)]
    return CliRunner().invoke(main, command)


def told(config: Path, *arguments: object) -> str:
    result = call(config, *arguments)
    assert result.exit_code == 0, result.output
    return result.output


def registry_of(config: Path) -> Registry:
    registry = RegistryStore(Layout.of(load_settings(config)).registry).load()
    assert registry is not None
    return registry


def states(config: Path) -> dict[str, tuple[str, int]]:
    rows = registry_of(config).characters.select("character_id", "state", "member_count").iter_rows()
    return {character: (state, count) for character, state, count in rows}


def test_decisions_show_hold_and_are_taken_back(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Protects: the whole way of a decision: written, waiting, applied, listed, undone."""
    told(config, "name", "cluster_000", "Aka Oni")
    assert "cluster_001 merged into cluster_000" in told(config, "merge", "aka oni", "cluster_001")
    listed = told(config, "list")
    assert "Aka Oni" in listed and "2 decisions wait" in listed
    told(config, "apply")
    applied = capfd.readouterr().out  # a run writes to the terminal itself
    assert "cluster_001 merged" in applied and "cluster_000 grown" in applied
    assert states(config) == {"cluster_000": ("active", 20), "cluster_001": ("merged_into", 0)}
    told(config, "apply")
    assert "Nothing changes" in capfd.readouterr().out
    assert "undone" in told(config, "undo", 2)
    told(config, "apply")
    assert states(config) == {"cluster_000": ("active", 12), "cluster_001": ("active", 8)}
    shown = told(config, "decisions")
    assert "undone" in shown and "holds" in shown


def test_only_what_a_decision_touches_is_made_anew(config: Path) -> None:
    """Protects: a name retrains nobody; an exclusion retrains one character. And Dagster hears of both."""
    told(config, "apply")
    members = registry_of(config).members_of("cluster_000")["instance_id"]
    source = SettingsResource.of(config)
    definitions = build_definitions({"settings": source})
    with open_road(source) as road:
        before = {work.partition: work for work in road.plan() if work.job == "characters"}
        assert set(before) == {"cluster_000", "cluster_001"}
        for partition in before:
            run = definitions.resolve_job_def("characters").execute_in_process(
                instance=road._instance,
                partition_key=partition,
                asset_selection=[dg.AssetKey("character_members")],
            )
            assert run.success
    told(config, "name", "cluster_000", "Aka")
    told(config, "exclude", "Aka", members[0])
    told(config, "apply")
    with open_road(SettingsResource.of(config)) as road:
        stale = [w.partition for w in road.plan() if w.job == "characters" and "character_members" in w.assets]
        assert stale == ["cluster_000"]
    with open_instance(load_settings(config)) as instance:
        events = instance.fetch_materializations(dg.AssetKey("character_decisions"), limit=10).records
        said = [record.asset_materialization.description for record in events if record.asset_materialization]
    assert said == ["1 instances are not cluster_000", "cluster_000 is called 'Aka'"]


def test_a_montage_and_parts_are_drawn(config: Path, tmp_path: Path) -> None:
    """Protects: people decide by looking."""
    shown = told(config, "show", "cluster_000", "--count", 2, "--sheet", tmp_path / "m.png")
    assert "most typical" in shown and "most doubtful" in shown and "born" in shown
    with Image.open(tmp_path / "m.png") as montage:
        assert montage.width > 400
    asked = CliRunner().invoke(
        main,
        ["characters", "split", "cluster_000", "--into", "2", "--sheet", str(tmp_path / "p.png"),
         "--config", str(config)], input="n\n",
    )  # fmt: skip
    assert asked.exit_code == 1 and (tmp_path / "p.png").exists()
    assert "Nothing is decided" in told(config, "decisions")
    told(config, "split", "cluster_000", "--into", 2, "--yes")
    told(config, "apply")
    assert sum(count for _, count in states(config).values()) == 20 and len(states(config)) == 3


def test_a_file_says_the_same(config: Path, tmp_path: Path) -> None:
    """Protects: export, edit, import; once more changes nothing; what is taken out is undone."""
    file = tmp_path / "c.yaml"
    told(config, "export", file)
    said = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert said == {"characters": {"cluster_000": {}, "cluster_001": {}}}
    images = registry_of(config).members_of("cluster_000")["instance_id"].to_list()
    said["characters"] = {
        "cluster_000": {"name": "Aka", "is_frozen": True, "excluded": images[:2]},
        "cluster_001": {"judgement": "dismiss"},
    }
    file.write_text(yaml.safe_dump(said), encoding="utf-8")
    told(config, "import", file)
    told(config, "apply")
    assert states(config) == {"cluster_000": ("active", 10), "cluster_001": ("not_a_character", 8)}
    assert "all of it holds already" in told(config, "import", file)
    told(config, "export", tmp_path / "again.yaml")
    assert yaml.safe_load((tmp_path / "again.yaml").read_text(encoding="utf-8")) == said
    said["characters"] = {"cluster_000": {"name": "Aka", "excluded": images[:1]}, "cluster_001": {}}
    file.write_text(yaml.safe_dump(said), encoding="utf-8")
    told(config, "import", file)
    told(config, "apply")
    assert states(config) == {"cluster_000": ("active", 11), "cluster_001": ("active", 8)}


def test_each_merge_is_taken_back_alone(tmp_path: Path, config: Path) -> None:
    """Protects: of two characters merged in one command, taking one out of the file leaves the other merged."""
    told(config, "split", "cluster_000", "--into", 2, "--yes")
    told(config, "apply")
    told(config, "merge", "cluster_001", "cluster_000", "cluster_002", "--even-so")
    told(config, "apply")
    assert states(config)["cluster_001"] == ("active", 20)
    file = tmp_path / "c.yaml"
    told(config, "export", file)
    said = yaml.safe_load(file.read_text(encoding="utf-8"))
    del said["characters"]["cluster_002"]["merged_into"]
    file.write_text(yaml.safe_dump(said), encoding="utf-8")
    told(config, "import", file)
    told(config, "apply")
    found = states(config)
    assert found["cluster_000"][0] == "merged_into" and found["cluster_002"][1] > 0


def test_importing_images_again_keeps_decisions(config: Path, tmp_path: Path) -> None:
    """Protects: what was decided of an imported series is not forgotten when images are added to its tree."""
    told(config, "name", "cluster_000", "Aka")
    told(config, "merge", "cluster_000", "cluster_001", "--even-so")
    told(config, "apply")
    write_tree(tmp_path / "tree", 9)
    again = CliRunner().invoke(main, ["import-clusters", str(tmp_path / "tree"), "--config", str(config)])
    assert again.exit_code == 0, again.output
    assert states(config) == {"cluster_000": ("active", 22), "cluster_001": ("merged_into", 0)}
    assert registry_of(config).characters["name"].to_list() == ["Aka", None]


def test_a_refused_clustering_is_not_applied(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Protects: deciding is no way around a blocking check."""
    with open_instance(load_settings(config)) as instance:
        evaluation = dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey("group_quality"),
            check_name="groups_are_found_again",
            passed=False,
            severity=dg.AssetCheckSeverity.ERROR,
        )
        instance.report_runless_asset_event(evaluation)
    told(config, "name", "cluster_000", "Aka")
    assert call(config, "apply").exit_code == 1
    assert "blocking check refused" in capfd.readouterr().out
    assert registry_of(config).characters["name"].to_list() == [None, None]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("merge", "cluster_000", "cluster_009"), "no such character"),
        (("merge", "cluster_000", "cluster_000"), "into itself"),
        (("exclude", "cluster_000", "imported/000000/7"), "not an image of cluster_000"),
        (("accept", "cluster_000"), "active already"),
        (("undo",), "no decision to take back"),
        (("undo", 4), "no decision 4"),
        (("name", "cluster_000", "cluster_001"), "is an id"),
        (("split", "cluster_000"), "Name the images"),
        (("split", "cluster_001", "--into", 20, "--yes"), "8 images cannot be 20 parts"),
    ],
)
def test_nonsense_is_refused_and_leaves_nothing(config: Path, arguments: tuple[object, ...], message: str) -> None:
    """Protects: the message says what is wrong, and no decision is written."""
    result = call(config, *arguments)
    assert result.exit_code != 0 and message in result.output
    assert "Nothing is decided" in told(config, "decisions")


def test_before_anybody_is_found(tmp_path: Path) -> None:
    """Protects: a series that was not run yet says so."""
    config = tmp_path / "yokai.toml"
    config.write_text(f'profile = "demo"\nseries = "s"\ndata_root = "{tmp_path / "d"}"\n', encoding="utf-8")
    result = call(config, "list")
    assert result.exit_code != 0 and "nobody has been found yet" in result.output
