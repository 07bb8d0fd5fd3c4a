"""The counterpart in the benchmark `training`: a step as diffusers' example scripts do it, in our words.

`examples/text_to_image/train_text_to_image_lora.py`, and for SDXL its sibling `..._lora_sdxl.py`, on the same base,
images, rank, modules and schedule as our loop. In every step they

1. take a batch from a torch DataLoader with no worker processes, as is their default: open and decode the image files,
   resize, crop, flip at random, normalise, tokenize the captions;
2. encode it with the VAE (in the weights' dtype; SDXL's in fp32), draw a latent, scale it, draw noise and timesteps on
   the device;
3. run the text encoder(s) on the token ids;
4. run the UNet with its peft adapter under accelerate's autocast; mean squared error, with min-SNR weights if wanted;
5. gather and read the loss, backward, clip, AdamW (torch's default, not fused), learning rate, read the loss again.

accelerate is the real one. Two things are as the scripts mean them, not as they are: the clipped parameters are a list
(theirs is a generator that the optimizer has used up, so that nothing is clipped), and SDXL's crops are (0, 0), because
the images are written in the size of training: they are spared any resizing. As in the scripts the adapter is fp32 in
fp16 training, and in the weights' dtype in bf16. Left out: progress bar, trackers, saving, validation pictures.
"""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from yokai_assets.settings.training import TrainingSettings
from yokai_assets.training.base_model import BaseModel

if TYPE_CHECKING:
    import torch


class Pictures:
    """Image files and captions, decoded, transformed and tokenized whenever a batch is asked for."""

    def __init__(self, files: Sequence[tuple[Path, str]], tokenizers: Sequence[Any], resolution_px: int) -> None:
        from torchvision import transforms

        self._files, self._tokenizers = files, tokenizers
        self._transform = transforms.Compose(
            [
                transforms.Resize(resolution_px, interpolation=transforms.InterpolationMode.BILINEAR),
                transforms.CenterCrop(resolution_px),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize([0.5], [0.5]),
            ]
        )

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        """A batch at once, as Hugging Face's `datasets` does."""
        rows = [self._files[index] for index in indices]
        captions = [caption for _, caption in rows]
        ids = [self._tokenized(tokenizer, captions) for tokenizer in self._tokenizers]
        pixels = []
        for file, _ in rows:
            with Image.open(file) as image:
                pixels.append(self._transform(image.convert("RGB")))
        return [{"pixels": one, "ids": [batch[row] for batch in ids]} for row, one in enumerate(pixels)]

    @staticmethod
    def _tokenized(tokenizer: Any, captions: list[str]) -> "torch.Tensor":
        length = tokenizer.model_max_length
        options = {"max_length": length, "padding": "max_length", "truncation": True, "return_tensors": "pt"}
        return tokenizer(captions, **options).input_ids


