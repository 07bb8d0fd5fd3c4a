"""What lies in a LoRA's folder already: continued, taken as finished, refused, or removed."""

import logging
from typing import Any

import numpy as np
import pytest

from yokai_assets.storage.layout import Layout
from yokai_assets.training import trainer
from yokai_assets.training.base_model import BaseModel
from yokai_assets.training.checkpoints import StateRefusedError
from yokai_assets.training.files import TrainingFiles
from yokai_assets.training.loop import TrainingLoop
from yokai_assets.training.record import finished_checkpoints
from yokai_assets.training.trainer import train_lora
from yokai_assets_tests.training.tiny import (
    CHARACTER,
    make_dataset,
    make_settings,
    read_curves,
    tiny_training,
    train,
)


class StoppedError(Exception):
    """Raised where a test ends a training."""


def train_until_first_save(base: BaseModel, layout: Layout, **changes: Any) -> None:
    """Train, and end it once its first state is saved."""
    save = trainer.save_state

    def save_and_stop(*args: Any) -> None:
        save(*args)
        raise StoppedError

    with pytest.MonkeyPatch.context() as patch, pytest.raises(StoppedError):
        patch.setattr(trainer, "save_state", save_and_stop)
        train(base, layout, **changes)


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
    train_until_first_save(base, layout, learning_rate=2e-2)
    assert finished_checkpoints(TrainingFiles.of_character(layout, CHARACTER)) == []
    finished = train(base, layout, learning_rate=2e-2)
    assert (
        [c.step for c in finished_checkpoints(TrainingFiles.of_character(layout, CHARACTER))]
        == [c.step for c in finished.checkpoints]
        == [3, 6]
    )


def test_an_interrupted_training_is_continued(
    base: BaseModel, layout: Layout, caplog: pytest.LogCaptureFixture
) -> None:
    """And its curves show every step once."""
    train_until_first_save(base, layout)
    result = train(base, layout, keep_training_state=True)
    assert result.resumed_from_step == 3
    curves = read_curves(TrainingFiles.of_character(layout, CHARACTER))
    assert [step for step, _ in curves["train/loss"]] == [1, 2, 3, 4, 5, 6]
    assert [loss for _, loss in curves["train/loss"]] == pytest.approx(result.losses.tolist())
    assert [norm for _, norm in curves["train/grad_norm"]] == pytest.approx(result.grad_norms.tolist())
    assert [rate for _, rate in curves["train/learning_rate"]] == pytest.approx(result.learning_rates.tolist())
    assert [(step, pytest.approx(loss)) for step, loss in curves["validation/loss"]] == result.validation_losses


@pytest.mark.parametrize("is_finished", [False, True])
def test_where_another_training_lies_it_can_be_left_alone(base: BaseModel, layout: Layout, is_finished: bool) -> None:
    """A person who mistypes an option must not lose a night's training to it."""
    if is_finished:
        train(base, layout)
    else:
        train_until_first_save(base, layout)
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


@pytest.mark.parametrize(
    ("change", "word"), [({"learning_rate": 2e-2}, "learning_rate changed from 0.01 to 0.02"), ({"seed": 1}, "seed")]
)
def test_a_state_of_other_settings_is_refused_in_words(
    base: BaseModel,
    layout: Layout,
    caplog: pytest.LogCaptureFixture,
    change: dict[str, Any],
    word: str,
) -> None:
    """Half of a LoRA with one learning rate and half with another would be what nobody asked for."""
    train_until_first_save(base, layout)
    with caplog.at_level(logging.WARNING):
        result = train(base, layout, **change)
    assert result.resumed_from_step == 0
    assert word in caplog.text


def test_a_state_of_other_images_is_refused_in_words(
    base: BaseModel, layout: Layout, caplog: pytest.LogCaptureFixture
) -> None:
    """A re-made dataset starts a new training."""
    settings = make_settings(layout.root)
    train_until_first_save(base, layout)
    dataset = make_dataset(layout, seed=5)
    with caplog.at_level(logging.WARNING):
        result = train_lora(*tiny_training(layout, dataset), settings, "cpu", 0, header={}, base=base)
    assert result.resumed_from_step == 0
    assert "training images, masks or captions changed" in caplog.text


def test_a_damaged_state_starts_fresh(base: BaseModel, layout: Layout, caplog: pytest.LogCaptureFixture) -> None:
    """A disk fault costs the steps, not the run."""
    train_until_first_save(base, layout)
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
