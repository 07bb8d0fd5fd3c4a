"""A full disk in every writing stage: told with file, reason and remedy; nothing torn is seen; freed, it goes on."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from PIL import Image
from upath import UPath

from yokai_assets.datasets import build_dataset
from yokai_assets.datasets.importer import import_cluster_tree
from yokai_assets.evaluation import evaluate_character
from yokai_assets.frames.episodes import find_episode
from yokai_assets.frames.scan import scan_episode
from yokai_assets.gallery import (
    FailureRecord,
    append_failures,
    build_gallery,
    load_gallery_data,
    write_pipeline_results,
)
from yokai_assets.gallery.failures import open_failures
from yokai_assets.publishing import publish_lora
from yokai_assets.registry import DecisionStore, RegistryStore
from yokai_assets.registry.decisions import Name
from yokai_assets.segmentation.backgrounds import build_backgrounds
from yokai_assets.segmentation.layers import segment_episode
from yokai_assets.settings.model import BackgroundSettings, DatasetSettings, FramesSettings, SegmentationSettings
from yokai_assets.storage.database import open_read_only, publish
from yokai_assets.storage.files import DiskFullError
from yokai_assets.storage.layout import Layout
from yokai_assets.storage.parquet import read_table, write_table
from yokai_assets.tables import EMBEDDINGS, FRAMES
from yokai_assets.tagging.cache import ReadingCache
from yokai_assets.tagging.reading import ImageReading
from yokai_assets.training.trainer import train_lora
from yokai_assets_tests.evaluation.fakes import World
from yokai_assets_tests.faults.disk import Disk, small_disk
from yokai_assets_tests.frames.pictures import scene, with_disc, with_grain, write
from yokai_assets_tests.gallery.sample import AT, SampleSeries
from yokai_assets_tests.registry.series import ids, update
from yokai_assets_tests.segmentation.mattes import CHARACTER, ColourMatte
from yokai_assets_tests.small_series import HERO, SmallSeries, scattered
from yokai_assets_tests.storage.rows import embeddings_of, instance_row, write_episode
from yokai_assets_tests.training.tiny import make_base, make_settings, tiny_training

FREE_BYTES = (0, 16 << 10, 96 << 10)
"""Room that is left: none, some for the first small file, some for the middle of the work."""

Stage = Callable[[Path], tuple[Callable[[], Any], Callable[[Any], bool]]]
"""Prepares on a disk with room; returns the writing, and a reader that says whether its result is whole."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with small_disk(tmp_path / "disk") as made:
        yield made


