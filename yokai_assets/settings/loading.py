"""Reading settings: shipped profile, then `yokai.toml`, then environment, then arguments.

Later sources win key by key. Environment names are `YOKAI_` and the path with double underscores:
`YOKAI_DATA_ROOT`, `YOKAI_TRAINING__MAX_TRAIN_STEPS`. Only reading belongs here; fields are in `model`.
"""

import difflib
import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from yokai_assets.settings.model import Settings
from yokai_assets.settings.section import has_password

ENVIRONMENT_PREFIX = "YOKAI_"
CONFIG_VARIABLE = "YOKAI_CONFIG"
DEFAULT_CONFIG_FILE = "yokai.toml"


SECRET_KEYS = frozenset({"operations.failure_webhook"})
"""Keys whose values appear in no message; their fields are `SecretStr`."""


class SettingsError(ValueError):
    """Settings that cannot be used; the message names the source, the key, and what to do."""


def load_settings(
    config_file: str | Path | None = None,
    *,
    overrides: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Read the settings.

    Args:
        config_file: TOML file. Unset: `$YOKAI_CONFIG`, else `yokai.toml` in the working directory if there is one.
        overrides: Nested values that win over every other source; `None` values are ignored.
        environment: Stands in for `os.environ`.

    Raises:
        SettingsError: A file is missing or unreadable, a key is unknown (the nearest known one is suggested),
            or a value is out of its bounds.
    """
    environment = os.environ if environment is None else environment
    path = config_path(config_file, environment)
    from_file = _read_toml(path) if path else {}
    from_environment = read_environment(environment)
    from_arguments = without_none(overrides or {})
    profile = _first("profile", from_arguments, from_environment, from_file) or "anime"
    merged: dict[str, Any] = {}
    for source in (_read_profile(profile), from_file, from_environment, from_arguments):
        merged = merge(merged, source)
    merged["profile"] = profile
    _refuse_unknown_keys(merged, Settings, origin=str(path) if path else "the settings")
    try:
        settings = Settings.model_validate(merged)
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None
    return _with_absolute_paths(settings, base=path.parent if path else Path.cwd(), from_file=from_file)


def describe_fields(section: type[BaseModel] = Settings, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield (dotted key, default, description) of every field, for `yokai settings` and the docs."""
    for name, field in section.model_fields.items():
        if _is_section(field.annotation):
            yield from describe_fields(field.annotation, f"{prefix}{name}.")  # type: ignore[arg-type]
        else:
            yield f"{prefix}{name}", repr(field.get_default(call_default_factory=True)), field.description or ""


def as_environment(values: Mapping[str, Any], prefix: str = ENVIRONMENT_PREFIX) -> dict[str, str]:
    """Return the environment that gives nested values; the inverse of `read_environment`."""
    variables: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}{key.upper()}"
        if isinstance(value, Mapping):
            variables |= as_environment(value, f"{name}__")
        else:
            variables[name] = json.dumps(value)
    return variables


def config_path(config_file: str | Path | None, environment: Mapping[str, str]) -> Path | None:
    """Return the settings file that is read, absolute; None where there is none.

    Raises:
        SettingsError: The file that is named does not exist.
    """
    chosen = config_file or environment.get(CONFIG_VARIABLE)
    if chosen:
        path = Path(chosen)
        if not path.is_file():
            raise SettingsError(
                f"{path}: no such settings file. Give the path of a TOML file, or make one with `yokai init`."
            )
        return path.resolve()
    default = Path.cwd() / DEFAULT_CONFIG_FILE
    return default if default.is_file() else None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read as TOML: {error}. Mend the file or move it away.") from error


def _read_profile(profile: str) -> dict[str, Any]:
    file = resources.files("yokai_assets.settings") / "profiles" / f"{profile}.toml"
    if not file.is_file():
        raise SettingsError(f"profile: there is no profile {profile!r}. Choose `anime` or `demo`.")
    return tomllib.loads(file.read_text(encoding="utf-8"))


def read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings that an environment gives, nested."""
    values: dict[str, Any] = {}
    for name, text in environment.items():
        if not name.startswith(ENVIRONMENT_PREFIX) or name == CONFIG_VARIABLE:
            continue
        path = name[len(ENVIRONMENT_PREFIX) :].lower().split("__")
        if path[0] not in Settings.model_fields:
            continue  # YOKAI_HOME and the like belong to others
        target = values
        for part in path[:-1]:
            target = target.setdefault(part, {})
        target[path[-1]] = _parse(text)
    return values


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _first(key: str, *sources: Mapping[str, Any]) -> Any:
    return next((source[key] for source in sources if key in source), None)


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested values with a change to some of them."""
    merged = dict(base)
    for key, value in change.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested values without those that are None, and without sections that are empty then."""
    cleaned = {k: without_none(v) if isinstance(v, Mapping) else v for k, v in values.items() if v is not None}
    return {k: v for k, v in cleaned.items() if v != {}}


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _refuse_unknown_keys(values: Mapping[str, Any], section: type[BaseModel], origin: str, prefix: str = "") -> None:
    known = section.model_fields
    for key, value in values.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"Did you mean `{prefix}{near[0]}`?" if near else f"Known here: {', '.join(known)}."
            raise SettingsError(f"{origin}: unknown key `{prefix}{key}`. {hint}")
        annotation = known[key].annotation
        if isinstance(value, Mapping) and _is_section(annotation):
            _refuse_unknown_keys(value, annotation, origin, f"{prefix}{key}.")  # type: ignore[arg-type]


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"]) or "settings"
        lines.append(f"`{key}`: {problem['msg']}{_given(key, problem.get('input'))}")
    return "These settings cannot be used:\n" + "\n".join(lines)


def _given(key: str, value: Any) -> str:
    """Say what was given, where that is one value and no secret: a section holds others' values, secrets too."""
    is_secret = any(f"{secret}.".startswith(f"{key}.") for secret in SECRET_KEYS) or has_password(str(value))
    is_shown = isinstance(value, str | int | float) and not is_secret
    return f" (given: {value!r})" if is_shown else ""


def _with_absolute_paths(settings: Settings, base: Path, from_file: Mapping[str, Any]) -> Settings:
    """Make local paths absolute: those of a settings file are meant relative to that file."""
    changes: dict[str, str] = {}
    for key in ("data_root", "frames_source"):
        value = getattr(settings, key)
        if "://" not in value:
            origin = base if from_file.get(key) == value else Path.cwd()
            changes[key] = str((origin / Path(value).expanduser()).resolve())
    return settings.model_copy(update=changes)
