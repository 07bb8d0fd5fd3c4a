"""One character's training as a whole: what is saved, what is continued, what is refused."""

import hashlib
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from yokai_assets import __version__
from yokai_assets.settings.training import TrainingSettings
from yokai_assets.storage.layout import Layout
from yokai_assets.training import trainer
from yokai_assets.training.adapters import TargetModulesError
from yokai_assets.training.base_model import BaseModel
from yokai_assets.training.cache import TensorCache
from yokai_assets.training.checkpoints import StateRefusedError
from yokai_assets.training.encoding import encode_dataset
from yokai_assets.training.export import ExportError, read_header
from yokai_assets.training.files import TrainingFiles
from yokai_assets.training.images import items_of
from yokai_assets.training.loop import TrainingDivergedError, TrainingLoop
from yokai_assets.training.record import TrainingResult, finished_checkpoints
from yokai_assets.training.trainer import train_lora
from yokai_assets_tests.training.tiny import CHARACTER, make_dataset, make_settings, read_curves, tiny_training


def train(base: BaseModel, layout: Layout, seed: int = 0, **changes: Any) -> TrainingResult:
    settings = make_settings(layout.root, **changes)
    return train_lora(*tiny_training(layout), settings, "cpu", seed, header={"h": "1"}, base=base)


class StoppedError(Exception):
    pass


def stop_after_first_save(monkeypatch: pytest.MonkeyPatch) -> None:
    save = trainer.save_state

    def save_and_stop(*args: Any) -> None:
        save(*args)
        raise StoppedError

    monkeypatch.setattr(trainer, "save_state", save_and_stop)


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
    from yokai_assets_tests.training.tiny import make_layout

    one = train(base, layout).checkpoints[-1].path.read_bytes()
    other = train(base, make_layout(tmp_path / "other")).checkpoints[-1].path.read_bytes()
    assert one == other
    assert train(base, layout, seed=1).checkpoints[-1].path.read_bytes() != one


def refuse_to_train(monkeypatch: pytest.MonkeyPatch) -> None:
    def train_step(self: TrainingLoop) -> None:
        pytest.fail("a step was trained")

    monkeypatch.setattr(TrainingLoop, "train_step", train_step)


