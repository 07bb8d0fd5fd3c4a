"""Training options in the launchpad: the fields of the settings' section `training`, each of them optional.

Made from that section, so that bounds and descriptions are said once. What an option does is `training`'s.
"""

from enum import Enum
from typing import Any, Literal, get_args, get_origin

import dagster as dg
from pydantic import Field, create_model
from pydantic.fields import FieldInfo

from yokai_assets.settings import Settings
from yokai_assets.settings.training import TrainingSettings

_BOUNDS = ("gt", "ge", "lt", "le", "min_length", "max_length")
_SERIES_WIDE = {"base_model", "resolution_px"}
"""Other assets depend on these: they belong into the settings, not into one run's launchpad."""


class TrainingConfig(dg.Config):
    """Training options of one run; what is not set comes from the settings."""

    def applied_to(self, settings: Settings) -> Settings:
        """Return the settings with the options that are set.

        Raises:
            pydantic.ValidationError: An option is out of its bounds.
        """
        chosen = {name: _plain(value) for name, value in self.model_dump().items() if value is not None}
        explicit = settings.training.model_dump(include=settings.training.model_fields_set)
        return settings.model_copy(update={"training": TrainingSettings.model_validate({**explicit, **chosen})})


def at_series_size(training: TrainingSettings) -> TrainingSettings:
    """Return the options with the resolution as the series' settings have it, whatever a preset would take.

    Training sets and test pictures are made at that size, too.
    """
    return training.model_copy(update={"resolution_px": training.resolution_px})


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def _option(name: str, field: FieldInfo) -> tuple[Any, Any]:
    """Return type and field of an optional copy of a settings field, in the types that Dagster's launchpad knows."""
    parts = get_args(field.annotation)
    kind: Any = parts[0] if type(None) in parts else field.annotation
    if get_origin(kind) is Literal:
        kind = Enum(name.title().replace("_", ""), {str(choice): choice for choice in get_args(kind)})
    elif get_origin(kind) is tuple:
        kind = list[str]
    rules = [(bound, getattr(rule, bound, None)) for rule in field.metadata for bound in _BOUNDS]
    bounds: dict[str, Any] = {bound: value for bound, value in rules if value is not None}
    return kind | None, Field(default=None, description=field.description, **bounds)


_OPTIONS: dict[str, Any] = {
    name: _option(name, field) for name, field in TrainingSettings.model_fields.items() if name not in _SERIES_WIDE
}
TrainingOptions: type[TrainingConfig] = create_model("TrainingOptions", __base__=TrainingConfig, **_OPTIONS)
