"""What a step says of an image: its caption, or the same tags in another order.

Text only; embeddings are `encoding`'s, when which order is drawn is `batches`'.
"""

import numpy as np

from yokai_assets.storage.files import sha256_of_parts

ORDERS = 6
"""Orders of one caption's tags at most: few enough to keep all their embeddings, enough to make position no cue."""
_SEPARATOR = ", "


def tag_orders(caption: str, kept_count: int) -> tuple[str, ...]:
    """Return a caption and up to `ORDERS - 1` others of its tags, none twice; the order given is the first.

    They depend on the caption alone, so that their embeddings can be kept from run to run.

    Args:
        caption: Tags between commas.
        kept_count: Tags at the front that stay there.
    """
    tags = [tag.strip() for tag in caption.split(",") if tag.strip()]
    kept, rest = tags[:kept_count], tags[kept_count:]
    if len(rest) < 2:
        return (caption,)
    rng = np.random.default_rng(int(sha256_of_parts(caption)[:16], 16))
    orders = [[rest[index] for index in rng.permutation(len(rest))] for _ in range(ORDERS - 1)]
    return tuple(dict.fromkeys([caption, *(_SEPARATOR.join([*kept, *order]) for order in orders)]))


def without_trigger(caption: str) -> str:
    """Return what a caption says besides the trigger word, its first tag."""
    return caption.partition(",")[2].strip()
