"""The static report: an index, a page per character, one of all LoRAs; pictures beside them, nothing from elsewhere.

Files and the order of things; what a character's page shows is `pages`, how it looks is `templates/`. The folder is
swapped as one.
"""

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from upath import UPath

from yokai_assets.evaluation.record import Measure
from yokai_assets.gallery.characters import STATUS_LABELS
from yokai_assets.gallery.comparisons import heat_map, standings
from yokai_assets.gallery.data import GalleryData
from yokai_assets.gallery.images import PendingPicture, Picture, picture_folder
from yokai_assets.gallery.pages import CharacterPage, character_page, ready_pairs
from yokai_assets.gallery.results import PipelineResults, pipeline_results
from yokai_assets.storage.files import is_local, recover_folder
from yokai_assets.storage.folders import replaced_folder
from yokai_assets.storage.layout import Layout

INDEX_FILE = "index.html"
COMPARISON_PAGE = "comparison.html"
_STATIC_FILES = ("gallery.css", "gallery.js")
_STATUS_ORDER = tuple(STATUS_LABELS)
_ON_THE_WAY = ("published", "evaluated", "trained", "dataset", "waiting")


def build_gallery(layout: Layout, data: GalleryData) -> UPath:
    """Write the report.

    Args:
        layout: Pictures are read from its tree; the report goes to `layout.gallery`.
        data: What `load_gallery_data` has read.

    Returns:
        The index page.
    """
    previous = Path(str(layout.gallery)) if is_local(layout.gallery) else None
    if previous:
        recover_folder(previous)
    with replaced_folder(layout.gallery, last=INDEX_FILE) as folder:
        with picture_folder(folder, previous) as pictures:
            pages = [character_page(entry, data, layout, pictures) for entry in data.characters]
        _write_pages(folder, layout, data, pages)
    return layout.gallery / INDEX_FILE


def _write_pages(folder: Path, layout: Layout, data: GalleryData, pages: Sequence[CharacterPage]) -> None:
    by_order = sorted(pages, key=lambda p: (_STATUS_ORDER.index(p.entry.status), p.entry.character_id))
    by_id = {page.entry.character_id: page for page in pages}
    results = pipeline_results(data)
    common: dict[str, Any] = {"data": data, "results": results, "by_id": by_id, "standings": standings(data.comparison)}
    for name in _STATIC_FILES:
        content = files("yokai_assets.gallery").joinpath("templates", name).read_text(encoding="utf-8")
        (folder / name).write_text(content, encoding="utf-8")
    _write_character_pages(folder, layout, by_order, common)
    heat = heat_map(data.comparison)
    if heat:
        titles = [by_id[name].entry.title if name in by_id else name for name in heat.names]
        readout = {"names": titles, "rows": heat.rows, "recognised": heat.recognised}
        _write(folder / COMPARISON_PAGE, "comparison.html.j2", **common, heat=heat, readout=readout, root="")
    _write(
        folder / INDEX_FILE,
        "index.html.j2",
        **common,
        pages=by_order,
        not_trained=[page for page in by_order if page.entry.status not in _ON_THE_WAY],
        tiles=_tiles(results, data),
        filters=_filters(pages),
        map_tiles=sorted(data.map_points.items(), key=lambda item: item[1][::-1]),
        map_size=_map_size(data),
        has_comparison=heat is not None,
        root="",
        data_root=_relative_root(layout, layout.gallery),
    )


def _write_character_pages(
    folder: Path, layout: Layout, pages: Sequence[CharacterPage], common: Mapping[str, Any]
) -> None:
    (folder / "characters").mkdir()
    for index, page in enumerate(pages):
        _write(
            folder / "characters" / f"{page.entry.character_id}.html",
            "character.html.j2",
            **common,
            page=page,
            entry=page.entry,
            root="../",
            data_root=_relative_root(layout, layout.gallery / "characters"),
            previous=pages[index - 1].entry if index else None,
            following=pages[index + 1].entry if index + 1 < len(pages) else None,
        )


def _write(path: Path, template: str, **values: Any) -> None:
    path.write_text(_environment().get_template(template).render(**values), encoding="utf-8")


def _relative_root(layout: Layout, folder: UPath) -> str | None:
    """Return the way from a page's folder to the data root, or None where pages cannot link to files of it."""
    return os.path.relpath(str(layout.root), str(folder)) + "/" if is_local(folder) else None


def _tiles(results: PipelineResults, data: GalleryData) -> list[tuple[str, str, str]]:
    """Return the numbers at the top: value, name, a remark."""
    frames = results.frames
    unique = f"{frames.unique:,} unique ({frames.unique / frames.frames:.0%})" if frames.frames else ""
    scored = [c.scores.covered_share for c in results.characters if c.scores and c.scores.covered_share is not None]
    recognised = [c.scores.identification for c in results.characters if c.scores]
    tiles = [
        (f"{frames.episodes:,}", "episodes", f"{frames.instances:,} cut-outs of characters"),
        (f"{frames.frames:,}", "frames", unique),
        (f"{len(results.characters) - results.gone:,}", "characters", f"{results.skipped:,} too small to train"),
        (f"{results.processed:,}", "LoRAs", f"{results.pending:,} on their way" if results.pending else "none waiting"),
    ]
    if scored:
        share = sum(recognised) / len(recognised)
        tiles.append((f"{median(scored):.0%}", "of the way to real", f"median; {share:.0%} of pictures recognised"))
    if data.is_timed:
        tiles.append((_duration(data.seconds), "of work", f"{_duration(data.gpu_seconds)} of it on a GPU"))
    tiles.append((_bytes(sum(data.storage_bytes.values())), "on disk", "by stage below"))
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
    environment.filters |= {
        "bytes": _bytes, "duration": _duration, "moment": _moment, "picture": _ready, "path": quote,
        "percent": _percent, "cosine": _cosine, "hours": _hours,
    }  # fmt: skip
    environment.globals |= {"ready_pairs": ready_pairs, "status_labels": STATUS_LABELS}
    return environment


def _ready(pending: PendingPicture | None) -> Picture | None:
    return pending.ready() if pending else None


def _percent(value: float) -> str:
    return f"{value * 100:.0f} %"


def _cosine(value: float | Measure) -> str:
    return f"{value.mean if isinstance(value, Measure) else value:.3f}"


def _bytes(value: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.2f} TB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{_hours(seconds)} h"


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.1f}" if hours >= 1 else f"{hours:.2f}"


def _moment(value: datetime) -> str:
    return value.strftime("%Y-%m-%d %H:%M")
