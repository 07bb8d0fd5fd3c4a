"""People's corrections to captions: a TOML file per character that no run ever writes.

Reading, cleaning and checking only; `captions` applies them. docs/captions.md tells users how to write one.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from upath import UPath

from yokai_assets.storage.files import sha256_of_parts
from yokai_assets.storage.layout import Layout

_MIN_KEY_LENGTH = 16
_KEY = re.compile(rf"[0-9a-f]{{{_MIN_KEY_LENGTH},64}}")
_ERRORS_NAMED = 5


class OverridesError(ValueError):
    """A file of corrections that cannot be used; the message names the file, the reason and the remedy."""


def split_tags(text: object) -> object:
    """Split at commas (also full-width ones) into clean tags; what is no text is left for pydantic to refuse.

    Line breaks, control characters and runs of spaces become one space; empty and repeated tags go.
    """
    if isinstance(text, list) and all(isinstance(tag, str) for tag in text):
        text = ",".join(text)
    if not isinstance(text, str):
        return text
    printable = "".join(character if character.isprintable() else " " for character in text)
    tags = (" ".join(tag.split()) for tag in re.split("[,，]", printable))
    unlike: dict[str, str] = {}
    for tag in tags:
        if tag:
            unlike.setdefault(tag.casefold(), tag)
    return tuple(unlike.values())


def _some_tags(tags: tuple[str, ...]) -> tuple[str, ...]:
    if not tags:
        raise ValueError("holds no tag. Write at least one, or remove the line")
    return tags


_Tags = Annotated[tuple[str, ...], BeforeValidator(split_tags), AfterValidator(_some_tags)]


def _clean(text: object) -> object:
    if not isinstance(text, str):
        return text
    if "," in text or "，" in text:
        raise ValueError("is one word or name, without a comma")
    return " ".join(text.split())


class CaptionOverrides(BaseModel):
    """Corrections to a character's captions.

    Attributes:
        trigger: Trigger word in place of the made-up one.
        blacklist: Tags that are never written; each entry may hold several, comma-separated.
        always: Tags that every caption gets, directly after the trigger; likewise.
        captions: `cutout_sha256` of a picture, or at least its first 16 characters -> its tags, comma-separated in
            the file, in place of the automatic ones; the trigger stays in front, `always` and `blacklist` do not apply.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    trigger: Annotated[str, BeforeValidator(_clean), Field(min_length=2, max_length=60)] | None = None
    blacklist: tuple[_Tags, ...] = ()
    always: tuple[_Tags, ...] = ()
    captions: dict[str, _Tags] = {}

    def key_of(self, cutout_sha256: str) -> str | None:
        """Return the key in `captions` that means this picture; None where there is none."""
        lengths = {len(key) for key in self.captions}
        return next((key for n in lengths if (key := cutout_sha256[:n]) in self.captions), None)


def overrides_path(layout: Layout, character_id: str) -> UPath:
    """Return where a character's corrections are looked for: `overrides/<series>/<character_id>/captions.toml`."""
    return layout.overrides(character_id) / "captions.toml"


def overrides_fingerprint(layout: Layout, character_id: str) -> str:
    """Return a hash of a character's file of corrections as it is now; no file has one, too."""
    path = overrides_path(layout, character_id)
    return sha256_of_parts(path.read_bytes() if path.exists() else b"")[:32]


def read_overrides(
    layout: Layout, character_id: str, sha256_of: Mapping[str, str | None] | None = None
) -> CaptionOverrides:
    """Read a character's corrections; no file means none.

    Args:
        layout: Where they lie.
        character_id: Whose.
        sha256_of: instance_id -> cutout_sha256, to name the right key to whoever wrote an instance_id.

    Raises:
        OverridesError: The file is there and cannot be used: ignoring it would undo somebody's work in silence.
    """
    path = overrides_path(layout, character_id)
    if not path.exists():
        return CaptionOverrides()
    try:
        text = path.read_bytes().decode("utf-8-sig")
        found = CaptionOverrides.model_validate(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OverridesError(f"{path}: not valid TOML in UTF-8 ({error}). Correct it or remove the file.") from error
    except ValidationError as error:
        reasons = (_reason(text, e["loc"], e["msg"].removeprefix("Value error, ")) for e in error.errors())
        raise _refused(path, reasons) from error
    bad = [key for key in found.captions if not _KEY.fullmatch(key)]
    if bad:
        raise _refused(path, (_reason(text, ("captions", key), _key_problem(key, sha256_of or {})) for key in bad))
    return found


def _key_problem(key: str, sha256_of: Mapping[str, str | None]) -> str:
    if "/" in key:
        known = sha256_of.get(key)
        own = f'"{known[:_MIN_KEY_LENGTH]}"' if known else "as in `metadata.jsonl` beside the training images"
        return (
            "is a place in a frame, where another picture may be after the next segmentation. "
            f"Write the cutout_sha256 of the picture instead: {own}"
        )
    return f"is no cutout_sha256: at least {_MIN_KEY_LENGTH} of the digits 0-9 and a-f, as in `metadata.jsonl`"


def _reason(text: str, location: tuple[int | str, ...], problem: str) -> str:
    """Return line, place and problem; TOML readers do not keep lines, so the key is looked for."""
    name = str([*location][1 if location[0] == "captions" and len(location) > 1 else 0])
    line = next((n for n, line in enumerate(text.splitlines(), start=1) if name in line), None)
    place = ".".join(str(part + 1) if isinstance(part, int) else part for part in location)
    return f"{f'line {line}: ' if line else ''}{place}: {problem}"


def _refused(path: UPath, reasons: Iterable[str]) -> OverridesError:
    some = list(reasons)
    more = f"; and {len(some) - _ERRORS_NAMED} more" if len(some) > _ERRORS_NAMED else ""
    return OverridesError(
        f"{path}: {'; '.join(some[:_ERRORS_NAMED])}{more}. Allowed are `trigger` (a word), `blacklist` and `always` "
        '(lists of tags) and `[captions]` ("<cutout_sha256>" = "tag, tag").'
    )
