"""Ways to train in processes of their own, which step when they are told to: for the benchmark `training`.

A process each, because a peak of memory is a process's; kept alive, because what the machine does besides should hit
all ways alike, so they take turns. Not here: what is compared and how it is printed (`training`).
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import gcd
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from PIL import Image
from upath import UPath

from yokai_assets.devices import limit_threads
from yokai_assets.settings.training import TrainingSettings
from yokai_assets.training.base_model import BaseModel, Precision, encode_captions
from yokai_assets.training.cache import TensorCache
from yokai_assets.training.encoding import encode_dataset
from yokai_assets.training.environment import Environment, peak_memory_bytes, reset_peak_memory
from yokai_assets.training.images import TrainingItem
from yokai_assets.training.loop import TrainingLoop
from yokai_assets_tests.benchmarks.diffusers_loop import DiffusersLoop
from yokai_assets_tests.benchmarks.random_bases import make_base

Kind = Literal["diffusers", "cached", "uncached", "ceiling"]
SPAWN = get_context("spawn")
_PRODUCT_SIDES = {"cpu": (512, 1024, 2048), "cuda": (2048, 4096, 8192, 16384)}


@dataclass(frozen=True, slots=True)
class Job:
    """What a process does.

    Attributes:
        name: As printed.
        kind: Which loop; `ceiling` multiplies square matrices instead.
        folder: Where `write_images` wrote; caches go there, too.
        changes: Settings that differ from those of a like-for-like comparison.
    """

    name: str
    kind: Kind
    shape: str
    device: str
    precision: Precision
    threads: int
    batch_size: int
    resolution_px: int
    rank: int
    folder: Path
    changes: dict[str, Any] = field(default_factory=dict)

    def settings(self) -> TrainingSettings:
        """Return settings without prior preservation, which the scripts have not."""
        options = {
            "base_model": self.shape,
            "max_train_steps": 100_000,
            "network_dim": self.rank,
            "train_batch_size": self.batch_size,
            "resolution_px": self.resolution_px,
            "bucket_step_px": gcd(self.resolution_px, 512),
            "prior_preservation": 0.0,
        }
        return TrainingSettings(**options | self.changes)


@dataclass(frozen=True, slots=True)
class About:
    """What a process says of itself when it is ready."""

    device: str
    torch_version: str
    threads: int
    precision: str
    unet_parameters: int
    trained_parameters: int


@dataclass(frozen=True, slots=True)
class Turn:
    """Some steps in one go."""

    steps: int
    wall_seconds: float
    cpu_seconds: float


class Steps(Protocol):
    """Anything that can be told to do one step."""

    def train_step(self) -> None: ...


class Worker:
    """A process with one way to train.

    Attributes:
        job: What it does.
        about: What it says of itself, once it is ready.

    Raises:
        RuntimeError: From any method: what went wrong in the process, in its words.
    """

    about: About

    def __init__(self, job: Job, barriers: dict[int, Any] | None = None) -> None:
        self.job = job
        self._connection, other = SPAWN.Pipe()
        self._process = SPAWN.Process(target=_serve, args=(job, other, barriers or {}), daemon=True)
        self._process.start()
        other.close()

    def wait(self) -> None:
        """Wait until it is ready."""
        self.about = self.answer()

    def run(self, steps: int) -> Turn:
        """Do some steps."""
        self.tell("run", steps)
        return self.answer()

    def peak_bytes(self) -> int:
        """Return the peak of memory: since it was ready on a GPU, of the whole process on a CPU."""
        self.tell("peak")
        return self.answer()

    def count_operations(self) -> float:
        """Do a step; return its floating-point operations, forward and backward, as torch counts them."""
        self.tell("count")
        return self.answer()

    def notes(self) -> list[str]:
        """Return what the loop did instead of what it was told, e.g. because memory ran out."""
        self.tell("notes")
        return self.answer()

    def tell(self, *command: Any) -> None:
        """Send a command; `answer` waits for what comes of it."""
        self._connection.send(command)

    def answer(self) -> Any:
        """Wait for what comes of a command."""
        try:
            answer = self._connection.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(f"{self.job.name}: the process ended with {self._process.exitcode}") from None
        if isinstance(answer, str):
            raise RuntimeError(f"{self.job.name}: {answer}")
        return answer

    def close(self) -> None:
        """End the process; it holds nothing that wants a farewell, and one that ignores SIGTERM would never end."""
        self._process.kill()
        self._process.join()


@contextmanager
def working(jobs: Sequence[Job], barriers: dict[int, Any] | None = None) -> Iterator[list[Worker]]:
    """Start processes and end them; on a CPU one after the other, because setting up is heavy."""
    started: list[Worker] = []
    try:
        # Not a comprehension: what has started must end where the next one fails.
        for job in jobs:
            worker = Worker(job, barriers)
            started.append(worker)
            if job.device == "cpu":
                worker.wait()
        for worker in started:
            if worker.job.device != "cpu":
                worker.wait()
        yield started
    finally:
        for worker in started:
            worker.close()


def write_images(folder: Path, count: int, side_px: int) -> None:
    """Write PNGs in the size of training: soft random colours, which cost as much to inflate as drawings do."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    for index in range(count):
        colours = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        colours.resize((side_px, side_px), Image.Resampling.BICUBIC).save(folder / "images" / f"{index:03d}.png")


