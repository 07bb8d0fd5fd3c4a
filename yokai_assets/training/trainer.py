"""One LoRA, from its images to verified checkpoints: fresh, or from where a killed run stopped.

Here: what is saved when, and whether a state may be continued. Tensors are `loop`'s, file formats `export`'s and
`checkpoints`'.
"""

import logging
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from upath import UPath

from yokai_assets.progress import Progress, silent
from yokai_assets.settings.presets import doubts, resolved
from yokai_assets.settings.training import TrainingSettings
from yokai_assets.storage.files import TEMPORARY_MARK, is_local
from yokai_assets.training.base_model import BaseModel, open_base_model
from yokai_assets.training.cache import TensorCache
from yokai_assets.training.checkpoints import RunIdentity, StateRefusedError, load_state, save_state
from yokai_assets.training.curves import CurveWriter
from yokai_assets.training.encoding import EncodedDataset, encode_dataset
from yokai_assets.training.environment import Environment, peak_memory_bytes, reset_peak_memory
from yokai_assets.training.export import diffusers_path, export_lora, read_header
from yokai_assets.training.files import TrainingFiles
from yokai_assets.training.header import dataset_header, kohya_header, lineage_header, options_header
from yokai_assets.training.images import TrainingItem
from yokai_assets.training.loop import TrainingLoop
from yokai_assets.training.record import (
    Checkpoint,
    TrainingRecordError,
    TrainingResult,
    read_training_record,
    result_of,
    write_training_record,
)
from yokai_assets.training.safetensors_header import LoraFileError

if TYPE_CHECKING:
    import torch

_LOG = logging.getLogger(__name__)
TRAINER_VERSION = 5
"""Counts changes of the method: a state of another version is not continued."""
_FINGERPRINTS = ("base_fingerprint", "dataset_fingerprint", "config_fingerprint")
_WITHOUT_EFFECT = {
    *("keep_training_state", "save_diffusers_format", "base_model", "mixed_precision", "preset", "cuda_graphs")
}


def train_lora(
    items: list[TrainingItem],
    files: TrainingFiles,
    settings: TrainingSettings,
    device: str,
    seed: int,
    *,
    header: dict[str, str],
    prior_captions: Sequence[str] = (),
    on_other_training: Literal["restart", "refuse"] = "restart",
    progress: Progress = silent,
    base: BaseModel | None = None,
) -> TrainingResult:
    """Train a LoRA, or finish an interrupted training; a finished one is not done again.

    A run killed at any moment and started again ends with the same bits as one that was not (CPU in fp32 with the
    same number of threads and the same torch).

    Args:
        items: Images and captions.
        files: Where its files lie.
        settings: What to train, and how; a preset in it fills what is unset.
        device: Resolved torch device.
        seed: Of everything drawn at random.
        header: Fields for the LoRA files' headers: lineage, trigger, ...
        prior_captions: Texts of prior preservation; see `encode_dataset`.
        on_other_training: What to do where another training (other images, settings, base model) has left its state
            or its checkpoints: begin anew and remove them, or raise.
        progress: Told of steps done, with the loss.
        base: The base model, if it is open already; it is not changed.

    Raises:
        BaseModelError: The base model is missing or unsupported.
        TrainingDataError: No image can be trained on.
        TrainingDivergedError: The loss is not a number any more.
        TrainingMemoryError: Not even one image at a time fits into the device's memory.
        TargetModulesError: A name in `settings.target_modules` is of no module that can have an adapter.
        OptimizerMissingError: The optimizer's package is not installed.
        StateRefusedError: Another training lies there, and `on_other_training` is `refuse`.
        ExportError: A written LoRA does not match the trained adapter.
        NotADirectoryError: A file lies where its folder is to be.
    """
    if files.folder.exists() and not files.folder.is_dir():
        raise NotADirectoryError(
            f"{files.folder}: is a file where the folder of a LoRA is to be. Move it, train again."
        )
    if on_other_training == "refuse":
        _require_own_checkpoints(files)
    if base is None:
        base = open_base_model(settings.base_model, device, precision=settings.mixed_precision, cache=files.cache)
    settings = resolved(settings, base.family, base.native_px, sum(item.split == "train" for item in items))
    encoded = encode_dataset(
        items,
        base,
        TensorCache(files.cache / "latents"),
        TensorCache(files.cache / "text"),
        settings,
        prior_captions=prior_captions,
        progress=_encoding_progress(progress, settings.max_train_steps),
    )
    identity = RunIdentity(
        character_id=files.name,
        base_fingerprint=base.fingerprint,
        dataset_fingerprint=encoded.fingerprint,
        config=_config(settings, base, seed),
    )
    finished = _finished_result(files, identity, on_other_training)
    if finished is not None:
        _LOG.info("%s: this training is finished already; its checkpoints are used.", files.name)
        if not settings.keep_training_state:
            _remove_folder(files.state)
        if settings.save_diffusers_format and not diffusers_path(finished.checkpoints[-1].path).exists():
            finished.problems.append(
                ("training.save_diffusers_format", "was off when this was trained; train again to have those files")
            )
        progress(settings.max_train_steps, settings.max_train_steps, "finished before")
        return finished
    run = _Run(identity, files, settings, seed, base, encoded, header)
    run.start(on_other_training)
    run.train(progress)
    return run.finish()


