"""Steps a second of our training loop against diffusers' example script, on the same base, images and settings.

Ways, each in a process of its own, in turns in one run:

* diffusers: what its script does in every step (`diffusers_loop`); ratios are to this one;
* ours: the loop with its caches, prior preservation off, which the script has not;
* ours, defaults: the same with prior preservation;
* ours, uncached: VAE and text encoder in every step;
* ours without CUDA graphs, with torch.compile, channels-last, if asked for. Gradient checkpointing, if asked for, is in
  all ways.

`--ceiling` adds what the device reaches in nothing but matrix products, in turns with the others, and each way's share
of it. `--side-by-side 1 2 4` trains so many LoRAs at once instead. The table is Markdown. Rates are medians over turns;
a ratio is the median of each turn's ratio. Random weights of the real shapes (`demo`: the bundled base).

Run: `python -m yokai_assets_tests.benchmarks.training --help`.
"""

import argparse
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from yokai_assets.devices import limit_threads, resolve_device
from yokai_assets_tests.benchmarks.random_bases import DEMO, SHAPES
from yokai_assets_tests.benchmarks.training_workers import SPAWN, About, Job, Turn, Worker, working, write_images

MIB, TERA = 2**20, 1e12
_HEADINGS = (
    *("way", "batch", "steps/s", "images/s", "x diffusers", "CPU s a step", "x by CPU", "peak MiB"),
    *("TFLOP a step", "TFLOP/s", "of the ceiling"),
)


def jobs_of(options: argparse.Namespace, batch_size: int, folder: Path) -> list[Job]:
    """Return the ways to compare, diffusers' first and the ceiling, if asked for, last."""
    always = {"gradient_checkpointing": True} if options.gradient_checkpointing else {}
    extra = {name: True for name in ("torch_compile", "channels_last") if getattr(options, name)}
    plain = {"cuda_graphs": False} if options.no_cuda_graphs else {}

    def job(name: str, kind: str, **changes: object) -> Job:
        return Job(
            name,
            kind,  # pyright: ignore[reportArgumentType]
            options.shape,
            resolve_device(options.device),
            options.precision,
            options.threads,
            batch_size,
            options.resolution,
            options.rank,
            folder,
            always | changes,
        )

    found = [
        job("diffusers", "diffusers"),
        job("ours", "cached"),
        job("ours, defaults", "cached", prior_preservation=0.1),
        job("ours, uncached", "uncached"),
    ]
    found += [job("ours, no cuda_graphs", "cached", **plain)] if plain else []
    found += [job(f"ours, {name}", "cached", **{name: True}) for name in extra]
    if len(extra) > 1:
        found.append(job(f"ours, {' and '.join(extra)}", "cached", **extra))
    found = [one for one in found if not options.ways or one.name in options.ways]
    return [*found, job("ceiling", "ceiling")] if options.ceiling else found


def warm_up(team: Sequence[Worker], steps: int) -> None:
    """Let everybody step at once, untimed: compilers take minutes."""
    for worker in team:
        worker.tell("run", steps)
    for worker in team:
        worker.answer()


def in_turns(team: Sequence[Worker], turns: int, steps: int) -> list[list[Turn]]:
    """Let everybody step in turns; returns the turns of each."""
    rounds = [[worker.run(steps) for worker in team] for _ in range(turns)]
    return [list(own) for own in zip(*rounds, strict=True)]


def measure(options: argparse.Namespace, batch_size: int, folder: Path) -> tuple[list[str], list[str]]:
    """Return the rows of the table for a batch size, and what is to be said below it."""
    jobs = jobs_of(options, batch_size, folder)
    turns: list[list[Turn]] = []
    operations: list[float] = []
    peaks: list[int] = []
    notes: list[str] = []
    for group in [[job] for job in jobs] if options.one_by_one else [jobs]:
        with working(group) as team:
            warm_up(team, options.warmup)
            notes = notes or [described(team[0].about)]
            turns += in_turns(team, options.turns, options.steps)
            for worker in team:
                peaks.append(worker.peak_bytes())
                # After the peak is read: counting takes memory.
                operations.append(worker.count_operations() if options.ceiling else 0.0)
                notes += [f"{worker.job.name}, batch {batch_size}: {note}" for note in worker.notes()]
    ceiling = median(_speeds(turns[-1], operations[-1])) if options.ceiling else None
    if ceiling is not None:
        notes.append(f"ceiling, batch {batch_size}: {ceiling / TERA:.3g} TFLOP/s")
    rows = [
        _row(job, own, turns[0], peak, operation, ceiling)
        for job, own, peak, operation in zip(jobs, turns, peaks, operations, strict=True)
        if job.kind != "ceiling"
    ]
    return rows, notes


def described(about: About) -> str:
    """Say where a process runs and what it trains."""
    return (
        f"{about.device}, {about.threads} CPU threads, torch {about.torch_version}, precision {about.precision}, "
        f"{about.trained_parameters / 1e6:.2f} M of {about.unet_parameters / 1e6:.1f} M UNet parameters trained"
    )


