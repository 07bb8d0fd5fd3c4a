import numpy as np
import polars as pl
import pytest

from yokai_assets.registry import RegistryError, changed_share, member_fingerprint, update_registry
from yokai_assets.registry.groups import exemplars_of
from yokai_assets.settings.model import RegistrySettings
from yokai_assets_tests.registry.series import AT, clustering, ids, members_of, news, states, update

A, B, C = ids(0, 40), ids(100, 30), ids(200, 20)


def test_the_first_clustering_gives_ids_in_label_order() -> None:
    """Groups become characters; too small ones are kept, and said to be so; noise belongs to nobody."""
    registry = update(None, [(0, A), (1, B), (2, ids(300, 3))], noise=ids(400, 4))
    assert states(registry) == {"cluster_000": "active", "cluster_001": "active", "cluster_002": "too_small"}
    assert members_of(registry, "cluster_000") == A
    assert registry.members.height == 73 and registry.version == 1
    assert news(registry) == [("born", f"cluster_00{n}", None) for n in range(3)]
    row = registry.characters.row(0, named=True)
    assert (row["member_count"], row["episode_count"], row["first_version"]) == (40, 1, 1)
    assert np.linalg.norm(row["centroid"]) == pytest.approx(1.0, abs=1e-5)
    assert (registry.members["centroid_cosine"] > 0.8).all()


def test_ids_do_not_follow_labels() -> None:
    """Labels are renumbered by every clustering; a character keeps its id, and no event says otherwise."""
    before = update(None, [(0, A), (1, B), (2, C)])
    after = update(before, [(2, C), (0, A), (1, B)])
    assert after is before


def test_the_same_clustering_makes_no_new_version() -> None:
    """Nothing changed: the very same registry, so nothing downstream is stale."""
    before = update(None, [(0, A), (1, B)], noise=C)
    again = update(before, [(0, A), (1, B)], noise=C)
    assert again is before and again.content_hash == before.content_hash
    assert update(None, [(0, A), (1, B)], noise=C).content_hash == before.content_hash


def test_a_new_episode_dilutes_nothing() -> None:
    """A character whose members triple with a new episode is still itself."""
    before = update(None, [(0, A), (1, B)])
    after = update(before, [(0, A + ids(0, 200, "e02")), (1, B), (3, ids(300, 10, "e02"))])
    assert states(after) == {"cluster_000": "active", "cluster_001": "active", "cluster_002": "active"}
    assert members_of(after, "cluster_001") == B
    assert news(after) == [("grown", "cluster_000", None), ("born", "cluster_002", None)]
    assert after.characters.row(0, named=True)["episode_count"] == 2
    assert after.version == 2 and after.events.height == 4


def test_growing_makes_a_small_character_trainable() -> None:
    """State follows the number of members, in both directions."""
    small = update(None, [(0, A), (1, ids(100, 4))])
    assert states(small)["cluster_001"] == "too_small"
    grown = update(small, [(0, A), (1, ids(100, 6))])
    assert states(grown)["cluster_001"] == "active"
    shrunk = update(grown, [(0, A), (1, ids(100, 4))])
    assert states(shrunk)["cluster_001"] == "too_small"
    assert news(shrunk) == [("shrunk", "cluster_001", None)]


def test_a_lost_character_retires_and_its_id_is_never_given_again() -> None:
    """A LoRA trained for an id must never come to stand for somebody else."""
    before = update(None, [(0, A), (1, B)])
    gone = update(before, [(0, A)], noise=B)
    assert states(gone) == {"cluster_000": "active", "cluster_001": "retired"}
    assert news(gone) == [("retired", "cluster_001", None)] and members_of(gone, "cluster_001") == []
    retired = gone.characters.row(1, named=True)
    assert retired["member_count"] == 0 and retired["exemplars"] and retired["last_version"] == 1
    newcomer = update(gone, [(0, A), (5, ids(500, 10))], noise=B)
    assert states(newcomer)["cluster_002"] == "active" and states(newcomer)["cluster_001"] == "retired"


def test_a_retired_character_returns_under_its_id() -> None:
    """Found again by its exemplars, it is the same character."""
    before = update(None, [(0, A), (1, B)])
    gone = update(before, [(0, A)], noise=B)
    back = update(gone, [(0, A), (1, B[5:])], noise=B[:5])
    assert states(back)["cluster_001"] == "active" and news(back) == [("returned", "cluster_001", None)]


def test_merging_keeps_the_larger_character_and_names_the_other() -> None:
    """Two characters found to be one: one id goes on, the other is part of it."""
    before = update(None, [(0, A), (0, B)])
    merged = update(before, [(0, A + B)])
    assert states(merged) == {"cluster_000": "active", "cluster_001": "merged_into"}
    assert news(merged) == [("grown", "cluster_000", None), ("merged", "cluster_001", "cluster_000")]


def test_splitting_keeps_the_id_with_the_larger_part() -> None:
    """One character found to be two: the larger part goes on, the other is born of it."""
    before = update(None, [(0, A)])
    split = update(before, [(0, A[:28]), (1, A[28:])])
    assert members_of(split, "cluster_000") == A[:28] and members_of(split, "cluster_001") == A[28:]
    assert news(split) == [
        ("shrunk", "cluster_000", None),
        ("born", "cluster_001", "cluster_000"),
        ("split", "cluster_000", "cluster_001"),
    ]


