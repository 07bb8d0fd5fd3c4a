"""Captions of training images: a trigger word for what stays, tags for what changes.

Here belong trigger words, tags, their pruning, people's corrections, and captions of anybody else. Which images are
trained on is `yokai_assets.datasets`.
"""

from yokai_assets.captioning.captions import caption_members, told_values
from yokai_assets.captioning.overrides import CaptionOverrides, OverridesError, overrides_fingerprint, read_overrides
from yokai_assets.captioning.strangers import stranger_captions
from yokai_assets.captioning.trigger import trigger_word

__all__ = [
    "CaptionOverrides",
    "OverridesError",
    "caption_members",
    "overrides_fingerprint",
    "read_overrides",
    "stranger_captions",
    "told_values",
    "trigger_word",
]
