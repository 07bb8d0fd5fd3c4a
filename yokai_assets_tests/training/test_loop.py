"""One step and what surrounds it: memory that runs out, accumulation, optimizers, what is trained and what is not."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from yokai_assets.storage.layout import Layout
from yokai_assets.training import optimizers
from yokai_assets.training.adapters import AdaptedModel
from yokai_assets.training.base_model import BaseModel
from yokai_assets.training.cache import TensorCache
from yokai_assets.training.encoding import EncodedDataset, encode_dataset
from yokai_assets.training.images import items_of
from yokai_assets.training.kohya import adapter_modules
from yokai_assets.training.loop import TrainingDivergedError, TrainingLoop, TrainingMemoryError
from yokai_assets_tests.training.tiny import CHARACTER, make_dataset, make_layout, make_settings


def encoded(base: BaseModel, layout: Layout, **changes: Any) -> EncodedDataset:
    caches = TensorCache(layout.cache / "latents"), TensorCache(layout.cache / "text")
    items = items_of(make_dataset(layout), CHARACTER, layout)
    return encode_dataset(items, base, *caches, make_settings(layout.root, **changes))


def loop_of(base: BaseModel, layout: Layout, **changes: Any) -> TrainingLoop:
    return TrainingLoop(base, encoded(base, layout, **changes), make_settings(layout.root, **changes), 0)


def trained(loop: TrainingLoop, steps: int = 3) -> TrainingLoop:
    for _ in range(steps):
        loop.train_step()
    return loop


def factors(loop: TrainingLoop, part: str = "unet") -> torch.Tensor:
    """Return all trained weights of a part in one row."""
    modules = adapter_modules(loop.model.parts[part])
    return torch.cat([tensor.flatten() for module in modules.values() for tensor in (module.down, module.up)])


def distance(loop: TrainingLoop, other: TrainingLoop) -> float:
    """Return how far two adapters are apart, relative to their length; AdamW blows up what rounding leaves of zero."""
    return float((factors(loop) - factors(other)).norm() / factors(other).norm())


@pytest.fixture
def narrow_memory(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that lets the memory run out whenever more images are computed at once than it is told."""
    predict = AdaptedModel.predict
    limit = {"images": 0, "checkpointed": True}

    def predict_or_fail(self: AdaptedModel, noisy: torch.Tensor, **others: Any) -> torch.Tensor:
        has_less = self.unet.is_gradient_checkpointing and limit["checkpointed"]
        if len(noisy) > limit["images"] and not has_less:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return predict(self, noisy, **others)

    monkeypatch.setattr(AdaptedModel, "predict", predict_or_fail)

    def allow(images: int, *, checkpointed: bool = True) -> None:
        limit.update(images=images, checkpointed=checkpointed)

    return allow