def side_by_side(options: argparse.Namespace, folder: Path) -> Iterator[str]:
    """Yield the table of how many steps LoRAs do together that train at the same time, a process each."""
    counts, cores = sorted(set(options.side_by_side)), limit_threads(0)
    barriers = {count: SPAWN.Barrier(count) for count in counts}
    job = replace(jobs_of(options, options.batch_size[0], folder)[1], name="ours")
    races: dict[int, list[list[Turn]]] = {count: [] for count in counts}
    with working([job] * counts[-1], barriers) as team:
        yield described(team[0].about)
        warm_up(team, options.warmup)
        for _ in range(options.turns):
            for count in counts:
                threads = options.threads or max(1, cores // count)
                for worker in team[:count]:
                    worker.tell("race", count, options.seconds, threads)
                races[count].append([worker.answer() for worker in team[:count]])
        peaks = [worker.peak_bytes() for worker in team]
    yield from _table(("LoRAs at once", "threads each", "steps/s, sum", "x one", "CPU s a step", "peak MiB, sum"))
    sums = {
        count: [sum(turn.steps / turn.wall_seconds for turn in race) for race in found]
        for count, found in races.items()
    }
    for count, found in races.items():
        pairs = zip(sums[counts[0]], sums[count], strict=True)
        yield _line(
            [
                str(count),
                str(options.threads or max(1, cores // count)),
                f"{median(sums[count]):.3g}",
                f"{median(own / first for first, own in pairs):.2f}",
                f"{median(turn.cpu_seconds / turn.steps for race in found for turn in race):.3f}",
                f"{sum(peaks[:count]) / MIB:.0f}",
            ]
        )


def _speeds(turns: list[Turn], operations: float) -> list[float]:
    return [turn.steps * operations / turn.wall_seconds for turn in turns]


def _row(
    job: Job, turns: list[Turn], reference: list[Turn], peak: int, operations: float, ceiling: float | None
) -> str:
    rate = median(turn.steps / turn.wall_seconds for turn in turns)
    pairs = list(zip(reference, turns, strict=True))
    cells = [
        job.name,
        str(job.batch_size),
        f"{rate:.3g}",
        f"{rate * job.batch_size:.3g}",
        f"{median(theirs.wall_seconds / ours.wall_seconds for theirs, ours in pairs):.2f}",
        f"{median(turn.cpu_seconds / turn.steps for turn in turns):.3f}",
        f"{median(theirs.cpu_seconds / ours.cpu_seconds for theirs, ours in pairs):.2f}",
        f"{peak / MIB:.0f}",
    ]
    if ceiling is not None:
        speed = median(_speeds(turns, operations))
        cells += [f"{operations / TERA:.3g}", f"{speed / TERA:.3g}", f"{speed / ceiling:.0%}"]
    return _line(cells)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _table(headings: Sequence[str]) -> list[str]:
    return [_line(headings), "|---" * len(headings) + "|"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", choices=(DEMO, *SHAPES), default=DEMO)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda:N")
    parser.add_argument("--precision", choices=("no", "bf16", "fp16"), default="bf16", help="on a GPU")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of a process; 0: all cores")
    parser.add_argument("--batch-size", type=int, nargs="+", default=[8])
    parser.add_argument("--resolution", type=int, default=64, help="side in px")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--warmup", type=int, default=5, help="steps before anything is timed; the third is recorded")
    parser.add_argument("--steps", type=int, default=5, help="steps of a turn")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--ways", nargs="+", default=[], help="names of ways; none: all")
    parser.add_argument("--no-cuda-graphs", action="store_true", help="add our loop without them")
    parser.add_argument("--torch-compile", action="store_true", help="add our loop with it")
    parser.add_argument("--channels-last", action="store_true", help="add our loop with it")
    parser.add_argument("--gradient-checkpointing", action="store_true", help="in all ways")
    parser.add_argument("--ceiling", action="store_true", help="count operations, and time matrix products")
    parser.add_argument("--one-by-one", action="store_true", help="for a GPU that cannot hold all ways at once")
    parser.add_argument("--side-by-side", type=int, nargs="+", metavar="COUNT", help="LoRAs that train at once")
    parser.add_argument("--seconds", type=float, default=10, help="of a turn side by side")
    options = parser.parse_args()
    print(f"`python -m yokai_assets_tests.benchmarks.training {shlex.join(sys.argv[1:])}`", flush=True)
    with tempfile.TemporaryDirectory(prefix="yokai-benchmark-") as scratch:
        folder = Path(scratch)
        write_images(folder, options.images, options.resolution)
        if options.side_by_side:
            for line in side_by_side(options, folder):
                print(line, flush=True)
            return
        print("\n".join(_table(_HEADINGS if options.ceiling else _HEADINGS[:8])), flush=True)
        notes = []
        for batch_size in options.batch_size:
            rows, below = measure(options, batch_size, folder)
            notes += below
            print("\n".join(rows), flush=True)
        print("\n".join(["", *dict.fromkeys(notes)]))


if __name__ == "__main__":
    main()
