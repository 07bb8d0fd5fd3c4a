"""Who is in a training set? Identities in the sets of clustered series, and what becomes of wrong images.

`python -m yokai_assets_tests.benchmarks.selection [--seeds 7,1,2] [--weights DIR]`. Two kinds of series: drawn ones
through the production stages with the bundled CLIP, and foreign figures with EfficientNet vectors (as in the benchmark
`identities`). *Right*: images of a selected set that show the character most of it shows. Then, into each true
character of at least twenty images, one image of somebody else is planted at a time: of another known character, or of
somebody that no character is made of. *Out*: it does not pass the selection. *Lost*: right images that fail for their
identity.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image

from yokai_assets.clustering import cluster_instances
from yokai_assets.datasets.selection import QualityLimits, candidates, passing_quality
from yokai_assets.demo.real_data import NotFetched, fetch_efficientnet_lite0, fetch_figures
from yokai_assets.embedding.instances import neutral_ground, vector_matrix
from yokai_assets.embedding.model import open_image_text_model
from yokai_assets.settings import load_settings
from yokai_assets.settings.model import ClusteringSettings, EmbeddingSettings
from yokai_assets.tables import EMBEDDINGS, INSTANCES, MEMBERS
from yokai_assets_tests.benchmarks.identities import draw, frames_of
from yokai_assets_tests.benchmarks.traits import cut_out

_PLANTED, _LEAST = 20, 20
_IDENTITY_REASONS = ("atypical", "other_character")


@dataclass(frozen=True, slots=True)
class Crowd:
    """Embedded cut-outs with their true characters (-1: nobody's), and the frames they are of."""

    name: str
    vectors: NDArray[np.float32]
    truth: NDArray[np.int64]
    frame_ids: list[str]


def drawn(seeds: list[int]) -> Iterator[Crowd]:
    """Yield series as `yokai demo` draws them."""
    settings = load_settings(overrides={"profile": "demo", "device": "cpu"})
    model = open_image_text_model(settings.embedding, "cpu")
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            series = cut_out(Path(folder), seed, 6, 60, settings, model)
            rows = series.embeddings.join(series.traits.select("instance_id", "character"), on="instance_id")
            truth = rows["character"].rank("dense").to_numpy().astype(np.int64) - 1
            frames = [name.rpartition("/")[0] for name in rows["instance_id"]]
            yield Crowd(f"drawn, seed {seed}", vector_matrix(rows), truth, frames)


def foreign(weights: Path, seeds: list[int]) -> Iterator[Crowd]:
    """Yield series of foreign figures, a fifth of them strangers."""
    figures = [Image.open(file).convert("RGBA") for file in fetch_figures(weights)]
    embedding = EmbeddingSettings.model_validate({"model": f"local-dir:{fetch_efficientnet_lite0(weights)}"})
    model = open_image_text_model(embedding, "cpu")
    for seed in seeds:
        cutouts, truth = draw(figures, 25, seed)
        vectors = model.embed_images([neutral_ground(cutout, embedding.neutral_grey) for cutout in cutouts])
        yield Crowd(f"foreign, seed {seed}", vectors, truth, frames_of(truth))


def selected(
    vectors: NDArray[np.float32], own: NDArray[np.integer], rivals: NDArray[np.float32] | None
) -> tuple[set[int], dict[int, str]]:
    """Return the rows of a character that pass the selection, and the reasons of the others."""
    centre = vectors[own].mean(axis=0)
    cosines = vectors[own] @ (centre / np.linalg.norm(centre))
    box = {"x0": 50, "y0": 50, "x1": 250, "y1": 250, "frame_width_px": 640, "frame_height_px": 360}
    rows = [
        {
            **dict.fromkeys(INSTANCES.schema, 0), **box, "instance_id": f"e/{row:06d}/0", "frame_id": f"e/{row:06d}",
            "episode": "e", "cutout": "", "cutout_sha256": str(row), "frame_sha256": "", "matte_fingerprint": "",
            "sharpness": 1.0, "lobe_count": 1, "edge_contact_share": 0.0,
        }
        for row in own
    ]  # fmt: skip
    members = [
        {**dict.fromkeys(MEMBERS.schema), "character_id": "c", "instance_id": f"e/{row:06d}/0", "episode": "e",
         "probability": 1.0, "centroid_cosine": float(cosine)}
        for row, cosine in zip(own, cosines, strict=True)
    ]  # fmt: skip
    embeddings = pl.DataFrame(
        {
            "instance_id": [row["instance_id"] for row in rows],
            "episode": "e",
            "cutout_sha256": [row["cutout_sha256"] for row in rows],
            "model_fingerprint": "m",
            "vector": pl.Series(vectors[own], dtype=pl.Array(pl.Float32, vectors.shape[1])),
        }
    )
    found = candidates(
        "c", MEMBERS.from_rows(members), INSTANCES.from_rows(rows), EMBEDDINGS.conform(embeddings), rivals
    )
    passed = passing_quality(found, 24, QualityLimits())
    kept = {int(name.split("/")[1]) for name in passed.rows["instance_id"]}
    return kept, {int(name.split("/")[1]): reason for name, reason in passed.dropped.items()}


def centroids(vectors: NDArray[np.float32], groups: Sequence[NDArray[np.integer]]) -> NDArray[np.float32] | None:
    """Return the unit means of groups of rows."""
    means = [vectors[rows].mean(axis=0) for rows in groups if len(rows)]
    return np.stack([mean / np.linalg.norm(mean) for mean in means]) if means else None


def right_share(crowd: Crowd) -> tuple[float, float]:
    """Return the share of right images in groups of a clustering, and in the sets selected from them."""
    labels = cluster_instances(crowd.vectors, crowd.frame_ids, ClusteringSettings(), 0).labels
    groups = [np.flatnonzero(labels == label) for label in range(labels.max() + 1)]
    before, after = [0, 0], [0, 0]
    for number, own in enumerate(groups):
        names, counts = np.unique(crowd.truth[own], return_counts=True)
        if len(own) < ClusteringSettings().min_cluster_size or names[counts.argmax()] < 0:
            continue  # too small to be trained, or a group of strangers, which `group_quality` and people judge
        rivals = centroids(crowd.vectors, groups[:number] + groups[number + 1 :])
        kept = sorted(selected(crowd.vectors, own, rivals)[0])
        for count, rows in ((before, own), (after, np.array(kept, np.int64))):
            count[0] += int((crowd.truth[rows] == names[counts.argmax()]).sum())
            count[1] += len(rows)
    return before[0] / max(1, before[1]), after[0] / max(1, after[1])


def planted_shares(crowd: Crowd) -> tuple[float, float, float]:
    """Return shares out: planted images of known others, of unknown ones; and of right images lost."""
    rng = np.random.default_rng(0)
    groups = {c: np.flatnonzero(crowd.truth == c) for c in range(crowd.truth.max() + 1)}
    out: dict[bool, list[bool]] = {True: [], False: []}
    lost = [0, 0]
    for character, own in groups.items():
        if len(own) < _LEAST:
            continue
        for is_known in (True, False):
            for guest in rng.choice(np.flatnonzero(crowd.truth != character), _PLANTED):
                owner = int(crowd.truth[guest])
                if is_known and (owner < 0 or len(groups[owner]) < _LEAST):
                    continue
                others = [rows[rows != guest] for c, rows in groups.items()
                          if c != character and (is_known or c != owner) and len(rows) >= _LEAST]  # fmt: skip
                kept, reasons = selected(crowd.vectors, np.append(own, guest), centroids(crowd.vectors, others))
                out[is_known].append(int(guest) not in kept)
                if is_known:
                    lost[0] += sum(reasons.get(int(row)) in _IDENTITY_REASONS for row in own)
                    lost[1] += len(own)
    return float(np.mean(out[True])), float(np.mean(out[False])), lost[0] / max(1, lost[1])


def main() -> None:
    """Measure and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", type=Path, default=Path("build/real"), help="Where fetched files are kept.")
    parser.add_argument("--seeds", default="7,1,2", help="Series to draw.")
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    print("| series | cut-outs | right in groups | right in sets | known others out | unknown out | right lost |")
    print("|---|---|---|---|---|---|---|")

    def crowds() -> Iterator[Crowd]:
        yield from drawn(seeds)
        options.weights.mkdir(parents=True, exist_ok=True)
        try:
            yield from foreign(options.weights, seeds)
        except NotFetched as error:
            print(f"foreign figures: nothing to measure on: {error}")

    for crowd in crowds():
        shares = (*right_share(crowd), *planted_shares(crowd))
        print(f"| {crowd.name} | {len(crowd.truth)} | " + " | ".join(f"{s:.1%}" for s in shares) + " |", flush=True)


if __name__ == "__main__":
    main()
