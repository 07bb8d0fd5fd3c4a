"""The network that says how much of a pixel is character: any rembg model, or a local ONNX file.

Raw network output only. What counts as a character, and cutting it out, is decided in `instances`.

rembg is used for what it knows best, the weights and the exact preprocessing of each model, but not for its masks:
it stretches every mask to its own minimum and maximum, so that an empty frame gets a full mask too.
"""

import json
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from yokai_assets.devices import keeping_threads, onnx_session_options, placed_onnx_providers
from yokai_assets.frames.reader import decoder_threads
from yokai_assets.segmentation.normalization import preprocessing_of
from yokai_assets.settings.model import SegmentationSettings
from yokai_assets.storage.files import sha256_of_file, sha256_of_parts

MASK_VERSION = 1
"""Raise when masks or cut-outs made from the same network output and settings change."""

ISNET_MEAN = (0.485, 0.456, 0.406)
ISNET_STD = (1.0, 1.0, 1.0)

_LOG = logging.getLogger(__name__)
_NOT_A_MATTE = {
    "sam": "it needs a prompt for every frame",
    "u2net_cloth_seg": "it parses clothes instead of cutting out characters",
    "withoutbg": "it sends every frame to a remote service",
    "u2net_custom": "it is a form without weights",
    "dis_custom": "it is a form without weights",
    "ben_custom": "it is a form without weights",
}
_INPUT_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}


class MatteError(RuntimeError):
    """The matte cannot be opened; the message names the model, the reason and the remedy."""


class Matte(Protocol):
    """Something that tells characters from background."""

    @property
    def fingerprint(self) -> str:
        """The sha256 of whatever decides the masks: weights, preprocessing, settings, this code's version."""
        ...

    def raw(self, images: Sequence[Image.Image]) -> list[NDArray[np.float32]]:
        """Return the raw foreground probability of RGB images: float32 [height, width] each, 0-1, at frame size."""
        ...


class Preprocessing(BaseModel):
    """The JSON file beside an ONNX file: what the network wants to see."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    file: str | None = Field(None, description="Name of the ONNX file.")
    size_px: tuple[int, int] = Field(description="Width and height that frames are resized to (px).")
    mean: tuple[float, float, float] = Field(ISNET_MEAN, description="Subtracted, after division by the maximum.")
    std: tuple[float, float, float] = Field(ISNET_STD, description="Divided by.")


def open_matte(settings: SegmentationSettings, device: str) -> Matte:
    """Open the matte that the settings name.

    A rembg name is looked for where rembg keeps its models, and fetched by rembg when it is not there. `demo` is the
    bundled matte. Anything else is the path of an ONNX file with an input [N, 3, H, W] and a foreground probability
    or logit as first output; its size, mean and std are read from `<stem>.json` or `preprocessing.json` beside it;
    without one, the size is the graph's own or `model_size_px`, mean and std are those of ISNet (isnet-anime).

    Args:
        settings: Model name and the thresholds that become part of the fingerprint.
        device: A resolved device, `cpu` or `cuda:N`.

    Raises:
        MatteError: The name is unknown or no matte, weights are missing and cannot be fetched, or a file is damaged.
    """
    session, weights = open_session(settings, device)
    return OnnxMatte(session, weights, settings)


def open_session(settings: SegmentationSettings, device: str) -> tuple[Any, Path]:
    """Return the rembg session of the model that the settings name, and its weights; see `open_matte`."""
    with keeping_threads():
        from rembg.sessions import sessions

    name = settings.model
    if name in _NOT_A_MATTE:
        raise MatteError(
            f"segmentation.model `{name}` cannot be used: {_NOT_A_MATTE[name]}. "
            "Use `isnet-anime`, another rembg model, or the path of an ONNX file."
        )
    if name == "demo":
        from yokai_assets.demo.models import bundled_model

        return _open_file(bundled_model("matte") / "matte.onnx", settings, device)
    if name in sessions:
        return _open_rembg(name, device)
    return _open_file(_existing_file(name, sorted(set(sessions) - set(_NOT_A_MATTE))), settings, device)


def _existing_file(name: str, known: Sequence[str]) -> Path:
    path = Path(name).expanduser()
    if not path.is_file():
        raise MatteError(
            f"segmentation.model `{name}` is neither a file nor a model of rembg. "
            f"Give the path of an ONNX file, `demo`, or one of: {', '.join(known)}."
        )
    return path


def _open_rembg(name: str, device: str) -> tuple[Any, Path]:
    import rembg
    from rembg.sessions import sessions

    kind = sessions[name]
    try:
        session = rembg.new_session(name, sess_opts=onnx_session_options(), providers=placed_onnx_providers(device))
        return session, Path(kind.download_models())
    except Exception as error:  # pooch, urllib and onnxruntime each raise their own
        raise MatteError(
            f"segmentation.model `{name}`: its weights are not there and could not be fetched, or are damaged "
            f"({type(error).__name__}: {error}). Connect this machine once, or put `{name}.onnx` into "
            f"{kind.model_dir()}, or set segmentation.model to the path of an ONNX file, or to `demo`."
        ) from error


def _open_file(path: Path, settings: SegmentationSettings, device: str) -> tuple[Any, Path]:
    try:
        session = _file_session()(
            "file", onnx_session_options(), providers=placed_onnx_providers(device), model_path=str(path)
        )
    except Exception as error:
        raise MatteError(
            f"{path}: not a usable ONNX file ({type(error).__name__}: {error}). Download or export it again."
        ) from error
    session.preprocessing = _preprocessing_of(path, session.inner_session, settings)
    return session, path


def _preprocessing_of(path: Path, network: Any, settings: SegmentationSettings) -> Preprocessing:
    shape = network.get_inputs()[0].shape
    if len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3):
        raise MatteError(f"{path}: its input is {shape}, expected [N, 3, height, width]. Export it in that form.")
    for described in (path.with_suffix(".json"), path.with_name("preprocessing.json")):
        if described.is_file():
            try:
                return Preprocessing.model_validate(json.loads(described.read_text("utf-8")))
            except (ValueError, ValidationError) as error:
                raise MatteError(
                    f'{described}: not readable ({error}). Expected {{"size_px": [w, h], "mean": [..], "std": [..]}}.'
                ) from error
    height_px, width_px = (side if isinstance(side, int) else settings.model_size_px for side in shape[2:])
    return Preprocessing(file=path.name, size_px=(width_px, height_px), mean=ISNET_MEAN, std=ISNET_STD)


@lru_cache(maxsize=1)
def _file_session() -> type[Any]:
    """Return a rembg session class for an ONNX file anywhere on disk; rembg's own refuse paths outside its home."""
    from rembg.sessions.base import BaseSession

    class FileSession(BaseSession):
        preprocessing: Preprocessing

        def predict(self, img: Image.Image, *args: Any, **kwargs: Any) -> list[Image.Image]:  # noqa: ARG002
            wanted = self.preprocessing
            feeds = self.normalize(img, wanted.mean, wanted.std, wanted.size_px)
            output = np.asarray(self.inner_session.run(None, feeds)[0])
            mask = np.clip(output.reshape(output.shape[-2:]), 0, 1) * 255
            return [Image.fromarray(mask.astype(np.uint8)).resize(img.size, Image.Resampling.BILINEAR)]

        @classmethod
        def download_models(cls, *args: Any, **kwargs: Any) -> str:  # noqa: ARG003
            return kwargs["model_path"]

        @classmethod
        def name(cls, *args: Any, **kwargs: Any) -> str:  # noqa: ARG003
            return "file"

    return FileSession


