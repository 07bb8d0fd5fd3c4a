"""Which device networks run on, said once for torch and ONNX Runtime; what it can do, and running out of its memory.

Choosing only; moving tensors belongs to the stages.
"""

import gc
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_OUT_OF_MEMORY_WORDS = (
    "out of memory",
    "failed to allocate memory",
    "can't allocate memory",
    "alloc_failed",
    "available memory of",
)

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
        "onnxruntime has no CUDA provider here, ONNX networks run on the CPU (10-20 times slower). "
        "Remedy: `pip uninstall onnxruntime && pip install onnxruntime-gpu`."
    )
    return ["CPUExecutionProvider"]


def placed_onnx_providers(device: str) -> list[Any]:
    """Return `onnx_providers` with the number of the GPU, as ONNX Runtime's sessions take them."""
    index = int(device.partition(":")[2] or 0)
    return [
        (provider, {"device_id": index}) if provider == "CUDAExecutionProvider" else provider
        for provider in onnx_providers(device)
    ]


def onnx_session_options() -> Any:
    """Give ONNX Runtime as many threads as torch has, so that one setting holds for both."""
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Spinning threads would take the cores from the threads that decode and encode meanwhile.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def limit_threads(cpu_threads: int) -> int:
    """Set torch's CPU threads; 0 means every core this process may use. Returns the number set.

    Called before anything else imports torch, it also makes waiting threads sleep: by default they spin, and on a
    machine that does anything else two threads were then 4 to 5 times slower than these (a small convolution, two
    busy cores).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = cpu_threads or available
    torch.set_num_threads(threads)
    return threads


@contextmanager
def keeping_threads() -> Iterator[None]:
    """Keep torch's CPU threads what they are over a block that loads what brings numba.

    Numba sets the threads of OpenMP for itself when it starts, and torch's are the same ones. What torch computes is
    then not bit for bit what it is in a process that had numba before.
    """
    import torch

    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def to_device(tensor: "torch.Tensor", device: str) -> "torch.Tensor":
    """Return a tensor of the CPU on a device; a GPU copies it from pinned memory, without being waited for."""
    # What is expanded has no memory of its own that could be pinned.
    return tensor if device == "cpu" else tensor.contiguous().pin_memory().to(device, non_blocking=True)


def has_native_bf16(device: str) -> bool:
    """Say whether a resolved device computes in bfloat16 itself; GPUs before Ampere only imitate it, slowly."""
    import torch

    if not device.startswith("cuda"):
        return False
    with torch.cuda.device(device):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def halving_batches(
    items: Sequence[_Item], batch_size: int, compute: Callable[[Sequence[_Item]], _Result]
) -> Iterator[tuple[Sequence[_Item], _Result]]:
    """Compute batch by batch; where memory runs out, with half the batch from there on.

    Args:
        items: What to compute, in order.
        batch_size: Items of a batch at most.
        compute: Computes one batch.

    Yields:
        Every batch and its result, in order.

    Raises:
        Exception: What `compute` raises, out of memory on a single item included.
    """
    size, done = max(1, batch_size), 0
    while done < len(items):
        batch = items[done : done + size]
        try:
            result = compute(batch)
        except Exception as error:
            if len(batch) == 1 or not is_out_of_memory(error):
                raise
            size = len(batch) // 2
            _LOG.warning("Out of memory with a batch of %d: going on with %d.", len(batch), size)
        else:
            yield batch, result
            done += len(batch)
            continue
        # Only here is the error gone, whose traceback holds the tensors.
        free_device_memory()


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether torch, ONNX Runtime or Python raised an error because memory ran out."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in _OUT_OF_MEMORY_WORDS)


def free_device_memory() -> None:
    """Give back GPU memory of what is gone; pipelines hold themselves in reference cycles."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
