"""Characters that another pipeline found can be taken over and trained, by two commands."""

from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner
from PIL import Image
from upath import UPath

from yokai_assets.cli.main import main
from yokai_assets.registry import RegistryStore
from yokai_assets.runs import RunRoom
from yokai_assets.settings import load_settings
from yokai_assets.storage.layout import Layout
from yokai_assets.storage.parquet import read_table
from yokai_assets.tables import DATASET
from yokai_assets_tests.frames.pictures import scene, with_disc, write


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "yokai.toml"
    file.write_text(
        f'''profile = "demo"
series = "taken-over"
frames_source = "{tmp_path / "nowhere"}"
data_root = "{tmp_path / "data"}"
device = "cpu"
max_characters = 1
[clustering]
min_cluster_size = 6
[training]
max_train_steps = 2
save_every_n_steps = 2
[evaluation]
images_per_prompt = 1
inference_steps = 2
''',
        encoding="utf-8",
    )
    return file


def picture(character: int, number: int) -> Image.Image:
    """A disc of the character's colour that moves over changing grounds: opaque, as many trees are."""
    colour = ((220, 40, 40), (40, 90, 220))[character]
    return with_disc(scene(50 * character + number, 96, 96), (30 + 3 * number, 40 + 2 * number), 24, colour)


def write_tree(folder: Path, count: int) -> Path:
    for character in range(2):
        for number in range(count + 4 * (1 - character)):
            write(folder / f"cluster_00{character}" / f"{number}.png", picture(character, number))
    write(folder / "cluster_001" / "broken.png", b"no image")
    return folder


def run(*arguments: object, exit_code: int = 0) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == exit_code, result.output
    return result.output


def test_a_tree_is_imported_and_trained(tmp_path: Path, config: Path) -> None:
    """Protects: whoever has clusters already goes straight to datasets and LoRAs, and nothing is clustered again."""
    tree = write_tree(tmp_path / "tree", 8)
    shown = run("import-clusters", tree, "--config", config)
    assert "cluster_001" in shown and "left out" in shown and "broken.png" in shown
    layout = Layout.of(load_settings(config))
    registry = RegistryStore(layout.registry).load()
    assert registry is not None
    assert dict(registry.characters.select("character_id", "member_count").iter_rows()) == {
        "cluster_000": 12, "cluster_001": 8
    }  # fmt: skip
    run("run", "--in-process", "--config", config, "--skip-segmentation", "--skip-clustering", exit_code=1)
    said = RunRoom.of(load_settings(config)).log.read_text()
    assert "1 left failed or refused" in said and "lora_beats_base" in said, "a LoRA of two steps is refused"
    dataset = read_table(DATASET, layout.table("training_dataset", "cluster_000"))
    assert dataset.height >= 6
    assert list(layout.lora("cluster_000").glob("*.safetensors"))
    after = RegistryStore(layout.registry).load()
    assert after is not None and after.version == registry.version


def test_importing_again_keeps_ids(tmp_path: Path, config: Path) -> None:
    """Protects: images can be added to a tree that is imported already."""
    run("import-clusters", write_tree(tmp_path / "tree", 6), "--config", config)
    run("import-clusters", write_tree(tmp_path / "tree", 9), "--config", config)
    registry = RegistryStore(Layout.of(load_settings(config)).registry).load()
    assert registry is not None
    assert registry.characters.select("character_id", "member_count").rows() == [
        ("cluster_000", 13),
        ("cluster_001", 9),
    ]


def test_a_series_of_its_own_is_not_replaced(tmp_path: Path, config: Path) -> None:
    """Protects: importing into a series with episodes would retire its characters."""
    place = UPath(tmp_path / "data/tables/taken-over/character_layers/e1.parquet")
    place.parent.mkdir(parents=True)
    pl.DataFrame({"a": [1]}).write_parquet(str(place))
    result = CliRunner().invoke(main, ["import-clusters", str(write_tree(tmp_path / "t", 6)), "--config", str(config)])
    assert result.exit_code == 2
    assert "--series" in result.output


def test_pictures_are_found_again(tmp_path: Path, config: Path) -> None:
    """Protects: `yokai similar`: an image of the series finds itself first, then its character; a bad one is told."""
    tree = write_tree(tmp_path / "tree", 8)
    run("import-clusters", tree, "--config", config)
    sheet = tmp_path / "found" / "sheet.png"
    shown = run("similar", tree / "cluster_001" / "3.png", "--config", config, "--count", 4, "--sheet", sheet)
    first = next(line for line in shown.splitlines() if "imported/" in line)
    assert "cluster_001" in first and "1.000" in first
    with Image.open(sheet) as drawn:
        assert drawn.width > 100
    broken = CliRunner().invoke(main, ["similar", str(tree / "cluster_001/broken.png"), "--config", str(config)])
    assert broken.exit_code == 2 and "is no image in a known format" in broken.output
