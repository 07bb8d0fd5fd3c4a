"""Pickled weights: never opened by a stage, and converted without running what is in them."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from yokai_assets.cli.main import main
from yokai_assets.embedding.model import EmbeddingModelError, open_image_text_model
from yokai_assets.settings.model import EmbeddingSettings
from yokai_assets.weights import WeightsError, convert_weights


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def test_tensors_come_out_as_they_were(tmp_path: Path) -> None:
    """Checkpoints keep weights in `state_dict`, beside counters, and some share their memory."""
    source, target = tmp_path / "model.ckpt", tmp_path / "model.safetensors"
    shared = torch.arange(6.0)
    torch.save({"state_dict": {"a": shared, "b": shared[:3], "c": torch.ones(2, 2).t()}, "epoch": 3}, source)
    assert convert_weights(source, target) == 3
    found = load_file(str(target))
    assert {name: tensor.tolist() for name, tensor in found.items()} == {
        "a": [0, 1, 2, 3, 4, 5], "b": [0, 1, 2], "c": [[1, 1], [1, 1]]
    }  # fmt: skip


def test_nothing_in_a_pickle_is_run(tmp_path: Path) -> None:
    """A checkpoint from a forum may do anything when it is unpickled; converting it must not."""
    mark, source = tmp_path / "was-run", tmp_path / "model.ckpt"
    source.write_bytes(pickle.dumps({"state_dict": Bomb(mark)}))
    with pytest.raises(WeightsError, match=r"model\.ckpt: not converted"):
        convert_weights(source, tmp_path / "model.safetensors")
    torch.save({"state_dict": {"a": torch.ones(1)}, "hook": Bomb(mark)}, source)
    result = CliRunner().invoke(main, ["convert-weights", str(source), str(tmp_path / "model.safetensors")])
    assert result.exit_code == 1
    assert "not converted" in result.output
    assert not mark.exists()
    assert not (tmp_path / "model.safetensors").exists()


def test_a_file_is_never_overwritten(tmp_path: Path) -> None:
    """A typing error must not cost a model."""
    source, target = tmp_path / "model.pt", tmp_path / "model.safetensors"
    torch.save({"a": torch.ones(1)}, source)
    target.write_bytes(b"dear")
    with pytest.raises(WeightsError, match="new name"):
        convert_weights(source, target)
    assert target.read_bytes() == b"dear"


@pytest.mark.parametrize("is_folder", [True, False])
def test_embedding_models_are_not_unpickled(tmp_path: Path, *, is_folder: bool) -> None:
    """open_clip opens pickles; the stage must refuse before it."""
    weights = tmp_path / "open_clip_pytorch_model.bin"
    weights.write_bytes(pickle.dumps({"state_dict": Bomb(tmp_path / "was-run")}))
    (tmp_path / "open_clip_config.json").write_text("{}")
    settings = (
        EmbeddingSettings(model=f"local-dir:{tmp_path}")
        if is_folder
        else EmbeddingSettings(model="ViT-B-32", pretrained=str(weights))
    )
    with pytest.raises(EmbeddingModelError, match=r"may run code.*convert-weights"):
        open_image_text_model(settings, "cpu")
    assert not (tmp_path / "was-run").exists()
