"""What a person decides of characters holds through every later clustering, or is said to have lapsed."""

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from yokai_assets.registry import DecisionLog, DecisionStore, Registry, RegistryError, update_registry
from yokai_assets.registry.decisions import (
    Accept,
    Decision,
    Dismiss,
    Exclude,
    Freeze,
    InstanceRef,
    Merge,
    Name,
    Retire,
    Split,
    Undo,
    What,
)
from yokai_assets.registry.states import Doubt
from yokai_assets.settings.model import RegistrySettings
from yokai_assets_tests.registry.series import AT, clustering, ids, members_of, news, states

A, B, C = ids(0, 40), ids(100, 30), ids(200, 20)
Groups = list[tuple[int, list[str]]]


def log_of(*whats: What) -> DecisionLog:
    return DecisionLog(
        tuple(Decision(decision_id=n, at=AT + timedelta(hours=n), by="me", what=w) for n, w in enumerate(whats, 1))
    )


def boxes(instances: list[str], *, shift: int = 0) -> pl.DataFrame:
    rows = [(name, name.rpartition("/")[0], shift, 0, 100 + shift, 100) for name in instances]
    return pl.DataFrame(rows, schema=["instance_id", "frame_id", "x0", "y0", "x1", "y1"], orient="row")


def refs(instances: list[str]) -> tuple[InstanceRef, ...]:
    return tuple(InstanceRef(instance_id=name, box=(0, 0, 100, 100)) for name in instances)


def decided(
    previous: Registry | None,
    groups: Groups,
    *whats: What,
    noise: list[str] | None = None,
    found: pl.DataFrame | None = None,
    doubts: dict[int, Doubt] | None = None,
    size: int = 5,
) -> Registry:
    clusters, embeddings = clustering(groups, noise)
    where = boxes(clusters["instance_id"].to_list()) if found is None else found
    return update_registry(
        previous, clusters, embeddings, RegistrySettings(), size, AT, decisions=log_of(*whats), boxes=where,
        doubts=doubts,
    )  # fmt: skip


MERGE = Merge(character_id="cluster_000", other="cluster_001")


def test_a_merge_holds_through_later_clusterings() -> None:
    """Two ids of one character stay one, also when a clustering sees two, one, or two again."""
    before = decided(None, [(0, A), (1, B)])
    merged = decided(before, [(0, A), (1, B)], MERGE)
    assert states(merged) == {"cluster_000": "active", "cluster_001": "merged_into"}
    assert members_of(merged, "cluster_000") == A + B
    assert decided(merged, [(0, A), (1, B)], MERGE) is merged
    grown = decided(merged, [(1, [*B, *ids(0, 9, "e02")]), (0, A)], MERGE)
    assert members_of(grown, "cluster_000") == sorted([*A, *B, *ids(0, 9, "e02")])
    one = decided(grown, [(0, A + B)], MERGE)
    assert members_of(one, "cluster_000") == A + B
    two_again = decided(one, [(0, A), (1, B)], MERGE)
    assert members_of(two_again, "cluster_000") == A + B
    assert two_again.trainable_ids() == ["cluster_000"]


def test_an_undone_merge_gives_both_back() -> None:
    """A mistake costs nothing: both are there again under their ids."""
    before = decided(None, [(0, A), (1, B)])
    merged = decided(before, [(0, A), (1, B)], MERGE)
    back = decided(merged, [(0, A), (1, B)], MERGE, Undo(decision_id=1))
    assert states(back) == {"cluster_000": "active", "cluster_001": "active"}
    assert members_of(back, "cluster_001") == B
    assert ("returned", "cluster_001", None) in news(back)
    assert back.decisions["status"].to_list() == ["undone", "holds"]


def test_merges_in_a_circle_are_not_followed() -> None:
    """The step that closes a circle says nothing, and is said to lapse."""
    circle = Merge(character_id="cluster_001", other="cluster_000")
    registry = decided(decided(None, [(0, A), (1, B)]), [(0, A), (1, B)], MERGE, circle)
    assert members_of(registry, "cluster_000") == A + B
    assert registry.decisions["status"].to_list() == ["holds", "lapsed"]


def test_a_frame_shows_a_merged_character_once() -> None:
    """Merging does not put two instances of one frame into a training set."""
    second = [name[:-1] + "1" for name in A[:10]]
    merged = decided(decided(None, [(0, A), (1, B + second)]), [(0, A), (1, B + second)], MERGE)
    kept = members_of(merged, "cluster_000")
    assert len(kept) == len({name.rpartition("/")[0] for name in kept}) == 70


