"""What all sections of the settings share: their base, and bounded types."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

_PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]+@")


def has_password(url: str) -> bool:
    """Say whether a URL holds a password, as `ftp://user:password@host/folder` does."""
    return _PASSWORD.search(url) is not None


def _without_password(place: str) -> str:
    if has_password(place):
        raise ValueError(
            "holds a password, which would stand in logs and records. Leave it out, and give it by the environment "
            "or fsspec's configuration (~/.config/fsspec/conf.json)"
        )
    return place


Place = Annotated[str, Field(min_length=1), AfterValidator(_without_password)]
Slug = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
LoraWeight = Annotated[float, Field(gt=0.0, le=2.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Section(BaseModel):
    """A part of the settings: immutable, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)
