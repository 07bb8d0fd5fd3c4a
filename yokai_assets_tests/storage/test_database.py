import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from upath import UPath

from yokai_assets.storage.database import DatabaseError, open_read_only, publish
from yokai_assets.storage.sql import render_sql
from yokai_assets.tables import EMBEDDINGS
from yokai_assets_tests.storage.rows import write_characters, write_episode


@pytest.fixture
def root(tmp_path: Path) -> UPath:
    return UPath(tmp_path)


@pytest.fixture
def database(root: UPath) -> UPath:
    return root / "yokai.duckdb"


def episodes(root: UPath, *names: str, **options: object) -> dict[str, dict[str, UPath]]:
    tables: dict[str, dict[str, UPath]] = {"instances": {}, "embeddings": {}}
    for name in names:
        for table, file in write_episode(root, name, **options).items():  # pyright: ignore[reportArgumentType]
            tables[table][name] = file
    return tables


def fetch(database: UPath, sql: str) -> list[tuple]:
    with open_read_only(database) as connection:
        return connection.execute(sql).fetchall()


def test_published_rows_are_those_of_the_files(root: UPath, database: UPath) -> None:
    """What SQL shows is what the Parquet records hold, vectors as FLOAT[D]."""
    tables = episodes(root, "e01", "e02")
    report = publish(database, tables)
    assert report.changed == ("instances/e01", "instances/e02", "embeddings/e01", "embeddings/e02")
    assert fetch(database, "SELECT count(*) FROM instances") == [(16,)]
    assert fetch(database, "SELECT DISTINCT typeof(vector) FROM embeddings") == [("FLOAT[4]",)]
    expected = pl.read_parquet(str(tables["embeddings"]["e01"])).sort("instance_id")
    got = fetch(database, "SELECT vector FROM embeddings WHERE episode = 'e01' ORDER BY instance_id")
    np.testing.assert_array_equal(np.array([row[0] for row in got], np.float32), expected["vector"].to_numpy())
    assert not list(Path(str(root)).glob("*.wal")) and not list(Path(str(root)).glob(".*.partial-*"))


def test_only_changed_partitions_are_read(root: UPath, database: UPath) -> None:
    """A new episode costs one episode, not the series; a vanished one takes its rows with it."""
    tables = episodes(root, "e01", "e02")
    publish(database, tables)
    tables["instances"]["e02"] = write_episode(root, "e02", frame_count=1)["instances"]
    report = publish(database, {"instances": tables["instances"]})
    assert (report.changed, report.removed, report.unchanged) == (("instances/e02",), (), 1)
    assert fetch(database, "SELECT episode, count(*) FROM instances GROUP BY ALL ORDER BY ALL") == [
        ("e01", 8),
        ("e02", 2),
    ]
    del tables["instances"]["e01"]
    report = publish(database, {"instances": tables["instances"]})
    assert (report.changed, report.removed, report.unchanged) == ((), ("instances/e01",), 1)
    assert fetch(database, "SELECT DISTINCT episode FROM instances") == [("e02",)]


