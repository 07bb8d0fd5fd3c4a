"""What the GPUs are doing right now, by the driver's own `nvidia-smi`."""

import shutil
import subprocess
from dataclasses import dataclass

_FIELDS = "index,name,utilization.gpu,memory.used,memory.total"


@dataclass(frozen=True, slots=True)
class GpuUse:
    """One GPU: how busy (percent) and how full (MiB)."""

    index: int
    name: str
    busy_percent: int
    used_mib: int
    total_mib: int

    def __str__(self) -> str:
        return f"GPU {self.index} {self.name}: {self.busy_percent} %, {self.used_mib:,} of {self.total_mib:,} MiB"


def gpu_use() -> list[GpuUse]:
    """Return the use of every NVIDIA GPU; empty where there is none, or its driver does not answer in 5 seconds."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        answer = subprocess.run(
            [program, f"--query-gpu={_FIELDS}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return list(filter(None, map(parse_line, answer.stdout.splitlines())))


def parse_line(line: str) -> GpuUse | None:
    """Read a line of nvidia-smi's CSV; None where the driver cannot say a number (`[N/A]`)."""
    parts = [part.strip() for part in line.split(",")]
    try:
        index, name, busy, used, total = parts
        return GpuUse(int(index), name, int(busy), int(used), int(total))
    except ValueError:
        return None
