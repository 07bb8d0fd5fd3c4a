"""The report of a long series: how long it takes, what a reader loads, against the plain way of doing it.

`python -m yokai_assets_tests.benchmarks.gallery [--characters 100] [--images 180]`. A made-up series of that many
characters and training images of 512 px; about two hundred thumbnails a character. Measured: the first report; the next
one with nothing changed and with one character changed (thumbnails taken over) against the same with all thumbnails
encoded anew; bytes of the index and of what a browser loads to show it, against one page that holds every picture as a
data URL. With a Chromium at hand, also how long the index takes to load.
"""

import argparse
import base64
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from yokai_assets.gallery import build_gallery, load_gallery_data
from yokai_assets.storage.layout import Layout
from yokai_assets_tests.gallery.browser import browser, find_browser
from yokai_assets_tests.gallery.sample import SampleSeries


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return wall seconds and CPU seconds of this process."""
    start, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - cpu


def many_images(sample: SampleSeries, layout: Layout, count: int) -> None:
    """Give every character its images: drawn once each, then as files of their own, as a series has them."""
    from yokai_assets.storage.parquet import read_table, write_table
    from yokai_assets.tables import DATASET

    for name in sample.ids:
        table = layout.table("training_dataset", name)
        if not table.exists():
            continue
        drawn = read_table(DATASET, table).to_dicts()
        rows = []
        for index in range(count):
            row = dict(drawn[index % len(drawn)])
            path = layout.training_data(name) / f"{index:05d}.png"
            path.write_bytes(layout.absolute(row["image"]).read_bytes())
            rows.append(row | {"instance_id": f"s01e01/{index:06d}/9", "image": layout.relative(path)})
        write_table(DATASET, DATASET.from_rows(rows), table)


def loaded_at_once(index: Path) -> tuple[int, int, float] | None:
    """Return requests, bytes and seconds of a browser that shows the index; None without a browser."""
    program = find_browser()
    if program is None:
        return None
    with browser(program) as window:
        window.open(index)
        window.settle(1)
        window.requests.clear()
        start = time.perf_counter()
        window.open(index)
        seconds = time.perf_counter() - start
        window.settle(1)
        files = {Path(address.removeprefix("file://")) for address in window.requests if address.startswith("file")}
        return len(files), sum(file.stat().st_size for file in files if file.exists()), seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--characters", type=int, default=100)
    parser.add_argument("--images", type=int, default=180, help="Training images per character.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        sample = SampleSeries(
            Path(scratch), options.characters, side_px=512, exemplar_count=12, image_count=6, names={1: "Momo"}
        )
        layout = sample.write()
        many_images(sample, layout, options.images)

        def build() -> None:
            build_gallery(layout, load_gallery_data(layout))

        first, first_cpu = timed(build)
        gallery = Path(str(layout.gallery))
        pictures = list((gallery / "images").rglob("*.webp"))
        print(f"{options.characters} characters, {len(pictures):,} thumbnails, {os.cpu_count()} cores")
        print(f"first report                           {first:7.1f} s  {first_cpu:7.1f} CPU s")
        again, again_cpu = timed(build)
        print(f"again, nothing changed                 {again:7.1f} s  {again_cpu:7.1f} CPU s")
        for image in Path(str(layout.training_data(sample.ids[0]))).glob("*.png"):
            image.touch()
        one, one_cpu = timed(build)
        print(f"again, one character's images changed  {one:7.1f} s  {one_cpu:7.1f} CPU s")
        (gallery / "images" / "manifest.json").unlink()
        anew, anew_cpu = timed(build)
        print(f"again, every thumbnail encoded anew    {anew:7.1f} s  {anew_cpu:7.1f} CPU s")
        print(f"taking over is {anew_cpu / again_cpu:.1f} x (one changed: {anew_cpu / one_cpu:.1f} x) as fast, CPU")

        index = gallery / "index.html"
        largest = max((gallery / "characters").glob("*.html"), key=lambda page: page.stat().st_size)
        bytes_of = sum(len(base64.b64encode(picture.read_bytes())) for picture in pictures)
        one_page = bytes_of + sum(page.stat().st_size for page in gallery.rglob("*.html"))
        print(f"index {index.stat().st_size / 1e3:.0f} kB, largest page {largest.stat().st_size / 1e3:.0f} kB")
        print(f"one page with all pictures inside: {one_page / 1e6:.1f} MB, {one_page / index.stat().st_size:.0f} x")
        loaded = loaded_at_once(index)
        if loaded is None:
            print("no Chromium: what a browser loads is not measured")
            return
        count, size_bytes, seconds = loaded
        ratio = one_page / size_bytes
        print(f"a browser loads {count} files, {size_bytes / 1e6:.2f} MB, in {seconds:.2f} s: {ratio:.0f} x less")
        naive = gallery / "one-page.html"
        inside = (
            f'<img alt="" src="data:image/webp;base64,{base64.b64encode(picture.read_bytes()).decode()}">'
            for picture in pictures
        )
        naive.write_text("<!doctype html><title>all</title>" + "".join(inside))
        loaded = loaded_at_once(naive)
        assert loaded is not None
        print(f"one page with all pictures inside loads in {loaded[2]:.2f} s: {loaded[2] / seconds:.1f} x as long")


if __name__ == "__main__":
    main()
