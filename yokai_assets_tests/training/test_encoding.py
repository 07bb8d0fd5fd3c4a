"""Content-keyed caches: what is made again, and what the loss weighs."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from yokai_assets.storage.layout import Layout
from yokai_assets.training.base_model import BaseModel
from yokai_assets.training.batches import generator_of, training_batch, validation_batch
from yokai_assets.training.buckets import place
from yokai_assets.training.cache import TensorCache
from yokai_assets.training.encoding import (
    EncodedDataset,
    Latent,
    TrainingDataError,
    encode_dataset,
    encode_pixels,
    loss_weights,
)
from yokai_assets.training.images import items_of
from yokai_assets_tests.training.tiny import CHARACTER, make_dataset, make_settings


def encode(dataset: pl.DataFrame, base: BaseModel, layout: Layout, **changes: object) -> EncodedDataset:
    caches = TensorCache(layout.cache / "latents"), TensorCache(layout.cache / "text")
    return encode_dataset(items_of(dataset, CHARACTER, layout), base, *caches, make_settings(layout.root, **changes))


def test_a_second_pass_encodes_nothing_and_gives_the_same(base: BaseModel, layout: Layout) -> None:
    """The cache saves the VAE's work and changes nothing."""
    dataset = make_dataset(layout)
    first, second = encode(dataset, base, layout), encode(dataset, base, layout)
    # 4 training images, mirrored too, 2 held-out ones, 2 captions with and without trigger, and the empty one.
    assert (first.encoded_count, second.encoded_count) == (4 * 2 + 2 + 5, 0)
    assert first.fingerprint == second.fingerprint
    for one, other in zip(first.train + first.held_out, second.train + second.held_out, strict=True):
        assert torch.equal(one.latent.mean, other.latent.mean)
        assert torch.equal(one.latent.deviation, other.latent.deviation)


def test_one_changed_pixel_makes_exactly_that_image_again(base: BaseModel, layout: Layout) -> None:
    """Peers train on stale latents after an image is edited; here an entry cannot be stale."""
    dataset = make_dataset(layout)
    before = encode(dataset, base, layout)
    path = layout.absolute(dataset["image"][1])
    pixels = np.array(Image.open(str(path)))
    pixels[0, 0, 0] ^= 255
    Image.fromarray(pixels).save(str(path))
    after = encode(dataset, base, layout)
    assert after.encoded_count == 2  # the image and its mirrored copy
    assert after.fingerprint != before.fingerprint
    assert not torch.equal(after.train[1].latent.mean, before.train[1].latent.mean)


def test_a_changed_caption_makes_only_its_own_embeddings(base: BaseModel, layout: Layout) -> None:
    """Captions and images have caches of their own."""
    dataset = make_dataset(layout)
    before = encode(dataset, base, layout)
    changed = dataset.with_columns(
        pl.when(pl.col("instance_id") == dataset["instance_id"][0])
        .then(pl.lit("zqkaro, blue"))
        .otherwise("caption")
        .alias("caption")
    )
    after = encode(changed, base, layout)
    assert after.encoded_count == 2  # with the trigger and without
    assert after.fingerprint != before.fingerprint


def test_another_vae_shares_no_latents(base: BaseModel, layout: Layout) -> None:
    """Latents of another base model must never be trained on."""
    dataset = make_dataset(layout)
    encode(dataset, base, layout)
    other = encode(dataset, replace(base, vae_fingerprint="other"), layout)
    assert other.encoded_count == 4 * 2 + 2


def test_a_damaged_entry_is_made_again(base: BaseModel, layout: Layout) -> None:
    """A disk fault costs one encoding, not the training."""
    dataset = make_dataset(layout)
    encode(dataset, base, layout)
    entry = next(file for file in (layout.cache / "latents").rglob("*.safetensors"))
    entry.write_bytes(entry.read_bytes()[:50])
    assert encode(dataset, base, layout).encoded_count == 1
    assert encode(dataset, base, layout).encoded_count == 0


def test_broken_images_are_left_out_and_named(base: BaseModel, layout: Layout) -> None:
    """One broken file must not stop a character's training."""
    dataset = make_dataset(layout)
    layout.absolute(dataset["image"][0]).write_bytes(b"broken")
    result = encode(dataset, base, layout)
    assert len(result.train) == 3
    assert [path for path, _ in result.problems] == [str(layout.absolute(dataset["image"][0]))]


def test_nothing_to_train_on_is_an_error_that_says_why(base: BaseModel, layout: Layout) -> None:
    """A training without images would end with an untrained LoRA."""
    dataset = make_dataset(layout, train_count=1)
    layout.absolute(dataset["image"][0]).write_bytes(b"broken")
    with pytest.raises(TrainingDataError, match=r"000\.png"):
        encode(dataset, base, layout)


