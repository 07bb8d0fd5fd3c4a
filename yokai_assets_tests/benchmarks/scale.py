"""Does a frame cost the same in a small series as in a large one? And how long do a million hashes take to group?

`python -m yokai_assets_tests.benchmarks.scale [--frames N]`. A series is drawn: episodes of 500 small frames, every one
with the same opening and ending. It is scanned and grouped at 1 %, 10 % and 100 % of its length; then hashes alone are
grouped, against comparing all pairs. Times are CPU seconds.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from upath import UPath

from yokai_assets.frames.episodes import discover_episodes
from yokai_assets.frames.hamming import nearest_leaders
from yokai_assets.frames.repeats import find_repeats, repeated_pictures
from yokai_assets.frames.scan import scan_episode
from yokai_assets.settings.model import FramesSettings
from yokai_assets_tests.frames.pictures import encoded, scene, with_disc, with_grain

EPISODE_FRAMES = 500
OPENING_FRAMES = ENDING_FRAMES = 40
SIZE_PX = 320, 180
USER_FRAMES = 1_042_599


def write_episode(folder: Path, number: int) -> None:
    """Write shots of four scenes in which a disc moves, held for two frames each, between opening and ending."""
    folder.mkdir(parents=True)
    scenes = [scene(1000 * number + shot, *SIZE_PX) for shot in range(4)]
    fixed = [scene(shot, *SIZE_PX) for shot in range(4)]
    for index in range(EPISODE_FRAMES):
        is_opening, is_ending = index < OPENING_FRAMES, index >= EPISODE_FRAMES - ENDING_FRAMES
        place = fixed[index // 20 % 2 + 2 * is_ending] if is_opening or is_ending else scenes[index // 120 % 4]
        step = index // 2 * 7 % 300
        picture = with_grain(with_disc(place, (step, 90), 30, (230, 60, 40)), EPISODE_FRAMES * number + index, 2)
        (folder / f"{index:05d}.jpg").write_bytes(encoded(picture, "JPEG", quality=85))


def cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_series(folder: Path, episode_count: int) -> tuple[float, float, pl.DataFrame]:
    """Scan and group the first episodes; returns seconds of each, and the repeats."""
    source, settings = UPath(folder), FramesSettings.model_validate({})
    columns = ["frame_id", "episode", "frame_index", "status", "representative", "dhash", "miniature"]
    tables: list[pl.DataFrame] = []
    episodes = discover_episodes(source)[0][:episode_count]
    scanning = cpu_seconds(lambda: tables.extend(scan_episode(e, source, settings).select(columns) for e in episodes))
    repeats: list[pl.DataFrame] = []
    grouping = cpu_seconds(lambda: repeats.append(find_repeats(pl.concat(tables), 4, 10.0)))
    return scanning, grouping, repeats[0]


def series_like_hashes(count: int) -> np.ndarray:
    """Hashes as a series has them: crowded, in runs, a tenth of every 4,872 the same in all episodes."""
    rng = np.random.default_rng(0)
    taste = rng.normal(size=64) * 0.7
    coarse = rng.normal(size=(count // 8 + 1, 4, 4)).repeat(2, axis=1).repeat(2, axis=2).reshape(-1, 64)
    bits = coarse + 0.5 * rng.normal(size=coarse.shape) + taste > 0
    hashes = (bits * (np.uint64(1) << np.arange(64, dtype=np.uint64))).sum(axis=1, dtype=np.uint64).repeat(8)[:count]
    is_fixed = np.arange(count) % 4872 < 487
    hashes[is_fixed] = hashes[np.arange(count) % 4872][is_fixed]
    noise = np.uint64(1) << rng.integers(0, 64, count).astype(np.uint64)
    return np.where(rng.random(count) < 0.5, hashes ^ noise, hashes)


def all_pairs(hashes: np.ndarray, radius: int) -> np.ndarray:
    """Leader clustering the plain way: every hash against every leader before it, in numpy."""
    leader = np.arange(hashes.size)
    leaders, count = np.zeros(hashes.size, np.int64), 0
    for position, value in enumerate(hashes):
        distances = np.bitwise_count(hashes[leaders[:count]] ^ value)
        if count and distances.min() <= radius:
            leader[position] = leaders[distances.argmin()]
        else:
            leaders[count], count = position, count + 1
    return leader


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--frames", type=int, default=100_000, help="Frames of the drawn series.")
    episode_count = max(10, parser.parse_args().frames // EPISODE_FRAMES)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "series"
        for number in range(episode_count):
            write_episode(folder / f"e{number:03d}", number)
        measure_series(folder, 1)  # compiles
        print(f"{'frames':>8}{'scan ms':>10}{'group ms':>10}{'sum':>8}{'ratio':>8}{'repeated':>10}{'peak MB':>9}")
        first = 0.0
        for count in (max(1, episode_count // 100), episode_count // 10, episode_count):
            frames = count * EPISODE_FRAMES
            scanning, grouping, repeats = measure_series(folder, count)
            each = 1000 * (scanning + grouping) / frames
            first = first or each
            shown = repeated_pictures(repeats).filter(pl.col("episode_count") == count).height
            print(
                f"{frames:8}{1000 * scanning / frames:10.3f}{1000 * grouping / frames:10.4f}{each:8.3f}"
                f"{each / first:8.2f}{shown:10}{peak_mb():9.0f}"
            )
    measure_hashes()


def measure_hashes() -> None:
    """Group hashes alone: 30,000 in both ways, and as many as the user has."""
    hashes = series_like_hashes(30_000)
    flat = np.full((1, 144), 100, np.uint8)
    found = nearest_leaders(hashes, flat.repeat(hashes.size, axis=0), 4, 10.0)
    plain = cpu_seconds(lambda: all_pairs(hashes, 4))
    ours = cpu_seconds(lambda: nearest_leaders(hashes, flat.repeat(hashes.size, axis=0), 4, 10.0))
    assert np.array_equal(found, all_pairs(hashes, 4))
    print(f"30,000 hashes: all pairs {plain:.2f} s, here {ours:.3f} s, ratio {plain / ours:.0f}; the same groups")
    hashes, miniatures = series_like_hashes(USER_FRAMES), flat.repeat(USER_FRAMES, axis=0)
    seconds = cpu_seconds(lambda: nearest_leaders(hashes, miniatures, 4, 10.0))
    print(f"{USER_FRAMES:,} hashes: {seconds:.1f} s; peak of this process {peak_mb():.0f} MB")


if __name__ == "__main__":
    main()
