"""The training loop: one step, validation, and everything a resumed run needs.

Here: tensors and their state. Not here: the networks (`adapters`), files, fingerprints and when to save (`trainer`).
"""

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from yokai_assets.devices import free_device_memory, is_out_of_memory, to_device
from yokai_assets.settings.training import TrainingSettings
from yokai_assets.training.adapters import AdaptedModel
from yokai_assets.training.base_model import BaseModel
from yokai_assets.training.batches import Batch, generator_of, training_batch, validation_batch
from yokai_assets.training.cuda_graphs import GraphMemory, RecordedPass
from yokai_assets.training.encoding import EncodedDataset
from yokai_assets.training.environment import memory_words
from yokai_assets.training.loss import denoising_target, masked_error, min_snr_weight
from yokai_assets.training.optimizers import build_optimizer, current_rate
from yokai_assets.training.sampler import BucketSampler

if TYPE_CHECKING:
    import torch

_LOG = logging.getLogger(__name__)
_FLUSH_STEPS_ON_GPU = 10
_MAX_OVERFLOWS = 50
_Result = TypeVar("_Result")


class TrainingDivergedError(RuntimeError):
    """The loss is not a number any more; the message says at which step and what to do."""


class TrainingMemoryError(RuntimeError):
    """Not even one image at a time fits into the device's memory; the message has the numbers."""


