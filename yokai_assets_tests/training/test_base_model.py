"""Opening a base model: families, fingerprints, independence of copies, and errors with a remedy."""

import json
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from yokai_assets.training import base_model
from yokai_assets.training.base_model import BaseModel, BaseModelError, open_base_model
from yokai_assets.training.export import read_header
from yokai_assets.training.fingerprints import file_fingerprint
from yokai_assets.training.prediction import VelocityPrediction, predicting_velocity
from yokai_assets.training.trainer import train_lora
from yokai_assets_tests.training.single_file import write_single_file
from yokai_assets_tests.training.tiny import (
    make_base,
    make_layout,
    make_settings,
    tiny_training,
)


def test_a_folder_opens_with_its_family_and_schedule(base: BaseModel, sdxl_base: BaseModel) -> None:
    """Family decides text conditioning and headers; the scheduler's config decides the target."""
    assert (base.family, sdxl_base.family) == ("sd15", "sdxl")
    assert base.prediction_type == base.noise_scheduler().config["prediction_type"] == "epsilon"
    assert base.vae_scale_factor == 8
    assert base.precision == "no"


def test_zero_terminal_snr_of_the_base_is_trained_with(tmp_path: Path) -> None:
    """Training on another noise schedule than the base samples with would wash the LoRA out."""
    folder = make_base(tmp_path / "v", prediction_type="v_prediction", has_zero_terminal_snr=True)
    opened = open_base_model(str(folder), "cpu")
    scheduler = opened.noise_scheduler()
    assert opened.prediction_type == scheduler.config["prediction_type"] == "v_prediction"
    assert scheduler.alphas_cumprod[-1].item() == pytest.approx(0, abs=1e-6)
    assert opened.build_pipeline().scheduler.config.timestep_spacing == "trailing"


def test_a_changed_unet_leaves_the_base_alone(base: BaseModel) -> None:
    """One open base serves many characters; training one must not leak into the next."""
    before = base.pipeline.unet.conv_in.weight.clone()
    unet = base.fresh("unet")
    with torch.no_grad():
        unet.conv_in.weight.zero_()
    assert torch.equal(base.fresh("unet").conv_in.weight, before)
    assert base.build_pipeline().unet is not base.build_pipeline().unet


def test_fingerprints_follow_the_files(base_folder: Path, tmp_path: Path) -> None:
    """A cache key must change with the weights it belongs to, and with nothing else."""
    copied = tmp_path / "copy"
    shutil.copytree(base_folder, copied)
    original, copy = open_base_model(str(base_folder), "cpu"), open_base_model(str(copied), "cpu")
    assert original.fingerprint == copy.fingerprint
    weights = copied / "vae" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    changed = open_base_model(str(copied), "cpu")
    assert changed.vae_fingerprint != original.vae_fingerprint
    assert changed.fingerprint != original.fingerprint
    assert changed.text_fingerprint == original.text_fingerprint


def test_hashes_are_remembered_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven gigabytes are hashed once, not once per character; a changed file is hashed again."""
    from yokai_assets.training import fingerprints

    path, memory = tmp_path / "weights.bin", tmp_path / "memory"
    path.write_bytes(b"one")
    first = file_fingerprint(path, memory)
    monkeypatch.setattr(fingerprints, "_MEMORY", {})
    monkeypatch.setattr(fingerprints, "sha256_of_file", lambda path: pytest.fail("hashed again"))
    assert file_fingerprint(path, memory) == first
    monkeypatch.undo()
    path.write_bytes(b"three")
    assert file_fingerprint(path, memory) != first


def test_a_missing_path_says_what_can_be_set(tmp_path: Path) -> None:
    """The user reads what to do, not a stack of library errors."""
    with pytest.raises(BaseModelError, match=r"training\.base_model"):
        open_base_model(str(tmp_path / "nowhere"), "cpu")


def test_a_hub_model_without_network_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Offline is the usual state of a training machine."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BaseModelError, match=r"someone/nothing.*hf download someone/nothing"):
        open_base_model("someone/nothing", "cpu")


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    """A folder of images or of another pipeline is a common mistake."""
    with pytest.raises(BaseModelError, match=r"model_index\.json"):
        open_base_model(str(tmp_path), "cpu")
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(BaseModelError, match="FluxPipeline"):
        open_base_model(str(tmp_path), "cpu")


def test_a_folder_with_a_damaged_part_is_named(base_folder: Path, tmp_path: Path) -> None:
    """An unfinished download must not end in a library's stack trace."""
    broken = tmp_path / "broken"
    shutil.copytree(base_folder, broken)
    weights = broken / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(BaseModelError, match=r"broken.*again"):
        open_base_model(str(broken), "cpu")


