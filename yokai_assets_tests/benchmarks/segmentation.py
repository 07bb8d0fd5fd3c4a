"""How fast characters are cut out: against the loop that everyone writes, and against the network alone.

`python -m yokai_assets_tests.benchmarks.segmentation [--model NAME] [--count N] [--device cpu]`. The same frames
of 1280x720 for all, in one run: drawn creatures, some frames empty. The network alone is fed a ready input again and
again, in batches as large as the platform's. Times are wall-clock, because decoding, network and encoding overlap: let
nothing else run meanwhile.
"""

import argparse
import io
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image
from upath import UPath

from yokai_assets.demo.series import generate_series
from yokai_assets.frames.episodes import discover_episodes
from yokai_assets.frames.scan import scan_episode
from yokai_assets.segmentation.layers import segment_episode
from yokai_assets.segmentation.matte import open_matte, open_session
from yokai_assets.segmentation.normalization import preprocessing_of
from yokai_assets.settings.model import FramesSettings, SegmentationSettings
from yokai_assets.storage.layout import Layout

SIZE_PX = 1280, 720


def write_frames(folder: Path, count: int) -> pl.DataFrame:
    """Draw an episode of the demo series in 720p; returns its readable frames, each standing for itself."""
    source = UPath(folder / "frames")
    generate_series(
        folder / "frames", episodes=1, frames_per_episode=max(20, count), characters=4, seed=3, size_px=SIZE_PX
    )
    frames = scan_episode(discover_episodes(source)[0][0], source, FramesSettings.model_validate({}))
    readable = frames.filter(pl.col("status") != "unreadable").head(count)
    return readable.with_columns(status=pl.lit("ok"), representative=pl.col("frame_id"))


def rembg_loop(session: Any, files: list[Path], with_png: bool) -> None:
    """Open, remove, and write the cut-out: one frame after the other."""
    import rembg

    for file in files:
        with Image.open(file) as image:
            cut_out = rembg.remove(image, session=session)
        if with_png:
            assert isinstance(cut_out, Image.Image)
            cut_out.save(io.BytesIO(), "PNG")


def network_alone(network: Any, shape: tuple[int, ...], count: int) -> None:
    """Run the network on random input until `count` pictures are through."""
    feed = {network.get_inputs()[0].name: np.random.default_rng(0).random(shape, np.float32)}
    for _ in range(-(-count // shape[0])):
        network.run(None, feed)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="demo", help="As segmentation.model.")
    parser.add_argument("--count", type=int, default=64, help="Frames.")
    parser.add_argument("--device", default="cpu", help="cpu or cuda:N.")
    options = parser.parse_args()
    settings = SegmentationSettings.model_validate({"model": options.model})
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        frames = write_frames(folder, options.count)
        files, count = [folder / "frames" / source for source in frames["source"]], frames.height
        session, _ = open_session(settings, options.device)
        matte = open_matte(settings, options.device)
        network, taken = session.inner_session, open_session(settings, options.device)[0]
        entry = network.get_inputs()[0]
        sides = preprocessing_of(taken, entry.name, Image.new("RGB", SIZE_PX))(Image.new("RGB", SIZE_PX)).shape[1:]
        feed_shape = (1 if isinstance(entry.shape[0], int) else settings.batch_size, *sides)

        def cut(name: str, rows: pl.DataFrame) -> float:
            layout = Layout(UPath(folder / name), "series")
            return seconds(lambda: segment_episode(rows, UPath(folder / "frames"), matte, settings, layout))

        cut("warm", frames.head(8))
        a_quarter = cut("quarter", frames.head(count // 4))
        peak_of_quarter = peak_mb()
        ours = cut("all", frames)
        peak_of_all = peak_mb()
        network_alone(network, feed_shape, 8)
        alone = seconds(lambda: network_alone(network, feed_shape, count))
        loop = seconds(lambda: rembg_loop(session, files[: count // 4], with_png=False)) * 4
        with_png = seconds(lambda: rembg_loop(session, files[: count // 4], with_png=True)) * 4
        written = [file.stat().st_size for file in (folder / "all").rglob("*.webp")]
    print(f"{options.model}, {count} frames of {SIZE_PX[0]}x{SIZE_PX[1]}, input {feed_shape}, {options.device}")
    for name, value in (
        ("network alone", alone), ("here, with cut-outs", ours), ("rembg.remove", loop), ("... and PNG", with_png)
    ):  # fmt: skip
        print(
            f"{name:20}{1000 * value / count:9.1f} ms a frame{value / alone:8.2f} x network{value / ours:8.2f} x here"
        )
    print(f"{len(written)} cut-outs of {sum(written) / max(1, len(written)) / 1000:.1f} kB on average")
    print(f"peak of the process after {count // 4} frames {peak_of_quarter:.0f} MB, after {count} {peak_of_all:.0f} MB")
    print(f"a frame among {count // 4} took {4000 * a_quarter / count:.1f} ms")


if __name__ == "__main__":
    main()