def test_a_split_makes_a_character_that_keeps_its_id() -> None:
    """The new one has an id of its own from then on, whatever order labels come in, and newcomers join the nearer."""
    moved = B[:12]
    split = Split(character_id="cluster_001", instances=refs(moved))
    before = decided(None, [(0, A), (1, B)])
    after = decided(before, [(0, A), (1, B)], split)
    assert members_of(after, "cluster_002") == moved and members_of(after, "cluster_001") == B[12:]
    assert states(after)["cluster_002"] == "active"
    assert ("born", "cluster_002", "cluster_001") in news(after)
    assert decided(after, [(0, A), (1, B)], split) is after
    grown = decided(after, [(1, B), (0, A), (3, C)], split)
    assert members_of(grown, "cluster_002") == moved and members_of(grown, "cluster_003") == C
    # A clustering that sees two where a person did: they are those two.
    seen = decided(grown, [(4, moved), (1, B[12:]), (0, A)], split)
    assert members_of(seen, "cluster_002") == moved and members_of(seen, "cluster_001") == B[12:]
    undone = decided(after, [(0, A), (1, B)], split, Undo(decision_id=1))
    assert members_of(undone, "cluster_001") == B and states(undone)["cluster_002"] in ("retired", "merged_into")


def test_new_instances_of_a_split_character_join_the_nearer_part() -> None:
    """After a split the next episode's images need no new decision."""
    near, far = ids(0, 20), ids(100, 20)
    clusters, embeddings = clustering([(0, near), (3, far)])
    clusters = clusters.with_columns(cluster_label=pl.lit(0, pl.Int32))
    split = log_of(Split(character_id="cluster_000", instances=refs(far)))
    first = update_registry(None, clusters, embeddings, RegistrySettings(), 5, AT)
    after = update_registry(
        first, clusters, embeddings, RegistrySettings(), 5, AT, decisions=split, boxes=boxes(near + far)
    )
    assert members_of(after, "cluster_001") == far
    more_near, more_far = ids(0, 6, "e02"), ids(100, 6, "e02")
    clusters, embeddings = clustering([(0, near + more_near), (3, far + more_far)])
    clusters = clusters.with_columns(cluster_label=pl.lit(0, pl.Int32))
    later = update_registry(
        after, clusters, embeddings, RegistrySettings(), 5, AT, decisions=split, boxes=boxes(near + far)
    )
    assert members_of(later, "cluster_001") == far + more_far and members_of(later, "cluster_000") == near + more_near


def test_excluded_images_stay_out() -> None:
    """An image that is not the character is not its member again, also when it is numbered otherwise."""
    exclude = Exclude(character_id="cluster_000", instances=refs(A[:3]))
    before = decided(None, [(0, A), (1, B)])
    after = decided(before, [(0, A), (1, B)], exclude)
    assert members_of(after, "cluster_000") == A[3:]
    renumbered = [name[:-1] + "1" for name in A[:3]]
    where = boxes(renumbered + A[3:], shift=4)
    cut_anew = decided(after, [(0, renumbered + A[3:]), (1, B)], exclude, found=where)
    assert members_of(cut_anew, "cluster_000") == A[3:]
    elsewhere = decided(after, [(0, A), (1, B)], exclude, found=boxes(A, shift=90))
    assert elsewhere.decisions.row(0, named=True)["status"] == "lapsed"
    assert "3 of its 3 instances are gone" in elsewhere.decisions["reason"][0]
    assert members_of(elsewhere, "cluster_000") == A


def test_a_frozen_character_keeps_its_members() -> None:
    """Neither does it gain nor lose, and what it holds is nobody else's."""
    freeze = Freeze(character_id="cluster_000")
    before = decided(decided(None, [(0, A), (1, B)]), [(0, A), (1, B)], freeze)
    assert before.characters["frozen_by"].to_list() == [1, None]
    after = decided(before, [(0, A[:20] + ids(0, 10, "e02")), (1, B + A[20:])], freeze)
    assert members_of(after, "cluster_000") == A and members_of(after, "cluster_001") == B
    lost = decided(after, [(1, B)], freeze, noise=A)
    assert members_of(lost, "cluster_000") == A
    released = decided(lost, [(1, B)], freeze, Undo(decision_id=1), noise=A)
    assert members_of(released, "cluster_000") == []
    gone = decided(after, [(1, B)], freeze)
    assert gone.decisions["status"].to_list() == ["lapsed"]