class OurLoop:
    """Our training loop, as it runs or with everything encoded anew in every step.

    Anew means the images' pixels, held in memory, through the VAE (in fp32, as the cache is made) and the captions
    through the text encoder(s).
    """

    def __init__(self, job: Job, base: BaseModel) -> None:
        import torch

        self._settings = job.settings()
        items = [
            TrainingItem(file.stem, UPath(file), None, caption, "train") for file, caption in _captioned(job.folder)
        ]
        caches = TensorCache(UPath(job.folder / "latents")), TensorCache(UPath(job.folder / "text"))
        self._dataset = encode_dataset(items, base, *caches, self._settings)
        self.loop = TrainingLoop(base, self._dataset, self._settings, 0)
        self._base, self._encodes_anew = base, job.kind == "uncached"
        self._captions = [item.caption for item in items[: job.batch_size]]
        self._pixels = torch.rand(job.batch_size, 3, job.resolution_px, job.resolution_px) * 2 - 1
        if self._encodes_anew:
            base.move_encoders(base.device)

    def train_step(self) -> None:
        """Do one optimizer step."""
        if self._encodes_anew:
            import torch

            with torch.no_grad():
                vae: Any = self._base.vae
                vae.encode(self._pixels.to(self._base.device)).latent_dist.sample()
                encode_captions(self._base.pipeline, self._captions)
        self.loop.train_step()

    def countable(self) -> None:
        """Begin anew without what hides operations from torch's counter: compiled code and recorded graphs."""
        changes = {"torch_compile": False, "cuda_graphs": False}
        self.loop = TrainingLoop(self._base, self._dataset, self._settings.model_copy(update=changes), 0)


class SquareProducts:
    """Products of the square matrices that the device multiplies fastest: a ceiling for anything made of products."""

    def __init__(self, device: str, dtype: Any) -> None:
        sides = _PRODUCT_SIDES[device.partition(":")[0]]
        speeds = {}
        for side in sides:
            self._prepare(side, device, dtype)
            self.train_step()
            speeds[side] = side**3 / _timed(self, 3, device).wall_seconds
        self._prepare(max(sides, key=speeds.__getitem__), device, dtype)

    def train_step(self) -> None:
        """Multiply once."""
        import torch

        torch.mm(self._left, self._right, out=self._result)

    def _prepare(self, side: int, device: str, dtype: Any) -> None:
        import torch

        self._left, self._right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        self._result = torch.empty_like(self._left)


def _captioned(folder: Path) -> list[tuple[Path, str]]:
    files = sorted((folder / "images").glob("*.png"))
    return [(file, f"zqkaro, red, {'round' if index % 2 else 'tall'}, whole") for index, file in enumerate(files)]


def _timed(steps: Steps, count: int, device: str) -> Turn:
    """Do some steps and time them; the GPU's queue is emptied before and after."""
    import torch

    synchronize = torch.cuda.synchronize if device != "cpu" else lambda: None
    synchronize()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(count):
        steps.train_step()
    synchronize()
    return Turn(count, time.perf_counter() - wall, time.process_time() - cpu)


def _made(job: Job) -> tuple[Steps, About]:
    import torch

    base = make_base("tiny" if job.kind == "ceiling" else job.shape, job.device, job.precision)
    unet_parameters = sum(weight.numel() for weight in base.pipeline.unet.parameters())
    trained = 0
    if job.kind == "ceiling":
        steps: Any = SquareProducts(job.device, base.dtype)
    elif job.kind == "diffusers":
        steps = DiffusersLoop(base, _captioned(job.folder), job.settings(), 0)
        trained = sum(weight.numel() for weight in steps.parameters)
    else:
        steps = OurLoop(job, base)
        trained = sum(weight.numel() for weight in steps.loop.model.parameters_of("unet"))
    where = Environment.of(job.device)
    return steps, About(
        where.device, where.torch_version, torch.get_num_threads(), base.precision, unet_parameters, trained
    )


def _serve(job: Job, connection: Connection, barriers: dict[int, Any]) -> None:
    """Be the process: get ready, then do what is asked; an error is answered in words."""
    limit_threads(job.threads)
    try:
        steps, about = _made(job)
        reset_peak_memory(job.device)
        connection.send(about)
        while True:
            connection.send(_done(job, steps, barriers, *connection.recv()))
    except Exception as error:
        connection.send(f"{type(error).__name__}: {error}")


def _done(job: Job, steps: Steps, barriers: dict[int, Any], command: str, *options: Any) -> Any:
    if command == "run":
        return _timed(steps, options[0], job.device)
    if command == "peak":
        return peak_memory_bytes(job.device)
    if command == "notes":
        return [f"{setting}: {words}" for setting, words in steps.loop.notes] if isinstance(steps, OurLoop) else []
    if command == "race":
        return _raced(job, steps, barriers[options[0]], *options[1:])
    from torch.utils.flop_counter import FlopCounterMode

    if isinstance(steps, OurLoop):
        steps.countable()
    with FlopCounterMode(display=False) as counter:
        steps.train_step()
    return float(counter.get_total_flops())


def _raced(job: Job, steps: Steps, barrier: Any, seconds: float, threads: int) -> Turn:
    """Step for some seconds from the moment on when all others start, too."""
    limit_threads(threads)
    barrier.wait()
    start, wall, cpu, count = time.perf_counter(), 0.0, 0.0, 0
    while time.perf_counter() - start < seconds:
        turn = _timed(steps, 1, job.device)
        wall, cpu, count = wall + turn.wall_seconds, cpu + turn.cpu_seconds, count + turn.steps
    return Turn(count, wall, cpu)
