"""The words that planning and applying share: what goes, what stays."""

from dataclasses import dataclass

from upath import UPath

from yokai_assets.retention.ledger import LayerKind


@dataclass(frozen=True, slots=True)
class Removal:
    """Files that may go together.

    Attributes:
        stage: Asset that made them, or `caches`.
        partition: Its episode, character, or kind of cache.
        paths: Files.
        size_bytes: Their size.
        why: Why they may go.
        policy: The setting that asks for it.
        kind: Of layers, which; they are noted as removed.
    """

    stage: str
    partition: str
    paths: tuple[UPath, ...]
    size_bytes: int
    why: str
    policy: str
    kind: LayerKind | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """What the policy would remove and must not, and why."""

    stage: str
    partition: str
    size_bytes: int
    why: str
