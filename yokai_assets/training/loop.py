"""The training loop: adapter, optimizer, one step, validation, and everything a resumed run needs.

Here: tensors and their state. Not here: files, fingerprints and when to save (`trainer`).
"""

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from yokai_assets.settings.model import TrainingSettings
from yokai_assets.training.base_model import BaseModel
from yokai_assets.training.batches import Batch, generator_of, training_batch, validation_batch
from yokai_assets.training.encoding import EncodedDataset
from yokai_assets.training.loss import denoising_target, masked_error, min_snr_weight
from yokai_assets.training.sampler import BucketSampler

if TYPE_CHECKING:
    import torch
    from diffusers import UNet2DConditionModel

_FLUSH_STEPS_ON_GPU = 10


class TrainingDivergedError(RuntimeError):
    """The loss is not a number any more; the message says at which step and what to do."""


class TargetModulesError(ValueError):
    """No module of the UNet has one of the names that should get an adapter."""


class TrainingLoop:
    """A LoRA in training on one UNet.

    Attributes:
        unet: The UNet with its adapter; on the base model's device.
        step: Optimizer steps done.
        losses: Loss of every step done, up to the last `flush`.
        grad_norms: Gradient norm before clipping, of the same steps.
        timestep_count: Length of the noise schedule.
    """

    def __init__(self, base: BaseModel, dataset: EncodedDataset, settings: TrainingSettings, seed: int) -> None:
        import torch
        from diffusers.optimization import get_scheduler

        self._base, self._dataset, self._settings, self._seed = base, dataset, settings, seed
        self.unet = _adapted_unet(base, settings, seed)
        self._parameters = [parameter for parameter in self.unet.parameters() if parameter.requires_grad]
        self._noise_scheduler = base.noise_scheduler()
        self.timestep_count = int(self._noise_scheduler.config["num_train_timesteps"])
        self._optimizer = torch.optim.AdamW(
            self._parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        self._lr_scheduler = get_scheduler(
            settings.lr_scheduler,
            self._optimizer,
            num_warmup_steps=settings.lr_warmup_steps,
            num_training_steps=settings.max_train_steps,
        )
        self._scaler = torch.amp.GradScaler(base.device.partition(":")[0], enabled=base.precision == "fp16")
        sizes = [tuple(example.weights.shape) for example in dataset.train]
        self._sampler = BucketSampler(sizes, settings.train_batch_size, seed)
        self.step = 0
        self.losses: list[float] = []
        self.grad_norms: list[float] = []
        self._pending: list[tuple[torch.Tensor, torch.Tensor]] = []
        torch.manual_seed(seed)

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next step."""
        return float(self._lr_scheduler.get_last_lr()[0])

    def train_step(self) -> None:
        """Do one optimizer step.

        Raises:
            TrainingDivergedError: A loss since the last flush is not finite.
        """
        import torch

        settings, number = self._settings, self.step + 1
        indices = self._sampler.next_batch()
        generator = generator_of(self._seed, "step", number)
        batch = training_batch(
            self._dataset,
            indices,
            generator,
            self.timestep_count,
            settings.caption_dropout,
            settings.prior_preservation,
        )
        batch = batch.to(self._base.device)
        error = self._error(batch)
        if settings.min_snr_gamma is not None:
            error = error * min_snr_weight(self._noise_scheduler, batch.timesteps, settings.min_snr_gamma)
        loss = error.mean()
        self._scaler.scale(loss).backward()
        self._scaler.unscale_(self._optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, settings.max_grad_norm)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        self._lr_scheduler.step()
        self.step = number
        self._pending.append((loss.detach(), norm.detach()))
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
            if not loss < float("inf"):
                step = len(self.losses) + 1
                raise TrainingDivergedError(
                    f"the loss is {loss} at step {step}: training diverged. Lower training.learning_rate (now "
                    f"{self._settings.learning_rate}), or set training.mixed_precision to `no` if it is fp16."
                )
            self.losses.append(loss)
            self.grad_norms.append(norm)

    def validation_loss(self) -> float | None:
        """Return the mean masked error on held-out images at fixed timesteps under fixed noise; None without any.

        It carries no min-SNR weight, so that runs with different weights can be compared.
        """
        import torch

        if not self._dataset.held_out:
            return None
        self.unet.eval()
        errors: list[float] = []
        with torch.no_grad():
            for example in self._dataset.held_out:
                batch = validation_batch(self._dataset, example, self._seed, self.timestep_count)
                errors.append(self._error(batch.to(self._base.device)).mean().item())
        self.unet.train()
        return sum(errors) / len(errors)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the coming steps depend on, tensors on their device."""
        import torch
        from peft import get_peft_model_state_dict

        self.flush()
        on_gpu = self._base.device != "cpu"
        return {
            "step": self.step,
            "adapter": get_peft_model_state_dict(self.unet),
            "optimizer": self._optimizer.state_dict(),
            "lr_scheduler": self._lr_scheduler.state_dict(),
            "scaler": self._scaler.state_dict(),
            "sampler": self._sampler.state_dict(),
            "rng": torch.get_rng_state(),
            "gpu_rng": torch.cuda.get_rng_state(self._base.device) if on_gpu else None,
            "losses": list(self.losses),
            "grad_norms": list(self.grad_norms),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a saved state of the same run."""
        import torch
        from peft import set_peft_model_state_dict

        result = set_peft_model_state_dict(self.unet, state["adapter"])
        if result is not None and result.unexpected_keys:
            raise ValueError(f"the saved adapter has other modules, e.g. {result.unexpected_keys[0]}")
        self._optimizer.load_state_dict(state["optimizer"])
        self._lr_scheduler.load_state_dict(state["lr_scheduler"])
        self._scaler.load_state_dict(state["scaler"])
        self._sampler.load_state_dict(state["sampler"])
        torch.set_rng_state(state["rng"])
        if state["gpu_rng"] is not None and self._base.device != "cpu":
            torch.cuda.set_rng_state(state["gpu_rng"], self._base.device)
        self.step = int(state["step"])
        self.losses, self.grad_norms = list(state["losses"]), list(state["grad_norms"])

    def _error(self, batch: Batch) -> "torch.Tensor":
        """Return each image's weighted error, f32 [B]."""
        scheduler = self._noise_scheduler
        timesteps: Any = batch.timesteps
        noisy = scheduler.add_noise(batch.latents, batch.noise, timesteps)
        target = denoising_target(scheduler, batch.latents, batch.noise, batch.timesteps)
        if batch.is_prior.any():
            target = target.clone()
            target[batch.is_prior] = self._base_prediction(noisy, batch)
        return masked_error(self._predict(noisy, batch, slice(None)), target, batch.weights)

    def _base_prediction(self, noisy: "torch.Tensor", batch: Batch) -> "torch.Tensor":
        """Return what the UNet says of the prior's images without its adapter, f32."""
        import torch

        self.unet.disable_adapters()
        try:
            with torch.no_grad():
                return self._predict(noisy, batch, batch.is_prior).float()
        finally:
            self.unet.enable_adapters()

    def _predict(self, noisy: "torch.Tensor", batch: Batch, rows: "torch.Tensor | slice") -> "torch.Tensor":
        import torch

        conditions = None
        if batch.pooled is not None and batch.time_ids is not None:
            conditions = {"text_embeds": batch.pooled[rows].to(self._base.dtype), "time_ids": batch.time_ids[rows]}
        device_type = self._base.device.partition(":")[0]
        is_mixed = self._base.precision != "no"
        with torch.autocast(device_type, self._base.dtype) if is_mixed else nullcontext():
            return self.unet(
                noisy[rows].to(self._base.dtype),
                batch.timesteps[rows],
                encoder_hidden_states=batch.tokens[rows].to(self._base.dtype),
                added_cond_kwargs=conditions,
            ).sample


def _adapted_unet(base: BaseModel, settings: TrainingSettings, seed: int) -> "UNet2DConditionModel":
    """Return a fresh UNet with an fp32 adapter, whose first weights depend on the seed only."""
    import torch
    from diffusers.training_utils import cast_training_params
    from peft import LoraConfig

    unet = base.fresh_unet()
    alpha = settings.network_alpha or float(settings.network_dim)
    config = LoraConfig(
        r=settings.network_dim,
        lora_alpha=alpha,  # pyright: ignore[reportArgumentType]
        target_modules=list(settings.target_modules),
        init_lora_weights=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            unet.add_adapter(config)
        except ValueError as error:
            raise TargetModulesError(
                f"training.target_modules {', '.join(settings.target_modules)}: {error}. Name modules of the base "
                "model's UNet, e.g. to_q, to_k, to_v, to_out.0."
            ) from error
    unet.to(base.device)  # pyright: ignore[reportArgumentType]
    cast_training_params(unet, torch.float32)
    if settings.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    unet.train()
    return unet
