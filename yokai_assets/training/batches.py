"""One step's tensors: drawn latents, noise, timesteps, text.

Every random number of a step comes from a generator of its own, seeded by (seed, purpose, number) and running on the
CPU. So a step's batch is the same on every device, and a resumed run draws what the uninterrupted one would have.
"""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from yokai_assets.training.base_model import TextEmbedding
from yokai_assets.training.encoding import EMPTY_CAPTION, EncodedDataset, Example

if TYPE_CHECKING:
    import torch

VALIDATION_TIMESTEP_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Where on the noise schedule the validation loss is measured, as shares of its length."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Tensors of one forward pass over B images.

    Attributes:
        latents: f32 [B, C, h, w], clean.
        noise: f32 [B, C, h, w].
        timesteps: i64 [B].
        weights: f32 [B, 1, h, w], of the loss.
        tokens: f32 [B, tokens, width], text.
        pooled: f32 [B, width], SDXL only.
        time_ids: f32 [B, 6], SDXL only.
        is_prior: bool [B]; the text of these images is about others, and their target is what the base model itself
            predicts.
    """

    latents: "torch.Tensor"
    noise: "torch.Tensor"
    timesteps: "torch.Tensor"
    weights: "torch.Tensor"
    tokens: "torch.Tensor"
    pooled: "torch.Tensor | None"
    time_ids: "torch.Tensor | None"
    is_prior: "torch.Tensor"

    def to(self, device: str) -> "Batch":
        """Return the batch on a device."""
        return Batch(
            self.latents.to(device),
            self.noise.to(device),
            self.timesteps.to(device),
            self.weights.to(device),
            self.tokens.to(device),
            None if self.pooled is None else self.pooled.to(device),
            None if self.time_ids is None else self.time_ids.to(device),
            self.is_prior.to(device),
        )


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
    caption_dropout: float,
    prior_preservation: float = 0.0,
) -> Batch:
    """Draw a training batch: mirrored or not, with caption or without, VAE sample, noise, timestep.

    Some images are there for what the base model already knows (prior preservation; Ruiz et al. 2023, arXiv
    2208.12242, draw pictures for it beforehand): under a text about others, the adapter is to change nothing.

    Args:
        dataset: Encoded images, all of one size in `indices`.
        indices: Positions in `dataset.train`.
        generator: See `generator_of`.
        timestep_count: Length of the noise schedule.
        caption_dropout: Share of images that get the empty caption.
        prior_preservation: Share of images that keep the base model as it is.
    """
    import torch

    count = len(indices)
    flips = torch.rand(count, generator=generator) < 0.5
    drops = torch.rand(count, generator=generator) < caption_dropout
    timesteps = torch.randint(0, timestep_count, (count,), generator=generator)
    examples = [dataset.train[index] for index in indices]
    means, deviations, weights = [], [], []
    for example, flip in zip(examples, flips.tolist(), strict=True):
        is_mirrored = flip and example.mirrored is not None
        latent = example.mirrored if is_mirrored and example.mirrored is not None else example.latent
        means.append(latent.mean)
        deviations.append(latent.deviation)
        weights.append(example.weights.flip(-1) if is_mirrored else example.weights)
    mean = torch.stack(means).float()
    latents = mean + torch.stack(deviations).float() * torch.randn(mean.shape, generator=generator)
    noise = torch.randn(mean.shape, generator=generator)
    is_prior = torch.rand(count, generator=generator) < prior_preservation
    choices = torch.rand(count, generator=generator).tolist()
    priors = dataset.prior_captions
    captions = [
        priors[int(choice * len(priors))] if prior else EMPTY_CAPTION if drop else example.caption
        for example, drop, prior, choice in zip(examples, drops.tolist(), is_prior.tolist(), choices, strict=True)
    ]
    weights = [torch.ones_like(one) if prior else one for one, prior in zip(weights, is_prior.tolist(), strict=True)]
    texts = [dataset.texts[caption] for caption in captions]
    return _batch(latents, noise, timesteps, torch.stack(weights), examples, texts, is_prior)


def validation_batch(dataset: EncodedDataset, example: Example, seed: int, timestep_count: int) -> Batch:
    """Return one held-out image at fixed timesteps under fixed noise: the same at every save and in every run."""
    import torch

    generator = generator_of(seed, "validation", example.item_id)
    timesteps = torch.tensor([int(share * (timestep_count - 1)) for share in VALIDATION_TIMESTEP_SHARES])
    latents = example.latent.mean.float()[None].expand(len(timesteps), -1, -1, -1)
    noise = torch.randn(latents.shape, generator=generator)
    weights = example.weights[None].expand(len(timesteps), -1, -1)
    examples = [example] * len(timesteps)
    texts = [dataset.texts[example.caption]] * len(timesteps)
    return _batch(latents, noise, timesteps, weights, examples, texts, torch.zeros(len(timesteps), dtype=torch.bool))


def _batch(
    latents: "torch.Tensor",
    noise: "torch.Tensor",
    timesteps: "torch.Tensor",
    weights: "torch.Tensor",
    examples: list[Example],
    texts: list[TextEmbedding],
    is_prior: "torch.Tensor",
) -> Batch:
    import torch

    pooled = [text.pooled for text in texts if text.pooled is not None]
    is_sdxl = bool(pooled)
    return Batch(
        latents=latents,
        noise=noise,
        timesteps=timesteps,
        weights=weights[:, None],
        tokens=torch.stack([text.tokens for text in texts]).float(),
        pooled=torch.stack(pooled).float() if is_sdxl else None,
        time_ids=torch.tensor([example.time_ids for example in examples]).float() if is_sdxl else None,
        is_prior=is_prior,
    )
