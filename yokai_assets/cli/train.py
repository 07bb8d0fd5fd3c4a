"""`yokai train`: a folder of images in, a LoRA out, with the engine that the assets use and nothing of Dagster.

Here: what is asked and shown. Reading the folder is `datasets.folder`, training `training.trainer`, the files that
are left `publishing.plain`.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import ValidationError
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.table import Table
from upath import UPath

from yokai_assets.cli.bars import StepBar
from yokai_assets.cli.terminal import Terminal
from yokai_assets.datasets.folder import TrainingFolder, TrainingFolderError, read_training_folder
from yokai_assets.devices import DeviceError, limit_threads, resolve_device
from yokai_assets.settings.presets import FEW_IMAGES, MANY_IMAGES, PRESETS, resolved
from yokai_assets.settings.training import TrainingSettings
from yokai_assets.training.adapters import TargetModulesError
from yokai_assets.training.base_files import BaseModelError
from yokai_assets.training.base_model import BaseModel, open_base_model
from yokai_assets.training.checkpoints import StateRefusedError
from yokai_assets.training.encoding import TrainingDataError
from yokai_assets.training.export import ExportError
from yokai_assets.training.files import TrainingFiles
from yokai_assets.training.loop import TrainingDivergedError, TrainingMemoryError
from yokai_assets.training.optimizers import OptimizerMissingError
from yokai_assets.training.record import TrainingResult
from yokai_assets.training.trainer import train_lora

_TRAINED, _FAILED, _NOT_STARTED, _INTERRUPTED = 0, 1, 2, 130
_UNUSABLE = (
    TrainingFolderError, TrainingDataError, BaseModelError, DeviceError, TargetModulesError, OptimizerMissingError,
)  # fmt: skip
_MAX_PROBLEMS_SHOWN = 20


def train_folder(
    folder: Path,
    output: Path,
    options: Mapping[str, Any],
    *,
    name: str | None,
    trigger: str | None,
    held_out_share: float,
    samples: tuple[str, ...],
    no_samples: bool,
    device: str,
    cpu_threads: int,
    seed: int,
    cache: Path | None,
    restart: bool,
) -> int:
    """Train a LoRA on a folder of images.

    Args:
        folder: Images and captions.
        output: Folder, or `.safetensors` file, of the LoRA.
        options: Fields of `TrainingSettings`.
        name: Of the LoRA; unset: from `output` or `folder`.
        trigger: Word that stands for the character.
        held_out_share: Share of the images held out (0-1).
        samples: Further prompts to draw.
        no_samples: Draw nothing.
        device: `auto`, `cpu`, `cuda`, `cuda:N`.
        cpu_threads: Threads for networks on the CPU; 0: all cores.
        seed: Of everything random.
        cache: Folder of latents and text embeddings; unset: in the output folder.
        restart: Begin anew where another training lies.

    Returns:
        Exit code: 0 trained, 1 failed, 2 could not start.
    """
    console = Terminal(width=None if Terminal().is_terminal else 120)
    files = _files_of(folder, output, name, cache)
    try:
        with _alone(files), _warnings_on(console):
            _require_another_folder(folder, files)
            settings = TrainingSettings.model_validate(dict(options))
            # Before anything imports torch.
            limit_threads(cpu_threads)
            place = resolve_device(device)
            with StepBar(console, "reading") as bar:
                found = read_training_folder(
                    folder, trigger=trigger, held_out_share=held_out_share, seed=seed, progress=bar
                )
            _show_folder(console, folder, found)
            if not found.others():
                settings = settings.model_copy(update={"prior_preservation": 0.0})
            base = open_base_model(settings.base_model, place, precision=settings.mixed_precision, cache=files.cache)
            _show_numbers(console, settings, base, found)
            with StepBar(console, "training") as bar:
                result = train_lora(
                    found.items, files, settings, place, seed,
                    header={"modelspec.trigger_phrase": found.trigger} if found.trigger else {},
                    prior_captions=found.others(), on_other_training="restart" if restart else "refuse",
                    progress=bar, base=base,
                )  # fmt: skip
            _finish(console, files, base, result, found, () if no_samples else samples, no_samples, seed)
    except StateRefusedError as error:
        remedy = "Give the same options to go on with it, another --output, or --restart to begin anew in its place."
        return _said(console, f"{error}. {remedy}", _NOT_STARTED)
    except ValidationError as error:
        first = error.errors()[0]
        return _said(console, f"{'.'.join(map(str, first['loc']))}: {first['msg']}", _NOT_STARTED)
    except Timeout as error:
        return _said(console, f"{error.lock_file}: another training is at work there.", _NOT_STARTED)
    except _UNUSABLE as error:
        return _said(console, str(error), _NOT_STARTED)
    except (TrainingDivergedError, TrainingMemoryError, ExportError, OSError) as error:
        return _said(console, str(error), _FAILED)
    except KeyboardInterrupt:
        return _said(console, "interrupted; the same command goes on from the last checkpoint.", _INTERRUPTED)
    return _TRAINED


def show_presets() -> None:
    """Print the presets with the reason of every number."""
    console = Terminal()
    console.print(
        f"[bold]auto[/] takes the one for the base's family and the number of images: few are under {FEW_IMAGES}, "
        f"many over {MANY_IMAGES}. What you set yourself stays. Any preset trains at the base's own size of picture. "
        "[bold]guide[/]: the defaults as `yokai settings` shows them."
    )
    for name, preset in PRESETS.items():
        table = Table(box=None, show_header=False, title=f"[bold]{name}[/]", title_justify="left", padding=(0, 2))
        for field, choice in preset.items():
            table.add_row(field, f"[cyan]{choice.value}[/]", f"[dim]{choice.reason}[/]")
        console.print(table)


def _require_another_folder(folder: Path, files: TrainingFiles) -> None:
    """Keep curves and samples from being taken for training images the next time."""
    if Path(str(files.folder)).resolve() == folder.resolve():
        raise TrainingFolderError(f"{files.folder}: is the folder of the images. Choose an --output elsewhere.")


def _files_of(folder: Path, output: Path, name: str | None, cache: Path | None) -> TrainingFiles:
    is_file = output.suffix == ".safetensors"
    target = UPath(output.parent if is_file else output)
    stem = name or (output.stem if is_file else folder.resolve().name) or "lora"
    return TrainingFiles(stem, target, target / f".{stem}-state", UPath(cache) if cache else target / ".cache")


@contextlib.contextmanager
def _alone(files: TrainingFiles) -> Iterator[None]:
    """Keep a second training out of the same files."""
    folder = Path(str(files.folder))
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{files.name}.lock", timeout=0):
        yield


@contextlib.contextmanager
def _warnings_on(console: Console) -> Iterator[None]:
    """Show what the engine warns of, above the bar."""
    logger = logging.getLogger("yokai_assets")
    handler = RichHandler(logging.WARNING, console, show_time=False, show_path=False, show_level=False)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _show_folder(console: Console, folder: Path, found: TrainingFolder) -> None:
    held_out = sum(item.split == "held_out" for item in found.items)
    left_out = ", ".join(f"{count} {kind}" for kind, count in found.skipped.items())
    trigger = f", trigger [bold]{escape(found.trigger)}[/]" if found.trigger else ""
    counts = f"[bold]{len(found.items) - held_out}[/] images to train on, {held_out} held out"
    missing = f"; left out: [yellow]{left_out}[/]" if left_out else ""
    console.print(f"{escape(str(folder))}: {counts}{trigger}{missing}")
    _show_problems(console, found.problems)


def _show_numbers(console: Console, settings: TrainingSettings, base: BaseModel, found: TrainingFolder) -> None:
    """Say with which numbers it will be trained, before it takes its time."""
    count = sum(item.split == "train" for item in found.items)
    used = resolved(settings, base.family, base.native_px, count)
    images = used.train_batch_size * used.gradient_accumulation_steps
    passes = used.max_train_steps * images / count
    size = f"{used.max_train_steps} steps of {images} images ({passes:.0f} passes), {used.resolution_px} px"
    how = f"rank {used.network_dim}, {used.optimizer} at {used.learning_rate:g}, on {base.device}"
    console.print(f"{base.family} base {escape(base.name)}, preset [bold]{used.preset}[/]: {size}, {how}")


def _show_problems(console: Console, problems: list[tuple[str, str]]) -> None:
    for place, reason in problems[:_MAX_PROBLEMS_SHOWN]:
        console.print(f"  [yellow]{escape(place)}[/]: {escape(reason)}", soft_wrap=True)
    if len(problems) > _MAX_PROBLEMS_SHOWN:
        console.print(f"  [yellow]... and {len(problems) - _MAX_PROBLEMS_SHOWN} more[/]")


def _finish(
    console: Console,
    files: TrainingFiles,
    base: BaseModel,
    result: TrainingResult,
    found: TrainingFolder,
    samples: tuple[str, ...],
    no_samples: bool,
    seed: int,
) -> None:
    from yokai_assets.publishing.plain import finish_lora, sample_sheet
    from yokai_assets.storage.files import whole_file

    lora = finish_lora(files, result, found.trigger)
    sheet = files.folder / f"{files.name}.samples.webp"
    is_there = result.was_finished and not samples and sheet.exists()
    if not no_samples and not is_there:
        prompts = list(dict.fromkeys([found.trigger or found.items[0].caption, *samples]))
        with StepBar(console, "samples") as bar, whole_file(sheet) as temporary:
            sample_sheet(base, lora, prompts, seed=seed, progress=bar).save(temporary, "WEBP", quality=90)
    _show_problems(console, result.problems)
    console.print(_summary(files, result, lora, None if no_samples else sheet))


def _summary(files: TrainingFiles, result: TrainingResult, lora: UPath, sheet: UPath | None) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2))
    held_out = dict(result.validation_losses)
    best = min(held_out, key=lambda step: held_out[step], default=None)
    rows = [("LoRA", lora), ("curves", files.folder / f"{files.name}.curves.png"), ("samples", sheet)]
    rows.append(("TensorBoard", f"tensorboard --logdir {files.tensorboard.parent}"))
    rows.append(("trained", _speed(result)))
    if best is not None:
        told = ", ".join(f"{step}: {loss:.4f}" for step, loss in result.validation_losses)
        rows.append(("held-out loss", f"{told} (step 0 is the base model; lowest at {best})"))
    for name, value in rows:
        if value is not None:
            table.add_row(f"[dim]{name}[/]", escape(str(value)))
    return table


def _speed(result: TrainingResult) -> str:
    if result.was_finished:
        return f"{len(result.losses)} steps, finished before; nothing was left to do"
    since = f" (went on from step {result.resumed_from_step})" if result.resumed_from_step else ""
    peak = result.peak_memory_bytes / 2**30
    return (
        f"{len(result.losses)} steps in {result.seconds:.0f} s{since}, {result.steps_per_second:.2f} steps/s, "
        f"{peak:.1f} GiB at the peak, on {result.environment.device}"
    )


def _said(console: Console, words: str, code: int) -> int:
    console.print(f"[red]yokai: {escape(words)}[/]", soft_wrap=True)
    return code
