"""People's corrections to captions: a TOML file per character that no run ever writes.

Reading and checking only; `captions` applies them.
"""

import tomllib

from pydantic import BaseModel, ConfigDict, ValidationError
from upath import UPath

from yokai_assets.storage.layout import Layout


class OverridesError(ValueError):
    """A file of corrections that cannot be used; the message names the file, the reason and the remedy."""


class CaptionOverrides(BaseModel):
    """Corrections to a character's captions.

    Attributes:
        blacklist: Tags that are never written.
        always: Tags that every caption gets, directly after the trigger.
        captions: instance_id -> tags of that image, comma-separated, in place of the automatic ones; the trigger
            stays in front, `always` and `blacklist` do not apply.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    blacklist: tuple[str, ...] = ()
    always: tuple[str, ...] = ()
    captions: dict[str, str] = {}


def overrides_path(layout: Layout, character_id: str) -> UPath:
    """Return where a character's corrections are looked for: `overrides/<series>/<character_id>/captions.toml`."""
    return layout.root / "overrides" / layout.series / character_id / "captions.toml"


def read_overrides(layout: Layout, character_id: str) -> CaptionOverrides:
    """Read a character's corrections; no file means none.

    Raises:
        OverridesError: The file is there and cannot be used: ignoring it would undo somebody's work in silence.
    """
    path = overrides_path(layout, character_id)
    if not path.exists():
        return CaptionOverrides()
    try:
        return CaptionOverrides.model_validate(tomllib.loads(path.read_bytes().decode("utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OverridesError(f"{path}: not valid TOML in UTF-8 ({error}). Correct it or remove the file.") from error
    except ValidationError as error:
        reasons = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5])
        raise OverridesError(
            f"{path}: {reasons}. Allowed are `blacklist` and `always` (lists of tags) and `[captions]` "
            '("<instance_id>" = "tag, tag").'
        ) from error
