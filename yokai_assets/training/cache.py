"""A content-keyed cache of small tensor groups: one safetensors file per key, whole or absent.

The key is a sha256 of everything the tensors depend on, so an entry is never stale; what it is made of is decided in
`encoding`. Files lie in 256 folders: a flat folder of a million files is slow everywhere. Any number of processes
may read and write at once: two that write one key write the same content.
"""

import logging
from typing import TYPE_CHECKING

from upath import UPath

from yokai_assets.storage.files import write_bytes

if TYPE_CHECKING:
    import torch

_LOG = logging.getLogger(__name__)


class TensorCache:
    """Tensors by content key under one folder.

    Attributes:
        hits: Entries found since this object was made.
        misses: Entries that had to be made.
    """

    def __init__(self, folder: UPath) -> None:
        self._folder = folder
        self.hits = 0
        self.misses = 0

    def path(self, key: str) -> UPath:
        """Return the file of a key."""
        return self._folder / key[:2] / f"{key}.safetensors"

    def get(self, key: str) -> "dict[str, torch.Tensor] | None":
        """Return an entry's tensors (on the CPU); None where it is absent or damaged."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        path = self.path(key)
        try:
            tensors = load(path.read_bytes())
        except FileNotFoundError:
            self.misses += 1
            return None
        except (SafetensorError, OSError) as error:
            _LOG.warning("%s: cache entry is damaged (%s) and is made again.", path, error)
            self.misses += 1
            return None
        self.hits += 1
        return tensors

    def put(self, key: str, tensors: "dict[str, torch.Tensor]") -> None:
        """Write an entry."""
        from safetensors.torch import save

        write_bytes(self.path(key), save({name: tensor.contiguous() for name, tensor in tensors.items()}))