def test_a_held_out_copy_of_a_training_image_is_left_out(base: BaseModel, layout: Layout) -> None:
    """A validation loss on trained pixels rewards memorising."""
    dataset = make_dataset(layout)
    held_out = dataset.filter(pl.col("split") == "held_out")
    twin = layout.absolute(held_out["image"][0])
    same_size = dataset.filter((pl.col("split") == "train") & (pl.col("width_px") == held_out["width_px"][0]))
    twin.write_bytes(layout.absolute(same_size["image"][0]).read_bytes())
    result = encode(dataset, base, layout)
    assert len(result.held_out) == 1
    assert result.problems[0][0] == str(twin)


def test_the_bucket_step_must_fit_the_vae(base: BaseModel, layout: Layout) -> None:
    """A step of 12 px would give a third of a latent pixel."""
    with pytest.raises(TrainingDataError, match="multiple of 8"):
        encode(make_dataset(layout), base, layout, bucket_step_px=12)


def test_latents_are_in_the_scale_of_the_unet(base: BaseModel) -> None:
    """They must be what the pipeline's own decoder expects, or the LoRA learns another contrast."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, 16, 3), dtype=np.uint8)
    latent = encode_pixels(base, pixels)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        gaussian = base.vae.encode(image).latent_dist  # pyright: ignore[reportAttributeAccessIssue]
    expected = gaussian.mean[0] * base.vae.config["scaling_factor"]
    assert latent.mean.shape == (4, 4, 2)
    assert torch.allclose(latent.mean.float(), expected, rtol=2e-3, atol=1e-4)


def test_loss_weights_are_area_shares_and_padding_has_none() -> None:
    """A latent pixel half on the character weighs half-way; padding must not be learnt at all."""
    mask = np.zeros((32, 32), np.uint8)
    mask[:, 12:] = 255
    weights = loss_weights(mask, place(32, 24, 32, 32), 0.2, 8)
    assert weights.shape == (4, 4)
    # 24 rows lie in the middle of 32, so the outer rows are half padding.
    assert weights[1].tolist() == pytest.approx([0.2, 0.6, 1.0, 1.0])
    assert weights[0].tolist() == pytest.approx([0.1, 0.3, 0.5, 0.5])


def test_sdxl_examples_carry_their_sizes(sdxl_base: BaseModel, layout: Layout) -> None:
    """SDXL is told original size, crop and target; wrong ones teach it to draw cropped or small pictures."""
    result = encode(make_dataset(layout), sdxl_base, layout)
    narrow = result.train[0]
    assert narrow.time_ids == (32, 16, 0, 0, 32, 16)
    batch = training_batch(
        result, [0, 0], generator_of(0, "step", 1), 1000, make_settings(layout.root, caption_dropout=0.0)
    )
    assert batch.captions == (narrow.captions[0],) * 2
    text = result.texts[narrow.captions[0]]
    assert text.tokens.shape == (16, 32)
    assert text.pooled is not None
    assert text.pooled.shape == (12,)
    assert batch.time_ids.tolist() == [[32, 16, 0, 0, 32, 16]] * 2


def test_a_step_draws_the_same_batch_every_time(base: BaseModel, layout: Layout) -> None:
    """Exact resume rests on it; another step or seed must draw another batch."""
    result = encode(make_dataset(layout), base, layout)

    def draw(seed: int, step: int) -> torch.Tensor:
        settings = make_settings(layout.root, caption_dropout=0.5)
        batch = training_batch(result, [1, 2], generator_of(seed, "step", step), 1000, settings)
        return torch.cat([batch.latents.flatten(), batch.noise.flatten(), batch.timesteps.float()])

    assert torch.equal(draw(0, 1), draw(0, 1))
    assert not torch.equal(draw(0, 1), draw(0, 2))
    assert not torch.equal(draw(0, 1), draw(1, 1))


def test_mirrored_latents_come_with_mirrored_weights(base: BaseModel, layout: Layout) -> None:
    """A mask left unmirrored would weigh the wrong side."""
    dataset = make_dataset(layout)
    for path in dataset["mask"]:
        mask = np.array(Image.open(str(layout.absolute(path))))
        mask[:, : mask.shape[1] // 2] = 0
        Image.fromarray(mask).save(str(layout.absolute(path)))
    result = encode(dataset, base, layout)
    example = result.train[1]
    assert not torch.equal(example.weights, example.weights.flip(-1))
    assert example.mirrored is not None
    still = torch.zeros_like(example.latent.mean)
    result.train[1] = replace(
        example, latent=Latent(example.latent.mean, still), mirrored=Latent(example.mirrored.mean, still)
    )
    seen, settings = set(), make_settings(layout.root, prior_preservation=0.0)
    for step in range(40):
        batch = training_batch(result, [1], generator_of(0, "step", step), 1000, settings)
        is_mirrored = torch.equal(batch.latents[0], example.mirrored.mean.float())
        assert is_mirrored or torch.equal(batch.latents[0], example.latent.mean.float())
        expected = example.weights.flip(-1) if is_mirrored else example.weights
        assert torch.equal(batch.weights[0, 0], expected)
        seen.add(is_mirrored)
    assert seen == {True, False}


def drawn_captions(dataset: EncodedDataset, layout: Layout, **changes: object) -> list[str]:
    """Return what 60 steps say of training image 1."""
    settings = make_settings(layout.root, **{"caption_dropout": 0.0, "prior_preservation": 0.0} | changes)
    steps = (training_batch(dataset, [1], generator_of(0, "step", step), 1000, settings) for step in range(60))
    return [batch.captions[0] for batch in steps]


def test_caption_dropout_uses_the_empty_caption(base: BaseModel, layout: Layout) -> None:
    """Guidance needs an unconditional model that knows the character's style too."""
    result = encode(make_dataset(layout), base, layout)
    caption = result.train[1].captions[0]
    assert set(drawn_captions(result, layout)) == {caption}
    assert set(drawn_captions(result, layout, caption_dropout=1.0)) == {""}
    assert 20 < drawn_captions(result, layout, caption_dropout=0.5).count("") < 40


