"""Images and captions as the UNet sees them: cached latents, loss weights, text embeddings.

A latent's key is sha256(pixels in the bucket, mirrored or not, VAE files, dtype); a text embedding's is
sha256(caption, tokenizer and text-encoder files, dtype). Change one pixel and exactly that latent is made again.
Kept are mean and standard deviation, not one sample: every step draws a new latent, as training without a cache
does. Images are encoded one by one, because a batch may round differently and the cache must not depend on which
entries were missing.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from yokai_assets.progress import Progress, silent
from yokai_assets.settings.training import TrainingSettings
from yokai_assets.storage.files import sha256_of_parts
from yokai_assets.training.base_model import BaseModel, TextEmbedding
from yokai_assets.training.buckets import Placement, fit_image, fit_mask, inside_mask, place
from yokai_assets.training.cache import TensorCache
from yokai_assets.training.captions import tag_orders, without_trigger
from yokai_assets.training.images import TrainingImageError, TrainingItem, read_item

if TYPE_CHECKING:
    import torch

_LOG = logging.getLogger(__name__)
_DTYPE = "float16"
EMPTY_CAPTION = ""


class TrainingDataError(ValueError):
    """A training set cannot be trained on; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Latent:
    """The VAE's Gaussian for one picture, in the UNet's scale: `mean` and `deviation`, f16 [C, h, w], on the CPU."""

    mean: "torch.Tensor"
    deviation: "torch.Tensor"


