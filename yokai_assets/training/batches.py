"""One step's batch: drawn latents, noise, timesteps, captions.

Every random number of a step comes from a generator of its own, seeded by (seed, purpose, number) and running on the
CPU. So a step's batch is the same on every device, and a resumed run draws what the uninterrupted one would have.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from yokai_assets.devices import to_device
from yokai_assets.settings.training import TrainingSettings
from yokai_assets.training.encoding import EMPTY_CAPTION, EncodedDataset, Example

if TYPE_CHECKING:
    import torch

VALIDATION_TIMESTEP_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Where on the noise schedule the validation loss is measured, as shares of its length."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one forward pass over B images needs.

    Attributes:
        latents: f32 [B, C, h, w], clean.
        noise: f32 [B, C, h, w].
        timesteps: i64 [B].
        weights: f32 [B, 1, h, w], of the loss.
        time_ids: f32 [B, 6], SDXL's size conditioning.
        is_prior: bool [B], always on the CPU, because asking a GPU makes it wait; the text of these images is about
            others, and their target is what the base model itself predicts.
        captions: B texts.
    """

    latents: "torch.Tensor"
    noise: "torch.Tensor"
    timesteps: "torch.Tensor"
    weights: "torch.Tensor"
    time_ids: "torch.Tensor"
    is_prior: "torch.Tensor"
    captions: tuple[str, ...]

    @property
    def tensors(self) -> "tuple[torch.Tensor, ...]":
        """All but the captions, in order of the fields."""
        return (self.latents, self.noise, self.timesteps, self.weights, self.time_ids, self.is_prior)

    def to(self, device: str) -> "Batch":
        """Return the batch on a device."""
        moved = [to_device(tensor, device) for tensor in self.tensors[:-1]]
        return Batch(*moved, is_prior=self.is_prior, captions=self.captions)

    def split(self, size: int) -> "Iterator[Batch]":
        """Yield the batch in parts of at most `size` images."""
        for first in range(0, len(self.captions), size):
            rows = slice(first, first + size)
            yield Batch(*(tensor[rows] for tensor in self.tensors), captions=self.captions[rows])


def generator_of(seed: int, purpose: str, number: int | str) -> "torch.Generator":
    """Return a CPU generator for one purpose, e.g. step 17 of the training noise."""
    import torch

    digest = hashlib.sha256(f"{seed}/{purpose}/{number}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def training_batch(
    dataset: EncodedDataset,
    indices: list[int],
    generator: "torch.Generator",
    timestep_count: int,
    settings: TrainingSettings,
) -> Batch:
    """Draw a training batch: mirrored or not, which caption, VAE sample, noise, timestep.

    Some images are there for what the base model already knows (prior preservation; Ruiz et al. 2023, arXiv
    2208.12242, draw pictures for it beforehand): under a text about others, the adapter is to change nothing.

    Args:
        dataset: Encoded images, all of one size in `indices`.
        indices: Positions in `dataset.train`.
        generator: See `generator_of`; every draw comes from it.
        timestep_count: Length of the noise schedule.
        settings: Shares of dropped captions and of prior preservation, noise offset.
    """
    import torch

    examples = [dataset.train[index] for index in indices]
    flips = torch.rand(len(examples), generator=generator) < 0.5
    timesteps = torch.randint(0, timestep_count, (len(examples),), generator=generator)
    latents, weights, unmasked = _drawn_latents(examples, flips.tolist(), generator)
    noise = _drawn_noise(latents, settings.noise_offset, generator)
    is_prior = torch.rand(len(examples), generator=generator) < settings.prior_preservation
    captions = _drawn_captions(dataset, examples, is_prior.tolist(), settings.caption_dropout, generator)
    # Nobody is to be learnt from the prior's images, so that no mask applies to them.
    weights = torch.where(is_prior[:, None, None], unmasked, weights)
    return _batch(latents, noise, timesteps, weights, examples, captions, is_prior)


def validation_batch(example: Example, seed: int, timestep_count: int) -> Batch:
    """Return one held-out image at fixed timesteps under fixed noise: the same at every save and in every run."""
    import torch

    generator = generator_of(seed, "validation", example.item_id)
    timesteps = torch.tensor([int(share * (timestep_count - 1)) for share in VALIDATION_TIMESTEP_SHARES])
    count = len(timesteps)
    latents = example.latent.mean.float()[None].expand(count, -1, -1, -1)
    noise = torch.randn(latents.shape, generator=generator)
    weights = example.weights[None].expand(count, -1, -1)
    is_prior = torch.zeros(count, dtype=torch.bool)
    return _batch(latents, noise, timesteps, weights, [example] * count, [example.captions[0]] * count, is_prior)


def _drawn_latents(
    examples: list[Example], flips: list[bool], generator: "torch.Generator"
) -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor]":
    """Draw from the VAE's Gaussians: latents [B, C, h, w], with the two weights of their pixels [B, h, w]."""
    import torch

    means, deviations, weights, unmasked = [], [], [], []
    for example, flip in zip(examples, flips, strict=True):
        is_mirrored = flip and example.mirrored is not None
        latent = example.mirrored if is_mirrored and example.mirrored is not None else example.latent
        means.append(latent.mean)
        deviations.append(latent.deviation)
        weights.append(example.weights.flip(-1) if is_mirrored else example.weights)
        unmasked.append(example.unmasked_weights.flip(-1) if is_mirrored else example.unmasked_weights)
    mean = torch.stack(means).float()
    drawn = mean + torch.stack(deviations).float() * torch.randn(mean.shape, generator=generator)
    return drawn, torch.stack(weights), torch.stack(unmasked)


def _drawn_noise(latents: "torch.Tensor", offset: float, generator: "torch.Generator") -> "torch.Tensor":
    """Draw noise; with an offset (Guttenberg 2023, "Diffusion with offset noise") every channel gets a shift."""
    import torch

    noise = torch.randn(latents.shape, generator=generator)
    return noise + offset * torch.randn((*latents.shape[:2], 1, 1), generator=generator) if offset else noise


def _drawn_captions(
    dataset: EncodedDataset, examples: list[Example], is_prior: list[bool], dropout: float, generator: "torch.Generator"
) -> list[str]:
    """Draw what is said of each image: one of its captions, nothing, or a text about others."""
    import torch

    drops = (torch.rand(len(examples), generator=generator) < dropout).tolist()
    choices = torch.rand(len(examples), generator=generator).tolist()
    captions = []
    for example, prior, drop, choice in zip(examples, is_prior, drops, choices, strict=True):
        texts = dataset.prior_captions if prior else (EMPTY_CAPTION,) if drop else example.captions
        captions.append(texts[int(choice * len(texts))])
    return captions


def _batch(
    latents: "torch.Tensor",
    noise: "torch.Tensor",
    timesteps: "torch.Tensor",
    weights: "torch.Tensor",
    examples: list[Example],
    captions: list[str],
    is_prior: "torch.Tensor",
) -> Batch:
    import torch

    time_ids = torch.tensor([example.time_ids for example in examples]).float()
    return Batch(latents, noise, timesteps, weights[:, None], time_ids, is_prior, tuple(captions))
