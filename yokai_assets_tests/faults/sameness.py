"""Do two data roots hold the same? Files byte by byte; where they tell of the process that made them, all else.

What is left out is named in `LEFT_OUT`, and why. Everything else that differs is an error of the product.
"""

import json
import re
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from yokai_assets.storage.files import RETIRED_SUFFIX, TEMPORARY_MARK

LEFT_OUT = {
    "dagster": "the record of runs: there are more of them",
    "tensorboard": "curves for TensorBoard: a stream of events with times, which goes on in another file after a kill",
}
"""Folders that are not compared."""

OF_A_PROCESS = {
    *("at", "generated_at", "newest_at", "made_at", "published_at", "read_at", "started_at", "ended_at"),
    *("seconds", "gpu_seconds", "training_seconds", "evaluation_seconds", "steps_per_second", "images_per_second"),
    *("date", "run", "run_id", "peak_memory_bytes", "resumed_from_step"),
    *("signature", "bytes", "storage_bytes"),
}
"""Columns and keys (in the header of a LoRA, their last part) that tell of the process, not of what it made: times and
durations; the Dagster run, the memory it took, the step it went on from; sizes and times of files that hold those
(`signature`)."""


def unfinished(root: Path) -> list[str]:
    """Return what a process has left unfinished or aside under a data root."""
    names = (path.relative_to(root) for path in root.rglob("*"))
    return sorted(
        str(n) for n in names if TEMPORARY_MARK in n.name or n.name.endswith((RETIRED_SUFFIX, ".wal", ".tmp"))
    )


def differences(root: Path, other: Path) -> list[str]:
    """Return what differs between two data roots, a line for each file."""
    ours, theirs = _files(root), _files(other)
    found = [f"only in the undisturbed: {name}" for name in sorted(ours - theirs)]
    found += [f"only in the disturbed: {name}" for name in sorted(theirs - ours)]
    for name in sorted(ours & theirs):
        one, two = root / name, other / name
        if one.read_bytes() != two.read_bytes() and (said := _compare(one, two)):
            found.append(f"{name}: {said}")
    return found


def _files(root: Path) -> set[str]:
    paths = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return {str(path) for path in paths if not LEFT_OUT.keys() & set(path.parts)}


def _compare(one: Path, two: Path) -> str | None:
    """Say what differs beside what is of the process; None where nothing does."""
    if one.suffix == ".parquet":
        return _of_frames(pl.read_parquet(one), pl.read_parquet(two))
    if one.name == "manifest.json":  # its keys hold the times of the pictures' sources
        ours, theirs = (sorted(map(str, json.loads(path.read_text()).values())) for path in (one, two))
        return _of_values(ours, theirs)
    if one.suffix == ".json":
        return _of_values(json.loads(one.read_text()), json.loads(two.read_text()))
    if one.suffix == ".safetensors":
        (head, tensors), (other_head, other_tensors) = _safetensors(one), _safetensors(two)
        return _of_values(head, other_head) or (None if tensors == other_tensors else "its tensors")
    if one.suffix == ".duckdb":
        return _of_databases(one, two)
    return _of_texts(one, two)


def _of_frames(one: pl.DataFrame, two: pl.DataFrame) -> str | None:
    if one.columns != two.columns or one.height != two.height:
        return f"{one.shape} or columns against {two.shape}"
    kept = [name for name in one.columns if name not in OF_A_PROCESS]
    differ = [name for name in kept if not one[name].equals(two[name], null_equal=True)]
    return f"columns {differ}" if differ else None


def _of_values(one: Any, two: Any, place: str = "") -> str | None:
    if isinstance(one, dict) and isinstance(two, dict):
        if one.keys() != two.keys():
            return f"keys of {place or 'all'}: {sorted(one.keys() ^ two.keys())}"
        said = (
            _of_values(one[key], two[key], f"{place}.{key}")
            for key in one
            if key.rpartition(".")[2] not in OF_A_PROCESS
        )
        return next(filter(None, said), None)
    if isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        return next(filter(None, (_of_values(a, b, f"{place}[]") for a, b in zip(one, two, strict=True))), None)
    return None if one == two else f"{place}: {str(one)[:80]} against {str(two)[:80]}"


def _safetensors(path: Path) -> tuple[dict[str, Any], bytes]:
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    head = json.loads(data[8 : 8 + size])
    return head, data[8 + size :]


def _of_databases(one: Path, two: Path) -> str | None:
    ours, theirs = _tables(one), _tables(two)
    if ours.keys() != theirs.keys():
        return f"relations {sorted(ours.keys() ^ theirs.keys())}"
    said = {name: _of_frames(ours[name], theirs[name]) for name in ours}
    differ = {name: text for name, text in said.items() if text}
    return str(differ) if differ else None


def _tables(path: Path) -> dict[str, pl.DataFrame]:
    with duckdb.connect(str(path), read_only=True) as connection:
        names = [row[0] for row in connection.execute("SELECT table_name FROM duckdb_tables() ORDER BY 1").fetchall()]
        names += [
            row[0] for row in connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
        ]
        return {name: connection.sql(f'FROM "{name}"').pl() for name in names}


def _of_texts(one: Path, two: Path) -> str | None:
    try:
        ours, theirs = (_of_no_process(path.read_text(encoding="utf-8")) for path in (one, two))
    except UnicodeDecodeError:
        return "its bytes"
    pairs = zip(ours.splitlines(), theirs.splitlines(), strict=False)
    first = next(((a, b) for a, b in pairs if a != b), None)
    if ours == theirs:
        return None
    return f"{first[0][:160]!r} against {first[1][:160]!r}" if first else "its length"


_UUID = re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d)?(\.\d+)?( UTC|Z|[+-]\d\d:\d\d)?)?")
_DURATION = re.compile(
    r"\b\d+(\.\d+)? (s|min|h|images/s|B|kB|MB)\b|<td class=\"number\">\d+\.\d\d</td>"
)  # hours of a stage


def _of_no_process(text: str) -> str:
    return _DURATION.sub("DURATION", _MOMENT.sub("TIME", _UUID.sub("RUN", text)))
