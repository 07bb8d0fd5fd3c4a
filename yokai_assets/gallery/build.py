"""The static report: an index and a page per character, pictures beside them, nothing from anywhere else.

Which words, numbers and pictures stand where; how they look is in `templates/`. The folder is swapped as one.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from upath import UPath

from yokai_assets.evaluation import EvaluationRecord, PictureRecord
from yokai_assets.gallery.characters import STATUS_LABELS, CharacterEntry
from yokai_assets.gallery.charts import IntervalRow, LineChart, interval_rows, line_chart
from yokai_assets.gallery.data import GalleryData
from yokai_assets.gallery.images import PendingPicture, Picture, PictureFolder, picture_folder
from yokai_assets.gallery.results import PipelineResults, pipeline_results
from yokai_assets.storage.files import is_local
from yokai_assets.storage.folders import replaced_folder
from yokai_assets.storage.layout import Layout

INDEX_FILE = "index.html"
_STATIC_FILES = ("gallery.css", "gallery.js")
_CARD_PX, _TILE_PX, _SAMPLE_PX, _MAP_PX = 320, 200, 384, 96
_MAX_EXEMPLARS, _MAX_TRAINING_IMAGES, _MAX_PAIRS, _MAX_CLOSEST = 12, 24, 8, 3
_STATUS_ORDER = tuple(STATUS_LABELS)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two pictures to compare, and what they are."""

    left: PendingPicture
    right: PendingPicture
    caption: str


@dataclass(slots=True)
class CharacterPage:
    """What a character's card and page show. Pictures are encoded while pages are put together."""

    entry: CharacterEntry
    exemplars: list[PendingPicture] = field(default_factory=list)
    preview: PendingPicture | None = None
    map_picture: PendingPicture | None = None
    comparison: PendingPicture | None = None
    pairs: list[Pair] = field(default_factory=list)
    closest: list[Pair] = field(default_factory=list)
    training_images: list[tuple[PendingPicture, str]] = field(default_factory=list)
    loss_chart: LineChart | None = None
    resemblance_rows: list[IntervalRow] = field(default_factory=list)


def build_gallery(layout: Layout, data: GalleryData) -> UPath:
    """Write the report.

    Args:
        layout: Pictures are read from its tree; the report goes to `layout.gallery`.
        data: What `load_gallery_data` has read.

    Returns:
        The index page.
    """
    with replaced_folder(layout.gallery, last=INDEX_FILE) as folder:
        with picture_folder(folder) as pictures:
            pages = [_page(entry, layout, pictures) for entry in data.characters]
        _render(folder, layout, data, pages)
    return layout.gallery / INDEX_FILE


def _page(entry: CharacterEntry, layout: Layout, pictures: PictureFolder) -> CharacterPage:
    page = CharacterPage(entry)
    name = entry.character_id
    for index, cutout in enumerate(entry.exemplars[:_MAX_EXEMPLARS]):
        alt = f"{name} as seen in the series, picture {index + 1}"
        source = layout.absolute(cutout)
        page.exemplars.append(pictures.thumbnail(source, f"{name}/exemplar{index:02d}", _CARD_PX, alt))
    if entry.exemplars:
        source = layout.absolute(entry.exemplars[0])
        page.map_picture = pictures.thumbnail(source, f"{name}/map", _MAP_PX, name)
    preview = layout.lora(name) / f"{name}.preview.png"
    if entry.lora and preview.exists():
        page.preview = pictures.thumbnail(preview, f"{name}/lora", _CARD_PX, f"{name} as drawn by its LoRA")
    if entry.evaluation:
        _add_evaluation(page, entry.evaluation, layout, pictures)
    _add_training(page, layout, pictures)
    return page


