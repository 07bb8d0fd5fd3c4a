"""Which images a step trains on: a deterministic order, fair to every image, that can start at any step.

Buckets take turns in proportion to their images (stride scheduling, Waldspurger & Weihl 1995), and each bucket goes
through its images in a new order every pass. So every batch is full, images of one size, and after any number of
steps each image was seen equally often up to a batch: rare sizes are neither dropped nor trained more.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np


class BucketSampler:
    """Endless batches of image indices.

    Args:
        bucket_keys: The bucket of every image, by index; equal keys share batches. Keys must be sortable.
        batch_size: Images per batch; a bucket with fewer images repeats some in a batch.
        seed: Gives the orders.

    Raises:
        ValueError: There is no image, or the batch size is not positive.
    """

    def __init__(self, bucket_keys: Sequence[Hashable], batch_size: int, seed: int) -> None:
        if not bucket_keys or batch_size < 1:
            raise ValueError(f"need images and a positive batch size, got {len(bucket_keys)} and {batch_size}")
        keys = sorted(set(bucket_keys))  # pyright: ignore[reportArgumentType]
        self._buckets = [[i for i, key in enumerate(bucket_keys) if key == wanted] for wanted in keys]
        self._image_count = len(bucket_keys)
        self._batch_size = batch_size
        self._seed = seed
        self._step = 0
        self._taken = [0] * len(keys)

    def next_batch(self) -> list[int]:
        """Return the image indices of the next step."""
        lags = [
            len(bucket) * (self._step + 1) - taken * self._image_count
            for bucket, taken in zip(self._buckets, self._taken, strict=True)
        ]
        chosen = lags.index(max(lags))
        first = self._taken[chosen] * self._batch_size
        batch = [self._image_at(chosen, position) for position in range(first, first + self._batch_size)]
        self._taken[chosen] += 1
        self._step += 1
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Return the position, for `load_state_dict` of a sampler over the same images."""
        return {"step": self._step, "taken": list(self._taken)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a position.

        Raises:
            ValueError: The position is one of other buckets.
        """
        if len(state["taken"]) != len(self._taken) or sum(state["taken"]) != state["step"]:
            raise ValueError(f"a position in {len(state['taken'])} buckets, here are {len(self._taken)}")
        self._step, self._taken = int(state["step"]), [int(count) for count in state["taken"]]

    def _image_at(self, bucket_index: int, position: int) -> int:
        images = self._buckets[bucket_index]
        round_index, offset = divmod(position, len(images))
        order = np.random.default_rng([self._seed, bucket_index, round_index]).permutation(len(images))
        return images[order[offset]]
