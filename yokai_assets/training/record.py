"""What a finished training leaves behind: its checkpoints by name, and the JSON record that vouches for them.

A training is finished when its record is there; checkpoint files that no record names belong to a training that is
not finished, or to none. Here: the record's content, writing and reading. Not here: the state of a training that is
going on (`checkpoints`), or when a record counts (`trainer`).
"""

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from upath import UPath

from yokai_assets.storage.files import write_json
from yokai_assets.training.checkpoints import RunIdentity
from yokai_assets.training.environment import Environment
from yokai_assets.training.files import TrainingFiles


class TrainingRecordError(RuntimeError):
    """A training record cannot be read; the message names it, the reason and the remedy."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A saved LoRA: `path` in kohya format, verified, after `step` optimizer steps."""

    step: int
    path: UPath


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a finished training made and measured.

    Attributes:
        checkpoints: In order of steps; the last one is the end of training.
        losses: f32 [max_train_steps], loss of step 1, 2, ..., resumed steps included.
        grad_norms: f32 [max_train_steps], gradient norm before clipping.
        learning_rates: f32 [max_train_steps], of the UNet.
        validation_losses: (step, loss) on held-out images; step 0 is the bare base model. Empty without any.
        train_count: Images trained on.
        held_out_count: Images of the validation loss.
        problems: (file, reason) of images left out, and (setting, reason) of what could not be done as asked.
        encoded_count: Latents and text embeddings that were not in the cache.
        seconds: Training time over all starts, without loading and encoding.
        steps_per_second: Optimizer steps per second since the last start; 0 if no step was left.
        images_per_second: Images trained per second since then.
        peak_memory_bytes: GPU memory allocated at most; on a CPU the process's largest resident size.
        resumed_from_step: Step of the state that was continued; 0 for a fresh start.
        environment: Device, threads and torch version of the last start.
        base_fingerprint: sha256 over the base model's files.
        dataset_fingerprint: sha256 over pixels, captions, masks and splits.
        config_fingerprint: sha256 over the settings and the seed.
        was_finished: Nothing was trained: the same training had been finished before, and this is its record.
    """

    checkpoints: list[Checkpoint]
    losses: np.ndarray
    grad_norms: np.ndarray
    learning_rates: np.ndarray
    validation_losses: list[tuple[int, float]]
    train_count: int
    held_out_count: int
    problems: list[tuple[str, str]]
    encoded_count: int
    seconds: float
    steps_per_second: float
    images_per_second: float
    peak_memory_bytes: int
    resumed_from_step: int
    environment: Environment
    base_fingerprint: str
    dataset_fingerprint: str
    config_fingerprint: str
    was_finished: bool = False


def write_training_record(
    files: TrainingFiles, identity: RunIdentity, base_name: str, family: str, result: TrainingResult
) -> None:
    """Write the record of a finished training, whole or absent. Numbers are kept exactly."""
    record = {
        "character_id": identity.character_id,
        "base_model": base_name,
        "family": family,
        "checkpoints": [{"step": c.step, "file": c.path.name} for c in result.checkpoints],
        "losses": result.losses.tolist(),
        # An fp16 step that overflowed has no finite norm, and JSON no word for infinity.
        "grad_norms": [norm if math.isfinite(norm) else None for norm in result.grad_norms.tolist()],
        "learning_rates": result.learning_rates.tolist(),
        "validation_losses": result.validation_losses,
        "train_count": result.train_count,
        "held_out_count": result.held_out_count,
        "problems": result.problems,
        "seconds": result.seconds,
        "steps_per_second": result.steps_per_second,
        "images_per_second": result.images_per_second,
        "peak_memory_bytes": result.peak_memory_bytes,
        "resumed_from_step": result.resumed_from_step,
        "environment": result.environment.to_json(),
        "base_fingerprint": result.base_fingerprint,
        "dataset_fingerprint": result.dataset_fingerprint,
        "config_fingerprint": result.config_fingerprint,
        "config": identity.config,
    }
    write_json(files.record, record)


def read_training_record(files: TrainingFiles) -> dict[str, Any] | None:
    """Return the record of the last finished training; None where there is none.

    Raises:
        TrainingRecordError: The file is there and damaged.
    """
    path = files.record
    try:
        record = json.loads(path.read_bytes())
        checkpoints_of(record, files)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingRecordError(
            f"{path}: cannot be read ({type(error).__name__}: {error}). Materialize lora_model again, or train again."
        ) from error
    return record


def checkpoints_of(record: Mapping[str, Any], files: TrainingFiles) -> list[Checkpoint]:
    """Return the checkpoints that a record names, in order of steps, whether or not their files are there."""
    named = [Checkpoint(int(entry["step"]), files.folder / str(entry["file"])) for entry in record["checkpoints"]]
    return sorted(named, key=lambda checkpoint: checkpoint.step)


def finished_checkpoints(files: TrainingFiles) -> list[Checkpoint]:
    """Return the checkpoints of the last finished training that are on disk, in order of steps; empty without one.

    Raises:
        TrainingRecordError: The record is damaged.
    """
    record = read_training_record(files)
    if record is None:
        return []
    return [checkpoint for checkpoint in checkpoints_of(record, files) if checkpoint.path.exists()]


def forget_checkpoints(files: TrainingFiles, names: Collection[str]) -> None:
    """Name checkpoints (file names) that are about to be removed no more, so that the training stays a finished one.

    Raises:
        TrainingRecordError: The record is damaged.
    """
    record = read_training_record(files)
    if record is not None:
        entries = record["checkpoints"]
        record["checkpoints"] = [entry for entry in entries if entry["file"] not in names]
        gone = [entry for entry in entries if entry["file"] in names]
        record["removed_checkpoints"] = [*record.get("removed_checkpoints", ()), *gone]
        write_json(files.record, record)


def removed_checkpoints(files: TrainingFiles) -> list[UPath]:
    """Return the files of checkpoints that `forget_checkpoints` was told of.

    Raises:
        TrainingRecordError: The record is damaged.
    """
    record = read_training_record(files) or {}
    return [files.folder / str(entry["file"]) for entry in record.get("removed_checkpoints", ())]


def result_of(record: Mapping[str, Any], files: TrainingFiles) -> TrainingResult:
    """Return the result that a record was written from; nothing was encoded for it.

    Raises:
        KeyError, TypeError, ValueError: Something is missing in the record, or is of another kind.
    """
    return TrainingResult(
        checkpoints=checkpoints_of(record, files),
        losses=np.array(record["losses"], np.float32),
        grad_norms=np.array([math.inf if norm is None else norm for norm in record["grad_norms"]], np.float32),
        learning_rates=np.array(record["learning_rates"], np.float32),
        validation_losses=[(int(step), float(loss)) for step, loss in record["validation_losses"]],
        train_count=int(record["train_count"]),
        held_out_count=int(record["held_out_count"]),
        problems=[(str(file), str(reason)) for file, reason in record["problems"]],
        encoded_count=0,
        seconds=float(record["seconds"]),
        steps_per_second=float(record["steps_per_second"]),
        images_per_second=float(record["images_per_second"]),
        peak_memory_bytes=int(record["peak_memory_bytes"]),
        resumed_from_step=int(record["resumed_from_step"]),
        environment=Environment(**record["environment"]),
        base_fingerprint=str(record["base_fingerprint"]),
        dataset_fingerprint=str(record["dataset_fingerprint"]),
        config_fingerprint=str(record["config_fingerprint"]),
        was_finished=True,
    )
