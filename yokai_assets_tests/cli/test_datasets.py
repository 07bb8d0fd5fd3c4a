"""A person sees what a LoRA is trained on, takes images out, and can take it back."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image
from upath import UPath

from yokai_assets.cli.main import main
from yokai_assets.datasets import DatasetResult, build_dataset
from yokai_assets.defs.characters.inputs import instances_of
from yokai_assets.registry import RegistryStore
from yokai_assets.settings import load_settings
from yokai_assets.storage.layout import Layout
from yokai_assets.storage.parquet import read_partitions, write_table
from yokai_assets.tables import CAPTIONS, DATASET, EMBEDDINGS, FRAMES
from yokai_assets_tests.cli.imported import copy_of, import_series

WHO = "cluster_000"


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return import_series(tmp_path_factory.mktemp("datasets"), "[dataset]", "min_images = 4", "min_side_px = 8")


@pytest.fixture
def config(imported: Path, tmp_path: Path) -> Path:
    """A copy of a series of which one character has a training set."""
    config = copy_of(imported, tmp_path)
    made(config)
    return config


def made(config: Path) -> DatasetResult:
    """Make the set as the asset does."""
    settings = load_settings(config)
    layout = Layout.of(settings)
    registry = RegistryStore(layout.registry).load()
    assert registry is not None
    members = registry.members_of(WHO)
    captions = CAPTIONS.from_rows(
        {"character_id": WHO, "instance_id": name, "trigger": "ykaitest", "tags": ["smile"], "scores": [0.9],
         "sentence": "a smile", "caption": "ykaitest, smile"}
        for name in members["instance_id"]
    )  # fmt: skip
    result = build_dataset(
        WHO, members, instances_of(members, layout), FRAMES.empty(),
        read_partitions(EMBEDDINGS, layout.tables / "embeddings"), captions, UPath(settings.frames_source), layout,
        settings.dataset, 0, resolution_px=64,
    )  # fmt: skip
    write_table(CAPTIONS, captions, layout.table("captions", WHO))
    write_table(DATASET, result.table, layout.table("training_dataset", WHO))
    return result


def call(config: Path, *arguments: object) -> Result:
    return CliRunner().invoke(main, ["dataset", *(str(a) for a in arguments), "--config", str(config)])


def told(config: Path, *arguments: object) -> str:
    result = call(config, *arguments)
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def images(config: Path) -> list[Path]:
    folder = Path(str(Layout.of(load_settings(config)).training_data(WHO)))
    return sorted(folder.glob("*.png"))


def test_a_set_is_listed_and_shown(config: Path, tmp_path: Path) -> None:
    """Protects: what is trained on can be read and looked at without opening Dagster."""
    count = len(images(config))
    assert f"{WHO} {count}" in told(config, "list")
    shown = told(config, "show", WHO, "--sheet", tmp_path / "s.png", "--rejected", tmp_path / "r.png", "--count", 2)
    assert f"{count} training images" in shown and "ykaitest, smile" in shown and "tags: smile" in shown
    assert "more (--count)" in shown
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.width > 300


def test_a_removed_image_stays_out_until_it_is_forgotten(config: Path) -> None:
    """Protects: both ways of taking an image out, by command and by deleting it, and the way back."""
    first, second = images(config)[:2]
    assert "1 image(s) removed" in told(config, "remove", WHO, first.name)
    second.unlink()
    assert told(config, "edits", WHO).count("removed") == 2
    result = made(config)
    assert result.dropped_counts["removed"] == 2
    assert not first.exists() and not second.exists()
    assert "2 removed" in told(config, "list")
    assert "1 image(s)" in told(config, "edits", WHO, "--forget", first.name)
    made(config)
    assert first.exists() and not second.exists()
    told(config, "edits", WHO, "--forget-all")
    made(config)
    assert second.exists()


def test_captions_and_paintwork_by_hand_are_shown_and_forgotten(config: Path) -> None:
    """Protects: whoever looks sees what was changed, and forgetting brings back the automatic version."""
    image = images(config)[0]
    before = image.read_bytes()
    image.with_suffix(".txt").write_text("ykaitest, by hand", encoding="utf-8")
    Image.new("RGB", (64, 64), (9, 9, 9)).save(image)
    shown = told(config, "edits", WHO)
    assert f"caption {image.stem}: ykaitest, by hand" in shown and f"retouched {image.stem}" in shown
    made(config)
    assert image.read_bytes() != before
    told(config, "edits", WHO, "--forget-all")
    made(config)
    assert image.read_bytes() == before
    assert "ykaitest, smile" in image.with_suffix(".txt").read_text(encoding="utf-8")
    assert "Nothing was changed" in told(config, "edits", WHO)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("remove", WHO, "nobody.png"), "nobody.png: no image of cluster_000's training set. None was removed"),
        (("show", "cluster_001"), "has no training set yet"),
        (("show", "Nobody"), "Nobody"),
        (("edits", WHO, "--forget", "x.png"), "nothing was changed by hand of x.png"),
    ],
)
def test_mistakes_are_told(config: Path, arguments: tuple[str, ...], message: str) -> None:
    """Protects: a slip of the pen changes nothing and says what is wrong."""
    result = call(config, *arguments)
    assert result.exit_code != 0 and message in " ".join(result.output.split())
    assert isinstance(result.exception, SystemExit)
