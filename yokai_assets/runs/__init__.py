"""What a `yokai run` leaves for others to read: that it holds the data root, how far it is, its log; asking it to stop.

Files in one folder beside the instance, no Dagster: `yokai status` answers at once, whatever else is alive.
"""

from yokai_assets.runs.gpu import GpuUse, gpu_use
from yokai_assets.runs.lock import RootBusyError, holding
from yokai_assets.runs.record import Failure, Running, RunRecord, Stage, StopMode
from yokai_assets.runs.room import RunRoom

__all__ = [
    "Failure",
    "GpuUse",
    "RootBusyError",
    "RunRecord",
    "RunRoom",
    "Running",
    "Stage",
    "StopMode",
    "gpu_use",
    "holding",
]
