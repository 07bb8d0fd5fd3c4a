"""Which device networks run on, said once for torch and ONNX Runtime.

Choosing only; moving tensors belongs to the stages.
"""

import logging
import os

_LOG = logging.getLogger(__name__)


class DeviceError(RuntimeError):
    """The device asked for is not there; the message says what is and what to do."""


def resolve_device(name: str) -> str:
    """Turn a `device` setting into a torch device string.

    Args:
        name: `auto`, `cpu`, `cuda` or `cuda:N`.

    Returns:
        `cpu` or `cuda:N`.

    Raises:
        DeviceError: A GPU is asked for by name and torch sees none of that number.
    """
    import torch

    if name == "cpu":
        return "cpu"
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return "cuda:0" if count else "cpu"
    index = int(name.partition(":")[2] or 0)
    if index >= count:
        raise DeviceError(
            f"device `{name}`: torch sees {count} CUDA device(s). "
            "Use `--device cpu` or `auto`, or check the driver with `yokai doctor`."
        )
    return f"cuda:{index}"


def onnx_providers(device: str) -> list[str]:
    """Return ONNX Runtime providers for a resolved device; a missing CUDA provider is logged, not hidden."""
    import onnxruntime

    if device == "cpu":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]
    _LOG.warning(
        "onnxruntime has no CUDA provider here, segmentation runs on the CPU (10-20 times slower). "
        "Remedy: `pip uninstall onnxruntime && pip install onnxruntime-gpu`."
    )
    return ["CPUExecutionProvider"]


def limit_threads(cpu_threads: int) -> int:
    """Set torch's CPU threads; 0 means every core this process may use. Returns the number set."""
    import torch

    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = cpu_threads or available
    torch.set_num_threads(threads)
    return threads
