"""The image-text model: opened once per process, fingerprinted, batched.

Any open_clip model: an architecture with a pretrained tag or a local checkpoint, `hf-hub:`, `local-dir:`, or the
bundled `demo`. Which images are embedded is `instances`.
"""

import hashlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from yokai_assets.devices import halving_batches, has_native_bf16
from yokai_assets.settings.model import EmbeddingSettings
from yokai_assets.weights import PICKLED_SUFFIXES, is_pickled, pickled_only, refusal

if TYPE_CHECKING:
    import torch

CLIP_LOGIT_SCALE = 100.0
"""Largest factor that CLIP training allows (Radford et al. 2021, section 2.5), and where long training ends."""

_PREPROCESS_THREADS = 4
_OPEN_LOCK = threading.Lock()


class EmbeddingModelError(RuntimeError):
    """A model that cannot be opened or yields no usable vectors; the message says which and what to do."""


class ImageTextModel:
    """A model that puts images and texts into one space.

    Attributes:
        fingerprint: sha256 over the weights, the architecture, the preprocessing and the ground behind cut-outs.
            Equal on CPU and GPU and however the weights were obtained, so vectors are reused across machines.
        dimension: Width D of the vectors.
        logit_scale: Inverse temperature that the model was trained with: what a cosine of image and text is
            multiplied by before a softmax over texts. At most 100, as in CLIP.
        device: torch device it runs on.
    """

    def __init__(
        self,
        network: "torch.nn.Module",
        preprocess: Callable[[Image.Image], "torch.Tensor"],
        tokenize: Callable[[list[str]], "torch.Tensor"],
        *,
        fingerprint: str,
        device: str,
        batch_size: int,
    ) -> None:
        self._network = network
        self._preprocess = preprocess
        self._tokenize = tokenize
        self._batch_size = batch_size
        self.fingerprint = fingerprint
        self.device = device
        self.dimension = int(self._encode_texts(["a"]).shape[1])
        scale = getattr(network, "logit_scale", None)
        self.logit_scale = CLIP_LOGIT_SCALE if scale is None else min(float(scale.exp()), CLIP_LOGIT_SCALE)

    def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Return unit vectors float32 [N, D] of images of any size and mode, in smaller batches where memory runs out.

        Raises:
            EmbeddingModelError: The network yields vectors that are zero or not finite.
        """
        with ThreadPoolExecutor(_PREPROCESS_THREADS, thread_name_prefix="preprocess") as pool:
            parts = halving_batches(
                images, self._batch_size, lambda batch: self._encode_images(list(pool.map(self._preprocess, batch)))
            )
            return np.concatenate([np.empty((0, self.dimension), np.float32), *(vectors for _, vectors in parts)])

    def _encode_images(self, pictures: "list[torch.Tensor]") -> np.ndarray:
        import torch

        batch = torch.stack(pictures).to(self.device)
        with torch.inference_mode(), self._precision():
            return self._unit(self._network.encode_image(batch))  # pyright: ignore[reportCallIssue]

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit vectors float32 [N, D] of texts; what exceeds the model's context is cut off.

        Raises:
            EmbeddingModelError: The network yields vectors that are zero or not finite.
        """
        starts = range(0, len(texts), self._batch_size)
        parts = [self._encode_texts(list(texts[start : start + self._batch_size])) for start in starts]
        return np.concatenate([np.empty((0, self.dimension), np.float32), *parts])

    def _encode_texts(self, texts: list[str]) -> np.ndarray:
        import torch

        tokens = self._tokenize(texts).to(self.device)
        with torch.inference_mode(), self._precision():
            return self._unit(self._network.encode_text(tokens))  # pyright: ignore[reportCallIssue]

    def _precision(self) -> AbstractContextManager[Any]:
        import torch

        if not self.device.startswith("cuda"):
            return nullcontext()
        return torch.autocast("cuda", dtype=torch.bfloat16 if has_native_bf16(self.device) else torch.float16)

    def _unit(self, vectors: "torch.Tensor") -> np.ndarray:
        array = vectors.float().cpu().numpy()
        lengths = np.linalg.norm(array, axis=1, keepdims=True)
        if not np.isfinite(lengths).all() or (lengths == 0.0).any():
            raise EmbeddingModelError(
                f"embedding model {self.fingerprint[:12]}: it yields vectors that are zero or not finite. "
                "Its weights are damaged: fetch them again, or set `embedding.model` to another one."
            )
        return array / lengths


def open_image_text_model(settings: EmbeddingSettings, device: str) -> ImageTextModel:
    """Open the model that the settings name; the same settings give the same object in a process.

    Args:
        settings: Model, checkpoint, batch size, ground.
        device: `cpu` or `cuda:N`, as `resolve_device` returns it. A GPU computes in bfloat16, an old one in float16.

    Raises:
        EmbeddingModelError: Unknown model, weights that are missing or do not fit, a hub out of reach.
    """
    with _OPEN_LOCK:
        ground = (settings.neutral_grey, settings.context_share)
        return _open(settings.model, settings.pretrained, settings.batch_size, ground, device)