@dataclass(frozen=True, slots=True)
class Example:
    """One encoded image.

    Attributes:
        item_id: Of the item it was made from.
        file: Name of the image file.
        file_sha256: Of its bytes.
        captions: The caption, then other orders of its tags that may stand for it.
        repeats: How often it is shown in a pass.
        latent: As it is.
        mirrored: Mirrored left to right, encoded on its own; None if mirrored copies are not trained.
        weights: f32 [h, w], weight of each latent pixel in the loss (0 to 1).
        unmasked_weights: f32 [h, w], the same without the mask: padding still counts nothing.
        time_ids: SDXL's size conditioning (original height and width, crop top and left, target height and width),
            in pixels.
    """

    item_id: str
    file: str
    file_sha256: str
    captions: tuple[str, ...]
    repeats: int
    latent: Latent
    mirrored: Latent | None
    weights: "torch.Tensor"
    unmasked_weights: "torch.Tensor"
    time_ids: tuple[int, int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class EncodedDataset:
    """A training set, ready for the loop.

    Attributes:
        train: Images trained on.
        held_out: Images of the validation loss.
        texts: Embedding of every caption, of every prior caption, and of the empty one; empty where the text encoder
            is trained, too.
        prior_captions: Of prior preservation; empty: none.
        fingerprint: sha256 over everything above that training depends on, except the base model's UNet.
        problems: (file, reason) of images left out.
        encoded_count: Latents and embeddings that were not in the cache.
    """

    train: list[Example]
    held_out: list[Example]
    texts: dict[str, TextEmbedding]
    prior_captions: tuple[str, ...]
    fingerprint: str
    problems: list[tuple[str, str]]
    encoded_count: int


def encode_dataset(
    items: list[TrainingItem],
    base: BaseModel,
    latents: TensorCache,
    texts: TensorCache,
    settings: TrainingSettings,
    *,
    prior_captions: Sequence[str] = (),
    progress: Progress = silent,
) -> EncodedDataset:
    """Read, place and encode a training set; whatever is cached is not encoded again.

    Args:
        items: Images and captions.
        base: Encodes them.
        latents: Cache of latents.
        texts: Cache of text embeddings.
        settings: Resolution, buckets, masks, prior preservation.
        prior_captions: Texts about anything but the character, for prior preservation; without any, the captions
            without their trigger serve.
        progress: Told of every image.

    Raises:
        TrainingDataError: No image is left to train on, or the bucket step does not fit the VAE.
    """
    if settings.bucket_step_px % base.vae_scale_factor:
        raise TrainingDataError(
            f"training.bucket_step_px {settings.bucket_step_px} is not a multiple of {base.vae_scale_factor}, the "
            "pixels per latent pixel of this base model. Choose a multiple."
        )
    encoder = _ItemEncoder(base, latents, settings)
    misses_before = latents.misses + texts.misses
    base.move_encoders(base.device)
    try:
        # Training images come first, so that a held-out image that is also trained on is noticed.
        for done, item in enumerate(sorted(items, key=lambda item: (item.split != "train", item.item_id))):
            encoder.add(item)
            progress(done + 1, len(items), "encoding images")
        shown = encoder.train + encoder.held_out
        priors: set[str] = set()
        if settings.prior_preservation:
            priors = {*prior_captions} or {without_trigger(example.captions[0]) for example in shown}
        captions = sorted({EMPTY_CAPTION} | {caption for example in shown for caption in example.captions} | priors)
        embeddings = {} if settings.train_text_encoder else _text_embeddings(captions, base, texts, progress)
    finally:
        base.move_encoders("cpu")
    if not encoder.train:
        reasons = "; ".join(f"{path}: {reason}" for path, reason in encoder.problems[:3]) or "no row of split `train`"
        raise TrainingDataError(f"no image is left to train on ({reasons}). Mend or replace the files.")
    return EncodedDataset(
        train=encoder.train,
        held_out=encoder.held_out,
        texts=embeddings,
        prior_captions=tuple(sorted(priors)),
        fingerprint=sha256_of_parts(*encoder.identities, ("prior", *sorted(priors))),
        problems=[*encoder.problems, *_cut_captions(shown, base)],
        encoded_count=latents.misses + texts.misses - misses_before,
    )


class _ItemEncoder:
    """Collects examples, and what their fingerprint is made of."""

    def __init__(self, base: BaseModel, cache: TensorCache, settings: TrainingSettings) -> None:
        self._base, self._cache, self._settings = base, cache, settings
        self._train_keys: set[str] = set()
        self.train: list[Example] = []
        self.held_out: list[Example] = []
        self.identities: list[tuple[str, ...]] = []
        self.problems: list[tuple[str, str]] = []

    def add(self, item: TrainingItem) -> None:
        try:
            image, mask, file_sha256 = read_item(item)
        except TrainingImageError as error:
            _LOG.warning("left out of training: %s", error)
            self.problems.append((str(item.image), str(error)))
            return
        placement = place(image.width, image.height, self._settings.resolution_px, self._settings.bucket_step_px)
        pixels = fit_image(image, placement)
        key = latent_key(pixels, False, self._base.vae_fingerprint)
        mask_pixels = None if mask is None else fit_mask(mask, placement)
        weights = loss_weights(
            mask_pixels, placement, self._settings.background_loss_weight, self._base.vae_scale_factor
        )
        is_train = item.split == "train"
        if is_train:
            self._train_keys.add(key)
        elif key in self._train_keys:
            self.problems.append((str(item.image), "held out, but its pixels are also trained on"))
            return
        mirrored = self._latent(pixels, True) if is_train and self._settings.flip else None
        example = Example(
            item_id=item.item_id,
            file=item.image.name,
            file_sha256=file_sha256,
            captions=tag_orders(item.caption, self._settings.keep_tags) if self._shuffles(item) else (item.caption,),
            repeats=item.repeats,
            latent=self._latent(pixels, False),
            mirrored=mirrored,
            weights=weights,
            unmasked_weights=loss_weights(None, placement, 1.0, self._base.vae_scale_factor),
            time_ids=(
                image.height,
                image.width,
                placement.crop_top_px,
                placement.crop_left_px,
                placement.height_px,
                placement.width_px,
            ),
        )
        (self.train if is_train else self.held_out).append(example)
        identity = (item.item_id, item.split, key, item.caption, sha256_of_parts(weights.numpy().tobytes()))
        self.identities.append((*identity, "mirrored" if mirrored else "", str(example.time_ids), str(example.repeats)))

    def _shuffles(self, item: TrainingItem) -> bool:
        return self._settings.shuffle_tags and item.split == "train"

    def _latent(self, pixels: np.ndarray, is_mirrored: bool) -> Latent:
        key = latent_key(pixels, is_mirrored, self._base.vae_fingerprint)
        found = self._cache.get(key)
        if found is None:
            made = encode_pixels(self._base, pixels[:, ::-1] if is_mirrored else pixels)
            self._cache.put(key, {"mean": made.mean, "deviation": made.deviation})
            return made
        return Latent(found["mean"], found["deviation"])


def latent_key(pixels: np.ndarray, is_mirrored: bool, vae_fingerprint: str) -> str:
    """Return the cache key of a picture's latent; `pixels` is u8 [H, W, 3], not yet mirrored."""
    return sha256_of_parts(pixels.tobytes(), list(pixels.shape), is_mirrored, vae_fingerprint, _DTYPE)


def encode_pixels(base: BaseModel, pixels: np.ndarray) -> Latent:
    """Encode one picture, u8 [H, W, 3], with the base's VAE in fp32."""
    import torch

    vae = base.vae
    image = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float() / 127.5 - 1.0
    with torch.no_grad():
        gaussian = vae.encode(image.to(vae.device, vae.dtype)).latent_dist  # pyright: ignore[reportAttributeAccessIssue]
        mean, deviation = gaussian.mean[0].float().cpu(), gaussian.std[0].float().cpu()
    factor = torch.tensor(float(vae.config["scaling_factor"]))
    shifts, deviations = vae.config.get("latents_mean"), vae.config.get("latents_std")
    if base.family == "sdxl" and shifts is not None and deviations is not None:
        mean = mean - torch.tensor(shifts)[:, None, None]
        factor = factor / torch.tensor(deviations)[:, None, None]
    return Latent((mean * factor).half(), (deviation * factor).half())


def loss_weights(
    mask: np.ndarray | None, placement: Placement, background_weight: float, vae_scale_factor: int
) -> "torch.Tensor":
    """Return the loss weight of every latent pixel, f32 [h, w]: the mask's area share, padding always 0.

    Args:
        mask: u8 [H, W], 255 on the character; None weighs all pixels of the image by 1.
        placement: Says what is padding.
        background_weight: Weight where the mask is 0.
        vae_scale_factor: Pixels per latent pixel.
    """
    import torch

    weights = inside_mask(placement)
    if mask is not None:
        weights *= background_weight + (1.0 - background_weight) * (mask.astype(np.float32) / 255.0)
    height, width = weights.shape[0] // vae_scale_factor, weights.shape[1] // vae_scale_factor
    blocks = weights.reshape(height, vae_scale_factor, width, vae_scale_factor)
    return torch.from_numpy(blocks.mean(axis=(1, 3), dtype=np.float64).astype(np.float32))


def _text_embeddings(
    captions: list[str], base: BaseModel, cache: TensorCache, progress: Progress
) -> dict[str, TextEmbedding]:
    found = {}
    for done, caption in enumerate(captions, start=1):
        found[caption] = _text_embedding(caption, base, cache)
        progress(done, len(captions), "encoding captions")
    return found


def _cut_captions(examples: list[Example], base: BaseModel) -> list[tuple[str, str]]:
    """Return (file, reason) of the first caption whose end no text encoder reads, with the number of them."""
    cut = [(example.file, end) for example in examples if (end := base.unread_text(example.captions[0]))]
    if not cut:
        return []
    file, end = cut[0]
    others = f", and those of {len(cut) - 1} more images are too long" if len(cut) > 1 else ""
    return [(file, f"its caption is longer than the text encoder reads; not learnt: `{end[:80]}`{others}")]


def _text_embedding(caption: str, base: BaseModel, cache: TensorCache) -> TextEmbedding:
    key = sha256_of_parts(caption, base.text_fingerprint, base.family, str(base.dtype), _DTYPE)
    found = cache.get(key)
    if found is None:
        made = base.encode_text(caption)
        cache.put(key, {"tokens": made.tokens} | ({} if made.pooled is None else {"pooled": made.pooled}))
        return made
    return TextEmbedding(found["tokens"], found.get("pooled"))
