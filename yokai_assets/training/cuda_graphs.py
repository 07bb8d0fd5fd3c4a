"""Passes of a network recorded as CUDA graphs: what a GPU is told in thousands of launches is told in one.

A step of a small batch keeps the CPU busy with launching kernels while the GPU waits for them. Here: recording and
replaying a function of tensors. Not here: what is computed (`loop`).
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from yokai_assets.devices import free_device_memory

if TYPE_CHECKING:
    import torch

_LOG = logging.getLogger(__name__)
_PLAIN_CALLS = 2
"""Calls of a shape before it is recorded: libraries settle on their kernels and compilers compile meanwhile, and rare
shapes are not worth a recording."""

Key = tuple[tuple[str, tuple[int, ...], "torch.dtype"], ...]


@dataclass(frozen=True, slots=True)
class _Recording:
    """A graph, and the tensors that it reads and writes."""

    graph: Any
    inputs: "dict[str, torch.Tensor]"
    result: "torch.Tensor"


class GraphMemory:
    """Memory that recordings share: they never run at the same time, and each writes all of what it reads anew.

    Attributes:
        stream: Where all of them, and the plain calls before them, run.
    """

    def __init__(self, device: str) -> None:
        import torch

        self.device = device
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    @contextmanager
    def recording(self, graph: Any) -> Iterator[None]:
        """Record into a graph what is called meanwhile; where that fails, leave torch as it was before."""
        import torch

        try:
            with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
                yield
        except Exception:
            # A recording that the driver refuses is never ended on torch's side: from then on its allocator frees
            # nothing and its random generator raises. Ending it is not public; where a torch has no such function,
            # or it did end, there is nothing to do.
            index = torch.device(self.device).index or 0
            with suppress(AttributeError, RuntimeError):
                torch._C._cuda_endAllocateToPool(index, self.pool)  # pyright: ignore[reportAttributeAccessIssue]
            with suppress(AttributeError, RuntimeError):
                # No training draws from it; it must only work again.
                torch.cuda.default_generators[index].graphsafe_set_state(torch.Generator(self.device))
            raise


class RecordedPass:
    """A function of tensors, recorded per shape of its inputs and replayed from then on; the numbers stay the same.

    The function must not wait for the GPU, nor draw random numbers, and whatever else it reads or writes (weights,
    gradients) must stay where it is. A recording that fails, also for want of memory, is no failure: the function is
    called plainly from then on.

    Attributes:
        trouble: Why nothing is recorded any more, in words; None while all is well.
    """

    def __init__(self, function: "Callable[..., torch.Tensor]", memory: GraphMemory) -> None:
        self._function, self._memory = function, memory
        self._calls: Counter[Key] = Counter()
        self._recordings: dict[Key, _Recording] = {}
        self.trouble: str | None = None

    def __call__(self, inputs: "Mapping[str, torch.Tensor]") -> "torch.Tensor":
        """Return what the function makes of tensors that are on the device.

        Raises:
            torch.OutOfMemoryError: The memory does not suffice for a plain call.
        """
        key: Key = tuple((name, tuple(tensor.shape), tensor.dtype) for name, tensor in inputs.items())
        self._calls[key] += 1
        if key not in self._recordings and self.trouble is None and self._calls[key] > _PLAIN_CALLS:
            self._record(key, inputs)
        recording = self._recordings.get(key)
        return self._plain(inputs) if recording is None else self._replayed(recording, inputs)

    def forget(self) -> None:
        """Drop all recordings and their memory."""
        self._recordings.clear()
        self._calls.clear()

    def _plain(self, inputs: "Mapping[str, torch.Tensor]") -> "torch.Tensor":
        import torch

        stream, outer = self._memory.stream, torch.cuda.current_stream(self._memory.device)
        stream.wait_stream(outer)
        with torch.cuda.stream(stream):
            result = self._function(**inputs)
        outer.wait_stream(stream)
        return result

    def _replayed(self, recording: _Recording, inputs: "Mapping[str, torch.Tensor]") -> "torch.Tensor":
        for name, tensor in inputs.items():
            recording.inputs[name].copy_(tensor)
        recording.graph.replay()
        # The next replay writes over it.
        return recording.result.clone()

    def _record(self, key: Key, inputs: "Mapping[str, torch.Tensor]") -> None:
        """Record the function for a shape; nothing is computed meanwhile."""
        import torch

        graph = torch.cuda.CUDAGraph()
        own = {name: tensor.detach().clone() for name, tensor in inputs.items()}
        try:
            with self._memory.recording(graph):
                result = self._function(**own)
        except Exception as error:
            self.trouble = f"steps cannot be recorded as CUDA graphs ({str(error).partition(chr(10))[0]})"
            _LOG.warning("%s; they are launched one by one, which is slower and changes nothing else.", self.trouble)
        if self.trouble:
            # Only here is the error gone, whose traceback holds the tensors.
            self.forget()
            free_device_memory()
            return
        self._recordings[key] = _Recording(graph, own, result)