def test_dismissed_and_retired_are_not_trained_and_can_come_back() -> None:
    """Both are kept and shown; the newest word counts."""
    groups: Groups = [(0, A), (1, B), (2, C)]
    first = decided(None, groups)
    away = decided(first, groups, Dismiss(character_id="cluster_001"), Retire(character_id="cluster_002"))
    assert states(away) == {"cluster_000": "active", "cluster_001": "not_a_character", "cluster_002": "retired"}
    assert members_of(away, "cluster_001") == B and away.trainable_ids() == ["cluster_000"]
    assert away.people["character_id"].unique().sort().to_list() == ["cluster_000", "cluster_002"]
    back = decided(away, groups, Dismiss(character_id="cluster_001"), Accept(character_id="cluster_001"))
    assert states(back)["cluster_001"] == "active"
    assert ("confirmed", "cluster_001", None) in news(back)


def test_doubts_keep_from_training_until_accepted() -> None:
    """Measured signs only propose; a person disposes."""
    doubts = {1: Doubt("not_a_character", "text in most images"), 2: Doubt("provisional", "two groups in one")}
    groups: Groups = [(0, A), (1, B), (2, C)]
    doubted = decided(None, groups, doubts=doubts)
    assert states(doubted) == {"cluster_000": "active", "cluster_001": "not_a_character", "cluster_002": "provisional"}
    assert doubted.characters["reason"].to_list() == [None, "text in most images", "two groups in one"]
    accepted = decided(doubted, groups, Accept(character_id="cluster_002"), doubts=doubts)
    assert states(accepted)["cluster_002"] == "active"
    small = decided(None, [(0, A), (1, B[:3])], doubts={1: doubts[1]})
    assert states(small)["cluster_001"] == "too_small"


def test_what_a_clustering_split_off_waits_for_another_one() -> None:
    """One clustering's whim costs no training; the same clustering again is no second opinion."""
    before = decided(None, [(0, A), (1, B)])
    split = decided(before, [(0, A[:28]), (0, A[28:]), (1, B)])
    row = split.characters.row(2, named=True)
    assert (row["state"], row["other_id"]) == ("split_from", "cluster_000")
    assert decided(split, [(0, A[:28]), (0, A[28:]), (1, B)]) is split
    again = decided(split, [(0, A[:28]), (0, A[28:]), (1, B[:25])], noise=B[25:])
    assert states(again)["cluster_002"] == "active"


def test_names_are_kept(tmp_path: Path) -> None:
    """A name survives clusterings, and an empty one takes it away."""
    store = DecisionStore(tmp_path)
    store.add(Name(character_id="cluster_000", name="Momo"), by="me")
    registry = decided(None, [(0, A)], *(d.what for d in store.load().decisions))
    assert registry.characters["name"].to_list() == ["Momo"]
    store.add(Name(character_id="cluster_000", name=""))
    assert decided(registry, [(0, A)], *(d.what for d in store.load().decisions)).characters["name"][0] is None


def test_decisions_on_disk_are_never_written_over(tmp_path: Path) -> None:
    """Two who decide at once both are heard; a damaged file is named."""
    one, other = DecisionStore(tmp_path), DecisionStore(tmp_path)
    numbers = [store.add(Freeze(character_id=f"cluster_00{n}")).decision_id for n, store in enumerate((one, other))]
    assert numbers == [1, 2] and len(one.load().decisions) == 2
    one._write(one.folder / "000003.json", "{}")
    with pytest.raises(FileExistsError):
        one._write(one.folder / "000003.json", "x")
    assert (one.folder / "000003.json").read_text() == "{}"
    assert not [file for file in one.folder.iterdir() if file.suffix != ".json"]
    with pytest.raises(RegistryError, match=r"000003\.json"):
        one.load()


def test_the_fingerprint_follows_what_holds() -> None:
    """Undoing a decision is as if it had never been made: nothing else is made anew."""
    merge, undo = MERGE, Undo(decision_id=1)
    assert log_of(merge).fingerprint != log_of().fingerprint
    assert log_of(merge, undo).fingerprint == log_of().fingerprint
