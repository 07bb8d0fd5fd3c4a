"""Settings of what stays on disk: layers, checkpoints, caches, and the room that is never used up."""

from typing import Literal

from pydantic import Field

from yokai_assets.settings.section import Section


class RetentionSettings(Section):
    """What is kept once it has done its work. As shipped, no layer and no checkpoint is ever removed."""

    layers: Literal["keep", "until_dataset", "budget_gb"] = Field(
        default="keep",
        description="Cut-outs of an episode: kept; removed once the training sets of all characters that are seen in "
        "it are made; or removed as soon and as far as all layers take more than `budget_gb`, those that nothing will "
        "read first. What later needs a removed layer makes it again.",
    )
    budget_gb: float = Field(
        default=100.0, gt=0, description="What the series' layers may take where `layers` is `budget_gb` (GB)."
    )
    plates: Literal["keep", "like_layers"] = Field(
        default="keep", description="Clean plates: kept, or treated like the cut-outs of their episode."
    )
    checkpoints_per_character: int | None = Field(
        default=None,
        ge=1,
        description="LoRA checkpoints kept of each evaluated character, best judged first; the chosen and the last "
        "one always stay, and so does every published LoRA. Unset: all.",
    )
    latents_budget_gb: float | None = Field(
        default=20.0, ge=0, description="What cached latents may take, oldest removed first (GB); unset: no limit."
    )
    texts_budget_gb: float | None = Field(
        default=20.0,
        ge=0,
        description="What cached text embeddings may take, oldest removed first (GB); unset: no limit.",
    )
    min_free_gb: float = Field(
        default=5.0,
        ge=0,
        description="Room that `yokai run` leaves on the data root's disk: below, it pauses (GB). Cutting out an "
        "episode that is started all the same, from the UI or by automation, fails below half of it.",
    )
