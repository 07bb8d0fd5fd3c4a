"""Driving the road in processes of their own, which are killed at a chosen moment; and the journal of such moments.

A moment is what the file system or Dagster's record is asked for next: a file under the data root opened for writing,
renamed or removed (Python's own audit events, so no code of the product is touched), an event stored. Killing at a
moment hits the instants between two of them, which a clock hardly ever does; killing by the clock hits the rest:
computing, and writing by libraries. Comparing what is left is `sameness`.

Processes are forked from a server that has imported the heavy libraries and done nothing else: they have process ids,
memory and open files of their own, and start in a second rather than thirty.
"""

import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import dagster as dg

from yokai_assets.defs.operations.session import open_road
from yokai_assets.defs.policies import POLICIES
from yokai_assets.storage.files import TEMPORARY_MARK
from yokai_assets_tests.town import Town, errors

HEAVY = [
    "torchvision",
    "open_clip",
    "peft",
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
    "dagster",
]
"""Imported before the fork. Not polars, and nothing that uses numba: their threads do not live on in a fork."""

LIMIT_SECONDS = 400.0
"""Nothing that is done here takes so long: a process that lives on is stuck."""

Step = tuple[str, str | None]
Kind = Literal["moment", "clock"]
BEGINNING: Step = ("beginning", None)
"""Before the first step of a process: its tidying up after the one before, and its planning."""

_CHANGES = {
    **{"os.rename": 2, "os.remove": 1, "os.rmdir": 1, "os.mkdir": 1, "os.link": 2},
    **{"os.symlink": 2, "os.truncate": 1, "shutil.copyfile": 2, "shutil.rmtree": 1},
}
"""Audit event -> how many of its arguments are paths."""


@dataclass(frozen=True, slots=True)
class Kill:
    """When to kill: in a step (or, if that is over, in the next), after a share of its moments or of its seconds."""

    step: Step
    kind: Kind
    share: float


@dataclass(slots=True)
class Journal:
    """The steps of an undisturbed run in their order, with the moments and seconds that each has."""

    steps: list[Step] = field(default_factory=list)
    moments: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def rank(self, step: Step) -> int:
        """Return a step's place; those that an undisturbed run has not are before all."""
        return self.steps.index(step) if step in self.steps else -1

    @classmethod
    def read(cls, file: Path) -> "Journal":
        """Read what an undisturbed process has written."""
        values = json.loads(file.read_text())
        return cls([(asset, partition) for asset, partition in values["steps"]], values["moments"], values["seconds"])


@dataclass(frozen=True, slots=True)
class Hit:
    """A kill as it came: the step, and before which moment (or by the clock)."""

    step: Step
    kind: Kind
    moment: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """How a process ended: killed at `hit`, or through, with what failed and what was planned."""

    hit: Hit | None
    seconds: float
    failures: tuple[str, ...] = ()
    planned: tuple[str, ...] = ()


def undisturbed(town: Town, journal: Path) -> Attempt:
    """Drive the road in a process that nobody kills; it writes the journal."""
    return _attempt(town, None, Journal(), journal)


def killed(town: Town, kill: Kill, journal: Journal) -> Attempt:
    """Drive the road in a process until it is killed, or to the end where the kill found nothing to hit."""
    return _attempt(town, kill, journal, None)


def _attempt(town: Town, kill: Kill | None, journal: Journal, target: Path | None) -> Attempt:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(HEAVY)
    ours, theirs = context.Pipe(duplex=False)
    start = time.monotonic()
    process = context.Process(
        target=_drive, args=(town.folder, town.changes, kill, journal, target, theirs), daemon=True
    )
    process.start()
    theirs.close()
    try:
        hit, said = _listen(process.pid or 0, ours, kill, journal)
        process.join(LIMIT_SECONDS)
        assert process.exitcode is not None, "the process did not end"
    finally:
        if process.is_alive():
            process.kill()
            process.join()
        ours.close()
    seconds = time.monotonic() - start
    if process.exitcode == -signal.SIGKILL:
        assert hit is not None, "the process was killed, but not by this test (out of memory?)"
        return Attempt(hit, seconds)
    assert process.exitcode == 0, f"the process ended with {process.exitcode}: {said.get('error')}"
    return Attempt(None, seconds, tuple(said["failures"]), tuple(said["planned"]))


