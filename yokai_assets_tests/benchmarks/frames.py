"""How fast frames are scanned, against the loop that everyone writes; both on the same files, in one run.

`python -m yokai_assets_tests.benchmarks.frames [--count N]`. Times are CPU seconds, so that other work on the machine
matters little; ratios are the result, absolute numbers depend on the machine.
"""

import argparse
import hashlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from upath import UPath

from yokai_assets.frames import scan
from yokai_assets.frames.episodes import EpisodeSource
from yokai_assets.settings.model import FramesSettings
from yokai_assets_tests.frames.pictures import encoded, scene, with_grain


def full_decode_loop(folder: Path) -> None:
    """Open each file, decode it in full, difference hash, luma statistics, sha256: one after the other."""
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        hashlib.sha256(data).hexdigest()
        with Image.open(path) as image:
            luma = image.convert("RGB").convert("L")
        small = np.asarray(luma.resize((9, 8), Image.Resampling.LANCZOS))
        np.packbits(small[:, 1:] > small[:, :-1])
        pixels = np.asarray(luma, dtype=np.float32)
        pixels.mean()
        pixels.std()


def cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def write_frames(folder: Path, kind: str, count: int) -> float:
    """Write `count` grainy 1280x720 frames; returns their mean size in kB."""
    folder.mkdir()
    options = {"quality": 92} if kind == "JPEG" else {"compress_level": 6}
    for number in range(count):
        data = encoded(with_grain(scene(number // 8, 1280, 720), number, 4), kind, **options)
        (folder / f"{number:05d}.{kind.lower()}").write_bytes(data)
    return sum(file.stat().st_size for file in folder.iterdir()) / count / 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=240, help="Frames of each format.")
    count = parser.parse_args().count
    settings = FramesSettings.model_validate({})
    print(f"{count} frames of 1280x720; frames per CPU second")
    print(f"{'format':8}{'kB':>8}{'loop':>9}{'scan':>9}{'ratio':>8}{'rescan':>10}")
    with tempfile.TemporaryDirectory() as scratch:
        for kind in ("JPEG", "PNG"):
            folder = Path(scratch) / kind
            size_kb = write_frames(folder, kind, count)
            episode, source = EpisodeSource(kind, UPath(folder), "folder"), UPath(scratch)
            first = scan.scan_episode(episode, source, settings)  # warms the file cache for both
            loop = cpu_seconds(lambda folder=folder: full_decode_loop(folder))
            once = cpu_seconds(lambda e=episode, s=source: scan.scan_episode(e, s, settings))
            again = cpu_seconds(lambda e=episode, s=source, f=first: scan.scan_episode(e, s, settings, previous=f))
            print(
                f"{kind:8}{size_kb:8.0f}{count / loop:9.1f}{count / once:9.1f}{loop / once:8.2f}{count / again:10.0f}"
            )


if __name__ == "__main__":
    main()
