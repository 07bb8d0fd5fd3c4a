"""What a series will cost before anything is started: frames, pictures, hours by stage, disk; from a sample.

Sampling, timing and arithmetic only; every stage is the production code on a few frames, in a folder that goes away.
Showing it is `yokai_assets.cli.plan`. Training is not measured: nobody waits for a base model to learn what it costs.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import polars as pl
from upath import UPath

from yokai_assets.embedding.instances import embed_instances
from yokai_assets.embedding.model import open_image_text_model
from yokai_assets.frames.episodes import EpisodeSource, SourceProblem, discover_episodes
from yokai_assets.frames.listing import list_folder
from yokai_assets.frames.scan import scan_stretch
from yokai_assets.frames.video import video_seconds
from yokai_assets.progress import Progress, silent
from yokai_assets.segmentation.backgrounds import build_backgrounds
from yokai_assets.segmentation.layers import segment_episode
from yokai_assets.segmentation.matte import open_matte
from yokai_assets.settings import Settings
from yokai_assets.storage.files import folder_bytes
from yokai_assets.storage.layout import Layout
from yokai_assets.storage.parquet import write_table
from yokai_assets.tables import FRAMES

STRETCHES = 8
"""Episodes that are looked into, a stretch of neighbouring frames each: only neighbours tell what is a duplicate."""

_BYTES_PER_VECTOR_VALUE = 8  # float32, in Parquet and in DuckDB
_RESAMPLES = 1000

T = TypeVar("T")


class NoFramesError(FileNotFoundError):
    """Nothing can be foretold: there is no frame, or none that shows a picture; the message says why."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What one stage will take.

    Attributes:
        name: Asset.
        unit: What is counted.
        count: How many there will be.
        seconds_each: Seconds for one, as measured here or as given.
        disk_bytes: What stays on disk.
        is_given: Whether the rate was given instead of measured.
    """

    name: str
    unit: str
    count: float
    seconds_each: float
    disk_bytes: float
    is_given: bool = False

    @property
    def hours(self) -> float:
        """Hours in all."""
        return self.count * self.seconds_each / 3600


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a series will cost.

    Attributes:
        episode_count: Episodes found.
        frame_count: Frames; of videos, at the chosen rate, as their length says.
        sampled_count: Frames looked at.
        unusable_share: Frames that show no whole picture or cannot be read.
        unique_share: Frames that stand for themselves, of all: mean and 90 % interval over the stretches.
        instances_per_unique: Characters cut out of a unique frame.
        stages: In the order of the road.
        problems: What in the source is no episode.
    """

    episode_count: int
    frame_count: int
    sampled_count: int
    unusable_share: float
    unique_share: tuple[float, float, float]
    instances_per_unique: float
    stages: tuple[Stage, ...]
    problems: tuple[SourceProblem, ...]

    @property
    def hours(self) -> float:
        """Hours of all stages, one after the other."""
        return sum(stage.hours for stage in self.stages)

    @property
    def disk_bytes(self) -> float:
        """Bytes that all stages leave on disk."""
        return sum(stage.disk_bytes for stage in self.stages)


