"""How good groups are, without knowing the truth: how tight, how far from the next, one character or two, found again.

Numbers per group and for all. Which number fails a check, and what is done about it, is the callers' decision;
pictures are `previews`.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from yokai_assets.clustering import refinement
from yokai_assets.clustering.clustering import cluster_instances
from yokai_assets.clustering.grouping import NOISE
from yokai_assets.clustering.linkage import linkages, stranger_cosine
from yokai_assets.clustering.whitening import half_whiten
from yokai_assets.settings.model import ClusteringSettings
from yokai_assets.tables import GROUPS

MERGED_HALVES_LINKAGE = 0.45
"""Linkage of a group's two halves below which it is suspected to be two characters.

On the scale of `linkage.merge_fragments` (0: two different characters, 1: as within the tighter half), with halves
by 2-means in the half-whitened space. Groups of one character had .48 and more in 95 of 100 cases (median .74 on
CLIP-like series, .9 on drawn ones), two nearest characters taken as one .02 to .3 in the median; a small character
lost in one a hundred times its size is not seen so."""

SPLIT_RIVAL_LINKAGE = 0.5
"""Linkage of two groups from which they are suspected to be one character: nearest different ones had at most .41."""

UNSTABLE_JACCARD = 0.5
"""Mean Jaccard index under resampling below which a group is not found again (Hennig 2007: "dissolved")."""

SCENERY_EDGE_CONTACT = 0.4
"""Median edge contact from which a group is scenery: clouds of a film had .5, characters of five series 0. One whole
side of a box, as of figures cut off below the chest, is .25."""

SCENERY_PROBABILITY = 0.9
"""Mean probability, by words, of showing no figure from which a group is scenery. Set high, not calibrated: the models
that could be tried here do not know such words (and say so, so that nothing is judged by them)."""

SEVERAL_SHARE = 0.5
"""Share of members with more than one lobe from which a group is suspected to be pairs who touch (or big heads on thin
necks: shown, but never kept from training)."""

IS_SCENERY = (pl.col("edge_contact") >= SCENERY_EDGE_CONTACT) | (pl.col("scenery_probability") >= SCENERY_PROBABILITY)
"""Of `GROUPS`: the group is scenery or lettering, by shape or by words."""

_SIGNS = {
    "shot": pl.Int64, "edge_contact_share": pl.Float32, "lobe_count": pl.Int32, "scenery_probability": pl.Float32
}  # fmt: skip
_SAMPLE = 6_000
_SILHOUETTE_SAMPLE = 5_000
_RESAMPLES, _RESAMPLED_SHARE = 3, 0.8
_HALVES_SAMPLE = 400


@dataclass(frozen=True, slots=True)
class GroupJudgement:
    """Judgement of one clustering.

    Attributes:
        table: `GROUPS`, by label.
        noise_share: Share of instances in no group.
        silhouette: Mean silhouette coefficient by cosine distance (Rousseeuw 1987) in the half-whitened space in which
            groups are found, over at most 5,000 members; None with fewer than two groups.
    """

    table: pl.DataFrame
    noise_share: float
    silhouette: float | None


def judge_groups(
    vectors: np.ndarray,
    labels: np.ndarray,
    is_rare_group: np.ndarray,
    frame_ids: list[str],
    settings: ClusteringSettings,
    seed: int,
    *,
    former: pl.DataFrame | None = None,
    signs: pl.DataFrame | None = None,
) -> GroupJudgement:
    """Judge the groups of unit vectors.

    Args:
        vectors: float32 [N, D], as they were clustered.
        labels: int32 [N]; -1 is noise.
        is_rare_group: bool [N].
        frame_ids: Frame of each instance.
        settings: Settings of the clustering, for clustering samples again.
        seed: Seed of everything random.
        former: `GROUPS` of the clustering that these groups still are, new members aside: stability is taken from it.
            Unset: it is measured.
        signs: In the order of the vectors, `shot`, unique in the series, `edge_contact_share` and `lobe_count` of
            `INSTANCES`, and `scenery_probability`; nulls are not judged. Unset: none of it is.
    """
    frame_codes = np.unique(np.asarray(frame_ids, dtype=str), return_inverse=True)[1].ravel()
    whitened = half_whiten(vectors)
    table = _tightness(vectors, labels, is_rare_group)
    table = table.join(_linkages(vectors, whitened, labels, frame_codes, seed), on="cluster_label", how="left")
    if former is None:
        measured = _stability(vectors, labels, frame_ids, settings, seed)
        stability = pl.DataFrame(
            {"cluster_label": range(len(measured)), "stability": measured},
            schema={"cluster_label": pl.Int32, "stability": pl.Float32},
        )
    else:
        stability = former.select("cluster_label", "stability")
    table = table.join(stability, on="cluster_label", how="left")
    table = table.join(_signs(labels, signs), on="cluster_label", how="left").with_columns(suspicion=_suspicion())
    return GroupJudgement(
        table=GROUPS.conform(table.select(GROUPS.schema.names()).sort("cluster_label")),
        noise_share=float((labels == NOISE).mean()) if len(labels) else 0.0,
        silhouette=_silhouette(whitened, labels, seed),
    )


def _suspicion() -> pl.Expr:
    is_merge = pl.col("halves_linkage") < MERGED_HALVES_LINKAGE
    is_split = pl.col("rival_linkage") >= SPLIT_RIVAL_LINKAGE
    is_unstable = pl.col("stability") < UNSTABLE_JACCARD
    return (
        pl.when(is_merge).then(pl.lit("merge"))
        .when(is_split).then(pl.lit("split"))
        .when(IS_SCENERY).then(pl.lit("scenery"))
        .when(pl.col("several_share") >= SEVERAL_SHARE).then(pl.lit("several"))
        .when(is_unstable).then(pl.lit("unstable"))
    )  # fmt: skip


def _signs(labels: np.ndarray, signs: pl.DataFrame | None) -> pl.DataFrame:
    measured = signs if signs is not None else pl.DataFrame(schema=_SIGNS).clear(len(labels))
    return (
        measured.with_columns(pl.Series("cluster_label", labels, dtype=pl.Int32))
        .filter(pl.col("cluster_label") != NOISE)
        .group_by("cluster_label")
        .agg(
            pl.col("edge_contact_share").median().cast(pl.Float32).alias("edge_contact"),
            (pl.col("lobe_count") > 1).mean().cast(pl.Float32).alias("several_share"),
            pl.col("scenery_probability").mean().cast(pl.Float32),
            pl.col("shot").drop_nulls().n_unique().cast(pl.Int32).alias("shot_count"),
        )
    )


def _tightness(vectors: np.ndarray, labels: np.ndarray, is_rare: np.ndarray) -> pl.DataFrame:
    centroids = refinement.centroids_of(vectors, labels)
    own = refinement.own_cosines(vectors, labels, centroids)
    nearest = np.full(len(labels), -np.inf, np.float32)
    for start in range(0, len(vectors) if len(centroids) > 1 else 0, 65_536):
        rows = slice(start, start + 65_536)
        cosines = vectors[rows] @ centroids.T
        members = np.flatnonzero(labels[rows] != NOISE)
        cosines[members, labels[rows][members]] = -np.inf
        nearest[rows] = cosines.max(axis=1)
    rows = pl.DataFrame({"cluster_label": labels, "own": own, "margin": own - nearest, "is_rare_group": is_rare})
    return (
        rows.filter(pl.col("cluster_label") != NOISE)
        .group_by("cluster_label")
        .agg(
            pl.len().cast(pl.Int32).alias("size"),
            pl.col("is_rare_group").any(),
            pl.col("own").mean().alias("tightness"),
            pl.col("margin").quantile(0.05).alias("low_margin"),
            (pl.col("margin") < 0).mean().cast(pl.Float32).alias("stray_share"),
        )
        .with_columns(pl.col("low_margin").replace(float("inf"), None))
        .sort("cluster_label")
    )


def _linkages(
    vectors: np.ndarray, whitened: np.ndarray, labels: np.ndarray, frame_codes: np.ndarray, seed: int
) -> pl.DataFrame:
    """Return of every group its rival with their linkage, and the linkage of its own halves."""
    stranger = stranger_cosine(vectors, labels, frame_codes)
    between = linkages(vectors, labels, stranger)
    rows = []
    for label in range(len(between)):
        members = np.flatnonzero(labels == label)
        if len(members) == 0:  # all that it had are gone since
            continue
        rival = int(np.nanargmax(between[label])) if not np.isnan(between[label]).all() else None
        rows.append(
            {
                "cluster_label": label,
                "rival_label": rival,
                "rival_linkage": float(between[label, rival]) if rival is not None else None,
                "halves_linkage": _halves_linkage(vectors, whitened, members, stranger, seed),
            }
        )
    schema = {
        "cluster_label": pl.Int32, "rival_label": pl.Int32, "rival_linkage": pl.Float32, "halves_linkage": pl.Float32
    }  # fmt: skip
    return pl.DataFrame(rows, schema=schema)


def halves_of(whitened: np.ndarray, members: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of a group's two halves by 2-means, the larger first; at most 400 rows are looked at."""
    from sklearn.cluster import KMeans

    if len(members) > _HALVES_SAMPLE:
        members = np.sort(np.random.default_rng(seed).choice(members, _HALVES_SAMPLE, replace=False))
    parts = KMeans(2, n_init="auto", random_state=seed).fit_predict(whitened[members])
    halves = sorted((members[parts == 0], members[parts == 1]), key=lambda rows: (-len(rows), rows[:1].tolist()))
    return halves[0], halves[1]


