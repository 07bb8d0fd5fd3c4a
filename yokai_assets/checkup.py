"""Examinations of a machine and its settings, one function each: what is there, what is missing, how to get it.

Dagster's side is `yokai_assets.defs.operations.health`; printing is `yokai_assets.cli.doctor`.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from packaging.requirements import Requirement
from upath import UPath

from yokai_assets.settings import Settings
from yokai_assets.storage.files import is_local

_DISTRIBUTION = "yokai-assets"
_LEAST_FREE_BYTES = 5 * 10**9
_PROBE_BYTES = 64 * 2**20
_SLOW_DISK_BYTES_PER_SECOND = 20e6

State = Literal["ok", "warning", "missing"]


class Doubt(Exception):  # noqa: N818
    """Something works, but not as well as it could; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What an examination came to.

    Attributes:
        name: What was looked at.
        state: `missing` stops a run, `warning` does not.
        words: What is there, or what is wrong and how to mend it.
    """

    name: str
    state: State
    words: str

    def to_json(self) -> dict[str, Any]:
        """Return the finding as JSON values."""
        return asdict(self)


Examination = tuple[str, Callable[[], str]]


def examined(examinations: Iterator[Examination]) -> Iterator[Finding]:
    """Yield what each examination comes to, one after the other."""
    for name, look in examinations:
        try:
            yield Finding(name, "ok", look())
        except Doubt as doubt:
            yield Finding(name, "warning", str(doubt).strip())
        except Exception as error:  # whatever is wrong is what the doctor is asked for
            yield Finding(name, "missing", str(error).strip() or type(error).__name__)


def examinations(settings: Settings) -> Iterator[Examination]:
    """Yield what can be looked at without Dagster; models are opened, which takes a while."""
    device = "cpu"

    def look_at_device() -> str:
        nonlocal device
        from yokai_assets.devices import resolve_device

        device = resolve_device(settings.device)
        return device

    yield "Python", look_at_python
    yield "packages", look_at_packages
    yield "device", look_at_device
    yield "GPU", lambda: look_at_gpu(device)
    yield "frames", lambda: look_at_frames(settings)
    yield "data root", lambda: look_at_data_root(settings)
    yield "disk", lambda: look_at_disk(settings)
    yield "matte", lambda: _matte(settings, device)
    yield "image-text model", lambda: _clip(settings, device)
    yield "base model", lambda: _base(settings, device)
    yield "optimizer", lambda: _optimizer(settings)


def look_at_python() -> str:
    """Return Python's version and where it is."""
    return f"{sys.version.split()[0]} ({sys.executable})"


def look_at_packages(distribution: str = _DISTRIBUTION) -> str:
    """Hold the installed packages against what the distribution asks for.

    Raises:
        ImportError: One is missing or of another version.
    """
    wanted = [Requirement(text) for text in requires(distribution) or []]
    wanted = [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    wrong = []
    for one in wanted:
        try:
            found = version(one.name)
        except PackageNotFoundError:
            wrong.append(f"{one} is not installed")
            continue
        if not one.specifier.contains(found, prereleases=True):
            wrong.append(f"{one} is wanted, {found} is installed")
    if wrong:
        raise ImportError(f"{'; '.join(wrong)}. Install them: pip install --upgrade {distribution}")
    shown = ", ".join(f"{name} {version(name)}" for name in ("dagster", "torch", "diffusers", "peft"))
    return f"{len(wanted)} as asked for ({shown})"


def look_at_gpu(device: str) -> str:
    """Return name, driver and memory of the GPU in use.

    Raises:
        Doubt: There is a GPU that torch or ONNX Runtime does not use, or none.
    """
    import onnxruntime
    import torch

    cards = _nvidia_smi()
    if device == "cpu":
        if cards:
            raise Doubt(
                f"{cards[0]} is there, but not used (torch {torch.__version__}, CUDA {torch.version.cuda or 'none'}). "
                'Set `device = "auto"`, or install a torch with CUDA that suits the driver.'
            )
        raise Doubt("none: everything runs on the CPU, which takes days for a series where a GPU takes hours")
    properties = torch.cuda.get_device_properties(device)
    name = cards[torch.device(device).index or 0] if cards else properties.name
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise Doubt(
            f"{name}; but cutting out runs on the CPU, for onnxruntime has no CUDA here. "
            "Remedy: pip uninstall onnxruntime && pip install onnxruntime-gpu"
        )
    return f"{name}, {properties.total_memory / 1e9:.0f} GB, CUDA {torch.version.cuda}"


def look_at_frames(settings: Settings) -> str:
    """Count the episodes in the source.

    Raises:
        FileNotFoundError: There is no source, or no episode in it.
    """
    from yokai_assets.frames.episodes import discover_episodes

    source = UPath(settings.frames_source)
    if not source.exists():
        raise FileNotFoundError(f"{source}: there is no such folder. Set `frames_source`.")
    episodes, problems = discover_episodes(source)
    if not episodes:
        raise FileNotFoundError(f"{source}: no episode found: neither folders of images nor videos.")
    return f"{len(episodes)} episodes in {source}" + (f", {len(problems)} problems" if problems else "")


def look_at_data_root(settings: Settings) -> str:
    """Write a file into the data root, read it and remove it.

    Raises:
        OSError: It cannot be written to.
    """
    root = UPath(settings.data_root)
    probe = root / f".yokai-doctor-{uuid4().hex}"
    had_root = root.exists()
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"yokai")
        is_whole = probe.read_bytes() == b"yokai"
        probe.unlink()
        if not had_root and is_local(root):
            Path(str(root)).rmdir()
    except Exception as error:
        raise OSError(f"{root}: cannot be written to ({error}). Set `data_root`, or mend its permissions.") from error
    if not is_whole:
        raise OSError(f"{root}: reads other bytes than were written. Is the disk sound?")
    return f"{root} can be written to"


