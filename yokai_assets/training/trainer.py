"""One character's LoRA, from its dataset to verified checkpoints: fresh, or from where a killed run stopped.

Here: what is saved when, and whether a state may be continued. Tensors are `loop`'s, file formats `export`'s and
`checkpoints`'.
"""

import json
import logging
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from upath import UPath

from yokai_assets.progress import Progress, silent
from yokai_assets.settings.model import TrainingSettings
from yokai_assets.storage.files import TEMPORARY_MARK, is_local, write_json, write_text
from yokai_assets.storage.layout import Layout
from yokai_assets.training.base_model import BaseModel, open_base_model
from yokai_assets.training.cache import TensorCache
from yokai_assets.training.checkpoints import RunIdentity, load_state, save_state
from yokai_assets.training.encoding import EncodedDataset, encode_dataset
from yokai_assets.training.environment import Environment, peak_memory_bytes, reset_peak_memory
from yokai_assets.training.export import export_lora, kohya_header
from yokai_assets.training.images import items_of
from yokai_assets.training.loop import TrainingLoop

_LOG = logging.getLogger(__name__)
TRAINER_VERSION = 1
"""Counts changes of the method: a state of another version is not continued."""
LOSS_FILE = "losses.jsonl"


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
        validation_losses: (step, loss) on held-out images; step 0 is the bare base model. Empty without any.
        train_count: Images trained on.
        held_out_count: Images of the validation loss.
        problems: (file, reason) of images left out.
        encoded_count: Latents and text embeddings that were not in the cache.
        seconds: Training time over all starts, without loading and encoding.
        images_per_second: Images trained per second since the last start; 0 if no step was left.
        peak_memory_bytes: GPU memory allocated at most; on a CPU the process's largest resident size.
        resumed_from_step: Step of the state that was continued; 0 for a fresh start.
        environment: Device, threads and torch version of the last start.
        base_fingerprint: sha256 over the base model's files.
        dataset_fingerprint: sha256 over pixels, captions, masks and splits.
        config_fingerprint: sha256 over the settings and the seed.
    """

    checkpoints: list[Checkpoint]
    losses: np.ndarray
    grad_norms: np.ndarray
    validation_losses: list[tuple[int, float]]
    train_count: int
    held_out_count: int
    problems: list[tuple[str, str]]
    encoded_count: int
    seconds: float
    images_per_second: float
    peak_memory_bytes: int
    resumed_from_step: int
    environment: Environment
    base_fingerprint: str
    dataset_fingerprint: str
    config_fingerprint: str


def checkpoint_path(layout: Layout, character_id: str, step: int) -> UPath:
    """Return where the LoRA after `step` steps lies."""
    return layout.lora(character_id) / f"{character_id}-step{step:06d}.safetensors"


def training_record_path(layout: Layout, character_id: str) -> UPath:
    """Return the JSON record of the last finished training: losses, speeds, fingerprints."""
    return layout.lora(character_id) / f"{character_id}-training.json"


def train_lora(
    dataset: pl.DataFrame,
    character_id: str,
    layout: Layout,
    settings: TrainingSettings,
    device: str,
    seed: int,
    *,
    header: dict[str, str],
    progress: Progress = silent,
    base: BaseModel | None = None,
) -> TrainingResult:
    """Train a character's LoRA, or finish an interrupted training.

    A run killed at any moment and started again ends with the same bits as one that was not (CPU in fp32 with the
    same number of threads and the same torch).

    Args:
        dataset: `DATASET` rows of the character.
        character_id: Names the files.
        layout: Where files lie.
        settings: What to train, and how.
        device: Resolved torch device.
        seed: Of everything drawn at random.
        header: Fields for the LoRA files' headers: lineage, trigger, ...
        progress: Told of steps done, with the loss.
        base: The base model, if it is open already; it is not changed.

    Raises:
        BaseModelError: The base model is missing or unsupported.
        TrainingDataError: No image can be trained on.
        TrainingDivergedError: The loss is not a number any more.
        TargetModulesError: No module of the UNet is named in `settings.target_modules`.
        ExportError: A written LoRA does not match the trained adapter.
    """
    if base is None:
        base = open_base_model(settings.base_model, device, precision=settings.mixed_precision, cache=layout.cache)
    encoded = encode_dataset(
        items_of(dataset, layout),
        base,
        TensorCache(layout.cache / "latents"),
        TensorCache(layout.cache / "text"),
        settings,
        progress=_encoding_progress(progress, settings.max_train_steps),
    )
    run = _Run(character_id, layout, settings, seed, base, encoded, header)
    run.start()
    run.train(progress)
    return run.finish()


def _encoding_progress(progress: Progress, step_count: int) -> Progress:
    """Return a progress that tells of encoding as notes, with the bar still at step 0."""

    def tell(done: int, total: int, note: str = "") -> None:
        progress(0, step_count, f"{note} {done}/{total}")

    return tell


class _Run:
    """One start of one character's training."""

    def __init__(
        self,
        character_id: str,
        layout: Layout,
        settings: TrainingSettings,
        seed: int,
        base: BaseModel,
        encoded: EncodedDataset,
        header: dict[str, str],
    ) -> None:
        self._character_id, self._layout, self._settings = character_id, layout, settings
        self._base, self._encoded, self._header = base, encoded, header
        self._folder = layout.training_state(character_id)
        self._identity = RunIdentity(
            character_id=character_id,
            base_fingerprint=base.fingerprint,
            dataset_fingerprint=encoded.fingerprint,
            config=_config(settings, base, seed),
        )
        self._environment = Environment.of(base.device)
        self._loop = TrainingLoop(base, encoded, settings, seed)
        self._validation: list[tuple[int, float]] = []
        self._earlier_seconds = 0.0
        self._first_step = 0
        self._started_at = 0.0
        self._logged_steps = 0

    def start(self) -> None:
        """Continue a usable state, or clear what other runs left."""
        state = load_state(self._folder, self._identity)
        self._remove_files(is_fresh=state is None)
        if state is None:
            _remove_folder(self._folder)
            self._validate()
        else:
            self._continue(state)
        self._first_step = self._loop.step
        self._rewrite_loss_file()
        reset_peak_memory(self._base.device)

    def train(self, progress: Progress) -> None:
        """Train what is left, saving on the way."""
        total = self._settings.max_train_steps
        self._started_at = time.monotonic()
        while self._loop.step < total:
            self._loop.train_step()
            step = self._loop.step
            if step % self._settings.save_every_n_steps == 0 or step == total:
                self._save()
            if self._append_losses():
                progress(step, total, f"loss {np.mean(self._loop.losses[-20:]):.4f}")

    def finish(self) -> TrainingResult:
        """Return and record the result, and remove the state."""
        trained_count = (self._loop.step - self._first_step) * self._settings.train_batch_size
        seconds = time.monotonic() - self._started_at
        result = TrainingResult(
            checkpoints=self._checkpoints(),
            losses=np.array(self._loop.losses, np.float32),
            grad_norms=np.array(self._loop.grad_norms, np.float32),
            validation_losses=self._validation,
            train_count=len(self._encoded.train),
            held_out_count=len(self._encoded.held_out),
            problems=self._encoded.problems,
            encoded_count=self._encoded.encoded_count,
            seconds=self._earlier_seconds + seconds,
            images_per_second=trained_count / seconds if trained_count else 0.0,
            peak_memory_bytes=peak_memory_bytes(self._base.device),
            resumed_from_step=self._first_step,
            environment=self._environment,
            base_fingerprint=self._identity.base_fingerprint,
            dataset_fingerprint=self._identity.dataset_fingerprint,
            config_fingerprint=self._identity.config_fingerprint,
        )
        write_json(training_record_path(self._layout, self._character_id), self._record(result))
        if not self._settings.keep_training_state:
            _remove_folder(self._folder)
        return result

    def _continue(self, state: dict[str, Any]) -> None:
        self._loop.load_state_dict(state["loop"])
        self._validation = [(int(step), float(loss)) for step, loss in state["validation"]]
        self._earlier_seconds = float(state["seconds"])
        changes = self._environment.differences(state["environment"])
        if changes:
            _LOG.warning("%s: %s; the result may differ in the last bits.", self._character_id, "; ".join(changes))
        _LOG.info("%s: continued at step %d.", self._character_id, self._loop.step)
        if not checkpoint_path(self._layout, self._character_id, self._loop.step).exists():
            self._export()

    def _save(self) -> None:
        """Write the LoRA, then the state: a kill between them only repeats the LoRA."""
        self._loop.flush()
        self._validate()
        self._export()
        seconds = self._earlier_seconds + time.monotonic() - self._started_at
        state = {
            "loop": self._loop.state_dict(),
            "validation": [list(pair) for pair in self._validation],
            "seconds": seconds,
            "environment": self._environment.to_json(),
        }
        save_state(self._folder, self._identity, state)

    def _validate(self) -> None:
        loss = self._loop.validation_loss()
        if loss is not None:
            self._validation.append((self._loop.step, loss))

    def _export(self) -> None:
        import torch

        settings, step = self._settings, self._loop.step
        rank = settings.network_dim
        title = f"{self._character_id}-step{step:06d}"
        header = kohya_header(
            self._base.family, rank, settings.network_alpha or float(rank), title, self._base.prediction_type
        )
        header |= {
            "modelspec.resolution": f"{settings.resolution_px}x{settings.resolution_px}",
            "ss_resolution": f"({settings.resolution_px}, {settings.resolution_px})",
            "ss_sd_model_name": self._base.name,
            "ss_steps": str(step),
            "ss_max_train_steps": str(settings.max_train_steps),
            "ss_num_train_images": str(len(self._encoded.train)),
            "ss_total_batch_size": str(settings.train_batch_size),
            "ss_learning_rate": str(settings.learning_rate),
            "ss_lr_scheduler": settings.lr_scheduler,
            "ss_seed": str(self._identity.config["seed"]),
            "yokai_base_fingerprint": self._identity.base_fingerprint,
            "yokai_dataset_fingerprint": self._identity.dataset_fingerprint,
            "yokai_config_fingerprint": self._identity.config_fingerprint,
            "yokai_validation_losses": json.dumps(self._validation),
        }
        dtype = torch.float32 if self._base.precision == "no" else torch.float16
        path = checkpoint_path(self._layout, self._character_id, step)
        export_lora(path, self._loop.unet, self._base.family, header | self._header, dtype)

    def _checkpoints(self) -> list[Checkpoint]:
        settings = self._settings
        steps = {*range(settings.save_every_n_steps, settings.max_train_steps, settings.save_every_n_steps)}
        wanted = [
            Checkpoint(step, checkpoint_path(self._layout, self._character_id, step))
            for step in sorted(steps | {settings.max_train_steps})
        ]
        found = [checkpoint for checkpoint in wanted if checkpoint.path.exists()]
        if len(found) < len(wanted):
            _LOG.warning("%s: %d checkpoints are gone from disk.", self._character_id, len(wanted) - len(found))
        return found

    def _remove_files(self, is_fresh: bool) -> None:
        """Remove files that a kill left unfinished and, before a fresh start, checkpoints of other trainings.

        Beside new checkpoints old ones would be judged as if they belonged together.
        """
        folder = self._layout.lora(self._character_id)
        if not folder.exists():
            return
        name = f"{self._character_id}-step"
        for file in list(folder.iterdir()):
            is_unfinished = file.name.startswith(f".{name}") and TEMPORARY_MARK in file.name
            is_checkpoint = file.name.startswith(name) and file.name.endswith(".safetensors")
            if is_unfinished or (is_checkpoint and is_fresh):
                file.unlink()

    def _append_losses(self) -> bool:
        """Append new losses to the loss file, where people and tools can follow; say whether there were any."""
        losses = self._loop.losses
        if len(losses) == self._logged_steps:
            return False
        if is_local(self._folder):
            with (self._folder / LOSS_FILE).open("a", encoding="utf-8") as file:
                file.writelines(self._loss_lines(self._logged_steps))
        self._logged_steps = len(losses)
        return True

    def _rewrite_loss_file(self) -> None:
        """Cut the loss file back to the state: a killed run wrote lines that are trained again."""
        self._logged_steps = len(self._loop.losses)
        write_text(self._folder / LOSS_FILE, "".join(self._loss_lines(0)))

    def _loss_lines(self, first: int) -> list[str]:
        rows = zip(self._loop.losses[first:], self._loop.grad_norms[first:], strict=True)
        return [
            json.dumps({"step": step, "loss": loss, "grad_norm": norm}) + "\n"
            for step, (loss, norm) in enumerate(rows, start=first + 1)
        ]

    def _record(self, result: TrainingResult) -> dict[str, Any]:
        return {
            "character_id": self._character_id,
            "base_model": self._base.name,
            "family": self._base.family,
            "checkpoints": [{"step": c.step, "file": c.path.name} for c in result.checkpoints],
            "losses": [round(float(loss), 6) for loss in result.losses],
            # An fp16 step that overflowed has no finite norm, and JSON no word for infinity.
            "grad_norms": [round(float(norm), 6) if np.isfinite(norm) else None for norm in result.grad_norms],
            "validation_losses": result.validation_losses,
            "train_count": result.train_count,
            "held_out_count": result.held_out_count,
            "problems": result.problems,
            "seconds": result.seconds,
            "images_per_second": result.images_per_second,
            "peak_memory_bytes": result.peak_memory_bytes,
            "resumed_from_step": result.resumed_from_step,
            "environment": result.environment.to_json(),
            "base_fingerprint": result.base_fingerprint,
            "dataset_fingerprint": result.dataset_fingerprint,
            "config_fingerprint": result.config_fingerprint,
            "config": self._identity.config,
        }


def _config(settings: TrainingSettings, base: BaseModel, seed: int) -> dict[str, Any]:
    """Return what of the settings changes the result; the base model counts by content, not by name."""
    config = settings.model_dump(mode="json", exclude={"keep_training_state", "base_model", "mixed_precision"})
    return config | {"seed": seed, "precision": base.precision, "trainer_version": TRAINER_VERSION}


def _remove_folder(folder: UPath) -> None:
    if not folder.exists():
        return
    if is_local(folder):
        shutil.rmtree(Path(str(folder)))
    else:
        folder.rmdir(recursive=True)  # pyright: ignore[reportCallIssue]