def _add_evaluation(page: CharacterPage, record: EvaluationRecord, layout: Layout, pictures: PictureFolder) -> None:
    name, folder = page.entry.character_id, layout.lora_tests(page.entry.character_id)
    alt = f"Real images, base model and checkpoints of {name}, row by row"
    page.comparison = pictures.thumbnail(folder / record.comparison, f"{name}/comparison", 1600, alt)

    def sample(picture: PictureRecord, kind: str) -> PendingPicture:
        label = f"{kind}: {picture.prompt}, seed {picture.seed}"
        return pictures.thumbnail(folder / picture.file, f"{name}/{Path(picture.file).stem}", _SAMPLE_PX, label)

    base = {(p.prompt_index, p.seed): p for p in record.pictures if p.step == 0}
    chosen = {(p.prompt_index, p.seed): p for p in record.pictures if p.step == record.chosen_step}
    for key in _spread(sorted(base.keys() & chosen.keys()), _MAX_PAIRS):
        caption = f"{chosen[key].prompt} · seed {chosen[key].seed}"
        page.pairs.append(Pair(sample(base[key], "base model"), sample(chosen[key], "LoRA"), caption))
    images = dict(page.entry.dataset.select("instance_id", "image").iter_rows())
    nearest = sorted(chosen.values(), key=lambda p: (-(p.nearest_training_cosine or 0.0), p.file))
    for picture in [p for p in nearest if p.nearest_training_image in images][:_MAX_CLOSEST]:
        source = layout.absolute(images[picture.nearest_training_image])
        training = pictures.thumbnail(
            source, f"{name}/closest_{Path(picture.file).stem}", _SAMPLE_PX, f"training image of {name}"
        )
        caption = f"drawn · nearest training image · cosine {picture.nearest_training_cosine:.3f}"
        page.closest.append(Pair(sample(picture, "LoRA"), training, caption))
    page.resemblance_rows = _resemblance_rows(record)


def _add_training(page: CharacterPage, layout: Layout, pictures: PictureFolder) -> None:
    name, dataset = page.entry.character_id, page.entry.dataset
    rows = dataset.sort("split", "image").to_dicts()
    for index, row in enumerate(_spread(rows, _MAX_TRAINING_IMAGES)):
        kind = "held-out image" if row["split"] == "held_out" else "training image"
        picture = pictures.thumbnail(
            layout.absolute(row["image"]), f"{name}/training{index:02d}", _TILE_PX, f"{kind} of {name}"
        )
        page.training_images.append((picture, f"{kind}: {row['caption']}"))
    training = page.entry.training
    if training:
        steps = range(1, len(training.losses) + 1)
        series: dict[str, tuple[Sequence[float], Sequence[float]]] = {"training": (steps, training.losses)}
        if training.validation_losses:
            validation = training.validation_losses
            series["held out"] = ([step for step, _ in validation], [loss for _, loss in validation])
        page.loss_chart = line_chart(series)


def _resemblance_rows(record: EvaluationRecord) -> list[IntervalRow]:
    rows = [
        (
            "base model" if row.step == 0 else f"step {row.step:,}",
            row.resemblance.low,
            row.resemblance.mean,
            row.resemblance.high,
            "chosen" if row.step == record.chosen_step and row.checkpoint else "other",
        )
        for row in record.checkpoints
    ]
    real = record.real_to_real
    return interval_rows([*rows, ("real images", real.low, real.mean, real.high, "real")])


def _spread(items: Sequence[Any], count: int) -> list[Any]:
    """Return at most `count` items, evenly spread, in order."""
    if len(items) <= count:
        return list(items)
    return [items[round(index * (len(items) - 1) / (count - 1))] for index in range(count)]