def test_a_finished_training_is_not_done_again(
    base: BaseModel, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that is executed again after everything was saved costs no hours and gives the same result."""
    first = train(base, layout)
    files = {checkpoint.path.name: checkpoint.path.read_bytes() for checkpoint in first.checkpoints}
    with monkeypatch.context() as patch:
        refuse_to_train(patch)
        again = train(base, layout)
    assert (first.was_finished, again.was_finished) == (False, True)
    assert {checkpoint.path.name: checkpoint.path.read_bytes() for checkpoint in again.checkpoints} == files
    for name in ("losses", "grad_norms"):
        np.testing.assert_array_equal(getattr(again, name), getattr(first, name))
    assert again.validation_losses == first.validation_losses
    assert again.environment == first.environment
    assert not layout.training_state(CHARACTER).exists()


@pytest.mark.parametrize("damage", ["gone", "torn", "swapped", "record"])
def test_a_finished_training_without_its_files_is_done_again(base: BaseModel, layout: Layout, damage: str) -> None:
    """A record is believed only with every checkpoint that it names there and whole."""
    first = train(base, layout)
    path = first.checkpoints[0].path
    before = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "torn":
        path.write_bytes(before[:-8])
    elif damage == "swapped":
        path.write_bytes(first.checkpoints[1].path.read_bytes())
    else:
        TrainingFiles.of_character(layout, CHARACTER).record.write_text('{"checkpoints": []}')
    again = train(base, layout)
    assert not again.was_finished
    assert path.read_bytes() == before


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


def test_a_fresh_start_takes_back_the_old_record_first(
    base: BaseModel, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed halfway, a new training leaves no record that vouches for files of two trainings."""
    train(base, layout, save_every_n_steps=2)
    with monkeypatch.context() as patch:

        def stop(self: Any, is_fresh: bool) -> None:
            assert is_fresh
            raise StoppedError

        patch.setattr(trainer._Run, "_remove_files", stop)
        with pytest.raises(StoppedError):
            train(base, layout, learning_rate=2e-2)
    assert finished_checkpoints(TrainingFiles.of_character(layout, CHARACTER)) == []
    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        stop_after_first_save(patch)
        train(base, layout, learning_rate=2e-2)
    assert finished_checkpoints(TrainingFiles.of_character(layout, CHARACTER)) == []
    finished = train(base, layout, learning_rate=2e-2)
    assert (
        [c.step for c in finished_checkpoints(TrainingFiles.of_character(layout, CHARACTER))]
        == [c.step for c in finished.checkpoints]
        == [3, 6]
    )


def test_an_interrupted_training_is_continued(
    base: BaseModel, layout: Layout, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And its curves show every step once."""
    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        stop_after_first_save(patch)
        train(base, layout)
    result = train(base, layout, keep_training_state=True)
    assert result.resumed_from_step == 3
    curves = read_curves(TrainingFiles.of_character(layout, CHARACTER))
    assert [step for step, _ in curves["train/loss"]] == [1, 2, 3, 4, 5, 6]
    assert [loss for _, loss in curves["train/loss"]] == pytest.approx(result.losses.tolist())
    assert [norm for _, norm in curves["train/grad_norm"]] == pytest.approx(result.grad_norms.tolist())
    assert [rate for _, rate in curves["train/learning_rate"]] == pytest.approx(result.learning_rates.tolist())
    assert [(step, pytest.approx(loss)) for step, loss in curves["validation/loss"]] == result.validation_losses


@pytest.mark.parametrize("is_finished", [False, True])
def test_where_another_training_lies_it_can_be_left_alone(
    base: BaseModel, layout: Layout, monkeypatch: pytest.MonkeyPatch, is_finished: bool
) -> None:
    """A person who mistypes an option must not lose a night's training to it."""
    if is_finished:
        train(base, layout)
    else:
        with monkeypatch.context() as patch, pytest.raises(StoppedError):
            stop_after_first_save(patch)
            train(base, layout)
    folder = layout.lora(CHARACTER)
    before = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    other = make_settings(layout.root, network_dim=8)
    with pytest.raises(StateRefusedError, match="network_dim changed from 4 to 8"):
        train_lora(*tiny_training(layout), other, "cpu", 0, header={}, base=base, on_other_training="refuse")
    assert {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()} == before
    again = make_settings(layout.root)
    result = train_lora(*tiny_training(layout), again, "cpu", 0, header={"h": "1"}, base=base)
    assert (result.was_finished, result.resumed_from_step) == ((True, 0) if is_finished else (False, 3))


def test_files_of_others_are_not_taken_for_checkpoints(base: BaseModel, layout: Layout) -> None:
    """A folder may hold kohya's own checkpoints of the same name; a fresh start removes only ours."""
    folder = layout.lora(CHARACTER)
    folder.mkdir(parents=True)
    foreign = [folder / f"{CHARACTER}-step00000500.safetensors", folder / f"{CHARACTER}-stepmother.safetensors"]
    for file in foreign:
        file.write_bytes(b"somebody's")
    train(base, layout, max_train_steps=1)
    assert all(file.read_bytes() == b"somebody's" for file in foreign)
    TrainingFiles.of_character(layout, CHARACTER).record.unlink()
    with pytest.raises(StateRefusedError, match="unknown training"):
        train_lora(
            *tiny_training(layout), make_settings(layout.root), "cpu", 0, header={}, base=base,
            on_other_training="refuse",
        )  # fmt: skip


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


@pytest.mark.parametrize(
    ("change", "word"), [({"learning_rate": 2e-2}, "learning_rate changed from 0.01 to 0.02"), ({"seed": 1}, "seed")]
)
def test_a_state_of_other_settings_is_refused_in_words(
    base: BaseModel,
    layout: Layout,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    change: dict[str, Any],
    word: str,
) -> None:
    """Half of a LoRA with one learning rate and half with another would be what nobody asked for."""
    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        stop_after_first_save(patch)
        train(base, layout)
    with caplog.at_level(logging.WARNING):
        result = train(base, layout, **change)
    assert result.resumed_from_step == 0
    assert word in caplog.text


def test_a_state_of_other_images_is_refused_in_words(
    base: BaseModel, layout: Layout, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A re-made dataset starts a new training."""
    settings = make_settings(layout.root)
    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        stop_after_first_save(patch)
        train(base, layout)
    dataset = make_dataset(layout, seed=5)
    with caplog.at_level(logging.WARNING):
        result = train_lora(*tiny_training(layout, dataset), settings, "cpu", 0, header={}, base=base)
    assert result.resumed_from_step == 0
    assert "training images, masks or captions changed" in caplog.text


def test_a_damaged_state_starts_fresh(
    base: BaseModel, layout: Layout, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk fault costs the steps, not the run."""
    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        stop_after_first_save(patch)
        train(base, layout)
    state = layout.training_state(CHARACTER) / "state.pt"
    state.write_bytes(state.read_bytes()[:-200])
    with caplog.at_level(logging.WARNING):
        assert train(base, layout).resumed_from_step == 0
    assert "state.pt" in caplog.text


def test_checkpoints_of_an_earlier_training_do_not_stay(base: BaseModel, layout: Layout) -> None:
    """Evaluation would judge them beside the new ones; a published LoRA of the same folder stays."""
    train(base, layout, save_every_n_steps=2)
    published = layout.lora(CHARACTER) / f"{CHARACTER}.safetensors"
    published.write_bytes(b"published")
    result = train(base, layout, save_every_n_steps=3)
    steps = sorted(file.name for file in layout.lora(CHARACTER).glob(f"{CHARACTER}-step*.safetensors"))
    assert steps == [checkpoint.path.name for checkpoint in result.checkpoints]
    assert published.read_bytes() == b"published"


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
    from yokai_assets_tests.training.tiny import make_layout

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
