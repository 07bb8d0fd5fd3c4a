"""Files of weights that may run code when they are opened (pickles): refused everywhere, and how to convert them.

Models are read as safetensors or ONNX. Converting goes through torch's restricted unpickler, which makes tensors and
nothing else. Not here: loading models, which belongs to the stages.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yokai_assets.storage.files import whole_file

PICKLED_SUFFIXES = (".ckpt", ".pt", ".pth", ".bin", ".pkl", ".pickle")


class WeightsError(RuntimeError):
    """A file of weights is not opened, or cannot be converted; the message says why and what to do."""


def is_pickled(path: Path) -> bool:
    """Say whether a file is of a kind that may run code when it is opened, by its suffix."""
    return path.suffix.lower() in PICKLED_SUFFIXES


def pickled_only(folder: Path) -> list[Path]:
    """Return the pickled weights of a model's folder, if it holds no safetensors to be read instead."""
    files = sorted(file for file in folder.iterdir() if file.is_file()) if folder.is_dir() else []
    return [] if any(file.suffix == ".safetensors" for file in files) else [file for file in files if is_pickled(file)]


def refusal(path: Path) -> str:
    """Say why a pickled file is not opened, with the command that converts it."""
    target = path.with_suffix(".safetensors")
    return (
        f"{path}: a {path.suffix} file may run code when it is opened, so only .safetensors is read. "
        f"Convert it: yokai convert-weights '{path}' '{target}'"
    )


def convert_weights(source: Path, target: Path) -> int:
    """Write the tensors of a pickled file as safetensors, whole or not at all; return how many there are.

    Tensors that share memory are written apart. What is no tensor (step counts, settings) is left out.

    Raises:
        WeightsError: The file holds something else than tensors and plain values, none at all, or is damaged.
    """
    import pickle

    import torch
    from safetensors.torch import save_file

    if target.suffix != ".safetensors" or target.exists():
        raise WeightsError(f"{target}: choose a new name that ends in .safetensors.")
    try:
        loaded = torch.load(source, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
        raise WeightsError(
            f"{source}: not converted, for it is damaged or holds more than tensors ({str(error).splitlines()[0]}). "
            "Get the model as .safetensors from its makers."
        ) from error
    found = _tensors(loaded)
    if not found:
        raise WeightsError(f"{source}: no tensors by name in it. Is it a checkpoint?")
    with whole_file(target) as temporary:
        save_file({name: tensor.detach().clone().contiguous() for name, tensor in found.items()}, str(temporary))
    return len(found)


def _tensors(loaded: Any) -> dict[str, Any]:
    import torch

    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping):
        return {}
    return {str(name): value for name, value in loaded.items() if isinstance(value, torch.Tensor)}