def _finished_result(
    files: TrainingFiles, identity: RunIdentity, on_other_training: Literal["restart", "refuse"]
) -> TrainingResult | None:
    """Return the result of this very training, if it is finished and every checkpoint of it is there and whole."""
    try:
        record = read_training_record(files)
        differences = [] if record is None else identity.differences(record)
        if differences and on_other_training == "refuse":
            raise StateRefusedError(f"{files.record} is of another training: {'; '.join(differences)}")
        if record is None or differences:
            return None
        result = result_of(record, files)
    except (TrainingRecordError, KeyError, TypeError, ValueError) as error:
        _LOG.warning("%s: its training record does not count (%s).", identity.character_id, error)
        return None
    for checkpoint in result.checkpoints:
        try:
            header = read_header(checkpoint.path)
        except LoraFileError as error:
            if on_other_training == "refuse":
                raise StateRefusedError(f"a checkpoint of the finished training is gone or damaged: {error}") from error
            _LOG.warning("%s: trained again, because a checkpoint is gone or damaged: %s", identity.character_id, error)
            return None
        is_of_this_run = all(header.get(f"yokai_{name}") == getattr(result, name) for name in _FINGERPRINTS)
        if not is_of_this_run or header.get("ss_steps") != str(checkpoint.step):
            _LOG.warning("%s is of another training: this one is done again.", checkpoint.path)
            return None
    return result


def _require_own_checkpoints(files: TrainingFiles) -> None:
    """Refuse to begin where LoRAs of this name lie that no training of ours has left: a fresh start removes them."""
    if files.record.exists() or files.state.exists() or not files.folder.exists():
        return
    names = sorted(file.name for file in files.folder.iterdir() if files.is_checkpoint(file.name))
    if names:
        raise StateRefusedError(f"{files.folder} holds checkpoints of an unknown training ({', '.join(names[:3])})")


def _encoding_progress(progress: Progress, step_count: int) -> Progress:
    """Return a progress that tells of encoding as notes, with the bar still at step 0."""

    def tell(done: int, total: int, note: str = "") -> None:
        progress(0, step_count, f"{note} {done}/{total}")

    return tell