def test_single_files_that_are_no_base_are_refused(tmp_path: Path) -> None:
    """A LoRA given as base, a pickle, and a broken download are told apart."""
    lora, pickled, broken = tmp_path / "lora.safetensors", tmp_path / "model.ckpt", tmp_path / "broken.safetensors"
    save_file({"lora_unet_x.lora_down.weight": torch.zeros(1)}, lora)
    pickled.write_bytes(b"x")
    broken.write_bytes(b"\x00")
    for path, reason in (
        (lora, "neither"),
        (pickled, r"only \.safetensors.*yokai convert-weights"),
        (broken, "damaged"),
    ):
        with pytest.raises(BaseModelError, match=reason):
            open_base_model(str(path), "cpu")


def test_a_folder_of_pickles_is_refused(base_folder: Path, tmp_path: Path) -> None:
    """Diffusers would open `.bin` files where there is nothing else; those of parts that are not loaded harm nobody."""
    pickled = tmp_path / "pickled"
    shutil.copytree(base_folder, pickled)
    (pickled / "safety_checker").mkdir()
    (pickled / "safety_checker" / "pytorch_model.bin").write_bytes(b"x")
    open_base_model(str(pickled), "cpu")
    (pickled / "unet" / "diffusion_pytorch_model.safetensors").rename(pickled / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(BaseModelError, match=r"diffusion_pytorch_model\.bin.*may run code.*convert-weights"):
        open_base_model(str(pickled), "cpu")


def test_a_lora_of_another_base_is_named(base: BaseModel, tmp_path: Path) -> None:
    """The evaluation must say which file does not fit."""
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"x")
    with pytest.raises(BaseModelError, match=r"broken\.safetensors"):
        base.build_pipeline(path)


def test_a_single_file_is_the_same_model_as_its_folder(base: BaseModel, base_folder: Path, tmp_path: Path) -> None:
    """Most people hold their base as one checkpoint file; every weight must land in its place, without network."""
    path = tmp_path / "anything.safetensors"
    write_single_file(base.pipeline, path)
    configs = tmp_path / "anything"
    shutil.copytree(base_folder, configs, ignore=shutil.ignore_patterns("*.safetensors"))
    opened = open_base_model(str(path), "cpu")
    assert opened.family == "sd15"
    for part in ("unet", "vae", "text_encoder"):
        found, wanted = (getattr(model.pipeline, part).state_dict() for model in (opened, base))
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted), part
    assert torch.equal(opened.encode_text("red").tokens, base.encode_text("red").tokens)


@pytest.mark.parametrize(("has_bf16", "precision"), [(True, "bf16"), (False, "fp16")])
def test_a_gpu_without_bf16_uses_fp16_and_says_so(
    base_folder: Path, monkeypatch: pytest.MonkeyPatch, has_bf16: bool, precision: str
) -> None:
    """GPUs before Ampere imitate bf16 so slowly that a training would take days."""
    asked = []

    def is_bf16_supported(including_emulation: bool = True) -> bool:
        asked.append(including_emulation)
        return has_bf16 or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_bf16_supported)
    monkeypatch.setattr(torch.cuda, "device", nullcontext)
    opened = open_base_model(str(base_folder), "cuda:0", precision="bf16")
    assert opened.precision == precision
    assert opened.pipeline.unet.dtype == opened.dtype
    assert bool(opened.notes) != has_bf16
    assert all("fp16 is used instead" in note for note in opened.notes)
    assert asked == [False]
    assert open_base_model(str(base_folder), "cuda:0", precision="fp16").notes == ()