def _halves_linkage(
    vectors: np.ndarray, whitened: np.ndarray, members: np.ndarray, stranger: float, seed: int
) -> float | None:
    if len(members) < 6:
        return None
    one, other = halves_of(whitened, members, seed)
    if len(other) < 3:
        return None
    labels = np.repeat(np.array([0, 1], np.int32), [len(one), len(other)])
    return float(linkages(vectors[np.concatenate([one, other])], labels, stranger)[0, 1])


def _stability(
    vectors: np.ndarray, labels: np.ndarray, frame_ids: list[str], settings: ClusteringSettings, seed: int
) -> list[float | None]:
    """Return of every group the mean Jaccard index with its likeliest counterpart in clusterings of samples.

    Hennig (2007), by subsampling: three times 80 % of the instances, of at most 6,000 drawn beforehand. A group of
    which too few were drawn to be found is not judged.
    """
    count = int(labels.max(initial=NOISE)) + 1
    rng = np.random.default_rng(seed)
    pool = np.arange(len(labels))
    if len(pool) > _SAMPLE:
        pool = np.sort(rng.choice(pool, _SAMPLE, replace=False))
    found: list[list[float]] = [[] for _ in range(count)]
    for _ in range(_RESAMPLES if count else 0):
        drawn = np.sort(rng.choice(pool, round(_RESAMPLED_SHARE * len(pool)), replace=False))
        again = cluster_instances(vectors[drawn], [frame_ids[row] for row in drawn], settings, seed).labels
        for label in range(count):
            own = labels[drawn] == label
            enough = min(settings.min_cluster_size, _RESAMPLED_SHARE * (labels == label).sum())
            if own.sum() >= max(enough, settings.min_rare_cluster_size):
                found[label].append(_best_jaccard(own, again))
    return [float(np.mean(values)) if values else None for values in found]


def _best_jaccard(own: np.ndarray, again: np.ndarray) -> float:
    held = np.bincount(again[own & (again != NOISE)], minlength=1)
    sizes = np.bincount(again[again != NOISE], minlength=len(held))
    return float((held / np.maximum(own.sum() + sizes[: len(held)] - held, 1)).max())


def _silhouette(whitened: np.ndarray, labels: np.ndarray, seed: int) -> float | None:
    members = np.flatnonzero(labels != NOISE)
    if len(members) > _SILHOUETTE_SAMPLE:
        members = np.sort(np.random.default_rng(seed).choice(members, _SILHOUETTE_SAMPLE, replace=False))
    found = len(np.unique(labels[members]))
    if found < 2 or found >= len(members):
        return None
    from sklearn.metrics import silhouette_score

    return float(silhouette_score(whitened[members], labels[members], metric="cosine"))