def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Stack pixels, and token ids by tokenizer."""
    import torch

    pixels = torch.stack([row["pixels"] for row in rows]).contiguous().float()
    return {"pixels": pixels, "ids": [torch.stack(ids) for ids in zip(*(row["ids"] for row in rows), strict=True)]}


class DiffusersLoop:
    """A LoRA in training as in the scripts; it takes the base's networks for itself.

    Attributes:
        parameters: Trained weights.
        losses: Of every step done.
    """

    def __init__(
        self, base: BaseModel, files: Sequence[tuple[Path, str]], settings: TrainingSettings, seed: int
    ) -> None:
        import torch
        from accelerate import Accelerator
        from diffusers.optimization import get_scheduler
        from diffusers.training_utils import cast_training_params
        from peft import LoraConfig

        torch.manual_seed(seed)
        random.seed(seed)
        if base.device != "cpu":
            torch.cuda.set_device(base.device)
        self._accelerator = Accelerator(mixed_precision=base.precision, cpu=base.device == "cpu")
        self._settings, self._is_sdxl, self._dtype = settings, base.family == "sdxl", base.dtype
        pipeline, device = base.pipeline, self._accelerator.device
        self._vae = pipeline.vae.requires_grad_(False).to(device, torch.float32 if self._is_sdxl else base.dtype)
        self._encoders = [
            getattr(pipeline, name).requires_grad_(False).to(device, base.dtype) for name in base.text_encoders
        ]
        unet = pipeline.unet.requires_grad_(False).to(device, base.dtype)
        config = LoraConfig(
            r=settings.network_dim,
            lora_alpha=settings.network_dim,
            init_lora_weights="gaussian",
            target_modules=list(settings.target_modules),
        )
        unet.add_adapter(config)
        if base.precision == "fp16":
            cast_training_params(unet, dtype=torch.float32)
        if settings.gradient_checkpointing:
            unet.enable_gradient_checkpointing()
        self.parameters = [weight for weight in unet.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(
            self.parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, eps=1e-8
        )
        tokenizers = [pipeline.tokenizer, *([pipeline.tokenizer_2] if self._is_sdxl else [])]
        pictures: Any = Pictures(files, tokenizers, settings.resolution_px)
        loader = torch.utils.data.DataLoader(
            pictures, shuffle=True, collate_fn=collate, batch_size=settings.train_batch_size, num_workers=0
        )
        schedule = get_scheduler(
            settings.lr_scheduler,
            optimizer,
            num_warmup_steps=settings.lr_warmup_steps,
            num_training_steps=settings.max_train_steps,
        )
        self._unet, self._optimizer, self._loader, self._schedule = self._accelerator.prepare(
            unet, optimizer, loader, schedule
        )
        self._unet.train()
        self._noise_scheduler: Any = base.noise_scheduler()
        self._batches = self._epochs()
        self.losses: list[float] = []

    def train_step(self) -> None:
        """Do one optimizer step."""
        import torch

        accelerator, scheduler = self._accelerator, self._noise_scheduler
        batch = next(self._batches)
        with accelerator.accumulate(self._unet):
            latents = self._latents(batch["pixels"])
            noise = torch.randn_like(latents)
            count = len(latents)
            timesteps = torch.randint(0, scheduler.config.num_train_timesteps, (count,), device=latents.device).long()
            noisy = scheduler.add_noise(latents, noise, timesteps)
            tokens, conditions = self._conditions(batch["ids"])
            is_velocity = scheduler.config.prediction_type == "v_prediction"
            target = scheduler.get_velocity(latents, noise, timesteps) if is_velocity else noise
            predicted = self._unet(noisy, timesteps, tokens, added_cond_kwargs=conditions, return_dict=False)[0]
            loss = self._loss(predicted, target, timesteps, is_velocity)
            self.losses.append(accelerator.gather(loss.repeat(count)).mean().item())  # pyright: ignore[reportAttributeAccessIssue]
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(self.parameters, self._settings.max_grad_norm)
            self._optimizer.step()
            self._schedule.step()
            self._optimizer.zero_grad()
        loss.detach().item()

    def _epochs(self) -> Iterator[dict[str, Any]]:
        while True:
            yield from self._loader

    def _latents(self, pixels: "torch.Tensor") -> "torch.Tensor":
        latents = self._vae.encode(pixels.to(dtype=self._vae.dtype)).latent_dist.sample()
        return (latents * self._vae.config.scaling_factor).to(self._dtype)

    def _conditions(self, ids: "list[torch.Tensor]") -> "tuple[torch.Tensor, dict[str, torch.Tensor] | None]":
        """Return the text encoders' hidden states and what SDXL is told besides."""
        import torch

        if not self._is_sdxl:
            return self._encoders[0](ids[0], return_dict=False)[0], None
        outputs = [encoder(one, output_hidden_states=True) for encoder, one in zip(self._encoders, ids, strict=True)]
        tokens = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
        side = self._settings.resolution_px
        sizes = [torch.tensor([[side, side, 0, 0, side, side]]).to(tokens.device, self._dtype) for _ in ids[0]]
        return tokens, {"time_ids": torch.cat(sizes), "text_embeds": outputs[-1][0]}

    def _loss(
        self, predicted: "torch.Tensor", target: "torch.Tensor", timesteps: "torch.Tensor", is_velocity: bool
    ) -> "torch.Tensor":
        import torch
        from diffusers.training_utils import compute_snr

        gamma = self._settings.min_snr_gamma
        if gamma is None:
            return torch.nn.functional.mse_loss(predicted.float(), target.float())
        snr = compute_snr(self._noise_scheduler, timesteps)
        weights = snr.clamp(max=gamma) / (snr + 1 if is_velocity else snr)
        errors = torch.nn.functional.mse_loss(predicted.float(), target.float(), reduction="none")
        return (errors.mean(dim=(1, 2, 3)) * weights).mean()
