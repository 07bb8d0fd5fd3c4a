"""Hundreds of broken and odd images among good ones: none crashes anything, each is counted, the good ones stay."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
from PIL import Image
from upath import UPath

from yokai_assets.datasets.folder import read_training_folder
from yokai_assets.datasets.importer import import_cluster_tree
from yokai_assets.frames.decoding import FrameError
from yokai_assets.frames.episodes import find_episode
from yokai_assets.frames.reader import iter_frames
from yokai_assets.frames.scan import scan_episode
from yokai_assets.segmentation.backgrounds import build_backgrounds
from yokai_assets.segmentation.layers import segment_episode
from yokai_assets.settings.model import BackgroundSettings, FramesSettings, SegmentationSettings
from yokai_assets.storage.layout import Layout
from yokai_assets_tests.faults.broken import Broken, broken_images, write_all
from yokai_assets_tests.frames.pictures import scene, with_disc, write
from yokai_assets_tests.segmentation.mattes import CHARACTER, ColourMatte

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]

BROKEN_COUNT = 520
GOOD_COUNT = 12
SEGMENTATION = SegmentationSettings.model_validate({"min_side_px": 8})
MEASURED = ["source", "status", "width_px", "height_px", "content_sha256", "dhash", "luma_mean"]


@dataclass(frozen=True)
class Episode:
    """Good frames, and broken files that sort after them."""

    source: UPath
    good: list[str]
    broken: dict[str, Broken]

    @property
    def folder(self) -> Path:
        return Path(str(self.source)) / "ep"

    def scan(self) -> pl.DataFrame:
        return scan_episode(find_episode(self.source, "ep"), self.source, FramesSettings())


def good_frame(number: int) -> Image.Image:
    grey = scene(number, 192, 108).convert("L").convert("RGB")
    return with_disc(grey, (60 + 5 * (number % 20), 50), 24, CHARACTER)


@pytest.fixture(scope="module")
def episode(tmp_path_factory: pytest.TempPathFactory) -> Episode:
    source = tmp_path_factory.mktemp("broken")
    good = [write(source / "ep" / f"{number:04d}.png", good_frame(number)).name for number in range(GOOD_COUNT)]
    valid = [good_frame(100 + number) for number in range(6)]
    return Episode(UPath(source), good, write_all(source / "ep", broken_images(valid, BROKEN_COUNT)))


@pytest.fixture(scope="module")
def frames(episode: Episode) -> pl.DataFrame:
    return episode.scan()


def shown_name(name: str) -> str:
    """The name as tables and messages show it."""
    return name.encode("utf-8", "backslashreplace").decode()


def is_unicode(name: str) -> bool:
    return shown_name(name) == name


def test_every_broken_frame_is_a_row_with_its_reason(episode: Episode, frames: pl.DataFrame) -> None:
    """Protects: no file vanishes from the count; a broken one is never taken for a frame, a readable one never lost."""
    assert len(episode.broken) >= 500
    rows = {row["source"].removeprefix("ep/"): row for row in frames.iter_rows(named=True)}
    assert rows.keys() == {*episode.good, *map(shown_name, episode.broken)}
    wrong, silent = [], []
    for name, one in episode.broken.items():
        row = rows[shown_name(name)]
        is_readable = row["status"] != "unreadable"
        fate = one.fate if is_unicode(name) else "unreadable"
        if fate != "either" and is_readable != (fate == "readable"):
            wrong.append((one.kind, row["status"], row["reason"]))
        if row["status"] != "ok" and not row["reason"]:
            silent.append(one.kind)
    assert wrong == [] and silent == []
    reasons = Counter(row["reason"].split(" (")[0] for row in rows.values() if row["status"] == "unreadable")
    print(f"{len(rows)} files: {dict(Counter(frames['status']))}; unreadable: {dict(reasons)}")


def test_good_frames_are_measured_as_if_they_were_alone(episode: Episode, frames: pl.DataFrame, tmp_path: Path) -> None:
    """Protects: broken neighbours change nothing of what is known of good frames."""
    for name in episode.good:
        write(tmp_path / "ep" / name, (episode.folder / name).read_bytes())
    alone = Episode(UPath(tmp_path), episode.good, {}).scan()
    assert (
        frames.filter(pl.col("source").is_in(alone["source"].implode())).select(MEASURED).equals(alone.select(MEASURED))
    )


def test_what_is_readable_is_read_in_full_and_the_rest_told(episode: Episode, frames: pl.DataFrame) -> None:
    """Protects: what the scan calls readable opens later too, and a broken one is an error of its own, not a crash."""
    later = {row["source"]: image for row, image in iter_frames(frames, episode.source)}
    assert len(later) == frames.height
    for source, status, width_px, height_px in frames.select("source", "status", "width_px", "height_px").iter_rows():
        image = later[source]
        if status == "unreadable":
            assert isinstance(image, FrameError), source
        else:
            assert isinstance(image, Image.Image) and image.mode == "RGB", source
            assert image.size == (width_px, height_px), source


def test_broken_frames_harm_no_cutout_and_no_clean_plate(
    episode: Episode, frames: pl.DataFrame, tmp_path: Path
) -> None:
    """Protects: odd sizes and modes go through network, cutter and plates; good frames are cut as if alone."""
    layout = Layout(UPath(tmp_path), "series")
    result = segment_episode(frames, episode.source, ColourMatte(), SEGMENTATION, layout)
    only_good = frames.filter(pl.col("source").is_in([f"ep/{name}" for name in episode.good]))
    alone = segment_episode(only_good, episode.source, ColourMatte(), SEGMENTATION, Layout(UPath(tmp_path), "alone"))
    columns = ["instance_id", "x0", "y0", "x1", "y1", "cutout_sha256"]
    kept = result.instances.filter(pl.col("frame_id").is_in(only_good["frame_id"].implode()))
    assert alone.instances.height == GOOD_COUNT
    assert kept.select(columns).equals(alone.instances.select(columns))
    assert all(problem.reason and problem.remedy for problem in result.problems)
    plates = build_backgrounds(frames, result.instances, episode.source, BackgroundSettings(), layout)
    assert plates["shot"].is_unique().all() and plates.height > 1
    print(f"{result.representative_count} representatives: {result.instances.height} instances, "
          f"{len(result.problems)} problems, {plates.height} plates")  # fmt: skip


def test_an_imported_tree_counts_every_file(episode: Episode, tmp_path: Path) -> None:
    """Protects: of a tree that others made, each file becomes an instance or is named with its reason; no third way."""
    result = import_cluster_tree(episode.source, Layout(UPath(tmp_path), "series"))
    told = [problem.partition(": ") for problem in result.problems]
    assert result.instances.height + len(told) == GOOD_COUNT + BROKEN_COUNT
    broken = {str(episode.folder / shown_name(name)): one for name, one in episode.broken.items()}
    refused = {place: reason for place, _, reason in told if place in broken}
    assert all("object at 0x" not in reason and reason.endswith("Replace or remove it.") for reason in refused.values())
    taken = [one.kind for place, one in broken.items() if one.fate == "unreadable" and place not in refused]
    lost = [
        (one.kind, refused[place]) for place, one in broken.items() if one.fate == "readable" and place in refused
        and not any(word in refused[place] for word in ("a side has", "transparent all over"))
    ]  # fmt: skip
    assert taken == [] and lost == []
    print(f"{result.instances.height} imported, {len(told)} left out")


def test_a_training_folder_counts_every_file(episode: Episode) -> None:
    """Protects: `yokai train FOLDER` on whatever people send: trained on, or left out and named; the numbers add up."""
    found = read_training_folder(episode.folder, trigger="zkr")
    assert len(found.items) + sum(found.skipped.values()) == GOOD_COUNT + BROKEN_COUNT
    items, told = {item.item_id for item in found.items}, dict(found.problems)
    assert items >= set(episode.good)
    broken = {name: one for name, one in episode.broken.items() if is_unicode(name)}
    wrong = [one.kind for name, one in broken.items() if (name in items) == (name in told)]
    taken = [one.kind for name, one in broken.items() if one.fate == "unreadable" and name in items]
    lost = [
        (one.kind, told[name]) for name, one in broken.items() if one.fate == "readable" and name in told
        and not any(word in told[name] for word in ("too few", "mask is black"))
    ]  # fmt: skip
    assert wrong == [] and taken == [] and lost == []
    print(f"{len(found.items)} to train on, left out: {found.skipped}")