def single_file(base: BaseModel, base_folder: Path, folder: Path, **says: Any) -> Path:
    """Write the tiny base as one file with what it says of itself, and configs that say epsilon beside it."""
    path = folder / "anything.safetensors"
    write_single_file(base.pipeline, path, **says)
    shutil.copytree(base_folder, folder / "anything", ignore=shutil.ignore_patterns("*.safetensors"))
    return path


@pytest.mark.parametrize(
    ("says", "has_zero_terminal_snr"),
    [
        ({"marks": ("v_pred",)}, False),
        ({"marks": ("v_pred", "ztsnr")}, True),
        ({"metadata": {"modelspec.prediction_type": "v"}}, False),
        ({"metadata": {"modelspec.predict_key": "v"}, "marks": ("ztsnr",)}, True),
    ],
)
def test_a_single_file_says_that_it_predicts_velocity(
    base: BaseModel, base_folder: Path, tmp_path: Path, says: dict[str, Any], has_zero_terminal_snr: bool
) -> None:
    """Popular anime bases are v-prediction: trained as epsilon, their LoRAs draw noise."""
    opened = open_base_model(str(single_file(base, base_folder, tmp_path, **says)), "cpu")
    assert opened.prediction_type == "v_prediction"
    assert opened.has_zero_terminal_snr == has_zero_terminal_snr
    scheduler = opened.noise_scheduler()
    assert scheduler.config["prediction_type"] == "v_prediction"
    assert (scheduler.alphas_cumprod[-1].item() < 1e-6) == has_zero_terminal_snr
    drawing = opened.build_pipeline().scheduler
    assert drawing.config.prediction_type == "v_prediction"
    assert (float(drawing.alphas_cumprod[-1]) < 1e-6) == has_zero_terminal_snr


@pytest.mark.parametrize("says", [{}, {"marks": ("ztsnr",)}, {"metadata": {"modelspec.prediction_type": "epsilon"}}])
def test_a_single_file_that_does_not_say_so_predicts_noise(
    base: BaseModel, base_folder: Path, tmp_path: Path, says: dict[str, Any]
) -> None:
    """Zero terminal SNR alone means nothing: noise cannot be predicted from pure noise."""
    opened = open_base_model(str(single_file(base, base_folder, tmp_path, **says)), "cpu")
    assert (opened.prediction_type, opened.has_zero_terminal_snr) == ("epsilon", False)


def test_files_of_other_noise_processes_and_families_are_named(tmp_path: Path) -> None:
    """What cannot be trained is refused by name, before it costs hours."""
    path = tmp_path / "x.safetensors"
    save_file({"cond_stage_model.model.x": torch.zeros(1)}, path)
    with pytest.raises(BaseModelError, match=r"2\.x is not supported"):
        open_base_model(str(path), "cpu")
    save_file({"conditioner.embedders.1.x": torch.zeros(1), "edm_mean": torch.zeros(1)}, path)
    with pytest.raises(BaseModelError, match="EDM"):
        open_base_model(str(path), "cpu")


@pytest.mark.parametrize("name", ["PNDMScheduler", "EulerDiscreteScheduler", "DDIMScheduler"])
def test_every_usual_scheduler_reaches_zero_terminal_snr(name: str) -> None:
    """The default of Stable Diffusion 1.x files knows no such schedule, and would ignore the wish in silence."""
    import diffusers

    betas: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    made = predicting_velocity(getattr(diffusers, name)(**betas), VelocityPrediction(has_zero_terminal_snr=True))
    assert float(made.alphas_cumprod[-1]) < 1e-6
    assert (made.config.prediction_type, made.config.timestep_spacing) == ("v_prediction", "trailing")
    assert made.config.beta_end == betas["beta_end"]
    plain = predicting_velocity(getattr(diffusers, name)(**betas), VelocityPrediction(has_zero_terminal_snr=False))
    assert type(plain).__name__ == name
    assert float(plain.alphas_cumprod[-1]) > 1e-3