class OnnxMatte:
    """A matte on ONNX Runtime: preprocessing by its rembg session, batches where the graph has them, raw output."""

    def __init__(self, session: Any, weights: Path, settings: SegmentationSettings) -> None:
        self._network = session.inner_session
        self._input = self._network.get_inputs()[0]
        self._output_name = self._network.get_outputs()[0].name
        self._has_batches = not isinstance(self._input.shape[0], int)
        probe = _probe_picture()
        self._preprocess = preprocessing_of(session, self._input.name, probe)
        feed = self._feed(probe)
        # rembg applies a sigmoid itself to the models that give logits.
        self._gives_logits = hasattr(session, "sigmoid") or _is_beyond_probability(self._run(feed))
        self._fingerprint = sha256_of_parts(
            MASK_VERSION,
            sha256_of_file(weights),
            # The input itself says what the preprocessing is, whatever the version of rembg.
            np.round(feed.astype(np.float64) * 1000).astype(np.int32).tobytes(),
            settings.model_dump(mode="json", exclude={"model", "model_size_px", "batch_size"}),
        )

    @property
    def fingerprint(self) -> str:
        """The sha256 of weights, preprocessing, thresholds and `MASK_VERSION`."""
        return self._fingerprint

    def raw(self, images: Sequence[Image.Image]) -> list[NDArray[np.float32]]:
        """Return the raw foreground probability of RGB images.

        Args:
            images: RGB, of any sizes.

        Returns:
            float32 [height, width] each, 0-1, scaled back to the image's size (bilinear).
        """
        if not images:
            return []
        with ThreadPoolExecutor(min(len(images), decoder_threads()), thread_name_prefix="matte") as pool:
            feeds = list(pool.map(self._feed, images))
            is_one_shape = len({feed.shape for feed in feeds}) == 1
            chunks = [np.concatenate(feeds)] if self._has_batches and is_one_shape else feeds
            outputs = [output for chunk in chunks for output in self._probabilities(chunk)]
            return list(pool.map(_at_size, outputs, [image.size for image in images]))

    def _feed(self, image: Image.Image) -> NDArray[Any]:
        return self._preprocess(image.convert("RGB")).astype(
            _INPUT_DTYPES.get(self._input.type, np.float32), copy=False
        )

    def _run(self, feed: NDArray[Any]) -> NDArray[np.float32]:
        output = np.asarray(self._network.run([self._output_name], {self._input.name: feed})[0], dtype=np.float32)
        return output[:, 0] if output.ndim == 4 else output

    def _probabilities(self, feed: NDArray[Any]) -> NDArray[np.float32]:
        output = self._run(feed)
        if not self._gives_logits and _is_beyond_probability(output):
            _LOG.warning(
                "The matte gives logits, which its first picture did not show; a sigmoid is applied from here."
            )
            self._gives_logits = True
        if self._gives_logits:
            output = 1.0 / (1.0 + np.exp(-np.clip(output, -30, 30)))
        return np.clip(output, 0.0, 1.0).astype(np.float32, copy=False)


def _probe_picture() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((256, 192), Image.Resampling.BICUBIC)


def _is_beyond_probability(output: NDArray[np.float32]) -> bool:
    return bool(output.min() < -0.05 or output.max() > 1.05)


def _at_size(probability: NDArray[np.float32], size_px: tuple[int, int]) -> NDArray[np.float32]:
    if probability.shape == (size_px[1], size_px[0]):
        return probability
    return np.array(Image.fromarray(probability).resize(size_px, Image.Resampling.BILINEAR), dtype=np.float32)
