"""Typed settings: what a user may choose, with bounds, units and descriptions.

`model` holds the fields, `loading` reads them from profile, `yokai.toml` and environment. Code that *uses*
settings belongs in the package of its stage, which receives one section (`settings.training`, ...) as an
argument and never reads the environment itself.
"""

from yokai_assets.settings.loading import load_settings
from yokai_assets.settings.model import Settings

__all__ = ["Settings", "load_settings"]