def test_shuffled_tags_keep_the_trigger_and_are_cached(base: BaseModel, layout: Layout) -> None:
    """Every order that a step may draw has its embedding; held-out images are measured under one caption."""
    dataset = make_dataset(layout).with_columns(caption=pl.lit("zq, red, round, small, happy"))
    result = encode(dataset, base, layout, shuffle_tags=True)
    drawn = set(drawn_captions(result, layout, shuffle_tags=True))
    assert drawn == set(result.train[1].captions)
    assert len(drawn) == 6
    assert drawn <= result.texts.keys()
    assert all(caption.startswith("zq, ") for caption in drawn)
    assert {frozenset(caption.split(", ")) for caption in drawn} == {frozenset(dataset["caption"][0].split(", "))}
    assert result.held_out[0].captions == (dataset["caption"][0],)
    assert encode(dataset, base, layout, shuffle_tags=True).encoded_count == 0


def test_noise_offset_shifts_whole_channels(base: BaseModel, layout: Layout) -> None:
    """Without it a model cannot change a picture's mean, and night scenes come out grey."""
    result = encode(make_dataset(layout), base, layout)

    def noise(offset: float) -> torch.Tensor:
        settings = make_settings(layout.root, noise_offset=offset)
        return training_batch(result, [1, 2], generator_of(0, "step", 1), 1000, settings).noise

    shift = noise(0.5) - noise(0.0)
    assert torch.allclose(shift, shift[:, :, :1, :1].expand_as(shift), atol=1e-6)
    assert len(shift[:, :, 0, 0].unique()) == shift.shape[0] * shift.shape[1]


def test_a_caption_that_is_too_long_is_told(base: BaseModel, layout: Layout) -> None:
    """Everything behind the text encoder's window is lost without a word elsewhere."""
    dataset = make_dataset(layout)
    assert encode(dataset, base, layout).problems == []
    long = encode(dataset.with_columns(caption=pl.lit("red, " * 30 + "wearing a hat")), base, layout)
    assert len(long.problems) == 1
    assert "not learnt: `red, red, " in long.problems[0][1]
    assert "those of 5 more images" in long.problems[0][1]


def test_a_repeated_image_is_another_dataset(base: BaseModel, layout: Layout) -> None:
    """Repeats change what is trained; a state without them must not be continued."""
    items = items_of(make_dataset(layout), CHARACTER, layout)
    caches = TensorCache(layout.cache / "latents"), TensorCache(layout.cache / "text")
    settings = make_settings(layout.root)
    plain = encode_dataset(items, base, *caches, settings)
    repeated = encode_dataset([replace(items[0], repeats=3), *items[1:]], base, *caches, settings)
    assert repeated.encoded_count == 0
    assert repeated.fingerprint != plain.fingerprint
    assert [example.repeats for example in repeated.train] == [3, 1, 1, 1]


def test_validation_is_the_same_at_every_save(base: BaseModel, layout: Layout) -> None:
    """A curve of different noise would show noise."""
    result = encode(make_dataset(layout), base, layout)
    one, other = (validation_batch(result.held_out[0], 0, 1000) for _ in range(2))
    assert torch.equal(one.noise, other.noise)
    assert one.timesteps.tolist() == [99, 299, 499, 699, 899]