def _render(folder: Path, layout: Layout, data: GalleryData, pages: Sequence[CharacterPage]) -> None:
    environment = _environment()
    by_order = sorted(pages, key=lambda p: (_STATUS_ORDER.index(p.entry.status), p.entry.character_id))
    results = pipeline_results(data)
    common = {"data": data, "results": results}
    targets = [page.entry.character_id for page in by_order]
    for index, page in enumerate(by_order):
        html = environment.get_template("character.html.j2").render(
            **common,
            page=page,
            entry=page.entry,
            root="../",
            data_root=_relative_root(layout, depth=1),
            previous=targets[index - 1] if index else None,
            following=targets[index + 1] if index + 1 < len(targets) else None,
        )
        path = folder / "characters" / f"{page.entry.character_id}.html"
        path.parent.mkdir(exist_ok=True)
        path.write_text(html, encoding="utf-8")
    for name in _STATIC_FILES:
        content = files("yokai_assets.gallery").joinpath("templates", name).read_text(encoding="utf-8")
        (folder / name).write_text(content, encoding="utf-8")
    html = environment.get_template("index.html.j2").render(
        **common,
        pages=by_order,
        by_id={page.entry.character_id: page for page in pages},
        tiles=_tiles(results),
        filters=_filters(pages),
        map_size=_map_size(data),
        root="",
        data_root=_relative_root(layout, depth=0),
    )
    (folder / INDEX_FILE).write_text(html, encoding="utf-8")


def _relative_root(layout: Layout, depth: int) -> str | None:
    """Return the way from a page to the data root, or None where pages cannot link to files of it."""
    if not is_local(layout.gallery):
        return None
    return os.path.relpath(str(layout.root), str(layout.gallery)) + "/" if not depth else (
        os.path.relpath(str(layout.root), str(layout.gallery / "characters")) + "/"
    )  # fmt: skip


def _tiles(results: PipelineResults) -> list[tuple[str, str, str]]:
    """Return the numbers at the top: value, name, a remark."""
    frames = results.frames
    unique = f"{frames.unique / frames.frames:.0%} unique" if frames.frames else ""
    scored = [c.scores.covered_share for c in results.characters if c.scores and c.scores.covered_share is not None]
    recognised = [c.scores.identification for c in results.characters if c.scores]
    tiles = [
        (f"{frames.episodes:,}", "episodes", f"{frames.instances:,} cut-outs of characters"),
        (f"{frames.frames:,}", "frames", unique),
        (f"{len(results.characters) - results.gone:,}", "characters", f"{results.skipped:,} too small to train"),
        (f"{results.processed:,}", "LoRAs", f"{results.pending:,} on their way" if results.pending else "none waiting"),
    ]
    if scored:
        middle = sorted(scored)[len(scored) // 2]
        share = sum(recognised) / len(recognised)
        tiles.append((f"{middle:.0%}", "of the way to real", f"median; {share:.0%} of pictures recognised"))
    tiles.append((f"{len(results.failures):,}", "open failures", "see below" if results.failures else "all is well"))
    return tiles


def _filters(pages: Sequence[CharacterPage]) -> list[tuple[str, str, int]]:
    """Return the filter buttons: status, words, count."""
    counts: dict[str, int] = {}
    for page in pages:
        counts[page.entry.status] = counts.get(page.entry.status, 0) + 1
    return [(status, STATUS_LABELS[status], counts[status]) for status in _STATUS_ORDER if status in counts]


def _map_size(data: GalleryData) -> tuple[int, int]:
    points = data.map_points.values()
    return (1 + int(max(x for x, _ in points)), 1 + int(max(y for _, y in points))) if points else (0, 0)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("yokai_assets.gallery"),
        undefined=StrictUndefined,
        autoescape=select_autoescape(default=True, default_for_string=True),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"bytes": _bytes, "duration": _duration, "moment": _moment, "picture": _ready, "path": quote}
    environment.globals |= {"ready_pairs": _ready_pairs, "status_labels": STATUS_LABELS}
    return environment


def _ready(pending: PendingPicture | None) -> Picture | None:
    return pending.ready() if pending else None


def _ready_pairs(pairs: Sequence[Pair]) -> list[Mapping[str, Any]]:
    ready = ({"left": p.left.ready(), "right": p.right.ready(), "caption": p.caption} for p in pairs)
    return [pair for pair in ready if pair["left"] and pair["right"]]


def _bytes(value: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.2f} TB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _moment(value: datetime) -> str:
    return value.strftime("%Y-%m-%d %H:%M")
