"""One character's training as a whole: what is learnt, saved, recorded and told."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from yokai_assets import __version__
from yokai_assets.settings.training import TrainingSettings
from yokai_assets.storage.layout import Layout
from yokai_assets.training.adapters import TargetModulesError
from yokai_assets.training.base_model import BaseModel
from yokai_assets.training.cache import TensorCache
from yokai_assets.training.encoding import encode_dataset
from yokai_assets.training.export import ExportError, read_header
from yokai_assets.training.files import TrainingFiles
from yokai_assets.training.images import items_of
from yokai_assets.training.loop import TrainingDivergedError, TrainingLoop
from yokai_assets.training.trainer import train_lora
from yokai_assets_tests.training.tiny import (
    CHARACTER,
    make_dataset,
    make_layout,
    make_settings,
    tiny_training,
    train,
)


def test_a_training_makes_verified_checkpoints_and_a_record(base: BaseModel, layout: Layout) -> None:
    """Evaluation, publishing and gallery read exactly these files."""
    notes = []
    settings = make_settings(layout.root, max_train_steps=5)
    result = train_lora(
        *tiny_training(layout), settings, "cpu", 0, header={"h": "1"}, base=base,
        progress=lambda done, total, note="": notes.append((done, total, note)),
    )  # fmt: skip
    names = [f"{CHARACTER}-step000003.safetensors", f"{CHARACTER}-step000005.safetensors"]
    assert [checkpoint.path.name for checkpoint in result.checkpoints] == names
    assert [checkpoint.step for checkpoint in result.checkpoints] == [3, 5]
    assert result.losses.shape == result.grad_norms.shape == (5,)
    assert [step for step, _ in result.validation_losses] == [0, 3, 5]
    assert (result.train_count, result.held_out_count, result.resumed_from_step) == (4, 2, 0)
    assert result.images_per_second > 0
    assert result.peak_memory_bytes > 0
    header = read_header(result.checkpoints[-1].path)
    assert (header["h"], header["ss_steps"], header["ss_network_alpha"]) == ("1", "5", "3.0")
    record = json.loads(TrainingFiles.of_character(layout, CHARACTER).record.read_text())
    assert len(record["losses"]) == 5
    assert record["dataset_fingerprint"] == result.dataset_fingerprint
    assert not layout.training_state(CHARACTER).exists()
    assert notes[-1][:2] == (5, 5)
    assert any(note.startswith("encoding") for _, _, note in notes)
    assert any(note.startswith("loss") for _, _, note in notes)


def test_the_adapter_learns(base: BaseModel, layout: Layout) -> None:
    """The loop must lower the loss on what it trains, not only run: held-out noise is fixed, so it can be compared."""
    result = train(base, layout, max_train_steps=60, save_every_n_steps=60, learning_rate=3e-2, caption_dropout=0.0)
    first, last = result.validation_losses[0][1], result.validation_losses[-1][1]
    assert last < 0.97 * first


def drift_without_trigger(base: BaseModel, layout: Layout, prior_preservation: float) -> tuple[float, list[float]]:
    """Return how far a trained UNet is from the base's on text without the trigger (mean square), and the losses."""
    settings = make_settings(
        layout.root, learning_rate=3e-2, caption_dropout=0.0, prior_preservation=prior_preservation
    )
    caches = TensorCache(layout.cache / "latents"), TensorCache(layout.cache / "text")
    items = items_of(make_dataset(layout), CHARACTER, layout)
    texts = ("red", "red round", "anyone")
    dataset = encode_dataset(items, base, *caches, settings, prior_captions=texts)
    loop = TrainingLoop(base, dataset, settings, seed=0)
    for _ in range(40):
        loop.train_step()
    noisy = torch.randn(8, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    text = base.encode_text("red round").tokens.float()[None].expand(8, -1, -1)
    timesteps = torch.arange(100, 900, 100)
    with torch.no_grad():
        trained = loop.model.unet(noisy, timesteps, encoder_hidden_states=text).sample
        untrained = base.fresh("unet")(noisy, timesteps, encoder_hidden_states=text).sample
    loop.flush()
    return float((trained - untrained).square().mean()), loop.losses


def test_prompts_without_the_trigger_stay_what_they_were(base: BaseModel, layout: Layout) -> None:
    """Two characters' LoRAs in one picture, and every prompt about something else, depend on it."""
    free, _ = drift_without_trigger(base, layout, 0.0)
    kept, _ = drift_without_trigger(base, layout, 0.5)
    frozen, losses = drift_without_trigger(base, layout, 1.0)
    assert kept < 0.7 * free
    assert frozen == 0 and max(losses) == 0


def test_the_same_inputs_give_the_same_lora(base: BaseModel, layout: Layout, tmp_path: Any) -> None:
    """And another seed gives another one."""
    one = train(base, layout).checkpoints[-1].path.read_bytes()
    other = train(base, make_layout(tmp_path / "other")).checkpoints[-1].path.read_bytes()
    assert one == other
    assert train(base, layout, seed=1).checkpoints[-1].path.read_bytes() != one


def test_a_dataset_that_a_kill_left_aside_is_found(base: BaseModel, layout: Layout) -> None:
    """A kill between the two renames of its folder must not cost the training."""
    dataset = make_dataset(layout)
    folder = layout.training_data(CHARACTER)
    folder.rename(folder.parent / f".{folder.name}.retired")
    settings = make_settings(layout.root, max_train_steps=1, lr_warmup_steps=0)
    result = train_lora(*tiny_training(layout, dataset), settings, "cpu", 0, header={}, base=base)
    assert (result.train_count, result.problems) == (4, [])
    assert folder.exists()


def test_what_is_not_done_as_asked_is_told(base: BaseModel, layout: Layout) -> None:
    """The result, its record and whoever shows them say that another precision was used."""
    settings = make_settings(layout.root, max_train_steps=1, lr_warmup_steps=0)
    noted = replace(base, notes=("fp16 is used instead",))
    wanted = [("training.mixed_precision", "fp16 is used instead")]
    for was_finished in (False, True):
        result = train_lora(*tiny_training(layout), settings, "cpu", 0, header={}, base=noted)
        assert (result.was_finished, result.problems) == (was_finished, wanted)


def test_modules_that_no_file_can_hold_show_before_training(sdxl_base: BaseModel, layout: Layout) -> None:
    """An export that fails at the first checkpoint fails hours later; a misspelt name never would."""
    with pytest.raises(ExportError, match="add_embedding"):
        train(sdxl_base, layout, target_modules=("to_q", "add_embedding.linear_1"))
    with pytest.raises(TargetModulesError, match="no module to_vv"):
        train(sdxl_base, layout, target_modules=("to_q", "to_vv"))
    assert not list(layout.lora(CHARACTER).glob("*.safetensors"))


def test_the_header_names_everything_a_lora_was_made_of(base: BaseModel, layout: Layout) -> None:
    """Months later the file alone must say what it is: base, images, options, code; and UIs list its tags."""
    result = train(base, layout, max_train_steps=2, gradient_accumulation_steps=2, noise_offset=0.1)
    header = read_header(result.checkpoints[-1].path)
    images = json.loads(header["yokai_training_images"])
    dataset = make_dataset(layout).filter(split="train")
    assert images == {
        row["instance_id"]: {
            "file": layout.absolute(row["image"]).name,
            "sha256": hashlib.sha256(layout.absolute(row["image"]).read_bytes()).hexdigest(),
        }
        for row in dataset.iter_rows(named=True)
    }
    config = json.loads(header["yokai_config"])
    assert (config["network_dim"], config["noise_offset"], config["seed"]) == (4, 0.1, 0)
    assert header["yokai_base_fingerprint"] == base.fingerprint
    assert header["yokai_dataset_fingerprint"] == result.dataset_fingerprint
    assert header["yokai_code_version"].startswith(f"{__version__}, trainer ")
    assert json.loads(header["ss_tag_frequency"]) == {CHARACTER: {"zqkaro": 4, "red tall": 2, "red round": 2}}
    buckets = json.loads(header["ss_bucket_info"])["buckets"]
    assert [(bucket["resolution"], bucket["count"]) for bucket in buckets.values()] == [([16, 32], 2), ([32, 32], 2)]
    assert (header["ss_total_batch_size"], header["ss_noise_offset"], header["ss_steps"]) == ("4", "0.1", "2")
    private = (str(layout.root.parent), str(Path(base.name).parent))
    assert not [key for key, value in header.items() if any(path in value for path in private)], "no local path"
    assert header["ss_sd_model_name"] == Path(base.name).name


def test_a_preset_fills_what_is_unset_and_what_is_far_off_is_told(base: BaseModel, layout: Layout) -> None:
    """The result says which numbers were used, and the user what hardly was meant."""
    settings = TrainingSettings(
        base_model=str(layout.root), preset="auto", max_train_steps=1, bucket_step_px=32, train_batch_size=1
    )
    train_lora(*tiny_training(layout), settings, "cpu", 0, header={}, base=base)
    config = json.loads(TrainingFiles.of_character(layout, CHARACTER).record.read_text())["config"]
    assert (config["max_train_steps"], config["network_dim"], config["resolution_px"]) == (1, 16, 32)
    far = train(base, layout, max_train_steps=1, resolution_px=128, bucket_step_px=32)
    assert [problem for problem in far.problems if problem[0] == "training.resolution_px" and "32" in problem[1]]


def test_a_diverging_training_says_so(base: BaseModel, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A LoRA of NaNs must never be saved."""
    original = TrainingLoop._error

    def not_a_number(self: TrainingLoop, **inputs: Any) -> torch.Tensor:
        return original(self, **inputs) * (torch.nan if self.step == 3 and self.model.unet.training else 1.0)

    monkeypatch.setattr(TrainingLoop, "_error", not_a_number)
    with pytest.raises(TrainingDivergedError, match=r"step 4.*learning_rate"):
        train(base, layout)
    assert [file.name for file in layout.lora(CHARACTER).glob("*.safetensors")] == [
        f"{CHARACTER}-step000003.safetensors"
    ]


def test_a_file_where_the_folder_is_to_be_is_named_before_anything_is_encoded(base: BaseModel, layout: Layout) -> None:
    """A stray file must not end as 'Not a directory' without a remedy."""
    layout.lora(CHARACTER).parent.mkdir(parents=True)
    layout.lora(CHARACTER).write_text("stray")
    with pytest.raises(NotADirectoryError, match=r"is a file where the folder of a LoRA is to be\. Move it"):
        train(base, layout)


def test_target_modules_that_match_nothing_are_named(base: BaseModel, layout: Layout) -> None:
    """A typing error would train nothing."""
    with pytest.raises(TargetModulesError, match="to_nothing"):
        train(base, layout, target_modules=("to_nothing",))


def test_sdxl_trains_with_its_size_conditioning(sdxl_base: BaseModel, layout: Layout) -> None:
    """Pooled text and time ids must reach the UNet, which fails without them."""
    result = train(sdxl_base, layout, max_train_steps=2)
    assert np.isfinite(result.losses).all()
    assert read_header(result.checkpoints[-1].path)["modelspec.architecture"].startswith("stable-diffusion-xl")


def test_the_background_weight_changes_what_is_learnt(base: BaseModel, layout: Layout, tmp_path: Any) -> None:
    """The masked loss must reach the gradients."""
    masked = train(base, layout, background_loss_weight=0.0).losses
    unmasked = train(base, make_layout(tmp_path / "other"), background_loss_weight=1.0).losses
    assert not np.allclose(masked, unmasked)


def test_mixed_precision_keeps_the_adapter_in_fp32(base_folder: Any, base: BaseModel, layout: Layout) -> None:
    """The path of a GPU, on the CPU's bf16: frozen weights in half precision, trained ones and updates in fp32."""
    import copy

    pipeline = copy.copy(base.pipeline)
    pipeline.unet = copy.deepcopy(base.pipeline.unet).to(torch.bfloat16)
    half = replace(base, precision="bf16", pipeline=pipeline)
    result = train(half, layout, max_train_steps=3, gradient_checkpointing=True)
    from safetensors.torch import load_file

    tensors = load_file(str(result.checkpoints[-1].path))
    assert np.isfinite(result.losses).all()
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())
    assert {tensor.dtype for name, tensor in tensors.items() if "alpha" not in name} == {torch.float16}
