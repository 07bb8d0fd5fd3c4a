"""One character's LoRA, from its dataset to verified checkpoints: fresh, or from where a killed run stopped.

Here: what is saved when, and whether a state may be continued. Tensors are `loop`'s, file formats `export`'s and
`checkpoints`'.
"""

import json
import logging
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from upath import UPath

from yokai_assets.progress import Progress, silent
from yokai_assets.settings.model import TrainingSettings
from yokai_assets.storage.files import TEMPORARY_MARK, is_local, recover_folder, write_text
from yokai_assets.storage.layout import Layout
from yokai_assets.training.base_model import BaseModel, open_base_model
from yokai_assets.training.cache import TensorCache
from yokai_assets.training.checkpoints import RunIdentity, load_state, save_state
from yokai_assets.training.encoding import EncodedDataset, encode_dataset
from yokai_assets.training.environment import Environment, peak_memory_bytes, reset_peak_memory
from yokai_assets.training.export import export_lora, kohya_header, read_header
from yokai_assets.training.images import items_of
from yokai_assets.training.loop import TrainingLoop
from yokai_assets.training.record import (
    Checkpoint,
    TrainingRecordError,
    TrainingResult,
    checkpoint_path,
    read_training_record,
    result_of,
    training_record_path,
    write_training_record,
)
from yokai_assets.training.safetensors_header import LoraFileError

_LOG = logging.getLogger(__name__)
TRAINER_VERSION = 3
"""Counts changes of the method: a state of another version is not continued."""
LOSS_FILE = "losses.jsonl"
_FINGERPRINTS = ("base_fingerprint", "dataset_fingerprint", "config_fingerprint")


def train_lora(
    dataset: pl.DataFrame,
    character_id: str,
    layout: Layout,
    settings: TrainingSettings,
    device: str,
    seed: int,
    *,
    header: dict[str, str],
    prior_captions: Sequence[str] = (),
    progress: Progress = silent,
    base: BaseModel | None = None,
) -> TrainingResult:
    """Train a character's LoRA, or finish an interrupted training; a finished one is not done again.

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
        prior_captions: Texts of prior preservation; see `encode_dataset`.
        progress: Told of steps done, with the loss.
        base: The base model, if it is open already; it is not changed.

    Raises:
        BaseModelError: The base model is missing or unsupported.
        TrainingDataError: No image can be trained on.
        TrainingDivergedError: The loss is not a number any more.
        TargetModulesError: No module of the UNet is named in `settings.target_modules`.
        ExportError: A written LoRA does not match the trained adapter.
    """
    dataset_folder = layout.training_data(character_id)
    if is_local(dataset_folder):
        recover_folder(Path(str(dataset_folder)))
    if base is None:
        base = open_base_model(settings.base_model, device, precision=settings.mixed_precision, cache=layout.cache)
    encoded = encode_dataset(
        items_of(dataset, layout),
        base,
        TensorCache(layout.cache / "latents"),
        TensorCache(layout.cache / "text"),
        settings,
        prior_captions=prior_captions,
        progress=_encoding_progress(progress, settings.max_train_steps),
    )
    identity = RunIdentity(
        character_id=character_id,
        base_fingerprint=base.fingerprint,
        dataset_fingerprint=encoded.fingerprint,
        config=_config(settings, base, seed),
    )
    finished = _finished_result(layout, identity)
    if finished is not None:
        _LOG.info("%s: this training is finished already; its checkpoints are used.", character_id)
        if not settings.keep_training_state:
            _remove_folder(layout.training_state(character_id))
        progress(settings.max_train_steps, settings.max_train_steps, "finished before")
        return finished
    run = _Run(identity, layout, settings, seed, base, encoded, header)
    run.start()
    run.train(progress)
    return run.finish()


def _finished_result(layout: Layout, identity: RunIdentity) -> TrainingResult | None:
    """Return the result of this very training, if it is finished and every checkpoint of it is there and whole."""
    try:
        record = read_training_record(layout, identity.character_id)
        if record is None or identity.differences(record):
            return None
        result = result_of(record, layout, identity.character_id)
    except (TrainingRecordError, KeyError, TypeError, ValueError) as error:
        _LOG.warning("%s: its training record does not count (%s).", identity.character_id, error)
        return None
    for checkpoint in result.checkpoints:
        try:
            header = read_header(checkpoint.path)
        except LoraFileError as error:
            _LOG.warning("%s: trained again, because a checkpoint is gone or damaged: %s", identity.character_id, error)
            return None
        is_of_this_run = all(header.get(f"yokai_{name}") == getattr(result, name) for name in _FINGERPRINTS)
        if not is_of_this_run or header.get("ss_steps") != str(checkpoint.step):
            _LOG.warning("%s is of another training: this one is done again.", checkpoint.path)
            return None
    return result


def _encoding_progress(progress: Progress, step_count: int) -> Progress:
    """Return a progress that tells of encoding as notes, with the bar still at step 0."""

    def tell(done: int, total: int, note: str = "") -> None:
        progress(0, step_count, f"{note} {done}/{total}")

    return tell


class _Run:
    """One start of one character's training."""

    def __init__(
        self,
        identity: RunIdentity,
        layout: Layout,
        settings: TrainingSettings,
        seed: int,
        base: BaseModel,
        encoded: EncodedDataset,
        header: dict[str, str],
    ) -> None:
        self._identity, self._character_id = identity, identity.character_id
        self._layout, self._settings = layout, settings
        self._base, self._encoded, self._header = base, encoded, header
        self._folder = layout.training_state(self._character_id)
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
        # First of all: a record vouches for files, which change from here on.
        training_record_path(self._layout, self._character_id).unlink(missing_ok=True)
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
            problems=[*(("training.mixed_precision", note) for note in self._base.notes), *self._encoded.problems],
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
        write_training_record(self._layout, self._identity, self._base.name, self._base.family, result)
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
            "ss_zero_terminal_snr": str(self._base.has_zero_terminal_snr),
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


def _config(settings: TrainingSettings, base: BaseModel, seed: int) -> dict[str, Any]:
    """Return what of the settings changes the result; the base model counts by content, not by name."""
    config = settings.model_dump(mode="json", exclude={"keep_training_state", "base_model", "mixed_precision"})
    return config | {
        "seed": seed,
        "precision": base.precision,
        "prediction_type": base.prediction_type,
        "has_zero_terminal_snr": base.has_zero_terminal_snr,
        "trainer_version": TRAINER_VERSION,
    }


def _remove_folder(folder: UPath) -> None:
    if not folder.exists():
        return
    if is_local(folder):
        shutil.rmtree(Path(str(folder)))
    else:
        folder.rmdir(recursive=True)  # pyright: ignore[reportCallIssue]
