"""Captions of training images: a trigger word for what stays, tags for what changes.

Here belong trigger words, tags, their pruning and people's corrections. Which images are trained on is
`yokai_assets.datasets`.
"""

from yokai_assets.captioning.captions import caption_members
from yokai_assets.captioning.overrides import CaptionOverrides, OverridesError, read_overrides
from yokai_assets.captioning.trigger import trigger_word

__all__ = ["CaptionOverrides", "OverridesError", "caption_members", "read_overrides", "trigger_word"]