def test_a_lora_says_what_its_base_predicts(base: BaseModel, base_folder: Path, tmp_path: Path) -> None:
    """Programs choose their sampling by the header; and the training is another one than towards noise."""
    opened = open_base_model(str(single_file(base, base_folder, tmp_path, marks=("v_pred", "ztsnr"))), "cpu")
    layout = make_layout(tmp_path / "data")
    settings = make_settings(layout.root, max_train_steps=2)
    result = train_lora(*tiny_training(layout), settings, "cpu", 0, header={}, base=opened)
    header = read_header(result.checkpoints[-1].path)
    assert header["modelspec.prediction_type"] == "v"
    assert (header["ss_v2"], header["ss_zero_terminal_snr"]) == ("False", "True")
    same_weights = replace(opened, pipeline=base.pipeline)
    towards_noise = train_lora(*tiny_training(layout), settings, "cpu", 0, header={}, base=same_weights)
    assert not towards_noise.was_finished
    assert not np.allclose(towards_noise.losses, result.losses)


def test_a_single_file_has_the_vae_of_its_folder_in_full_precision(
    base: BaseModel, base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounded to half precision on the way, it would give other latents under the same key."""
    file = single_file(base, base_folder, tmp_path)
    monkeypatch.setattr(base_model, "_usable_precision", lambda wanted, device: (wanted, ()))
    opened = open_base_model(str(file), "cpu", precision="bf16")
    exact = base.vae.state_dict()
    assert all(torch.equal(exact[name], weight) for name, weight in opened.vae.state_dict().items())
    assert opened.pipeline.unet.dtype == torch.bfloat16


def test_configs_beside_a_single_file_are_part_of_it(base: BaseModel, base_folder: Path, tmp_path: Path) -> None:
    """Scaling, tokenizer and schedule come from there: with others, cached latents are of another VAE."""
    file = single_file(base, base_folder, tmp_path)
    before = open_base_model(str(file), "cpu")
    config = file.with_suffix("") / "vae" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"scaling_factor": 0.5}))
    after = open_base_model(str(file), "cpu")
    assert (after.fingerprint != before.fingerprint, after.vae_fingerprint != before.vae_fingerprint) == (True, True)


@pytest.mark.parametrize(
    ("part", "changes", "words"),
    [
        ("scheduler", {"_class_name": "FlowMatchEulerDiscreteScheduler"}, "another noise process"),
        ("scheduler", {"prediction_type": "flow"}, "another noise process"),
        ("unet", {"in_channels": 9}, "inpainting"),
    ],
)
def test_a_base_of_the_right_shape_for_something_else_is_refused(
    tmp_path: Path, part: str, changes: dict[str, Any], words: str
) -> None:
    """Trained as if it were the ordinary one, it gives LoRAs that draw noise, without an error."""
    unet = {"in_channels": 9} if part == "unet" else {}
    folder = make_base(tmp_path / "base", unet_options=unet)
    if part == "scheduler":
        file = folder / "scheduler" / "scheduler_config.json"
        kind = changes.get("_class_name")
        values = {"_class_name": kind, "num_train_timesteps": 1000} if kind else json.loads(file.read_text()) | changes
        file.write_text(json.dumps(values))
        index = folder / "model_index.json"
        if kind:
            index.write_text(json.dumps(json.loads(index.read_text()) | {"scheduler": ["diffusers", kind]}))
    with pytest.raises(BaseModelError, match=words):
        open_base_model(str(folder), "cpu")
