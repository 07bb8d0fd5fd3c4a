"""Taggers of the WD14 family: booru tags with their probabilities, off one ONNX network.

The files are those that SmilingWolf publishes (`wd-v1-4-*-tagger-v2`, `wd-*-tagger-v3`): `model.onnx` and
`selected_tags.csv`. Preprocessing is that of the author's own demo: a white square, bicubic, BGR, 0-255. Which tags
become part of a caption is decided in `yokai_assets.captioning`.
"""

import csv
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from yokai_assets.devices import halving_batches, onnx_session_options, placed_onnx_providers
from yokai_assets.storage.files import sha256_of_file, sha256_of_parts
from yokai_assets.tagging.locating import cannot_fetch, first_line, local_folder
from yokai_assets.tagging.reading import WHITE, ImageReader, ImageReading, TaggerError

TAGGER_VERSION = 1
"""Raise when readings made from the same files and settings change."""

KAOMOJI = frozenset(
    (
        "0_0", "(o)_(o)", "+_+", "+_-", "._.", "<o>_<o>", "<|>_<|>", "=_=", ">_<", "3_3", "6_9", ">_o", "@_@", "^_^",
        "o_o", "u_u", "x_x", "|_|", "||_||",
    )
)  # fmt: skip
"""Tags that are faces: their underscore is a mouth or a nose, not a space."""

_LOG = logging.getLogger(__name__)
_SETTING = "captions.tagger"
_MODEL, _TAGS = "model.onnx", "selected_tags.csv"
_GENERAL = 0
_PREPARE_THREADS = 4
_TOLERANCE = 1e-3


def open_booru_tagger(folder_or_hub_id: str, device: str, *, min_probability: float, batch_size: int) -> ImageReader:
    """Open a tagger of the WD14 family.

    Args:
        folder_or_hub_id: A folder with `model.onnx` (input [N, side, side, 3], BGR, 0-255; output [N, tags],
            probabilities) and `selected_tags.csv` (columns `name` and `category`, one row per output), or a hub id.
        device: `cpu` or `cuda:N`, as `resolve_device` returns it.
        min_probability: General tags are told from here on (0-1). Names of characters and ratings never are.
        batch_size: Pictures per network call, where the graph's first axis is free; else they go one by one.

    Raises:
        TaggerError: No such folder, a hub out of reach, files that are damaged, do not fit each other, or belong to
            another kind of model.
    """
    weights, tags = _files(folder_or_hub_id)
    return BooruTagger(weights, tags, device, min_probability=min_probability, batch_size=batch_size)


