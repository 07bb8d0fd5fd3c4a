"""yokai_assets: from a cartoon series on disk to a LoRA for every character.

Dagster lives in `yokai_assets.defs` and `yokai_assets.definitions`; every other package is plain Python,
one per stage of the road, usable from a notebook.
"""

__version__ = "0.1.0"
