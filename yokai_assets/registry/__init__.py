"""Characters that stay themselves: groups of one clustering become characters with ids that never move.

`updating` makes the next version out of a clustering and a person's decisions: `matching` says which group is which
known character, `applying` what decisions do to members, `states` which are trained, `events` what happened.
`registry` is a version, `store` the files of versions and decisions, `keeping` the road from one version to the next.
Finding groups belongs to `yokai_assets.clustering`.
"""

from yokai_assets.registry.decisions import Decision, DecisionLog
from yokai_assets.registry.groups import RegistryError
from yokai_assets.registry.keeping import keep_registry
from yokai_assets.registry.registry import Registry, changed_share, member_fingerprint
from yokai_assets.registry.states import Doubt
from yokai_assets.registry.store import DecisionStore, RegistryStore
from yokai_assets.registry.updating import update_registry

__all__ = [
    "Decision",
    "DecisionLog",
    "DecisionStore",
    "Doubt",
    "Registry",
    "RegistryError",
    "RegistryStore",
    "changed_share",
    "keep_registry",
    "member_fingerprint",
    "update_registry",
]