class BooruTagger:
    """A WD14-family network on ONNX Runtime.

    Attributes:
        fingerprint: sha256 over both files, the least probability and `TAGGER_VERSION`; equal on CPU and GPU.
    """

    def __init__(self, weights: Path, tags: Path, device: str, *, min_probability: float, batch_size: int) -> None:
        self._names = _general_names(tags)
        self._network = _open_network(weights, device)
        self._input = self._network.get_inputs()[0].name
        self._has_batches, self._side_px = _input_layout(weights, self._network.get_inputs())
        self._batch_size = batch_size if self._has_batches else 1
        self._min_probability = min_probability
        self._check_outputs(weights, tags)
        self.fingerprint = sha256_of_parts(
            TAGGER_VERSION, sha256_of_file(weights), sha256_of_file(tags), float(min_probability)
        )

    def read(self, images: Sequence[Image.Image], /) -> list[ImageReading]:
        """Return the general tags of RGB pictures of any sizes; smaller batches where memory runs out."""
        with ThreadPoolExecutor(_PREPARE_THREADS, thread_name_prefix="tagger") as pool:
            parts = halving_batches(
                images, self._batch_size, lambda batch: self._run(np.stack(list(pool.map(self._feed, batch))))
            )
            return [self._reading(row) for _, probabilities in parts for row in probabilities]

    def _feed(self, image: Image.Image) -> NDArray[np.float32]:
        """Return what the network sees: f32 [side, side, 3], BGR, 0-255."""
        side = max(image.size)
        square = Image.new("RGB", (side, side), (WHITE, WHITE, WHITE))
        square.paste(image.convert("RGB"), ((side - image.width) // 2, (side - image.height) // 2))
        if side != self._side_px:
            square = square.resize((self._side_px, self._side_px), Image.Resampling.BICUBIC)
        return np.asarray(square, np.float32)[..., ::-1]

    def _run(self, feed: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(self._network.run(None, {self._input: feed})[0], np.float32)

    def _reading(self, probabilities: NDArray[np.float32]) -> ImageReading:
        told = [
            (name, float(probability))
            for name, probability in zip(self._names, probabilities, strict=True)
            if name is not None and probability >= self._min_probability
        ]
        return ImageReading(dict(sorted(told, key=lambda tag: (-tag[1], tag[0]))))

    def _check_outputs(self, weights: Path, tags: Path) -> None:
        """Show the network a white picture: only so is it known how many outputs there are, and of what kind."""
        white = Image.new("RGB", (self._side_px, self._side_px), (WHITE, WHITE, WHITE))
        output = self._run(self._feed(white)[None])
        if output.shape != (1, len(self._names)):
            raise TaggerError(
                f"{tags}: it has {len(self._names)} tags, but {weights} gives {list(output.shape)} outputs for one "
                "picture. The two belong to different models: fetch both from the same place."
            )
        if not (output.min() >= -_TOLERANCE and output.max() <= 1 + _TOLERANCE):
            raise TaggerError(
                f"{weights}: its outputs lie between {output.min():.3g} and {output.max():.3g}, so they are no "
                "probabilities. Export the network with the sigmoid at its end."
            )


def _files(name: str) -> tuple[Path, Path]:
    folder = local_folder(name, _SETTING, (_MODEL, _TAGS))
    if folder is not None:
        return folder / _MODEL, folder / _TAGS
    try:
        return _from_hub(name, local_files_only=True)
    except Exception:  # whatever is amiss with the local copy, the hub is asked next
        _LOG.info("%s: not in the local model cache; the hub is asked.", name)
    try:
        return _from_hub(name)
    except Exception as error:  # the hub's own, httpx's and the file system's
        raise cannot_fetch(name, _SETTING, (_MODEL, _TAGS), error) from error


def _from_hub(hub_id: str, **options: Any) -> tuple[Path, Path]:
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(hub_id, _MODEL, **options)), Path(hf_hub_download(hub_id, _TAGS, **options))


def _general_names(path: Path) -> list[str | None]:
    """Return the name of every output as captions write it; None for what is no general tag."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [(row["name"], int(row["category"])) for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, ValueError, TypeError) as error:
        raise TaggerError(
            f"{path}: not a list of tags ({first_line(error)}). Expected columns tag_id, name, category, count, with "
            "numbers as categories: fetch it again, from where the model is from."
        ) from error
    return [_written(name) if category == _GENERAL else None for name, category in rows]


def _written(name: str) -> str:
    return name if name in KAOMOJI else name.replace("_", " ")


def _open_network(path: Path, device: str) -> Any:
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(str(path), onnx_session_options(), providers=placed_onnx_providers(device))
    except Exception as error:  # onnxruntime raises a dozen kinds of its own
        raise TaggerError(f"{path}: not a usable ONNX file ({first_line(error)}). Fetch it again, in full.") from error


def _input_layout(path: Path, inputs: Sequence[Any]) -> tuple[bool, int]:
    """Return whether the graph takes batches, and the side of the square that it sees (px)."""
    shape = list(inputs[0].shape)
    is_square = len(shape) == 4 and isinstance(shape[1], int) and shape[1] == shape[2] and shape[3] == 3
    has_batches = not isinstance(shape[0], int) if shape else False
    if len(inputs) != 1 or not is_square or not (has_batches or shape[0] == 1) or inputs[0].type != "tensor(float)":
        described = ", ".join(f"{one.type} {one.shape}" for one in inputs)
        raise TaggerError(
            f"{path}: its input is {described}, expected one tensor(float) [N, side, side, 3] (channels last). This "
            f"is no tagger of the WD14 family: set {_SETTING} to one."
        )
    return has_batches, int(shape[1])
