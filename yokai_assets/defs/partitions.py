"""The two partition domains. Frames are rows, never partitions.

Keys come from outside: `yokai_assets.frames.episodes.episode_key` and the character registry. Keys are added by
sensors or by `yokai run` and never removed: a removed key's history would come back with the key.
"""

import dagster as dg

EPISODES = dg.DynamicPartitionsDefinition(name="episodes")
CHARACTERS = dg.DynamicPartitionsDefinition(name="characters")


def register(instance: dg.DagsterInstance, definition: dg.DynamicPartitionsDefinition, keys: list[str]) -> list[str]:
    """Add the keys that are new, sorted, and return them. Ranges in the UI follow the order of adding."""
    known = set(instance.get_dynamic_partitions(str(definition.name)))
    new = sorted(set(keys) - known)
    if new:
        instance.add_dynamic_partitions(str(definition.name), new)
    return new
