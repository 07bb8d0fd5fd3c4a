"""Publishing a LoRA: the chosen checkpoint under its final name, with all that a user of it needs.

Choosing belongs to `evaluation`, training headers to `training`. `publish_lora` is the way in.
"""

from yokai_assets.publishing.publish import PublicationState, PublishedLora, publish_lora
from yokai_assets.publishing.sidecar import PublicationRecord, Rejection, read_sidecar
from yokai_assets.training.safetensors_header import LoraFileError

__all__ = [
    "LoraFileError",
    "PublicationRecord",
    "PublicationState",
    "PublishedLora",
    "Rejection",
    "publish_lora",
    "read_sidecar",
]
