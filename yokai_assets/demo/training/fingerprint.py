"""Names for caches of rendered training data, so that data of other drawings is never taken for today's.

Not here: the caches.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def samples_fingerprint(samples: Iterable[tuple[NDArray[np.uint8], object]]) -> str:
    """First 12 digits of the sha256 of a few rendered pictures and of what is said of them (anything JSON holds)."""
    digest = hashlib.sha256()
    for picture, facts in samples:
        digest.update(np.ascontiguousarray(picture).tobytes() + json.dumps(facts).encode())
    return digest.hexdigest()[:12]