def _listen(pid: int, pipe: Connection, kill: Kill | None, journal: Journal) -> tuple[Hit | None, dict[str, Any]]:
    """Hear what the process says until it ends; kill it by the clock where that is asked for."""
    end = time.monotonic() + LIMIT_SECONDS
    due: float | None = None
    step: Step = BEGINNING
    hit: Hit | None = None
    said: dict[str, Any] = {}
    while time.monotonic() < end:
        if due is not None and time.monotonic() >= due:
            os.kill(pid, signal.SIGKILL)
            return Hit(step, "clock", "by the clock"), said
        wait = 1.0 if due is None else max(0.0, min(1.0, due - time.monotonic()))
        try:
            if not pipe.poll(wait):
                continue
            kind, value = pipe.recv()
        except EOFError:
            break
        if kind == "step":
            step = value
            if kill and kill.kind == "clock":
                due = _due(kill, step, journal, due)
        elif kind == "hit":
            hit = value
        else:
            said[kind] = value
    return hit, said


def _due(kill: Kill, step: Step, journal: Journal, due: float | None) -> float | None:
    """Return when to kill by the clock: within the step that is meant; at once where that is over before its time."""
    wanted, here = journal.rank(kill.step), journal.rank(step)
    if here > wanted:
        return time.monotonic()
    if here == wanted and due is None:
        return time.monotonic() + kill.share * journal.seconds[wanted]
    return due


def let_everything_pass() -> None:
    """Publish LoRAs of four steps too, which are no better than the base model, so that publishing has work to do."""
    from yokai_assets.defs.characters import checks, evaluation
    from yokai_assets.evaluation import evaluate

    told = checks._told
    checks._told = lambda verdict: told(replace(verdict, passed=True))
    evaluate.refusals = evaluation.refusals = lambda measures, settings: {}


def _drive(
    folder: Path,
    changes: dict[str, Any],
    kill: Kill | None,
    journal: Journal,
    target: Path | None,
    pipe: Connection,
) -> None:
    """Drive the road; the body of the process."""
    try:
        town = Town(folder, changes)
        let_everything_pass()
        watch = _Watch(Path(str(town.layout.root)), kill, journal, pipe)
        with open_road(town.source) as road:
            watch.install()
            report = road.drive()
            watch.close()
            pipe.send(("failures", errors(report)))
            pipe.send(("planned", [f"{work.partition} {work.why}" for work in road.plan()]))
        if target:
            target.write_text(json.dumps(asdict(watch.seen)))
    except BaseException as error:
        pipe.send(("error", repr(error)))
        raise


class _Watch:
    """Counts the moments of each step in this process, and ends it at the one that is asked for."""

    def __init__(self, root: Path, kill: Kill | None, journal: Journal, pipe: Connection) -> None:
        self._root, self._records = str(root) + os.sep, str(root / "dagster") + os.sep
        self._kill, self._journal, self._pipe = kill, journal, pipe
        self._step, self._started, self._count = BEGINNING, time.monotonic(), 0
        self._is_on = False
        self.seen = Journal()

    def install(self) -> None:
        """Begin to watch. There is no end to it: the process serves for nothing else."""
        record, watch = dg.DagsterInstance.handle_new_event, self

        def handle_new_event(instance: dg.DagsterInstance, event: dg.EventLogEntry, **more: Any) -> None:
            told = event.dagster_event
            if told and told.event_type == dg.DagsterEventType.STEP_START:
                run = instance.get_run_by_id(event.run_id)
                watch._begin((str(event.step_key), run.tags.get("dagster/partition") if run else None))
            what = told.event_type_value if told else "a message"
            watch._moment(f"before recording {what}")
            record(instance, event, **more)
            watch._moment(f"after recording {what}")

        setattr(dg.DagsterInstance, record.__name__, handle_new_event)
        sys.addaudithook(self._hear)
        self._is_on = True
        self._pipe.send(("step", BEGINNING))

    def close(self) -> None:
        """Note the last step."""
        self._is_on = False
        self._note()

    def _begin(self, step: Step) -> None:
        self._note()
        self._step, self._started, self._count = step, time.monotonic(), 0
        self._pipe.send(("step", step))

    def _note(self) -> None:
        self.seen.steps.append(self._step)
        self.seen.moments.append(self._count)
        self.seen.seconds.append(time.monotonic() - self._started)

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if not self._is_on:
            return
        if event == "open":
            if self._is_ours(args[0]) and _is_written(args):
                self._moment(f"opening {self._name(args[0])}")
        elif event in _CHANGES and any(self._is_ours(path) for path in args[: _CHANGES[event]]):
            self._moment(f"{event} {self._name(args[_CHANGES[event] - 1])}")

    def _is_ours(self, path: object) -> bool:
        name = os.fspath(path) if isinstance(path, os.PathLike) else path
        return isinstance(name, str) and name.startswith(self._root) and not name.startswith(self._records)

    def _name(self, path: object) -> str:
        return os.fspath(path).removeprefix(self._root) if isinstance(path, (str, os.PathLike)) else str(path)

    def _moment(self, what: str) -> None:
        self._count += 1
        kill = self._kill
        if kill is None or kill.kind != "moment":
            return
        wanted, here = self._journal.rank(kill.step), self._journal.rank(self._step)
        is_due = self._count > kill.share * self._journal.moments[wanted]
        if here > wanted or (here == wanted and is_due):
            self._pipe.send(("hit", Hit(self._step, "moment", what)))
            os.kill(os.getpid(), signal.SIGKILL)