class TrainingLoop:
    """A LoRA in training.

    A step is `gradient_accumulation_steps` batches of `train_batch_size` images. What a step draws does not depend on
    how many of them are computed at once: where memory runs out, that number is halved and the same step done again.

    Attributes:
        model: The networks with their adapters.
        step: Optimizer steps done.
        losses: Loss of every step done, up to the last `flush`.
        grad_norms: Gradient norm before clipping, of the same steps.
        learning_rates: The UNet's, of the same steps.
        timestep_count: Length of the noise schedule.
        micro_batch_size: Images computed at once.
        notes: (setting, what was done instead), in words.
    """

    def __init__(self, base: BaseModel, dataset: EncodedDataset, settings: TrainingSettings, seed: int) -> None:
        import torch
        from diffusers.optimization import get_scheduler

        self._base, self._dataset, self._settings, self._seed = base, dataset, settings, seed
        self.model = AdaptedModel(base, settings, seed, dataset.texts)
        self._parameters = [weight for part in self.model.parts for weight in self.model.parameters_of(part)]
        self._noise_scheduler = base.noise_scheduler()
        self.timestep_count = int(self._noise_scheduler.config["num_train_timesteps"])
        self._optimizer = build_optimizer(self.model, settings)
        self._lr_scheduler = get_scheduler(
            settings.lr_scheduler,
            self._optimizer,
            num_warmup_steps=settings.lr_warmup_steps,
            num_training_steps=settings.max_train_steps,
        )
        self._scaler = torch.amp.GradScaler(base.device.partition(":")[0], enabled=base.precision == "fp16")
        self._shown = [index for index, example in enumerate(dataset.train) for _ in range(example.repeats)]
        sizes = [tuple(dataset.train[index].weights.shape) for index in self._shown]
        self._sampler = BucketSampler(sizes, settings.train_batch_size, seed)
        self.step = 0
        self.losses: list[float] = []
        self.grad_norms: list[float] = []
        self.learning_rates: list[float] = []
        self.micro_batch_size = settings.train_batch_size
        self._checkpoints_gradients = settings.gradient_checkpointing
        self.notes: list[tuple[str, str]] = []
        self._pending: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._overflow_count = 0
        self._recorded: dict[str, RecordedPass] = {}
        if settings.cuda_graphs and base.device != "cpu" and not self.model.trains_text:
            memory = GraphMemory(base.device)
            self._recorded = {
                "gradients": RecordedPass(self._add_gradients, memory),
                "prior": RecordedPass(self._base_prediction, memory),
            }
        torch.manual_seed(seed)

    def train_step(self) -> None:
        """Do one optimizer step.

        Raises:
            TrainingDivergedError: A loss or gradient since the last flush is not finite.
            TrainingMemoryError: One image at a time is too much for the device.
        """
        number = self.step + 1
        batches = self._draw(number)
        loss = self._within_memory(lambda: self._backward(batches), f"step {number}")
        self.learning_rates.append(current_rate(self._optimizer))
        norm = self._update()
        self.step = number
        self._pending.append((loss, norm))
        # Reading a number makes the GPU wait; it is done now and then.
        if self._base.device == "cpu" or len(self._pending) >= _FLUSH_STEPS_ON_GPU:
            self.flush()

    def flush(self) -> None:
        """Bring `losses` and `grad_norms` up to date.

        Raises:
            TrainingDivergedError: One of them is not finite.
        """
        import torch

        if not self._pending:
            return
        rows = torch.stack([torch.stack((loss.float(), norm.float())) for loss, norm in self._pending]).tolist()
        self._pending.clear()
        for loss, norm in rows:
            self._require_finite(loss, norm)
            self.losses.append(loss)
            self.grad_norms.append(norm)

    def validation_loss(self) -> float | None:
        """Return the mean masked error on held-out images at fixed timesteps under fixed noise; None without any.

        It carries no min-SNR weight, so that runs with different weights can be compared.

        Raises:
            TrainingMemoryError: One image at a time is too much for the device.
        """
        if not self._dataset.held_out:
            return None
        batches = [validation_batch(one, self._seed, self.timestep_count) for one in self._dataset.held_out]

        def measure() -> float:
            with self.model.evaluating():
                errors = [
                    error
                    for batch in batches
                    for part in batch.split(self.micro_batch_size)
                    for error in self._error(**self._inputs(part.to(self._base.device))).tolist()
                ]
            return sum(errors) / len(errors)

        return self._within_memory(measure, "validation")

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the coming steps depend on, tensors on their device."""
        import torch

        self.flush()
        on_gpu = self._base.device != "cpu"
        return {
            "step": self.step,
            "adapters": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "lr_scheduler": self._lr_scheduler.state_dict(),
            "scaler": self._scaler.state_dict(),
            "sampler": self._sampler.state_dict(),
            "rng": torch.get_rng_state(),
            "gpu_rng": torch.cuda.get_rng_state(self._base.device) if on_gpu else None,
            "losses": list(self.losses),
            "grad_norms": list(self.grad_norms),
            "learning_rates": list(self.learning_rates),
            "micro_batch_size": self.micro_batch_size,
            "checkpoints_gradients": self._checkpoints_gradients,
            "overflow_count": self._overflow_count,
            "notes": [list(note) for note in self.notes],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a saved state of the same run."""
        import torch

        self.model.load_state_dict(state["adapters"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._lr_scheduler.load_state_dict(state["lr_scheduler"])
        self._scaler.load_state_dict(state["scaler"])
        self._sampler.load_state_dict(state["sampler"])
        torch.set_rng_state(state["rng"])
        if state["gpu_rng"] is not None and self._base.device != "cpu":
            torch.cuda.set_rng_state(state["gpu_rng"], self._base.device)
        self.step = int(state["step"])
        self.losses, self.grad_norms = list(state["losses"]), list(state["grad_norms"])
        self.learning_rates = list(state["learning_rates"])
        self.micro_batch_size = int(state["micro_batch_size"])
        self._overflow_count = int(state["overflow_count"])
        if state["checkpoints_gradients"]:
            self._checkpoint_gradients()
        self.notes = [(str(setting), str(words)) for setting, words in state["notes"]]

    def _draw(self, number: int) -> list[Batch]:
        """Draw the batches of a step; each is of one size of image."""
        settings, generator = self._settings, generator_of(self._seed, "step", number)
        drawn = []
        for _ in range(settings.gradient_accumulation_steps):
            indices = [self._shown[position] for position in self._sampler.next_batch()]
            drawn.append(training_batch(self._dataset, indices, generator, self.timestep_count, settings))
        return drawn

    def _backward(self, batches: list[Batch]) -> "torch.Tensor":
        """Add up the gradients of a step, part by part; return its loss, the mean over its images."""
        import torch

        # A recording writes into the gradients that it was made with.
        self._optimizer.zero_grad(set_to_none=not self._recorded)
        count, gamma = sum(len(batch.captions) for batch in batches), self._settings.min_snr_gamma
        losses = []
        for batch in batches:
            for part in batch.to(self._base.device).split(self.micro_batch_size):
                shares = torch.full_like(part.timesteps, 1 / count, dtype=torch.float32)
                if gamma:
                    shares = shares * min_snr_weight(self._noise_scheduler, part.timesteps, gamma)
                inputs = self._inputs(part) | {"shares": shares}
                losses.append(self._passed("gradients", self._add_gradients, inputs))
        return torch.stack(losses).sum()

    def _update(self) -> "torch.Tensor":
        """Do the optimizer's step; return the gradient norm before clipping."""
        import torch

        self._scaler.unscale_(self._optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self._settings.max_grad_norm)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._lr_scheduler.step()
        return norm.detach()

    def _inputs(self, batch: Batch) -> "dict[str, torch.Tensor]":
        """Return what `_error` takes: tensors on the device."""
        scheduler = self._noise_scheduler
        timesteps: Any = batch.timesteps
        noisy = scheduler.add_noise(batch.latents, batch.noise, timesteps)
        target = denoising_target(scheduler, batch.latents, batch.noise, batch.timesteps)
        if batch.is_prior.any():
            rows = to_device(batch.is_prior.nonzero().flatten(), self._base.device)
            captions = [text for text, prior in zip(batch.captions, batch.is_prior.tolist(), strict=True) if prior]
            asked = self._asked(noisy[rows], batch.timesteps[rows], captions, batch.time_ids[rows])
            target = target.index_copy(0, rows, self._passed("prior", self._base_prediction, asked))
        asked = self._asked(noisy, batch.timesteps, batch.captions, batch.time_ids)
        return asked | {"target": target, "weights": batch.weights}

    def _asked(
        self, noisy: "torch.Tensor", timesteps: "torch.Tensor", captions: Sequence[str], time_ids: "torch.Tensor"
    ) -> "dict[str, torch.Tensor]":
        """Return what `AdaptedModel.predict` takes."""
        tokens, pooled = self.model.encode(captions)
        asked = {"noisy": noisy, "timesteps": timesteps, "tokens": tokens}
        return asked if pooled is None else asked | {"pooled": pooled, "time_ids": time_ids}

    def _passed(
        self, name: str, function: "Callable[..., torch.Tensor]", inputs: "dict[str, torch.Tensor]"
    ) -> "torch.Tensor":
        """Call a function, recorded where steps are recorded."""
        recorded = self._recorded.get(name)
        if recorded is None or self._checkpoints_gradients:
            return function(**inputs)
        result = recorded(inputs)
        if recorded.trouble and all(setting != "training.cuda_graphs" for setting, _ in self.notes):
            self.notes.append(("training.cuda_graphs", recorded.trouble))
        return result

    def _add_gradients(self, *, shares: "torch.Tensor", **inputs: "torch.Tensor") -> "torch.Tensor":
        """Add the gradients of a loss in which every image has its share; return the loss."""
        loss = (self._error(**inputs) * shares).sum()
        self._scaler.scale(loss).backward()
        return loss.detach()

    def _error(self, *, target: "torch.Tensor", weights: "torch.Tensor", **asked: "torch.Tensor") -> "torch.Tensor":
        """Return each image's weighted error, f32 [B]."""
        return masked_error(self.model.predict(**asked), target, weights)

    def _base_prediction(self, **asked: "torch.Tensor") -> "torch.Tensor":
        """Return what the base model says, f32."""
        with self.model.without_adapters():
            return self.model.predict(**asked).float()

    def _within_memory(self, compute: "Callable[[], _Result]", what: str) -> _Result:
        """Compute; where the device's memory runs out, with fewer images at once, again from the beginning."""
        while True:
            try:
                return compute()
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                reason = str(error).partition("\n")[0]
            # Only here is the error gone, whose traceback holds the tensors.
            self._optimizer.zero_grad(set_to_none=True)
            for recorded in self._recorded.values():
                recorded.forget()
            words = memory_words(self._base.device)
            free_device_memory()
            self._need_less_memory(f"out of memory at {what}{words}", reason)

    def _need_less_memory(self, trouble: str, reason: str) -> None:
        settings, was = self._settings, self.micro_batch_size
        if was > 1:
            self.micro_batch_size = was // 2
            done = f"{self.micro_batch_size} of {was} images at once from here on; what a step sums up stays as it is"
            note = ("training.train_batch_size", f"{trouble}: {done}")
        elif not self._checkpoints_gradients:
            self._checkpoint_gradients()
            note = ("training.gradient_checkpointing", f"{trouble} with one image at once: switched on from here on")
        else:
            largest = max((one.weights.numel() for one in self._dataset.train), default=0)
            raise TrainingMemoryError(
                f"{trouble}, with one image at once (the largest has {largest} latent pixels), gradient "
                f"checkpointing, rank {settings.network_dim}, precision {self._base.precision}: {reason}. Close what "
                "else uses the device, or lower training.resolution_px or training.network_dim, or train fewer "
                "modules (training.target_modules) or no text encoder."
            )
        _LOG.warning("%s: %s", *note)
        self.notes.append(note)

    def _checkpoint_gradients(self) -> None:
        self._checkpoints_gradients = True
        self.model.checkpoint_gradients()

    def _require_finite(self, loss: float, norm: float) -> None:
        # In fp16 a gradient that overflows is skipped, and the next one is scaled down.
        has_overflowed = not norm < float("inf")
        self._overflow_count = self._overflow_count + 1 if has_overflowed else 0
        is_lost = has_overflowed and (not self._scaler.is_enabled() or self._overflow_count >= _MAX_OVERFLOWS)
        if loss < float("inf") and not is_lost:
            return
        step = len(self.losses) + 1
        what = f"the loss is {loss}" if not loss < float("inf") else f"the gradient's norm is {norm}"
        raise TrainingDivergedError(
            f"{what} at step {step}: training diverged. Lower training.learning_rate (now "
            f"{self._settings.learning_rate:g}), or set training.mixed_precision to `no` if it is fp16."
        )