def test_nothing_changed_writes_nothing(root: UPath, database: UPath) -> None:
    """Publishing twice leaves the very same file."""
    tables = episodes(root, "e01")
    publish(database, tables)
    before = database.stat()
    report = publish(database, tables)
    assert (report.changed, report.unchanged) == ((), 2)
    assert (database.stat().st_ino, database.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_two_publishers_share_one_file(root: UPath, database: UPath) -> None:
    """`embedding_index` and `catalog` each publish their tables and leave the other's alone; views appear with both."""
    report = publish(database, episodes(root, "e01"))
    assert report.views == ()
    members = {"cluster_000": ["e01/000000/0", "e01/000001/0"], "cluster_001": ["e01/000000/1"]}
    report = publish(database, write_characters(root, members))
    assert report.views == ("character_screen_time", "cluster_quality", "co_appearance", "episode_cast")
    assert fetch(database, "SELECT count(*) FROM instances") == [(8,)]
    assert fetch(database, "SELECT character_id, frame_count FROM character_screen_time") == [
        ("cluster_000", 3),
        ("cluster_001", 1),
    ]
    assert fetch(database, "SELECT first_id, second_id, frame_count FROM co_appearance") == [
        ("cluster_000", "cluster_001", 1)
    ]
    assert fetch(database, "SELECT episode, character_id, instance_count FROM episode_cast") == [
        ("e01", "cluster_000", 2),
        ("e01", "cluster_001", 1),
    ]
    quality = fetch(database, "SELECT character_id, nearest_id, round(nearest_cosine::DOUBLE, 3) FROM cluster_quality")
    assert quality == [("cluster_000", "cluster_001", 0.707), ("cluster_001", "cluster_000", 0.707)]
    assert fetch(database, 'SELECT kind, "at" IS NOT NULL FROM events LIMIT 1') == [("born", True)]


@pytest.mark.parametrize(("dimension", "model"), [(6, "m2"), (4, "m2")])
def test_another_model_rebuilds_the_vectors(root: UPath, database: UPath, dimension: int, model: str) -> None:
    """Vectors of two models never stand in one table, and the rebuilding is told."""
    publish(database, episodes(root, "e01", "e02"))
    report = publish(database, episodes(root, "e01", "e02", dimension=dimension, model=model))
    assert report.rebuilt == ("embeddings",)
    sql = "SELECT DISTINCT typeof(vector), model_fingerprint FROM embeddings"
    assert fetch(database, sql) == [(f"FLOAT[{dimension}]", model)]


def test_a_partition_of_another_model_is_left_out_and_told(root: UPath, database: UPath) -> None:
    """One episode embedded with another model does not stop the index, nor slip into it."""
    tables = episodes(root, "e01", "e02")
    tables["embeddings"]["e03"] = write_episode(root, "e03", dimension=6, model="m2")["embeddings"]
    report = publish(database, tables)
    assert [(p.partition, "another model" in p.reason, "e03" in p.remedy) for p in report.problems] == [
        ("e03", True, True)
    ]
    assert "embeddings/e03" not in report.changed
    assert fetch(database, "SELECT DISTINCT episode FROM embeddings ORDER BY 1") == [("e01",), ("e02",)]


def test_a_damaged_file_keeps_the_old_rows(root: UPath, database: UPath) -> None:
    """A damaged partition is named with its remedy, its old rows stay, the others go in, and it is tried again."""
    tables = episodes(root, "e01", "e02")
    publish(database, tables)
    for table in tables:
        tables[table]["e01"].write_bytes(b"PAR1 this is no parquet file PAR1")
        tables[table]["e02"] = write_episode(root, "e02", frame_count=1)[table]
    report = publish(database, tables)
    assert {(p.table, p.partition) for p in report.problems} == {("instances", "e01"), ("embeddings", "e01")}
    assert all("Materialize" in p.remedy and "e01.parquet" in p.path for p in report.problems)
    sql = "SELECT episode, count(*) FROM {} GROUP BY ALL ORDER BY ALL"
    assert fetch(database, sql.format("instances")) == [("e01", 8), ("e02", 2)]
    assert fetch(database, sql.format("embeddings")) == [("e01", 8), ("e02", 2)]
    tables["instances"]["e01"] = write_episode(root, "e01", frame_count=3)["instances"]
    assert publish(database, {"instances": tables["instances"]}).changed == ("instances/e01",)


def test_rows_of_a_foreign_partition_are_refused(root: UPath, database: UPath) -> None:
    """A file in the wrong place cannot double another partition's rows."""
    tables = episodes(root, "e01")
    tables["instances"]["e02"] = tables["instances"]["e01"]
    report = publish(database, tables)
    assert [p.partition for p in report.problems] == ["e02"]
    assert fetch(database, "SELECT count(*) FROM instances") == [(8,)]


def test_an_episode_without_characters_is_published(root: UPath, database: UPath) -> None:
    """An empty embeddings file (its vector column has no width yet) is a partition like any other."""
    tables = episodes(root, "e01")
    empty = root / "embeddings" / "e02.parquet"
    EMBEDDINGS.empty().write_parquet(str(empty))
    tables["embeddings"]["e02"] = empty
    report = publish(database, tables)
    assert report.problems == () and "embeddings/e02" in report.changed
    only_empty = publish(root / "other.duckdb", {"embeddings": {"e02": empty}})
    assert only_empty.problems == ()
    again = publish(root / "other.duckdb", {"embeddings": tables["embeddings"]})
    assert again.rebuilt == ("embeddings",) and again.changed == ("embeddings/e01", "embeddings/e02")


def test_a_table_may_become_partitioned(root: UPath, database: UPath) -> None:
    """Members published as one file and later one file per character are not there twice."""
    members = {"cluster_000": ["e01/000000/0"], "cluster_001": ["e01/000000/1"]}
    whole = write_characters(root, members)["members"]
    publish(database, {"members": whole})
    parts = {key: write_characters(root / key, {key: ids})["members"][""] for key, ids in members.items()}
    report = publish(database, {"members": parts})
    assert (report.changed, report.removed) == (("members/cluster_000", "members/cluster_001"), ("members",))
    assert fetch(database, "SELECT count(*) FROM members") == [(2,)]


def test_similar_instances_query(root: UPath, database: UPath) -> None:
    """The nearest instance to a stored vector is itself, with cosine 1."""
    tables = episodes(root, "e01", "e02")
    publish(database, tables)
    stored = pl.read_parquet(str(tables["embeddings"]["e02"])).row(3, named=True)
    with open_read_only(database) as connection:
        sql = render_sql("queries/similar_instances", dimension=4)
        rows = connection.execute(sql, [list(stored["vector"]), 3]).fetchall()
    best = {row[0] for row in rows if row[2] == pytest.approx(1.0, abs=1e-6)}
    assert stored["instance_id"] in best and len(rows) == 3


def test_similar_instances_of_a_known_one(root: UPath, database: UPath) -> None:
    """`FROM similar_instances(id)` gives what a plain computation gives, without the instance itself."""
    tables = episodes(root, "e01", "e02")
    publish(database, tables)
    rows = pl.concat(pl.read_parquet(str(file)) for file in tables["embeddings"].values()).sort("instance_id")
    vectors = np.asarray(rows["vector"].to_list(), np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = dict(zip(rows["instance_id"], vectors @ vectors[2], strict=True))
    asked = rows["instance_id"][2]
    found = fetch(database, f"SELECT instance_id, cosine FROM similar_instances('{asked}', how_many := 3)")
    expected = sorted(cosines.keys() - {asked}, key=lambda name: (-round(cosines[name], 6), name))[:3]
    assert [name for name, _ in found] == expected
    assert [cosine for _, cosine in found] == pytest.approx([cosines[name] for name in expected], abs=1e-6)
    assert fetch(database, "FROM similar_instances('nobody')") == []


READER = """
    import sys, time, duckdb
    connection = duckdb.connect(sys.argv[1], read_only=True)
    print(connection.execute("SELECT count(*) FROM instances").fetchone()[0], flush=True)
    sys.stdin.readline()
    print(connection.execute("SELECT count(*) FROM instances").fetchone()[0], flush=True)
"""


def test_a_reader_neither_blocks_nor_is_blocked(root: UPath, database: UPath) -> None:
    """A process that holds the old file open keeps reading it while a new one is published beside it."""
    tables = episodes(root, "e01")
    publish(database, tables)
    command = [sys.executable, "-c", textwrap.dedent(READER), str(database)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdin and reader.stdout
        assert reader.stdout.readline().strip() == "8"
        more = episodes(root, "e02")
        publish(database, {table: tables[table] | more[table] for table in tables})
        assert fetch(database, "SELECT count(*) FROM instances") == [(16,)]
        print("go", file=reader.stdin, flush=True)
        assert reader.stdout.readline().strip() == "8"
    assert reader.returncode == 0


def _publish_and_hang(database: str, files: dict[str, dict[str, str]]) -> None:
    def hang(done: int, total: int, note: str = "") -> None:
        Path(database).with_name("inside").touch()
        time.sleep(60)

    publish(UPath(database), {t: {k: UPath(f) for k, f in parts.items()} for t, parts in files.items()}, progress=hang)


def test_a_kill_leaves_the_old_file(root: UPath, database: UPath) -> None:
    """A publisher killed in the middle leaves the old database whole, and the next publisher goes through."""
    tables = episodes(root, "e01")
    publish(database, tables)
    more = episodes(root, "e02")
    both = {table: tables[table] | more[table] for table in tables}
    plain = {table: {key: str(file) for key, file in parts.items()} for table, parts in both.items()}
    process = multiprocessing.get_context("spawn").Process(target=_publish_and_hang, args=(str(database), plain))
    process.start()
    deadline = time.monotonic() + 60
    while not (root / "inside").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.pid
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert fetch(database, "SELECT count(*) FROM instances") == [(8,)]
    report = publish(database, both)
    assert report.changed == ("instances/e02", "embeddings/e02")
    assert fetch(database, "SELECT count(*) FROM instances") == [(16,)]
    assert not list(Path(str(root)).glob(".*.partial-*"))


def test_a_file_that_is_no_database_is_named(root: UPath, database: UPath) -> None:
    """A damaged or foreign file is told with the remedy, and is not overwritten."""
    with pytest.raises(DatabaseError, match="no database is published yet"), open_read_only(database):
        pass
    database.write_bytes(b"not a database" * 100)
    with pytest.raises(DatabaseError, match="cannot be opened as a DuckDB file"):
        publish(database, episodes(root, "e01"))
    assert database.read_bytes().startswith(b"not a database")


def test_a_remote_place_is_refused() -> None:
    """DuckDB cannot be renamed on an object store: said at once."""
    with pytest.raises(DatabaseError, match="local disk"):
        publish(UPath("memory://bucket/yokai.duckdb"), {})


def test_files_on_an_object_store_are_published(root: UPath, database: UPath) -> None:
    """Records may lie on any fsspec store while the database is local."""
    local = write_episode(root, "e01")["instances"]
    remote = UPath("memory://records/instances/e01.parquet")
    remote.parent.mkdir(parents=True, exist_ok=True)
    remote.write_bytes(local.read_bytes())
    assert publish(database, {"instances": {"e01": remote}}).changed == ("instances/e01",)
    assert publish(database, {"instances": {"e01": remote}}).unchanged == 1
    assert fetch(database, "SELECT count(*) FROM instances") == [(8,)]