def _frames(root: Path) -> tuple[UPath, pl.DataFrame]:
    """Five shots, in a folder that is not on the small disk."""
    source = root.parent / "source"
    shutil.rmtree(source, ignore_errors=True)
    for number in range(15):
        ground = scene(number // 3, 320, 180).convert("L").convert("RGB")
        frame = with_grain(with_disc(ground, (60 + 30 * (number % 3), 90), 40, CHARACTER), number, 1)
        write(source / "ep" / f"{number}.png", frame)
    return UPath(source), scan_episode(find_episode(UPath(source), "ep"), UPath(source), FramesSettings())


def frames(root: Path):
    table, place = _frames(root)[1], Layout(UPath(root), "town").table("frames", "ep")
    return lambda: write_table(FRAMES, table, place), lambda _: read_table(FRAMES, place).height == 15


def layers(root: Path):
    source, table = _frames(root)
    layout, settings = Layout(UPath(root), "town"), SegmentationSettings(min_side_px=8)
    return (
        lambda: segment_episode(table, source, ColourMatte(), settings, layout),
        lambda result: result.instances.height >= 5 and not result.problems,
    )


def clean_plates(root: Path):
    source, table = _frames(root)
    layout, settings = Layout(UPath(root), "town"), SegmentationSettings(min_side_px=8)
    instances = segment_episode(table, source, ColourMatte(), settings, layout).instances
    return (
        lambda: build_backgrounds(table, instances, source, BackgroundSettings(), layout),
        lambda plates: plates.height == 5 and all(layout.absolute(name).exists() for name in plates["plate"]),
    )


def embeddings(root: Path):
    rows = pl.DataFrame([instance_row("ep", n) for n in range(200)])
    table, place = embeddings_of(rows, dimension=256), Layout(UPath(root), "town").table("embeddings", "ep")
    return lambda: write_table(EMBEDDINGS, table, place), lambda _: read_table(EMBEDDINGS, place).height == 200


def registry(root: Path):
    made, store = update(None, [(0, ids(0, 400)), (1, ids(500, 300))]), RegistryStore(UPath(root) / "registry")
    return lambda: store.save(made), lambda _: (store.load() or update(None, [])).content_hash == made.content_hash


def decision(root: Path):
    store = DecisionStore(UPath(root) / "registry")
    return (
        lambda: store.add(Name(character_id="cluster_000", name="Yoko")),
        lambda _: store.load().names() == {"cluster_000": "Yoko"},
    )


def dataset(root: Path):
    series = SmallSeries(UPath(root))
    for number in range(18):
        series.show(f"e{number // 9 + 1}", number // 2, {HERO: scattered(number)})
    settings = DatasetSettings.model_validate({"min_images": 4, "max_images": 12, "min_side_px": 16})
    tables, captions = series.tables(), series.captions()
    return (
        lambda: build_dataset(
            HERO, tables.members, tables.instances, tables.frames, tables.embeddings, captions, series.frames_source,
            series.layout, settings, 0, resolution_px=32,
        ),
        lambda result: all(series.layout.absolute(name).exists() for name in result.table["image"]),
    )  # fmt: skip


def catalogue(root: Path):
    tables = {name: {"ep": file} for name, file in write_episode(UPath(root) / "tables", "ep", 300).items()}

    def rows(_: object) -> bool:
        with open_read_only(root / "yokai.duckdb") as connection:
            return connection.sql("SELECT count(*) FROM instances").fetchall() == [(600,)]

    return lambda: publish(root / "yokai.duckdb", tables), rows


def readings(root: Path):
    cache = ReadingCache(root / "cache" / "readings.sqlite")
    said = {f"{number:064x}": ImageReading({"a tag": 0.5}, "a sentence " * 20) for number in range(900)}
    cache.put("reader", {"of before": said[f"{0:064x}"]})
    return (
        lambda: cache.put("reader", said),
        lambda _: cache.get("reader", [*said, "of before"]).keys() == {*said, "of before"},
    )


def evaluation(root: Path):
    world = World(root)
    world.checkpoint(100, "cluster_000")
    return (
        lambda: evaluate_character(*world.arguments(), **world.parts()).record,
        lambda record: all((world.layout.lora_tests("cluster_000") / p.file).exists() for p in record.pictures),
    )


def publication(root: Path):
    world = World(root)
    world.checkpoint(100, "cluster_000", weights=bytes(150_000))
    record = evaluate_character(*world.arguments(), **world.parts()).record
    return (
        lambda: publish_lora("cluster_000", record, world.layout, at=AT),
        lambda published: published.state == "published" and published.path.exists() and published.sidecar.exists(),
    )


def gallery(root: Path):
    layout = SampleSeries(root, 3, episode_count=2, side_px=40, exemplar_count=2, image_count=4).write()
    data = load_gallery_data(layout, at=AT)
    return lambda: build_gallery(layout, data), lambda index: "</html>" in index.read_text("utf-8")


def report(root: Path):
    layout = SampleSeries(root, 3, episode_count=2, side_px=40, exemplar_count=2, image_count=4).write()
    data = load_gallery_data(layout, at=AT)
    return lambda: write_pipeline_results(layout, data), lambda _: (layout.pipeline / "pipeline_results.json").exists()


def failures(root: Path):
    layout, reasons = Layout(UPath(root), "town"), [f"reason {number} " * 300 for number in range(60)]
    said = [FailureRecord(at=AT, step=str(n), partition=str(n), reason=reason) for n, reason in enumerate(reasons)]
    return lambda: append_failures(layout, said), lambda _: {f.reason for f in open_failures(layout)} >= set(reasons)


def training(root: Path):
    base = root.parent / "base"
    settings = make_settings(base if base.exists() else make_base(base), optimizer="adamw")
    items, files = tiny_training(Layout(UPath(root), "tiny"))
    return (
        lambda: train_lora(items, files, settings, "cpu", 0, header={}),
        lambda result: len(result.losses) == 6 and all(c.path.exists() for c in result.checkpoints),
    )


STAGES: list[Any] = [
    frames, layers, clean_plates, embeddings, registry, decision, dataset, catalogue, readings, evaluation, publication,
    gallery, report, failures, pytest.param(training, marks=pytest.mark.faults),
]  # fmt: skip
_LOGS = ("failures.jsonl", "/tensorboard/")
"""Added to line by line: whoever reads them leaves out a torn end."""


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.__name__)
def test_a_full_disk_is_told_and_leaves_nothing_torn(disk: Disk, stage: Stage) -> None:
    """Protects: whatever stage runs out of space: its work of before stays, a reader sees whole files, it goes on."""
    do, is_whole = stage(disk.folder)
    before, torn, told = disk.visible(), [], []
    for free_bytes in FREE_BYTES:
        try:
            with disk.full(free_bytes):
                do()
        except DiskFullError as error:
            told.append(str(error))
        else:
            break
        torn.append(disk.visible())
        assert disk.unfinished() == []
    assert told, "it fits into no space at all"
    for message in told:
        assert str(disk.folder) in message and "cannot be written" in message and "Free space" in message
    assert is_whole(do())
    after = disk.visible()
    for seen in torn:
        whole = {name: (before.get(name), after.get(name)) for name in seen if not any(log in name for log in _LOGS)}
        half = [name for name, contents in whole.items() if seen[name] not in contents]
        assert half == []
        assert set(before) <= set(seen), "what was there before is gone"
    print(f"{stage.__name__}: full {len(told)} times by {disk.how}; {told[-1][:160]}")


def test_pictures_of_a_full_disk_are_no_broken_pictures(disk: Disk) -> None:
    """Protects: one cause is not mistaken for another: the import stops, instead of leaving out all images."""
    tree = disk.folder.parent / "tree"
    for number in range(4):
        write(tree / "cluster_000" / f"{number}.png", Image.effect_noise((200, 200), 60 + number).convert("RGB"))
    layout = Layout(UPath(disk.folder), "town")
    with disk.full(0), pytest.raises(DiskFullError, match="cannot be written"):
        import_cluster_tree(UPath(tree), layout)
    result = import_cluster_tree(UPath(tree), layout)
    assert result.instances.height == 4 and result.problems == ()
