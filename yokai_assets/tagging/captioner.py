"""Captioners through transformers: one sentence per picture, without a prompt.

Tried with small networks of random weights: BLIP, GIT, BLIP-2 and vision-encoder-decoder. Chat models (LLaVA, Qwen-VL
and the like) need a prompt and are refused. What becomes of a sentence is decided in `yokai_assets.captioning`.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from yokai_assets.devices import halving_batches, has_native_bf16
from yokai_assets.embedding.model import fingerprint_of
from yokai_assets.storage.files import sha256_of_parts
from yokai_assets.tagging.locating import cannot_fetch, first_line, local_folder
from yokai_assets.tagging.reading import WHITE, ImageReader, ImageReading, TaggerError

if TYPE_CHECKING:
    import torch

CAPTIONER_VERSION = 1
"""Raise when sentences made by the same model and settings change."""

_LOG = logging.getLogger(__name__)
_SETTING = "captions.captioner"
_CONFIG = "config.json"
_PROBE_TOKENS = 2
_NOT_THE_MODELS_OWN = frozenset({"_name_or_path", "name_or_path", "transformers_version", "dtype", "torch_dtype"})
"""Keys of a configuration that say where and with what a model was saved, not what it is."""


def open_captioner(model: str, device: str, *, batch_size: int, max_new_tokens: int = 40) -> ImageReader:
    """Open a captioner. Decoding is greedy: the same pictures get the same sentences.

    Args:
        model: A folder as transformers saves it, or a hub id. BLIP and GIT are meant; any other image-to-text model
            that captions a picture without a prompt works too.
        device: `cpu` or `cuda:N`, as `resolve_device` returns it. A GPU computes in bfloat16, an old one in float16.
        batch_size: Pictures per call.
        max_new_tokens: Longest sentence, in tokens.

    Raises:
        TaggerError: No such folder, a hub out of reach, files that are damaged or incomplete, or a model that needs
            a prompt.
    """
    folder = local_folder(model, _SETTING, (_CONFIG,))
    processor, network = _load(model, folder)
    if any(getattr(part, "chat_template", None) for part in (processor, getattr(processor, "tokenizer", None))):
        raise TaggerError(
            f"{model}: this is a chat model, it captions nothing without a prompt. Set {_SETTING} to a captioner such "
            "as BLIP or GIT."
        )
    network.eval().requires_grad_(False)
    fingerprint = sha256_of_parts(
        CAPTIONER_VERSION, fingerprint_of(network, _description(network, processor), WHITE), max_new_tokens
    )
    reader = Captioner(
        network, processor, fingerprint=fingerprint, device=device, batch_size=batch_size, max_new_tokens=max_new_tokens
    )
    reader.check(model)
    return reader


class Captioner:
    """An image-to-text network of transformers.

    Attributes:
        fingerprint: sha256 over weights, configuration, preprocessing, vocabulary, `max_new_tokens` and
            `CAPTIONER_VERSION`. Equal on CPU and GPU and wherever the files lie.
    """

    def __init__(
        self, network: Any, processor: Any, *, fingerprint: str, device: str, batch_size: int, max_new_tokens: int
    ) -> None:
        self._dtype = _dtype(device)
        self._network = network.to(device, self._dtype)
        self._processor = processor
        self._device = device
        self._batch_size = batch_size
        self._max_new_tokens = max_new_tokens
        self.fingerprint = fingerprint

    def read(self, images: Sequence[Image.Image], /) -> list[ImageReading]:
        """Return a sentence for each of RGB pictures of any sizes; smaller batches where memory runs out."""
        parts = halving_batches(images, self._batch_size, lambda batch: self._texts(batch, self._max_new_tokens))
        return [ImageReading({}, _one_line(text)) for _, texts in parts for text in texts]

    def check(self, model: str) -> None:
        """Caption a white picture.

        Raises:
            TaggerError: The model cannot do it.
        """
        try:
            self._texts([Image.new("RGB", (64, 64), (WHITE, WHITE, WHITE))], _PROBE_TOKENS)
        except Exception as error:  # every architecture fails in its own way
            raise TaggerError(
                f"{model}: it cannot caption a picture without a prompt, or its preprocessing does not fit "
                f"({first_line(error)}). Set {_SETTING} to a captioner such as BLIP or GIT."
            ) from error

    def _texts(self, images: Sequence[Image.Image], max_new_tokens: int) -> list[str]:
        import torch

        pictures = [image.convert("RGB") for image in images]
        inputs = self._processor(images=pictures, return_tensors="pt").to(self._device, self._dtype)
        with torch.inference_mode():
            tokens = self._network.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False, num_beams=1)
        return self._processor.batch_decode(tokens, skip_special_tokens=True)


def _load(model: str, folder: Path | None) -> tuple[Any, Any]:
    if folder is None:
        processor, network, found = _load_from_hub(model)
    else:
        try:
            processor, network, found = _load_both(folder)
        except Exception as error:  # OSError, ValueError and safetensors' own
            raise TaggerError(
                f"{folder}: transformers cannot open this model ({first_line(error)}). It must be an image-to-text "
                "model with its processor and weights: fetch it again, in full."
            ) from error
    # transformers only warns of these, and goes on with random numbers in their place.
    parameters = dict(network.named_parameters())
    random = sorted(name for name in found["missing_keys"] if name in parameters and parameters[name].ndim > 1)
    if random:
        raise TaggerError(
            f"{model}: the weights lack {len(random)} of the network's matrices, e.g. {random[0]}. They are damaged or "
            "those of another model: fetch it again, in full."
        )
    return processor, network


def _load_from_hub(hub_id: str) -> tuple[Any, Any, dict[str, Any]]:
    from huggingface_hub import hf_hub_download

    try:
        # Asked without need, a hub that does not answer costs minutes, for every file once.
        return _load_both(hub_id, local_files_only=True)
    except Exception:  # whatever is amiss with the local copy, the hub is asked next
        _LOG.info("%s: not in the local model cache, or not in full; the hub is asked.", hub_id)
    try:
        hf_hub_download(hub_id, _CONFIG)
        return _load_both(hub_id)
    except Exception as error:  # the hub's own, httpx's and those of a damaged model
        raise cannot_fetch(hub_id, _SETTING, (), error) from error


def _load_both(source: str | Path, **options: Any) -> tuple[Any, Any, dict[str, Any]]:
    """Return processor, network with its weights as they are stored, and what transformers says of the weights."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(source, **options)
    loaded: Any = AutoModelForImageTextToText.from_pretrained(
        source, dtype="auto", use_safetensors=True, output_loading_info=True, **options
    )
    network, found = loaded
    return processor, network, found


def _description(network: Any, processor: Any) -> str:
    """Return what decides a sentence beside the weights, as text: configuration, preprocessing, vocabulary."""
    generation = getattr(network, "generation_config", None)
    tokenizer = getattr(processor, "tokenizer", None)
    parts = [
        type(network).__name__,
        _own(network.config.to_dict()),
        _own(generation.to_dict()) if generation else None,
        _own(processor.image_processor.to_dict()) if hasattr(processor, "image_processor") else None,
        [type(tokenizer).__name__, tokenizer.get_vocab()] if tokenizer else None,
    ]
    return sha256_of_parts(*parts)


def _own(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _own(item) for key, item in value.items() if key not in _NOT_THE_MODELS_OWN}
    return value


def _dtype(device: str) -> "torch.dtype":
    import torch

    if not device.startswith("cuda"):
        return torch.float32
    return torch.bfloat16 if has_native_bf16(device) else torch.float16


def _one_line(text: str) -> str | None:
    return " ".join(text.split()).rstrip(" .") or None
