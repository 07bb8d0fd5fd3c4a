"""Pictures of a clustering: instances on a map, and suspected merges and splits side by side.

Picking only; drawing is `charts` and `sheets`. A picture that cannot be made is `None`, never an error.
"""

import contextlib

import numpy as np
import polars as pl
from PIL import Image

from yokai_assets.analysis.diversity import medoids
from yokai_assets.clustering.judging import halves_of
from yokai_assets.clustering.whitening import half_whiten
from yokai_assets.previews.charts import scatter_chart
from yokai_assets.previews.cutouts import cutouts_of
from yokai_assets.previews.stages import groups_sheet
from yokai_assets.storage.layout import Layout
from yokai_assets.storage.vectors import VectorIndex
from yokai_assets.tables import TableError

MAX_POINTS, MAX_SUSPECTS, PER_SIDE = 3_000, 8, 8
_MIN_POINTS = 12


def place_instances(vectors: np.ndarray, labels: np.ndarray, seed: int) -> pl.DataFrame:
    """Return `x`, `y` and `cluster_label` of at most 3,000 instances by t-SNE; none for fewer than 12.

    t-SNE (van der Maaten and Hinton 2008) of the half-whitened vectors: who is near whom is meant, not how far.
    """
    rows = np.arange(len(vectors))
    if len(rows) < _MIN_POINTS:
        return pl.DataFrame(schema={"x": pl.Float64, "y": pl.Float64, "cluster_label": pl.Int32})
    if len(rows) > MAX_POINTS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MAX_POINTS, replace=False))
    from sklearn.manifold import TSNE

    space = half_whiten(vectors[rows])
    perplexity = min(30.0, (len(rows) - 1) / 3)
    model = TSNE(2, perplexity=perplexity, metric="cosine", init="random", random_state=seed, n_jobs=1)
    points = np.asarray(model.fit_transform(space), np.float64)
    return pl.DataFrame({"x": points[:, 0], "y": points[:, 1], "cluster_label": labels[rows].astype(np.int32)})


def map_chart(points: pl.DataFrame) -> Image.Image:
    """Draw `place_instances`: a colour per group, grey for what belongs to none."""
    groups = {
        f"group {label}": (rows["x"].to_numpy(), rows["y"].to_numpy())
        for (label,), rows in points.filter(pl.col("cluster_label") >= 0).sort("cluster_label").group_by(
            "cluster_label", maintain_order=True
        )
    }  # fmt: skip
    noise = points.filter(pl.col("cluster_label") < 0)
    return scatter_chart(groups, (noise["x"].to_numpy(), noise["y"].to_numpy()), title="instances by likeness")


def suspects_sheet(
    suspects: pl.DataFrame, index: VectorIndex, labels: np.ndarray, layout: Layout, seed: int
) -> Image.Image | None:
    """Draw two rows for each of up to eight suspicions: a group's halves, or a group and its rival.

    Each side is shown by its medoids. Largest groups first.

    Args:
        suspects: Rows of `GROUPS`.
        index: Vectors that were clustered.
        labels: int32 [N], in the index's order.
        layout: Where cut-outs lie.
        seed: As given to `judge_groups`, so that the halves are those that were judged.
    """
    wanted = suspects.filter(pl.col("suspicion").is_in(["merge", "split"])).sort("size", descending=True)
    if wanted.is_empty():
        return None
    vectors, whitened = index.vectors, half_whiten(index.vectors)
    sides: dict[str, np.ndarray] = {}
    seen: set[frozenset[int]] = set()
    for row in wanted.iter_rows(named=True):
        label, rival = row["cluster_label"], row["rival_label"]
        members = np.flatnonzero(labels == label)
        if row["suspicion"] == "merge":
            one, other = halves_of(whitened, members, seed)
            share = len(one) / max(1, len(one) + len(other))
            sides[f"{label}: one? {share:.0%}"], sides[f"{label}: other? {1 - share:.0%}"] = one, other
        elif frozenset((label, rival)) not in seen:
            seen.add(frozenset((label, rival)))
            sides[f"{label} ({len(members)})"] = members
            sides[f"is {rival}? ({(labels == rival).sum()})"] = np.flatnonzero(labels == rival)
        if len(sides) >= 2 * MAX_SUSPECTS:
            break
    shown = {name: _medoids_of(vectors, rows, seed) for name, rows in sides.items()}
    with contextlib.suppress(TableError):
        files = cutouts_of(index.rows[np.concatenate(list(shown.values())).tolist()], layout)
        ids = index.rows["instance_id"]
        return groups_sheet(
            {name: [files[ids[int(row)]] for row in rows if ids[int(row)] in files] for name, rows in shown.items()},
            layout,
            per_group=PER_SIDE,
        )
    return None


def _medoids_of(vectors: np.ndarray, rows: np.ndarray, seed: int) -> np.ndarray:
    if len(rows) > 400:
        rows = np.sort(np.random.default_rng(seed).choice(rows, 400, replace=False))
    return rows[medoids(vectors[rows], PER_SIDE)]


def cutouts_by(rows: pl.DataFrame, column: str, layout: Layout, count: int = 8) -> dict[str, list[str]]:
    """Return group -> its first `count` cut-outs, largest group first, reading only the episodes that are needed."""
    top = rows.group_by(column, maintain_order=True).head(count)
    sizes = rows.group_by(column).len().sort("len", descending=True)
    files = cutouts_of(top, layout)
    named = top.filter(pl.col("instance_id").is_in(list(files)))
    return {
        str(key): [files[name] for name in named.filter(pl.col(column) == key)["instance_id"]] for key in sizes[column]
    }