@lru_cache(maxsize=2)
def _open(
    model: str, pretrained: str | None, batch_size: int, ground: tuple[int, float], device: str
) -> ImageTextModel:
    import open_clip

    name, pretrained = _resolve(model, pretrained)
    try:
        # Unlike create_model_and_transforms, this one refuses to go on with random weights when a hub fails.
        loaded: Any = open_clip.create_model_from_pretrained(
            name, pretrained=pretrained, force_quick_gelu=_needs_quick_gelu(name, pretrained)
        )
        network, preprocess = loaded
        tokenizer = open_clip.get_tokenizer(name)
    except Exception as error:
        raise EmbeddingModelError(_cannot_open(name, pretrained, error)) from error
    network.eval().requires_grad_(False)
    fingerprint = fingerprint_of(network, preprocess, *ground)
    return ImageTextModel(
        network.to(device),
        preprocess,  # pyright: ignore[reportArgumentType]
        tokenizer,
        fingerprint=fingerprint,
        device=device,
        batch_size=batch_size,
    )


def fingerprint_of(
    network: "torch.nn.Module", preprocess: object, neutral_grey: int, context_share: float = 0.0
) -> str:
    """Return a sha256 over names, shapes and bytes of all weights, the preprocessing's text and the ground."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        flat = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {flat.dtype} {tuple(flat.shape)}".encode())
        digest.update(flat.reshape(-1).view(torch.uint8).numpy().data)
    steps = getattr(preprocess, "transforms", [preprocess])
    for step in steps:
        # Functions print their address, which differs from process to process: their name stands for them.
        digest.update(getattr(step, "__name__", repr(step)).encode())
    digest.update(f"square on grey {neutral_grey}".encode())
    if context_share > 0.0:
        digest.update(f" with {context_share} of the frame".encode())
    return digest.hexdigest()


def _resolve(model: str, pretrained: str | None) -> tuple[str, str | None]:
    """Return open_clip's name and tag; a model without weights is an error here, where the remedy is known."""
    if model == "demo":
        from yokai_assets.demo.models import bundled_model

        return f"local-dir:{bundled_model('clip')}", None
    if model.startswith("local-dir:"):
        _require_weights(Path(model.removeprefix("local-dir:")))
        return model, None
    if model.startswith("hf-hub:"):
        return model, None
    if pretrained is None:
        raise EmbeddingModelError(
            f"embedding.model = {model!r} is an architecture without weights. Set `embedding.pretrained` to a tag or "
            "to the path of a checkpoint."
        )
    if _looks_like_path(pretrained) and not Path(pretrained).expanduser().is_file():
        raise EmbeddingModelError(
            f"{pretrained}: no such checkpoint. Set `embedding.pretrained` to an existing file or to a tag."
        )
    if not _looks_like_path(pretrained):
        return model, pretrained
    path = Path(pretrained).expanduser()
    if is_pickled(path):
        raise EmbeddingModelError(refusal(path))
    return model, str(path)


def _require_weights(folder: Path) -> None:
    if not (folder / "open_clip_config.json").is_file():
        raise EmbeddingModelError(
            f"{folder}: no open_clip model folder (it has no open_clip_config.json). Give `embedding.model` the "
            "folder of a model saved for open_clip."
        )
    if pickled := pickled_only(folder):
        raise EmbeddingModelError(refusal(pickled[0]))
    if not any(file.suffix == ".safetensors" for file in folder.iterdir()):
        raise EmbeddingModelError(f"{folder}: no weights (*.safetensors) beside open_clip_config.json.")


def _looks_like_path(pretrained: str) -> bool:
    return "/" in pretrained or "\\" in pretrained or pretrained.endswith((*PICKLED_SUFFIXES, ".safetensors"))


def _needs_quick_gelu(name: str, pretrained: str | None) -> bool:
    """Say whether a tag was trained with QuickGELU though the architecture's name does not say so.

    open_clip only warns about it, and computes vectors that are slightly wrong.
    """
    from open_clip.pretrained import get_pretrained_cfg

    if pretrained is None or ":" in name:
        return False
    tag = get_pretrained_cfg(name, pretrained)
    return bool(tag and tag.get("quick_gelu", False))


def _cannot_open(name: str, pretrained: str | None, error: Exception) -> str:
    import open_clip

    what = f"embedding model {name!r}" + (f" with weights {pretrained!r}" if pretrained else "")
    reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
    if ":" not in name and name not in open_clip.list_models():
        return f"{what}: open_clip knows no such architecture. `open_clip.list_models()` lists them."
    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained and Path(pretrained).is_file():
        return (
            f"{what}: the checkpoint is damaged or of another architecture ({reason}). "
            "Fetch it again, or correct `embedding.model`."
        )
    if pretrained and pretrained not in tags:
        return f"{what}: no such tag for this architecture. Known: {', '.join(tags)}."
    return (
        f"{what}: it could not be opened ({reason}). Without a connection to its hub, fetch the weights on another "
        "machine and set `embedding.pretrained` to the file (or `embedding.model` to `local-dir:<folder>`)."
    )
