"""What `yokai space` prints: the bytes that are there, what may go and why the rest may not."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from yokai_assets.cli.main import main
from yokai_assets.storage.layout import Layout
from yokai_assets.training.files import TrainingFiles
from yokai_assets_tests.gallery.sample import SampleSeries


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A series as the stages leave it, with a second checkpoint of one LoRA."""
    (tmp_path / "frames").mkdir()
    layout = SampleSeries(
        tmp_path / "data", 2, series="s", episode_count=1, side_px=40, exemplar_count=1, image_count=3
    ).write()
    files = TrainingFiles.of_character(layout, "cluster_000")
    files.checkpoint(500).write_bytes(b"0" * 1000)
    entries = [{"step": step, "file": files.checkpoint(step).name} for step in (500, 2000)]
    files.record.write_text(json.dumps({"checkpoints": entries}))
    (tmp_path / "yokai.toml").write_text(
        'profile = "demo"\nseries = "s"\nframes_source = "frames"\ndata_root = "data"\n'
    )
    return layout


def space(tmp_path: Path, *options: str) -> str:
    result = CliRunner().invoke(main, ["space", "--config", str(tmp_path / "yokai.toml"), *options])
    assert result.exit_code == 0, result.output
    return result.output


def test_bytes_are_those_of_the_files(layout: Layout, tmp_path: Path) -> None:
    """Somebody decides by these numbers which disk to buy, or what to remove."""
    told = json.loads(space(tmp_path, "--json"))
    layers = Path(str(layout.character_layers("s01e01"))).rglob("*")
    files = [*layers, Path(str(layout.table("character_layers", "s01e01")))]
    wanted = sum(path.stat().st_size for path in files if path.is_file())
    assert told["stage_bytes"]["before"]["character_layers"] == wanted
    assert (told["is_applied"], told["removals"], told["policy"]["layers"]) == (False, [], "keep")
    assert told["to_come"]["episodes"] == 0


def test_what_may_go_is_asked_for_without_removing_it(layout: Layout, tmp_path: Path) -> None:
    """A look must never cost a file; what would go is told with the reason and the command."""
    before = {path: path.stat().st_size for path in Path(str(layout.root)).rglob("*") if path.is_file()}
    assert "`retention.layers` is `keep`" in space(tmp_path)
    assert "Nothing may go now." in space(tmp_path, "--layers", "until_dataset")
    assert "1 kB may go: `yokai space --apply`" in space(tmp_path, "--checkpoints", "1")
    assert {path: path.stat().st_size for path in before} == before


def test_what_is_asked_for_goes_and_is_told(layout: Layout, tmp_path: Path) -> None:
    """The chosen checkpoint stays whatever is asked for: it is what was published."""
    assert "Freed 1 kB." in space(tmp_path, "--checkpoints", "1", "--apply")
    files = TrainingFiles.of_character(layout, "cluster_000")
    assert (files.checkpoint(500).exists(), files.checkpoint(2000).exists()) == (False, True)
