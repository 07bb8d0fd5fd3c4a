"""How well and how fast characters are found, with the truth known: ours, plain hdbscan, the peers' OPTICS, k-means.

`python -m yokai_assets_tests.benchmarks.clustering [--counts 10000,50000] [--methods communities,umap_hdbscan,...]`.
Vectors as `synthetic.clip_like` draws them, 512 wide, 20 % strangers; 100 characters, 500 from half a million on.
*Found* is a character that one group matches with an intersection over union of .5 (.75); *rejected* the share of
strangers in no group. Each measurement is a process of its own, so that peaks of memory are its own.
"""

import argparse
import multiprocessing
import resource
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yokai_assets_tests.benchmarks.synthetic import NOISE, Synthetic, clip_like

LARGEST = {"hdbscan": 10_000, "optics": 3_000, "umap_hdbscan": 200_000}
"""Instances beyond which a method is left out: it would take hours."""


def labels_by(method: str, series: Synthetic, character_count: int) -> NDArray[np.int32]:
    """Cluster with one of ours (the whole stage), or with what others use."""
    if method in ("communities", "umap_hdbscan"):
        from yokai_assets.clustering import cluster_instances
        from yokai_assets.settings.model import ClusteringSettings

        settings = ClusteringSettings.model_validate({"method": method})
        return cluster_instances(series.vectors, series.frame_ids, settings, 0).labels
    if method == "hdbscan":
        import hdbscan

        return hdbscan.HDBSCAN(min_cluster_size=25, min_samples=5).fit_predict(series.vectors.astype(np.float64))
    if method == "kmeans":
        from sklearn.cluster import MiniBatchKMeans

        return MiniBatchKMeans(character_count, random_state=0).fit_predict(series.vectors)
    if method == "optics":
        from sklearn.cluster import OPTICS

        def distance(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
            return float(1.0 - one @ other)

        measured: Any = distance
        return OPTICS(min_samples=5, min_cluster_size=25, metric=measured).fit_predict(series.vectors)
    raise ValueError(f"no method `{method}`")


def found_counts(labels: NDArray[np.int32], truth: NDArray[np.int32]) -> tuple[int, int]:
    """Return how many characters one group matches with IoU .5 and .75."""
    sizes = np.bincount(labels[labels != NOISE], minlength=1)
    counts = [0, 0]
    for character in range(int(truth.max()) + 1):
        members = truth == character
        groups, shared = np.unique(labels[members & (labels != NOISE)], return_counts=True)
        if len(groups):
            overlap = (shared / (members.sum() + sizes[groups] - shared)).max()
            counts[0] += overlap >= 0.5
            counts[1] += overlap >= 0.75
    return counts[0], counts[1]


def measure(method: str, count: int, character_count: int) -> str:
    """Return one row of the table."""
    from sklearn.metrics import adjusted_mutual_info_score

    series = clip_like(count, character_count)
    start, busy = time.perf_counter(), time.process_time()
    labels = labels_by(method, series, character_count)
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    is_stranger = series.characters == NOISE
    half, most = found_counts(labels, series.characters)
    return (
        f"| {count:,} | {method} | {seconds:.1f} | {busy:.1f} | {peak_gb:.2f} | "
        f"{adjusted_mutual_info_score(series.characters, labels):.3f} | {half} / {most} of {character_count} | "
        f"{len(np.unique(labels[labels != NOISE]))} | {(labels == NOISE).mean():.2f} | "
        f"{(labels[is_stranger] == NOISE).mean():.2f} | {(labels[~is_stranger] != NOISE).mean():.2f} |"
    )


def _put_row(queue: Any, method: str, count: int, character_count: int) -> None:
    queue.put(measure(method, count, character_count))


def main() -> None:
    """Measure and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--counts", default="3000,10000,50000", help="Numbers of instances, with commas.")
    parser.add_argument("--methods", default="communities,umap_hdbscan,hdbscan,optics,kmeans", help="With commas.")
    options = parser.parse_args()
    print("| instances | method | s | CPU s | peak GB | AMI | found .5 / .75 | groups | noise | rejected | covered |")
    print("|---|---|---|---|---|---|---|---|---|---|---|", flush=True)
    context = multiprocessing.get_context("spawn")
    for count in map(int, options.counts.split(",")):
        for method in options.methods.split(","):
            if count > LARGEST.get(method, count):
                continue
            queue = context.Queue()
            process = context.Process(
                target=_put_row, args=(queue, method, count, 500 if count >= 500_000 else min(100, count // 100))
            )
            process.start()
            print(queue.get(), flush=True)
            process.join()


if __name__ == "__main__":
    main()