def look_at_disk(settings: Settings) -> str:
    """Return free space and writing speed where the data root is, or will be.

    Raises:
        OSError: There is next to no space.
        Doubt: It is slow.
    """
    root = UPath(settings.data_root)
    if not is_local(root):
        return f"{root} is remote: not measured"
    there = Path(settings.data_root).expanduser().absolute()
    while not there.exists():
        there = there.parent
    free_bytes = shutil.disk_usage(there).free
    if free_bytes < _LEAST_FREE_BYTES:
        raise OSError(
            f"only {free_bytes / 1e9:.1f} GB free at {there}; a series wants tens of GB. Free some, or move "
            "`data_root`."
        )
    speed = _writing_speed(there)
    words = f"{free_bytes / 1e9:.0f} GB free at {there}, written at {speed / 1e6:.0f} MB/s"
    if speed < _SLOW_DISK_BYTES_PER_SECOND:
        raise Doubt(f"{words}: slow for a million frames. Put `data_root` on a faster disk if there is one.")
    return words


def _writing_speed(folder: Path) -> float:
    """Return bytes a second of one large file, down to the disk."""
    probe = folder / f".yokai-doctor-{uuid4().hex}"
    try:
        started = time.perf_counter()
        with probe.open("wb") as file:
            file.write(os.urandom(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
        return _PROBE_BYTES / (time.perf_counter() - started)
    finally:
        probe.unlink(missing_ok=True)


def _nvidia_smi() -> list[str]:
    """Return a line per NVIDIA GPU, with its driver, whether torch sees it or not."""
    if not (command := shutil.which("nvidia-smi")):
        return []
    asked = [command, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [", driver ".join(line.split(", ")) for line in answer.stdout.splitlines() if line]


def _matte(settings: Settings, device: str) -> str:
    from yokai_assets.segmentation.matte import open_matte

    return f"{settings.segmentation.model} ({open_matte(settings.segmentation, device).fingerprint[:12]})"


def _clip(settings: Settings, device: str) -> str:
    from yokai_assets.embedding.model import open_image_text_model

    model = open_image_text_model(settings.embedding, device)
    return f"{settings.embedding.model}, {model.dimension} dimensions ({model.fingerprint[:12]})"


def _base(settings: Settings, device: str) -> str:
    from yokai_assets.settings.presets import doubts, resolved
    from yokai_assets.training.base_model import open_base_model

    base = open_base_model(settings.training.base_model, device)
    image_count = settings.dataset.max_images
    hints = doubts(resolved(settings.training, base.family, base.native_px, image_count), base.native_px)
    if hints:
        raise Doubt("; ".join(f"{setting}: {advice}" for setting, advice in hints))
    return f"{settings.training.base_model}, {base.family}, {base.native_px} px ({base.fingerprint[:12]})"


def _optimizer(settings: Settings) -> str:
    from yokai_assets.training.optimizers import require_optimizer

    require_optimizer(settings.training)
    return settings.training.optimizer
