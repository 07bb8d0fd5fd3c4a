"""What a character's steps read: vectors of one model, of the pixels that are there, few however large the cast."""

from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from upath import UPath

from yokai_assets.defs.characters.assets import character_members
from yokai_assets.defs.characters.inputs import TYPICAL_COUNT, load_registry, rows_of, with_pixels, yardstick_vectors
from yokai_assets.registry import Registry, RegistryStore, member_fingerprint
from yokai_assets.storage.layout import Layout
from yokai_assets.storage.parquet import read_partitions, write_table
from yokai_assets.tables import CHARACTERS, EMBEDDINGS, EVENTS, INSTANCES, MEMBERS
from yokai_assets_tests.storage.rows import embeddings_of, instance_row

HERO, OTHER, GONE = "cluster_000", "cluster_001", "cluster_002"


class Cast:
    """Three episodes of instances with their vectors: the hero, another, and one who retired."""

    def __init__(self, layout: Layout, frame_count: int = 4) -> None:
        self.layout = layout
        rows = {e: [instance_row(e, f, i) for f in range(frame_count) for i in (0, 1)] for e in ("e1", "e2", "e3")}
        for episode, instances in rows.items():
            for row in instances:
                row["cutout_sha256"] = f"pixels of {row['instance_id']}"
            self.write(episode, instances)
        ids = [row["instance_id"] for instances in rows.values() for row in instances]
        self.members = MEMBERS.from_rows(
            {
                "character_id": HERO if name.endswith("/0") else OTHER,
                "instance_id": name,
                "episode": name.split("/")[0],
                "probability": 1.0,
                "centroid_cosine": 1 - number / 1e5,
            }
            for number, name in enumerate(ids)
        )
        states = {HERO: "active", OTHER: "active", GONE: "retired"}
        characters = CHARACTERS.from_rows(
            {
                **{"character_id": name, "state": state, "member_count": 9, "episode_count": 3},
                **{"first_version": 1, "last_version": 1, "centroid": [1.0, 0, 0, 0], "model_fingerprint": "old"},
                "exemplars": ["e3/000003/1"] if name == GONE else ["e2/000001/0" if name == HERO else "e2/000001/1"],
            }
            for name, state in states.items()
        )
        RegistryStore(layout.registry).save(Registry(1, characters, self.members, EVENTS.empty()))

    def write(self, episode: str, rows: list[dict], model: str = "old", dimension: int = 4) -> None:
        instances = INSTANCES.from_rows(rows)
        write_table(INSTANCES, instances, self.layout.table("character_layers", episode))
        self.embed(episode, model, dimension)

    def embed(self, episode: str, model: str, dimension: int = 4) -> None:
        instances = self.instances(episode)
        table = embeddings_of(instances, model=model, dimension=dimension)
        write_table(EMBEDDINGS, table, self.layout.table("embeddings", episode))

    def cut_out_again(self, episode: str, instance_id: str) -> None:
        changed = pl.when(pl.col("instance_id") == instance_id).then(pl.lit("other pixels"))
        table = self.instances(episode).with_columns(cutout_sha256=changed.otherwise(pl.col("cutout_sha256")))
        write_table(INSTANCES, table, self.layout.table("character_layers", episode))

    def instances(self, episode: str) -> pl.DataFrame:
        return read_partitions(INSTANCES, self.layout.tables / "character_layers", [episode])

    @property
    def heros(self) -> pl.DataFrame:
        return self.members.filter(pl.col("character_id") == HERO)


@pytest.fixture
def cast(tmp_path: Path) -> Cast:
    return Cast(Layout(UPath(tmp_path), "s"))


@pytest.mark.parametrize("dimension", [4, 6])
def test_vectors_of_two_models_are_never_mixed(cast: Cast, dimension: int) -> None:
    """In the middle of a change of the model, of equal or of another width, only one model's vectors are taken."""
    cast.embed("e3", "new", dimension)
    usual = rows_of(cast.heros, cast.layout)
    assert set(usual.embeddings["model_fingerprint"]) == {"old"}
    assert set(usual.embeddings["episode"]) == {"e1", "e2"} and usual.without_vector_count == 4
    new = rows_of(cast.heros, cast.layout, "new")
    assert set(new.embeddings["episode"]) == {"e3"} and new.without_vector_count == 8
    assert new.instances["instance_id"].n_unique() == 24, "company is seen whatever its vectors"


def test_no_vector_of_the_wanted_model_is_told_with_the_remedy(cast: Cast) -> None:
    """Before any episode is embedded anew there is nothing to read: say so instead of computing on nothing."""
    with pytest.raises(dg.Failure, match="Materialize `embeddings`"):
        rows_of(cast.heros, cast.layout, "new")


def test_a_vector_of_other_pixels_is_not_taken(cast: Cast) -> None:
    """After an episode is cut out again its old vectors show something else, though the ids are the same."""
    cast.cut_out_again("e1", "e1/000000/0")
    rows = rows_of(cast.heros, cast.layout)
    assert rows.without_vector_count == 1 and "e1/000000/0" not in set(rows.embeddings["instance_id"])


def test_changed_pixels_make_the_character_out_of_date(cast: Cast) -> None:
    """A better matte changes what is trained on, though the members are the same; company does not matter."""
    before = member_fingerprint(with_pixels(cast.heros, cast.layout))
    cast.cut_out_again("e1", "e1/000000/1")
    assert member_fingerprint(with_pixels(cast.heros, cast.layout)) == before
    cast.cut_out_again("e1", "e1/000000/0")
    assert member_fingerprint(with_pixels(cast.heros, cast.layout)) != before


def test_evaluation_reads_few_vectors_of_living_characters(tmp_path: Path) -> None:
    """A leading character has twenty thousand members; judging it needs a hundred, and nobody who retired."""
    cast = Cast(Layout(UPath(tmp_path), "s"), frame_count=TYPICAL_COUNT)
    cast.embed("e3", "new", 6)
    found = yardstick_vectors(load_registry(cast.layout), cast.heros, HERO, cast.layout, "old")
    ids = set(found["instance_id"])
    typical = cast.heros.sort("centroid_cosine", descending=True)["instance_id"].head(TYPICAL_COUNT)
    assert ids == {*typical, "e2/000001/0", "e2/000001/1"}
    assert set(found["model_fingerprint"]) == {"old"}


def test_a_retired_character_is_told_as_such(source, instance) -> None:
    """Materializing the partition of a character that is no more must say so, and name what remains."""
    Cast(source.layout)
    for character, reason in ((GONE, "is retired"), ("cluster_077", "knows no such character")):
        with (
            dg.build_asset_context(partition_key=character, instance=instance) as context,
            pytest.raises(dg.Failure, match=reason),
        ):
            character_members(context, settings=source)
