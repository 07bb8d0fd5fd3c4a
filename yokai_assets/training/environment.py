"""Where a training ran: what its bits depend on beside its inputs, and how much memory it took.

Reported only; nothing is decided here.
"""

import sys
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Environment:
    """Device, threads and library version.

    Attributes:
        device: Name of the GPU, or `cpu`.
        thread_count: torch's CPU threads.
        torch_version: Version of torch.
    """

    device: str
    thread_count: int
    torch_version: str

    @classmethod
    def of(cls, device: str) -> "Environment":
        """Return the environment of this process on a device."""
        import torch

        name = "cpu" if device == "cpu" else torch.cuda.get_device_name(device)
        return cls(name, torch.get_num_threads(), str(torch.__version__))

    def differences(self, saved: dict[str, Any]) -> list[str]:
        """Say in words what changed since a saved environment."""
        return [
            f"{name.replace('_', ' ')} was {saved.get(name)} and is {value}"
            for name, value in self.to_json().items()
            if saved.get(name) != value
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the environment as JSON values."""
        return asdict(self)


def reset_peak_memory(device: str) -> None:
    """Start measuring the GPU's peak memory; on a CPU the peak is the process's."""
    if device != "cpu":
        import torch

        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_bytes(device: str) -> int:
    """Return the largest GPU memory allocated since the reset, or the process's largest resident size."""
    if device != "cpu":
        import torch

        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)  # pyright: ignore[reportAttributeAccessIssue]
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def memory_words(device: str) -> str:
    """Return how full a GPU is, in words to put behind a message; empty on a CPU."""
    if device == "cpu":
        return ""
    import torch

    gib = 2**30
    free, total = torch.cuda.mem_get_info(device)
    allocated = torch.cuda.memory_allocated(device)
    return f" ({allocated / gib:.1f} GiB ours, {free / gib:.1f} of {total / gib:.1f} GiB free)"
