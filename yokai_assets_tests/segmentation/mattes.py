"""Mattes for tests: one that knows characters by their colour, in Python and as a tiny ONNX network."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CHARACTER = (255, 0, 255)


class ColourMatte:
    """Sees magenta as character; counts what it is shown."""

    def __init__(self, fingerprint: str = "colour") -> None:
        self.fingerprint = fingerprint
        self.seen = 0

    def raw(self, images: Sequence[Image.Image]) -> list[NDArray[np.float32]]:
        self.seen += len(images)
        return [probability(image) for image in images]


def probability(image: Image.Image) -> NDArray[np.float32]:
    rgb = np.asarray(image).astype(np.float32) / 255
    score = 20 * (rgb[..., 0] + rgb[..., 2] - 2 * rgb[..., 1]) - 24
    return (1 / (1 + np.exp(-np.clip(score, -30, 30)))).astype(np.float32)


def write_colour_network(
    path: Path, *, batch: int | str = "batch", sides: tuple[int | str, int | str] = ("h", "w"), has_sigmoid: bool = True
) -> Path:
    """The same as an ONNX file: a 1x1 convolution (opset 17)."""
    from onnx import TensorProto, helper, save

    nodes = [helper.make_node("Conv", ["image", "weight", "bias"], ["logits"])]
    if has_sigmoid:
        nodes.append(helper.make_node("Sigmoid", ["logits"], ["foreground"]))
    graph = helper.make_graph(
        nodes,
        "colour",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, *sides])],
        [
            helper.make_tensor_value_info(
                "foreground" if has_sigmoid else "logits", TensorProto.FLOAT, [batch, 1, *sides]
            )
        ],
        [
            helper.make_tensor("weight", TensorProto.FLOAT, [1, 3, 1, 1], [20.0, -40.0, 20.0]),
            helper.make_tensor("bias", TensorProto.FLOAT, [1], [-24.0]),
        ],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def describe(path: Path, size_px: tuple[int, int] = (160, 96)) -> Path:
    """The JSON beside it, that leaves colours as they are."""
    described = path.with_suffix(".json")
    described.write_text(json.dumps({"file": path.name, "size_px": size_px, "mean": [0, 0, 0], "std": [1, 1, 1]}))
    return described
