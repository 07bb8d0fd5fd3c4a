"""`yokai train`: a tool of its own, on folders that other people made."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from filelock import FileLock
from PIL import Image
from safetensors.torch import load_file

from yokai_assets.cli.main import main
from yokai_assets.cli.train_command import train
from yokai_assets.settings.training import TrainingSettings
from yokai_assets.training import trainer
from yokai_assets_tests.training.tiny import make_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("train") / "sd15")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a friend sends: mixed sizes and formats, a JPEG named .png, a broken file, a photo on its side."""
    place = tmp_path / "my dog"
    place.mkdir()
    rng = np.random.default_rng(0)

    def picture(width: int, height: int) -> Image.Image:
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        return coarse.resize((width, height), Image.Resampling.BICUBIC)

    for number, (width, height) in enumerate([(96, 64), (64, 64), (48, 80), (200, 120), (64, 96), (70, 64)]):
        picture(width, height).save(place / f"{number}.png")
        (place / f"{number}.txt").write_text(f"a dog, pose {number}")
    picture(80, 64).save(place / "really.png", "JPEG")
    picture(80, 64).convert("CMYK").save(place / "print.jpg")
    picture(64, 64).convert("P").save(place / "palette.png")
    Image.fromarray(rng.integers(0, 65536, (64, 64), dtype=np.uint16)).save(place / "sixteen.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(96, 48).save(place / "upright.jpg", exif=exif)
    (place / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    return place


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["train", *(str(argument) for argument in arguments)])


def options(base: Path, **changes: Any) -> list[str]:
    chosen = {
        "--base": base, "--device": "cpu", "--cpu-threads": 1, "--max-train-steps": 4, "--save-every-n-steps": 2,
        "--network-dim": 2, "--resolution-px": 64, "--learning-rate": 0.01,
    } | {f"--{name.replace('_', '-')}": value for name, value in changes.items()}  # fmt: skip
    return [str(part) for pair in chosen.items() for part in pair]


def test_a_foreign_folder_becomes_a_lora_that_is_ready_to_use(folder: Path, base: Path, tmp_path: Path) -> None:
    """Everything readable is trained on, what is not is named, and all files that people look for are there."""
    out = tmp_path / "loras"
    done = call(folder, "--output", out / "rex.safetensors", "--trigger", "zkrex", *options(base))
    assert done.exit_code == 0, done.output
    assert "broken.png" in done.output
    assert "1 unreadable" in done.output
    assert "preset sd15-few: 4 steps of 2 images" in done.output
    names = {file.name for file in out.iterdir() if not file.name.startswith(".")}
    assert names == {
        "rex.safetensors", "rex.json", "rex.curves.png", "rex.samples.webp", "rex-training.json", "tensorboard",
        "rex-step000002.safetensors", "rex-step000004.safetensors",
    }  # fmt: skip
    sidecar = json.loads((out / "rex.json").read_text())
    assert (sidecar["activation text"], sidecar["sd version"]) == ("zkrex", "SD1")
    record = json.loads((out / "rex-training.json").read_text())
    assert record["train_count"] + record["held_out_count"] == 11
    assert record["held_out_count"] >= 1
    last, final = load_file(out / "rex-step000004.safetensors"), load_file(out / "rex.safetensors")
    assert all((final[name] == tensor).all() for name, tensor in last.items())
    assert Image.open(out / "rex.samples.webp").width > 400


def test_the_same_command_again_goes_on_and_then_does_nothing(
    folder: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupted training costs what was not saved yet, and a finished one nothing."""
    command = [folder, "--output", tmp_path / "out", "--trigger", "zkrex", "--no-samples", *options(base)]
    save = trainer.save_state

    def save_and_stop(*arguments: Any) -> None:
        save(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "save_state", save_and_stop)
        stopped = call(*command)
    assert stopped.exit_code == 130
    assert "the same command goes on" in stopped.output
    resumed = call(*command)
    assert resumed.exit_code == 0
    assert "went on from step 2" in resumed.output
    before = {file: file.read_bytes() for file in (tmp_path / "out").glob("*.safetensors")}
    assert "nothing was left to do" in call(*command).output
    assert {file: file.read_bytes() for file in before} == before


def test_other_options_do_not_overwrite_a_training(folder: Path, base: Path, tmp_path: Path) -> None:
    """A mistyped option says what differs; `--restart` is how it is meant."""
    command = [folder, "--output", tmp_path / "out", "--trigger", "zkrex", "--no-samples"]
    assert call(*command, *options(base)).exit_code == 0
    refused = call(*command, *options(base, network_dim=4))
    assert refused.exit_code == 2
    assert "network_dim changed from 2 to 4" in refused.output
    assert "--restart" in refused.output
    assert call(*command, "--restart", *options(base, network_dim=4)).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--base", "nowhere/at/all"], "there is no such file or folder"),
        (["--optimizer", "sgd"], "sgd"),
        (["--network-dim", "0"], "0 is not in the range"),
        (["--target-modules", "to_nothing"], "to_nothing"),
        (["--bucket-step-px", "12"], "multiple of 8"),
        (["--target-modules", ","], "target_modules"),
        (["--name", "../elsewhere"], "names a path"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_trained(
    folder: Path, base: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    """One sentence with the remedy, and exit code 2."""
    done = call(folder, "--output", tmp_path / "out", "--trigger", "z", *options(base), *arguments)
    assert done.exit_code == 2
    assert words in done.output
    assert "Traceback" not in done.output


def test_output_among_the_images_is_refused(folder: Path, base: Path) -> None:
    """The next start would train on the loss curve."""
    done = call(folder, "--output", folder / "rex.safetensors", "--trigger", "z", *options(base))
    assert (done.exit_code, "--output elsewhere" in done.output) == (2, True)


def test_two_trainings_at_once_in_one_place_are_refused(folder: Path, base: Path, tmp_path: Path) -> None:
    """They would write each other's checkpoints."""
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".z.lock"):
        done = call(folder, "--output", tmp_path / "out", "--name", "z", "--trigger", "z", *options(base))
    assert (done.exit_code, "another training is at work" in done.output) == (2, True)


def test_two_loras_in_one_folder_keep_their_curves(folder: Path, base: Path, tmp_path: Path) -> None:
    """People collect LoRAs in one folder; TensorBoard shows each as a run of its own."""
    for name in ("one", "two"):
        done = call(folder, "--output", tmp_path, "--name", name, "--trigger", "z", "--no-samples", *options(base))
        assert done.exit_code == 0
    assert [len(list((tmp_path / "tensorboard" / name).iterdir())) for name in ("one", "two")] == [1, 1]


def test_a_folder_without_images_or_captions_is_explained(folder: Path, base: Path, tmp_path: Path) -> None:
    """The remedy is in the message: another folder, or a trigger word."""
    (tmp_path / "empty").mkdir()
    empty = call(tmp_path / "empty", "--output", tmp_path / "out", *options(base))
    assert (empty.exit_code, "no images" in empty.output) == (2, True)
    for text in folder.glob("*.txt"):
        text.unlink()
    mute = call(folder, "--output", tmp_path / "out", *options(base))
    assert (mute.exit_code, "--trigger" in mute.output) == (2, True)


def test_every_training_setting_is_an_option() -> None:
    """The tool on its own can do what the platform can."""
    offered = {parameter.name for parameter in train.params}
    assert TrainingSettings.model_fields.keys() - {"base_model"} <= offered
    shown = CliRunner().invoke(main, ["train", "--presets"])
    assert shown.exit_code == 0
    assert "sdxl-few" in shown.output