def forecast(
    source: UPath,
    settings: Settings,
    device: str,
    *,
    sample_frames: int = 960,
    cut_frames: int = 32,
    given_rates: dict[str, float] | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Forecast:
    """Foretell what the episodes of a source will cost up to their vectors.

    Args:
        source: Folder of episodes.
        settings: Models, thresholds, rates.
        device: Resolved device.
        sample_frames: Frames to look at, in up to `STRETCHES` stretches.
        cut_frames: Unique frames of these to cut characters from.
        given_rates: Asset -> units a second, e.g. of a GPU that is not here; the others are measured.
        seed: Of the choice of stretches.
        progress: Told of every part.

    Raises:
        NoFramesError: The source holds no frame that can be read.
        MatteError, ModelError: A model cannot be opened.
    """
    episodes, problems = discover_episodes(source)
    counts = [count_frames(episode, settings) for episode in episodes]
    if not sum(counts):
        reason = f" {problems[0]}" if problems else ""
        raise NoFramesError(f"{source}: no frame found in {len(episodes)} episodes.{reason}")
    progress(1, 5, f"{sum(counts):,} frames in {len(episodes)} episodes")
    chosen = _chosen(episodes, counts, sample_frames, seed)
    scan_stretch(chosen[0][0], source, settings.frames, 0, 2)  # compiles what is compiled at first use
    scan_seconds, stretches = _timed(
        lambda: [scan_stretch(episode, source, settings.frames, first, count) for episode, first, count in chosen]
    )
    sample = pl.concat(stretches)
    is_unique = pl.col("frame_id") == pl.col("representative")
    if not sample.filter(is_unique).height:
        raise NoFramesError(f"{source}: none of {sample.height} sampled frames shows a picture ({_reasons(sample)}).")
    progress(2, 5, f"{sample.height} frames looked at")
    shares = [stretch.filter(is_unique).height / max(1, stretch.height) for stretch in stretches]
    unique_share = _interval(np.array(shares), np.array([stretch.height for stretch in stretches]))
    frame_count, rates = sum(counts), given_rates or {}
    with tempfile.TemporaryDirectory(prefix="yokai-plan-") as scratch:
        layout = Layout(UPath(scratch), "plan")
        row_bytes = _row_bytes(sample, layout)
        measured = _measure_pixels(sample, source, settings, device, layout, cut_frames, progress)
    unique, shots = frame_count * unique_share[0], frame_count * sample.filter(is_unique).n_unique(["episode", "shot"])
    instances = unique * measured.instances_per_frame
    planned = (
        Stage("frames", "frames", frame_count, scan_seconds / sample.height, frame_count * row_bytes),
        Stage("character_layers", "unique frames", unique, measured.cut_seconds, instances * measured.cutout_bytes),
        Stage(
            "background_layers", "shots", shots / sample.height, measured.plate_seconds,
            shots / sample.height * measured.plate_bytes,
        ),
        Stage(
            "embeddings", "instances", instances, measured.embed_seconds,
            instances * measured.dimension * _BYTES_PER_VECTOR_VALUE,
        ),
    )  # fmt: skip
    return Forecast(
        episode_count=len(episodes),
        frame_count=frame_count,
        sampled_count=sample.height,
        unusable_share=sample.filter(pl.col("status") != "ok").height / sample.height,
        unique_share=unique_share,
        instances_per_unique=measured.instances_per_frame,
        stages=tuple(_at_given_rate(stage, rates) for stage in planned),
        problems=tuple(problems),
    )


@dataclass(frozen=True, slots=True)
class _Measured:
    instances_per_frame: float
    cut_seconds: float
    cutout_bytes: float
    plate_seconds: float
    plate_bytes: float
    embed_seconds: float
    dimension: int


def _measure_pixels(
    sample: pl.DataFrame,
    source: UPath,
    settings: Settings,
    device: str,
    layout: Layout,
    cut_frames: int,
    progress: Progress,
) -> _Measured:
    unique = sample.filter(pl.col("frame_id") == pl.col("representative"))
    some = unique[np.linspace(0, unique.height - 1, min(cut_frames + 1, unique.height)).round().astype(int).tolist()]
    matte = open_matte(settings.segmentation, device)
    # The first frame warms the network up and is not timed, unless there is no other.
    segment_episode(some.head(1), source, matte, settings.segmentation, layout)
    timed = some.tail(-1) if some.height > 1 else some
    cut_seconds, cut = _timed(lambda: segment_episode(timed, source, matte, settings.segmentation, layout))
    instances, frames = cut.instances, timed.height
    cutout_bytes = folder_bytes(layout.root / "layers") / max(1, instances.height)
    progress(3, 5, f"{instances.height} characters cut out of {frames} frames")
    plate_seconds, plates = _timed(
        lambda: pl.concat(
            build_backgrounds(of_episode, instances, source, settings.background, layout)
            for of_episode in some.partition_by("episode", maintain_order=True)
        )
    )
    plate_bytes = sum(layout.absolute(plate).stat().st_size for plate in plates["plate"])
    progress(4, 5, f"{plates.height} clean plates")
    model = open_image_text_model(settings.embedding, device)
    embed_instances(instances.head(1), layout, model, settings.embedding)
    embed_seconds, _ = _timed(lambda: embed_instances(instances, layout, model, settings.embedding))
    progress(5, 5, f"{instances.height} vectors")
    return _Measured(
        instances_per_frame=instances.height / frames,
        cut_seconds=cut_seconds / frames,
        cutout_bytes=cutout_bytes,
        plate_seconds=plate_seconds / max(1, plates.height),
        plate_bytes=plate_bytes / max(1, plates.height),
        embed_seconds=embed_seconds / max(1, instances.height),
        dimension=model.dimension,
    )


def _row_bytes(sample: pl.DataFrame, layout: Layout) -> float:
    """Return the bytes of a row of table `frames`, as it is stored."""
    file = layout.table("frames", "sample")
    write_table(FRAMES, sample, file)
    return file.stat().st_size / sample.height


def count_frames(episode: EpisodeSource, settings: Settings) -> int:
    """Return the frames of an episode; of a video, as its length and the chosen rate say."""
    if episode.kind == "video":
        return round(video_seconds(episode.path) * settings.frames.video_frames_per_second)
    return sum(entry.is_image for entry in list_folder(episode.path))


def _chosen(
    episodes: list[EpisodeSource], counts: list[int], sample_frames: int, seed: int
) -> list[tuple[EpisodeSource, int, int]]:
    """Return episode, first frame and number of frames of each stretch, spread over the series."""
    rng = np.random.default_rng(seed)
    filled = [(episode, count) for episode, count in zip(episodes, counts, strict=True) if count]
    places = np.unique(np.linspace(0, len(filled) - 1, min(STRETCHES, len(filled))).round().astype(int))
    length = -(-sample_frames // len(places))
    return [
        (episode, int(rng.integers(max(1, count - length + 1))), min(length, count))
        for episode, count in (filled[place] for place in places)
    ]


def _interval(shares: np.ndarray, sizes: np.ndarray) -> tuple[float, float, float]:
    """Return the mean share and its 90 % bootstrap interval over stretches."""
    picks = np.random.default_rng(0).integers(len(shares), size=(_RESAMPLES, len(shares)))
    means = (shares[picks] * sizes[picks]).sum(axis=1) / sizes[picks].sum(axis=1)
    low, high = np.percentile(means, [5, 95])
    return float((shares * sizes).sum() / sizes.sum()), float(low), float(high)


def _at_given_rate(stage: Stage, rates: dict[str, float]) -> Stage:
    if stage.name not in rates:
        return stage
    return Stage(stage.name, stage.unit, stage.count, 1 / rates[stage.name], stage.disk_bytes, is_given=True)


def _reasons(sample: pl.DataFrame) -> str:
    counted = sample.group_by("status").len().sort("len", descending=True)
    return ", ".join(f"{count} {status}" for status, count in counted.iter_rows())


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result
