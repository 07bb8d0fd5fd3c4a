"""Characters that stay themselves: groups of one clustering become characters with ids that never move.

`matching` decides which group is which known character, `registry` keeps the books (ids, states, events), `store`
keeps versions on disk. Finding groups belongs to `yokai_assets.clustering`.
"""

from yokai_assets.registry.registry import Registry, RegistryError, changed_share, member_fingerprint, update_registry
from yokai_assets.registry.store import RegistryStore

__all__ = [
    "Registry",
    "RegistryError",
    "RegistryStore",
    "changed_share",
    "member_fingerprint",
    "update_registry",
]