def test_out_of_memory_halves_what_is_computed_at_once_and_changes_nothing_else(
    base: BaseModel, layout: Layout, narrow_memory: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The same images, noise and effective batch: the LoRA is the one of a larger GPU, and the user is told."""
    narrow_memory(100)
    wide = trained(loop_of(base, layout, train_batch_size=4))
    narrow_memory(1)
    with caplog.at_level(logging.WARNING):
        narrow = trained(loop_of(base, layout, train_batch_size=4))
    assert narrow.micro_batch_size == 1
    assert [setting for setting, _ in narrow.notes] == ["training.train_batch_size"] * 2
    assert "out of memory at step 1: 2 of 4 images at once" in caplog.text
    assert narrow.losses == pytest.approx(wide.losses, rel=1e-5)
    assert distance(narrow, wide) < 1e-3


def test_validation_survives_a_narrow_memory_too(base: BaseModel, layout: Layout, narrow_memory: Any) -> None:
    """It computes five images at once, more than most training steps."""
    narrow_memory(100)
    wide = loop_of(base, layout).validation_loss()
    narrow_memory(1)
    loop = loop_of(base, layout)
    assert loop.validation_loss() == pytest.approx(wide, rel=1e-5)
    assert loop.micro_batch_size == 1
    assert loop.model.unet.training


def test_one_image_at_once_is_not_yet_the_end(base: BaseModel, layout: Layout, narrow_memory: Any) -> None:
    """Gradient checkpointing comes before failing: slower, and the same LoRA."""
    narrow_memory(100)
    wide = trained(loop_of(base, layout))
    narrow_memory(0)
    loop = trained(loop_of(base, layout))
    assert loop.notes[-1][0] == "training.gradient_checkpointing"
    assert distance(loop, wide) < 1e-3


def test_memory_that_never_suffices_fails_with_numbers(base: BaseModel, layout: Layout, narrow_memory: Any) -> None:
    """The user learns what was tried, how large it was, and what to lower."""
    narrow_memory(0, checkpointed=False)
    loop = loop_of(base, layout)
    with pytest.raises(TrainingMemoryError, match=r"step 1.*16 latent pixels.*rank 4.*2\.00 GiB.*resolution_px"):
        loop.train_step()


def test_a_narrow_memory_is_remembered_by_the_state(base: BaseModel, layout: Layout, narrow_memory: Any) -> None:
    """A resumed run does not run out of memory again first, and still tells what it did."""
    narrow_memory(0)
    state = trained(loop_of(base, layout)).state_dict()
    resumed = loop_of(base, layout)
    resumed.load_state_dict(state)
    assert (resumed.micro_batch_size, len(resumed.notes)) == (1, 2)
    assert resumed.model.unet.is_gradient_checkpointing


def test_other_errors_are_not_taken_for_a_narrow_memory(
    base: BaseModel, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug must not be retried with smaller batches until it looks like a lack of memory."""

    def fail(*args: Any, **others: Any) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(AdaptedModel, "predict", fail)
    with pytest.raises(RuntimeError, match="mat1"):
        loop_of(base, layout).train_step()


def test_accumulation_sums_gradients_over_batches(base: BaseModel, layout: Layout) -> None:
    """Two batches of two are one step over four images, and every image is seen as often as without."""
    same_size = encoded(base, layout)
    wide = next(example for example in same_size.train if example.weights.shape == (4, 4))
    dataset = replace(same_size, train=[wide] * 4)
    settings = make_settings(layout.root, gradient_accumulation_steps=2, caption_dropout=0.0)
    loop = TrainingLoop(base, dataset, settings, 0)
    batches = loop._draw(1)
    assert [len(batch.captions) for batch in batches] == [2, 2]
    loss = loop._backward(batches)
    summed = [weight.grad.clone() for weight in loop._parameters if weight.grad is not None]
    single = [loop._backward([batch]) for batch in batches]
    assert float(loss) == pytest.approx(float(sum(single)) / 2, rel=1e-5)
    loop._backward([batches[0]])
    first = [weight.grad.clone() for weight in loop._parameters if weight.grad is not None]
    loop._backward([batches[1]])
    second = [weight.grad.clone() for weight in loop._parameters if weight.grad is not None]
    for whole, one, other in zip(summed, first, second, strict=True):
        assert torch.allclose(whole, (one + other) / 2, atol=1e-6)


def test_repeats_show_an_image_more_often(base: BaseModel, layout: Layout) -> None:
    """Kohya's `3_name` folders weigh their images three times."""
    dataset = encoded(base, layout)
    dataset = replace(dataset, train=[replace(dataset.train[1], repeats=3), replace(dataset.train[2], repeats=1)])
    loop = TrainingLoop(base, dataset, make_settings(layout.root, train_batch_size=1), 0)
    seen = [loop._shown[position] for _ in range(40) for position in loop._sampler.next_batch()]
    assert np.bincount(seen).tolist() == [30, 10]


@pytest.mark.parametrize("optimizer", ["adamw", "prodigy", "adamw8bit"])
def test_every_optimizer_lowers_the_loss(base: BaseModel, layout: Layout, optimizer: str) -> None:
    """Each has options of its own; a wrong one does not fail, it trains badly."""
    if optimizer == "adamw8bit":
        pytest.importorskip("bitsandbytes", reason="an optional package that most machines without a GPU lack")
    # Prodigy begins at a millionth and finds its rate within some hundred steps.
    rate, steps = (1.0, 160) if optimizer == "prodigy" else (3e-2, 60)
    chosen = {"optimizer": optimizer, "learning_rate": rate, "lr_scheduler": "constant_with_warmup"}
    loop = loop_of(base, layout, **chosen, lr_warmup_steps=5, caption_dropout=0.0)
    before = loop.validation_loss()
    after = trained(loop, steps).validation_loss()
    assert before is not None
    assert after is not None
    assert after < 0.97 * before
    assert len(set(loop.learning_rates)) > 1


def test_an_optimizer_that_is_not_installed_is_named(
    base: BaseModel, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The remedy is one command."""

    def missing(name: str) -> None:
        raise ImportError(f"No module named '{name}'")

    monkeypatch.setattr(optimizers, "import_module", missing)
    with pytest.raises(optimizers.OptimizerMissingError, match="pip install bitsandbytes"):
        loop_of(base, layout, optimizer="adamw8bit")


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_text_encoders_learn_where_asked_for(
    family: str, base: BaseModel, sdxl_base: BaseModel, layout: Layout
) -> None:
    """At half the UNet's rate, and the base model that others share stays as it was."""
    chosen = base if family == "sd15" else sdxl_base
    before = chosen.encode_text("red dog").tokens
    bare = loop_of(chosen, layout, train_text_encoder=True)
    loop = trained(loop_of(chosen, layout, train_text_encoder=True))
    assert tuple(loop.model.parts) == ("unet", *chosen.text_encoders)
    assert [group["initial_lr"] for group in loop._optimizer.param_groups] == [
        1e-2, *[5e-3] * len(chosen.text_encoders)
    ]  # fmt: skip
    for name in chosen.text_encoders:
        assert not torch.equal(factors(loop, name), factors(bare, name))
    assert torch.equal(chosen.encode_text("red dog").tokens, before)
    with torch.no_grad():
        assert not torch.allclose(loop.model.encode(["red dog"])[0][0].half(), before, atol=1e-3)


def test_what_the_prior_asks_of_the_text_encoder_is_the_bases_answer(base: BaseModel, layout: Layout) -> None:
    """With every image under a text about others nothing is to learn, in the text encoder neither."""
    loop = loop_of(base, layout, train_text_encoder=True, prior_preservation=1.0)
    assert max(trained(loop).losses) == 0


def test_a_gradient_that_is_not_a_number_stops_the_training(
    base: BaseModel, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss is still finite then; one step later every weight is NaN."""
    loop = loop_of(base, layout)

    def broken(self: TrainingLoop, batches: Any) -> torch.Tensor:
        loop._parameters[0].grad = torch.full_like(loop._parameters[0], torch.nan)
        return torch.tensor(0.1)

    monkeypatch.setattr(TrainingLoop, "_backward", broken)
    with pytest.raises(TrainingDivergedError, match="gradient's norm is nan at step 1"):
        loop.train_step()


def test_a_compiled_unet_trains_the_same_lora(base: BaseModel, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Graph capture must follow adapters that are switched off for the prior; generated code is torch's own matter."""
    calls = []
    compile_module = torch.nn.Module.compile

    def capture(self: torch.nn.Module) -> None:
        calls.append(type(self).__name__)
        compile_module(self, backend="eager")

    monkeypatch.setattr(torch.nn.Module, "compile", capture)
    dataset = encoded(base, layout)
    # Every size is traced anew, which takes its time.
    dataset = replace(dataset, train=dataset.train[1:3], held_out=[])
    chosen = {"prior_preservation": 0.5, "train_batch_size": 1}
    plain = trained(TrainingLoop(base, dataset, make_settings(layout.root, **chosen), 0))
    compiled = trained(TrainingLoop(base, dataset, make_settings(layout.root, torch_compile=True, **chosen), 0))
    assert calls == ["UNet2DConditionModel"]
    assert compiled.losses == pytest.approx(plain.losses, rel=1e-4)
    assert distance(compiled, plain) < 1e-3


def test_channels_last_trains_the_same_lora(base: BaseModel, layout: Layout, tmp_path: Path) -> None:
    """An option of speed must not be one of quality."""
    plain = trained(loop_of(base, layout))
    laid_out = trained(loop_of(base, make_layout(tmp_path / "other"), channels_last=True))
    assert laid_out.losses == pytest.approx(plain.losses, rel=1e-4)
    assert distance(laid_out, plain) < 1e-3
