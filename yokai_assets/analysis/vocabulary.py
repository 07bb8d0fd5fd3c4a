"""The words that characters are described with: attributes, their values, prompts and tags, from a TOML file.

Only the words and their checks. Reading them off images is `zero_shot`; their use in captions is
`yokai_assets.captioning`. The shipped files in `vocabularies/` may be copied and edited.
"""

import hashlib
import tomllib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

_SHIPPED = resources.files("yokai_assets.analysis") / "vocabularies"


class VocabularyError(ValueError):
    """A vocabulary that cannot be used; the message names the file, the reason and the remedy."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AttributeValue(_Part):
    """One value of an attribute.

    Attributes:
        name: What the value is called in profiles.
        phrases: Wordings, each put into every template of the attribute.
        tag: What captions say; empty: this value is not worth a word (e.g. "no glasses").
    """

    name: str = Field(min_length=1)
    phrases: tuple[str, ...] = Field(min_length=1)
    tag: str


class Attribute(_Part):
    """One attribute: a question with exclusive answers.

    Attributes:
        name: Identifier, e.g. `hair_colour`.
        title: Name for people.
        kind: `identity` for what belongs to the character (captions leave it to the trigger word where it is
            constant), `varying` for what changes from image to image (captions always say it).
        templates: Sentences with `{}` where a phrase goes.
        values: At least two, each with a name of its own.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    title: str
    kind: Literal["identity", "varying"]
    templates: tuple[str, ...] = Field(min_length=1)
    values: tuple[AttributeValue, ...] = Field(min_length=2)

    @property
    def is_identity(self) -> bool:
        """Whether the attribute belongs to the character rather than to the image."""
        return self.kind == "identity"

    def prompts(self, value: AttributeValue) -> list[str]:
        """Return every wording of a value: its phrases in the attribute's templates."""
        return [template.replace("{}", phrase) for template in self.templates for phrase in value.phrases]

    @model_validator(mode="after")
    def _templates_take_a_phrase(self) -> "Attribute":
        lame = [template for template in self.templates if template.count("{}") != 1]
        if lame:
            raise ValueError(f"attribute `{self.name}`: templates need exactly one {{}}: {lame}")
        return self


class Vocabulary(_Part):
    """All attributes, in the order in which profiles show them."""

    name: str
    description: str = ""
    attributes: tuple[Attribute, ...] = Field(min_length=1)

    @property
    def fingerprint(self) -> str:
        """Sha256 (hex) of the content: changes when any word does."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def attribute(self, name: str) -> Attribute:
        """Return the attribute of that name.

        Raises:
            KeyError: There is none.
        """
        for attribute in self.attributes:
            if attribute.name == name:
                return attribute
        raise KeyError(f"vocabulary `{self.name}` has no attribute `{name}`")

    @model_validator(mode="after")
    def _tags_are_told_apart(self) -> "Vocabulary":
        owners: dict[str, str] = {}
        for attribute in self.attributes:
            for value in attribute.values:
                owner = owners.setdefault(value.tag, attribute.name)
                if value.tag and owner != attribute.name:
                    raise ValueError(f"tag `{value.tag}` belongs to both `{owner}` and `{attribute.name}`")
        return self


def shipped_vocabularies() -> list[str]:
    """Return the names of the vocabularies that come with the package."""
    return sorted(file.name.removesuffix(".toml") for file in _SHIPPED.iterdir() if file.name.endswith(".toml"))


def load_vocabulary(name_or_path: str) -> Vocabulary:
    """Read a vocabulary.

    Args:
        name_or_path: A shipped one (`anime`, `creatures`), or the path of a TOML file of the same form.

    Raises:
        VocabularyError: There is no such file, or it is not a usable vocabulary.
    """
    if name_or_path in shipped_vocabularies():
        return _parse(name_or_path, (_SHIPPED / f"{name_or_path}.toml").read_text("utf-8"))
    path = Path(name_or_path)
    if not path.is_file():
        raise VocabularyError(
            f"{name_or_path}: neither a shipped vocabulary ({', '.join(shipped_vocabularies())}) nor a file. "
            "Set `analysis.vocabulary` to one of these or to the path of a TOML file."
        )
    try:
        return _parse(str(path), path.read_text("utf-8"))
    except UnicodeDecodeError as error:
        raise VocabularyError(f"{path}: not UTF-8 text ({error}). Save the file as UTF-8.") from error


@cache
def _parse(source: str, text: str) -> Vocabulary:
    try:
        raw = tomllib.loads(text)
        return Vocabulary.model_validate(_with_names(raw))
    except tomllib.TOMLDecodeError as error:
        raise VocabularyError(f"{source}: not valid TOML ({error}). Correct that line.") from error
    except ValidationError as error:
        reasons = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5])
        raise VocabularyError(
            f"{source}: not a vocabulary ({reasons}). Compare it with the shipped `anime.toml`."
        ) from error


def _with_names(raw: dict) -> dict:
    """Turn the file's short form (tables keyed by name, a string for a single phrase) into full fields."""
    default_templates = raw.pop("templates", ["{}"])
    attributes = []
    for name, table in _tables(raw.pop("attributes", {})):
        values = [_value(value_name, value) for value_name, value in dict(table.pop("values", {})).items()]
        title = name.replace("_", " ")
        attributes.append({"title": title, "templates": default_templates, **table, "name": name, "values": values})
    return {**raw, "attributes": attributes}


def _tables(raw: object) -> list[tuple[str, dict]]:
    if not isinstance(raw, dict):
        return []
    return [(name, dict(table) if isinstance(table, dict) else {}) for name, table in raw.items()]


def _value(name: str, value: object) -> dict:
    fields = dict(value) if isinstance(value, dict) else {"phrases": value}
    phrases = fields.pop("phrases", name)
    return {"tag": name, **fields, "name": name, "phrases": [phrases] if isinstance(phrases, str) else phrases}