def test_assignment_is_global() -> None:
    """Two known characters that both fit one group best are told apart by who fits the other group too."""
    before = update(None, [(0, A), (0, B)])
    # Group 0 holds more of A than of B; group 1 holds only A: A must take group 1 for B to live on.
    after = update(before, [(0, A[:18] + B), (0, A[18:])])
    assert set(B) <= set(members_of(after, "cluster_001")) and set(A[18:]) == set(members_of(after, "cluster_000"))


def test_centroids_match_where_members_are_gone() -> None:
    """An episode cut anew gives new instances: characters are found again by what they look like."""
    before = update(None, [(0, A), (1, B)])
    after = update(before, [(1, ids(700, 25)), (0, ids(800, 35))])
    assert members_of(after, "cluster_000") == ids(800, 35) and members_of(after, "cluster_001") == ids(700, 25)
    strict = update(before, [(1, ids(700, 25))], settings=RegistrySettings(match_min_centroid_cosine=1.0))
    assert states(strict)["cluster_002"] == "active"


def test_centroids_of_another_model_are_not_compared() -> None:
    """A new embedding model leaves only members to match by; looks in two spaces mean nothing."""
    before = update(None, [(0, A), (1, B)])
    moved = update(before, [(1, A), (0, B)], model="m2")
    assert members_of(moved, "cluster_000") == A and members_of(moved, "cluster_001") == B
    assert set(moved.characters["model_fingerprint"]) == {"m2"}
    strangers = update(before, [(0, ids(700, 25))], model="m2")
    assert states(strangers) == {"cluster_000": "retired", "cluster_001": "retired", "cluster_002": "active"}


def test_little_overlap_is_no_identity() -> None:
    """Below `match_min_jaccard` and unlike in looks, a group is somebody new."""
    before = update(None, [(0, A)])
    after = update(before, [(3, A[:8] + ids(600, 30))], noise=A[8:])
    assert states(after) == {"cluster_000": "retired", "cluster_001": "active"}


def test_events_are_only_appended_to() -> None:
    """History is never rewritten: numbers run on, old rows stay."""
    first = update(None, [(0, A), (1, B)])
    second = update(first, [(0, A)], noise=B)
    third = update(second, [(0, A), (4, C)])
    assert third.events["event_id"].to_list() == list(range(third.events.height))
    assert third.events.head(first.events.height).equals(first.events)
    assert third.events["registry_version"].to_list() == [1, 1, 2, 3]


def test_no_groups_at_all() -> None:
    """A series of noise only is a registry without characters; known ones retire."""
    empty = update(None, [], noise=A)
    assert empty.characters.height == empty.members.height == 0
    assert states(update(update(None, [(0, A)]), [], noise=A)) == {"cluster_000": "retired"}


def test_exemplars_are_typical_and_from_many_episodes() -> None:
    """Twelve pictures that show the character: the best of every episode before any second."""
    rows = [(f"e{e:02d}/{n:06d}/0", f"e{e:02d}", 0.9 - 0.001 * n - 0.01 * e) for e in range(5) for n in range(20)]
    members = pl.DataFrame(rows, schema=["instance_id", "episode", "centroid_cosine"], orient="row")
    found = exemplars_of(members)
    assert found[:3] == ["e00/000000/0", "e00/000001/0", "e00/000002/0"]
    assert len(found) == 12 and {i[:3] for i in found} == {f"e{e:02d}" for e in range(5)}
    cosines = dict(members.select("instance_id", "centroid_cosine").iter_rows())
    assert [cosines[i] for i in found] == sorted((cosines[i] for i in found), reverse=True)
    assert exemplars_of(members.sample(fraction=1.0, shuffle=True, seed=1)) == found


def test_member_fingerprint_follows_who_belongs() -> None:
    """Retraining happens exactly when members or their pixels change, not when numbers beside them do."""
    members = update(None, [(0, A)]).members
    same = members.sample(fraction=1.0, shuffle=True, seed=3).with_columns(probability=pl.lit(0.5))
    assert member_fingerprint(members) == member_fingerprint(same)
    assert member_fingerprint(members.head(39)) != member_fingerprint(members)
    pixels = members.with_columns(cutout_sha256=pl.lit("a"))
    assert member_fingerprint(pixels) != member_fingerprint(pixels.with_columns(cutout_sha256=pl.lit("b")))


def test_changed_share_counts_who_moved() -> None:
    """The check that warns of a clustering that shuffles characters."""
    before = update(None, [(0, A), (1, B)])
    after = update(before, [(0, A + B[:6]), (1, B[6:])])
    assert changed_share(before, after) == pytest.approx(6 / 70)
    assert changed_share(before, before) == 0.0


def test_clusters_without_vectors_are_named() -> None:
    """Tables of different runs do not silently make half a registry."""
    clusters, embeddings = clustering([(0, A)])
    with pytest.raises(RegistryError, match="embedding_index"):
        update_registry(None, clusters, embeddings.head(10), RegistrySettings(), 5, AT)
    mixed = embeddings.with_columns(
        model_fingerprint=pl.when(pl.int_range(pl.len()) < 5).then(pl.lit("m2")).otherwise(pl.lit("m1"))
    )
    with pytest.raises(RegistryError, match="several embedding models"):
        update_registry(None, clusters, mixed, RegistrySettings(), 5, AT)