class _Run:
    """One start of one training."""

    def __init__(
        self,
        identity: RunIdentity,
        files: TrainingFiles,
        settings: TrainingSettings,
        seed: int,
        base: BaseModel,
        encoded: EncodedDataset,
        header: dict[str, str],
    ) -> None:
        self._identity, self._files, self._settings = identity, files, settings
        self._base, self._encoded, self._header = base, encoded, header
        self._environment = Environment.of(base.device)
        self._loop = TrainingLoop(base, encoded, settings, seed)
        self._validation: list[tuple[int, float]] = []
        self._notes: list[tuple[str, str]] = []
        self._earlier_seconds = 0.0
        self._first_step = 0
        self._started_at = 0.0

    def start(self, on_other_training: Literal["restart", "refuse"]) -> None:
        """Continue a usable state, or clear what other runs left."""
        try:
            state = load_state(self._files.state, self._identity)
        except StateRefusedError as error:
            if on_other_training == "refuse":
                raise
            _LOG.warning("%s: %s: starting fresh.", self._files.name, error)
            self._notes.append(("training state", f"{error}: started fresh"))
            state = None
        # First of all: a record vouches for files, which change from here on.
        self._files.record.unlink(missing_ok=True)
        self._remove_files(is_fresh=state is None)
        if state is None:
            _remove_folder(self._files.state)
            self._require_exportable()
            self._validate()
        else:
            self._continue(state)
        self._first_step = self._loop.step
        self._curves = CurveWriter(self._files, self._loop, self._validation)
        reset_peak_memory(self._base.device)

    def train(self, progress: Progress) -> None:
        """Train what is left, saving on the way."""
        total = self._settings.max_train_steps
        self._started_at = time.monotonic()
        try:
            while self._loop.step < total:
                self._loop.train_step()
                step = self._loop.step
                if step % self._settings.save_every_n_steps == 0 or step == total:
                    self._save()
                if self._curves.update():
                    progress(step, total, f"loss {np.mean(self._loop.losses[-20:]):.4f}")
        finally:
            self._curves.close()

    def finish(self) -> TrainingResult:
        """Return and record the result, and remove the state."""
        settings, trained_steps = self._settings, self._loop.step - self._first_step
        seconds = time.monotonic() - self._started_at
        steps_per_second = trained_steps / seconds if trained_steps else 0.0
        result = TrainingResult(
            checkpoints=self._checkpoints(),
            losses=np.array(self._loop.losses, np.float32),
            grad_norms=np.array(self._loop.grad_norms, np.float32),
            learning_rates=np.array(self._loop.learning_rates, np.float32),
            validation_losses=self._validation,
            train_count=len(self._encoded.train),
            held_out_count=len(self._encoded.held_out),
            problems=self._problems(),
            encoded_count=self._encoded.encoded_count,
            seconds=self._earlier_seconds + seconds,
            steps_per_second=steps_per_second,
            images_per_second=steps_per_second * settings.train_batch_size * settings.gradient_accumulation_steps,
            peak_memory_bytes=peak_memory_bytes(self._base.device),
            resumed_from_step=self._first_step,
            environment=self._environment,
            base_fingerprint=self._identity.base_fingerprint,
            dataset_fingerprint=self._identity.dataset_fingerprint,
            config_fingerprint=self._identity.config_fingerprint,
        )
        write_training_record(self._files, self._identity, self._base.name, self._base.family, result)
        if not settings.keep_training_state:
            _remove_folder(self._files.state)
        return result

    def _problems(self) -> list[tuple[str, str]]:
        return [
            *(("training.mixed_precision", note) for note in self._base.notes),
            *doubts(self._settings, self._base.native_px),
            *self._notes,
            *self._loop.notes,
            *self._encoded.problems,
        ]

    def _continue(self, state: dict[str, Any]) -> None:
        self._loop.load_state_dict(state["loop"])
        self._validation = [(int(step), float(loss)) for step, loss in state["validation"]]
        self._earlier_seconds = float(state["seconds"])
        changes = self._environment.differences(state["environment"])
        if changes:
            _LOG.warning("%s: %s; the result may differ in the last bits.", self._files.name, "; ".join(changes))
        _LOG.info("%s: continued at step %d.", self._files.name, self._loop.step)
        checkpoint = self._files.checkpoint(self._loop.step)
        is_complete = not self._settings.save_diffusers_format or diffusers_path(checkpoint).exists()
        if not checkpoint.exists() or not is_complete:
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
        save_state(self._files.state, self._identity, state)

    def _require_exportable(self) -> None:
        """Write and check the untrained adapter once: what no file can hold must not show after hours."""
        with tempfile.TemporaryDirectory(prefix="yokai-lora-") as scratch:
            path = UPath(scratch) / "untrained.safetensors"
            export_lora(path, self._loop.model.parts, self._base, {}, self._dtype)

    @property
    def _dtype(self) -> "torch.dtype":
        """Dtype of LoRA files."""
        import torch

        return torch.float32 if self._base.precision == "no" else torch.float16

    def _validate(self) -> None:
        loss = self._loop.validation_loss()
        if loss is not None:
            self._validation.append((self._loop.step, loss))

    def _export(self) -> None:
        settings, base, step = self._settings, self._base, self._loop.step
        rank, path = settings.network_dim, self._files.checkpoint(step)
        title = path.name.removesuffix(".safetensors")
        header = kohya_header(base.family, rank, settings.network_alpha or float(rank), title, base.prediction_type)
        header |= options_header(settings, base, self._identity.config["seed"])
        header |= dataset_header(self._encoded, self._files.name, settings, base.vae_scale_factor)
        header |= lineage_header(self._identity)
        header |= {"ss_steps": str(step), "yokai_validation_losses": self._validation}
        export_lora(
            path,
            self._loop.model.parts,
            base,
            header | self._header,
            self._dtype,
            with_diffusers_format=settings.save_diffusers_format,
        )

    def _checkpoints(self) -> list[Checkpoint]:
        settings = self._settings
        steps = {*range(settings.save_every_n_steps, settings.max_train_steps, settings.save_every_n_steps)}
        wanted = [Checkpoint(step, self._files.checkpoint(step)) for step in sorted(steps | {settings.max_train_steps})]
        found = [checkpoint for checkpoint in wanted if checkpoint.path.exists()]
        if len(found) < len(wanted):
            _LOG.warning("%s: %d checkpoints are gone from disk.", self._files.name, len(wanted) - len(found))
        return found

    def _remove_files(self, is_fresh: bool) -> None:
        """Remove files that a kill left unfinished and, before a fresh start, checkpoints of other trainings.

        Beside new checkpoints old ones would be judged as if they belonged together.
        """
        folder = self._files.folder
        if not folder.exists():
            return
        name = f"{self._files.name}-step"
        for file in list(folder.iterdir()):
            is_unfinished = file.name.startswith(f".{name}") and TEMPORARY_MARK in file.name
            is_checkpoint = self._files.is_checkpoint(file.name)
            if is_unfinished or (is_checkpoint and is_fresh):
                file.unlink()


def _config(settings: TrainingSettings, base: BaseModel, seed: int) -> dict[str, Any]:
    """Return what of the settings changes the result; the base model counts by content, not by name."""
    return settings.model_dump(mode="json", exclude=_WITHOUT_EFFECT) | {
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