def _is_written(args: tuple[Any, ...]) -> bool:
    """Say whether a file is opened to be written; an unfinished one that is opened is about to be flushed."""
    path, _, flags = args
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) or TEMPORARY_MARK in str(path)


def choose(journal: Journal, count: int, seed: int) -> list[Kill]:
    """Return kills in the order of the road: one in every asset if there are enough, the rest where most moments are.

    Of the rest as many are by the clock as are a third of all: a clock may miss its step, and hits the next one then;
    there is none after the last. Every eighth comes right after another one, while the next process tidies up.
    """
    draw = random.Random(seed)
    tidying = [Kill(BEGINNING, "moment", 0.3 * draw.random()) for _ in range(count // 8)]
    count -= len(tidying)
    by_asset: dict[str, list[Step]] = {}
    for step in journal.steps:
        if step[0] in POLICIES:
            by_asset.setdefault(step[0], []).append(step)
    one_each = [draw.choice(steps) for steps in by_asset.values()]
    draw.shuffle(one_each)
    one_each = one_each[:count]
    weights = [moments**0.5 for moments in journal.moments]
    more = draw.choices(journal.steps, weights, k=count - len(one_each))
    clocked = set(draw.sample(range(len(more)), k=min(len(more), count // 3)))
    kills = [Kill(step, "moment", draw.random()) for step in one_each]
    for i, step in enumerate(more):
        is_by_clock = i in clocked and step != journal.steps[-1]
        kills.append(Kill(step, "clock" if is_by_clock else "moment", draw.random()))
    kills.sort(key=lambda kill: journal.rank(kill.step))
    for kill in tidying:
        kills.insert(draw.randrange(1, len(kills)), kill)
    return kills


def kill_again_and_again(
    town: Town, kills: list[Kill], journal: Journal, say: Callable[[str], None] = print
) -> tuple[list[Hit], Attempt]:
    """Start and kill as often as asked for, then start once more and let it end. Returns the hits and that last one."""
    hits: list[Hit] = []
    for kill in kills:
        attempt = killed(town, kill, journal)
        if attempt.hit is None:
            say(f"  found its end before {kill}")
            continue
        hits.append(attempt.hit)
        where = " ".join(filter(None, attempt.hit.step))
        say(f"  {len(hits):3} {attempt.seconds:5.1f} s  {where}: {attempt.hit.moment}")
    last = _attempt(town, None, journal, None)
    return hits, last


def figures(hits: list[Hit]) -> str:
    """Return where the kills hit, for people."""
    kinds = Counter(hit.kind for hit in hits)
    assets = Counter(hit.step[0] for hit in hits)
    where = ", ".join(f"{asset} {count}" for asset, count in sorted(assets.items()))
    return f"{len(hits)} kills ({kinds['moment']} at a moment, {kinds['clock']} by the clock): {where}"
