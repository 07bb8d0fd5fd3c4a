"""What must hold whatever clusterings find and whatever a person decides."""

from datetime import timedelta

import polars as pl
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from yokai_assets.registry import DecisionLog, Registry, changed_share, update_registry
from yokai_assets.registry.decisions import Accept, Decision, Dismiss, Exclude, Freeze, InstanceRef, Merge, Split, Undo
from yokai_assets.registry.states import GONE
from yokai_assets.settings.model import RegistrySettings
from yokai_assets_tests.registry.series import AT, clustering

POOL = [f"e01/{frame:06d}/{index}" for frame in range(12) for index in (0, 1)]
BOXES = pl.DataFrame(
    [(name, name.rpartition("/")[0], 50 * int(name[-1]), 0, 50 * int(name[-1]) + 50, 50) for name in POOL],
    schema=["instance_id", "frame_id", "x0", "y0", "x1", "y1"], orient="row",
)  # fmt: skip
QUICK = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    phases=(Phase.generate,),
    suppress_health_check=[HealthCheck.too_slow],
)

labellings = st.lists(st.integers(-1, 3), min_size=len(POOL), max_size=len(POOL))
characters = st.integers(0, 5).map(lambda n: f"cluster_{n:03d}")
references = st.lists(st.sampled_from(POOL), min_size=1, max_size=8, unique=True).map(
    lambda names: tuple(
        InstanceRef(instance_id=name, box=(50 * int(name[-1]), 0, 50 * int(name[-1]) + 50, 50)) for name in names
    )
)
whats = st.one_of(
    st.builds(Merge, character_id=characters, other=characters),
    st.builds(Split, character_id=characters, instances=references),
    st.builds(Exclude, character_id=characters, instances=references),
    st.builds(Dismiss, character_id=characters),
    st.builds(Accept, character_id=characters),
    st.builds(Freeze, character_id=characters),
    st.builds(Undo, decision_id=st.integers(1, 6)),
)
histories = st.lists(st.tuples(labellings, st.lists(whats, max_size=2)), min_size=1, max_size=4)


def one_a_frame(labels: list[int]) -> list[int]:
    """Make noise of a second instance of a frame in a group, as every clustering does."""
    kept = list(labels)
    for place in range(1, len(kept), 2):
        if kept[place] == kept[place - 1]:
            kept[place] = -1
    return kept


def advance(previous: Registry | None, labels: list[int], log: DecisionLog) -> Registry:
    kept = one_a_frame(labels)
    groups = [(label, [n for n, found in zip(POOL, kept, strict=True) if found == label]) for label in range(4)]
    noise = [name for name, found in zip(POOL, kept, strict=True) if found < 0]
    clusters, embeddings = clustering([group for group in groups if group[1]], noise)
    return update_registry(previous, clusters, embeddings, RegistrySettings(), 5, AT, decisions=log, boxes=BOXES)


def play(history: list[tuple[list[int], list]]) -> list[tuple[Registry, DecisionLog]]:
    registry, decisions, versions = None, [], []
    for labels, said in history:
        for what in said:
            number = len(decisions) + 1
            decisions.append(Decision(decision_id=number, at=AT + timedelta(hours=number), by="me", what=what))
        log = DecisionLog(tuple(decisions))
        registry = advance(registry, labels, log)
        versions.append((registry, log))
    return versions


@QUICK
@given(histories)
def test_no_id_is_ever_reused_or_lost(history: list[tuple[list[int], list]]) -> None:
    """Every id that was given stays, was born once, and new ones follow all older ones."""
    known: dict[str, int] = {}
    for registry, _ in play(history):
        born = dict(registry.characters.select("character_id", "first_version").iter_rows())
        assert known.items() <= born.items()
        new = sorted(born.keys() - known.keys())
        assert all(name > max(known, default="") for name in new)
        known = born


@QUICK
@given(histories)
def test_every_instance_has_one_character_and_every_frame_shows_it_once(history: list[tuple[list[int], list]]) -> None:
    """A training set never has one image under two triggers, nor a character twice in a picture."""
    for registry, _ in play(history):
        members = registry.members
        assert members["instance_id"].is_unique().all()
        frames = members.select("character_id", pl.col("instance_id").str.replace(r"/[^/]*$", ""))
        assert frames.is_unique().all()
        counts = dict(registry.members.group_by("character_id").len().iter_rows())
        for row in registry.characters.iter_rows(named=True):
            assert row["member_count"] == counts.get(row["character_id"], 0)
            assert (row["state"] not in GONE) or row["member_count"] == 0 or row["reason"].startswith("by decision")


@QUICK
@given(histories)
def test_the_same_clustering_and_decisions_change_nothing(history: list[tuple[list[int], list]]) -> None:
    """Running again is free: the very same version, so nothing after it is made anew."""
    registry, log = play(history)[-1]
    again = advance(registry, history[-1][0], log)
    assert again.content_hash == registry.content_hash


@QUICK
@given(histories)
def test_events_are_only_appended_to(history: list[tuple[list[int], list]]) -> None:
    """What was told stays told."""
    told = None
    for registry, _ in play(history):
        if told is not None:
            assert registry.events.head(told.height).equals(told)
        told = registry.events
        assert told["event_id"].to_list() == list(range(told.height))


@QUICK
@given(histories)
def test_a_decision_holds_or_is_said_to_have_lapsed(history: list[tuple[list[int], list]]) -> None:
    """What a person said is true of every version after it, unless the version says why not."""
    for registry, log in play(history):
        members = registry.members
        status = dict(registry.decisions.select("decision_id", "status").iter_rows())
        frozen = set(registry.characters.drop_nulls("frozen_by")["character_id"])
        merged = log.merged_into()
        for decision in log.in_force:
            if status[decision.decision_id] == "lapsed":
                assert registry.decisions.filter(decision_id=decision.decision_id)["reason"][0]
                continue
            what = decision.what
            if isinstance(what, Merge):
                assert what.other not in set(members["character_id"]) - frozen
            elif isinstance(what, Exclude):
                owner = merged.get(what.character_id, what.character_id)
                named = {reference.instance_id for reference in what.instances}
                assert not named & set(members.filter(pl.col("character_id") == owner)["instance_id"])


@QUICK
@given(labellings, st.integers(1, 3))
def test_a_new_episode_moves_nobody(labels: list[int], episodes: int) -> None:
    """Where a clustering finds the same groups with more in them, every known member keeps its character."""
    kept = one_a_frame(labels)
    groups = [(label, [n for n, found in zip(POOL, kept, strict=True) if found == label]) for label in range(4)]
    groups = [group for group in groups if group[1]]
    clusters, embeddings = clustering(groups)
    registry = update_registry(None, clusters, embeddings, RegistrySettings(), 5, AT)
    for number in range(episodes):
        groups = [
            (axis, [*own, *(f"n{number:02d}{name[3:]}" for name in own if name.startswith("e01"))])
            for axis, own in groups
        ]
        clusters, embeddings = clustering(groups[::-1])
        later = update_registry(registry, clusters, embeddings, RegistrySettings(), 5, AT)
        assert changed_share(registry, later) == 0.0
        assert set(registry.characters["character_id"]) == set(later.characters["character_id"])
        registry = later
