"""Parquet tables: round trips, damage, absence, and fingerprints of what is there."""

import os

import polars as pl
import pytest
from upath import UPath

from yokai_assets.storage.parquet import (
    files_fingerprint,
    read_columns,
    read_earlier_table,
    read_partitions,
    read_table,
    table_files,
    write_table,
)
from yokai_assets.tables import CLUSTERS, TableError


def rows(episode: str, count: int = 3) -> pl.DataFrame:
    return CLUSTERS.from_rows(
        {
            "instance_id": f"{episode}/{i:06d}/0",
            "episode": episode,
            "cluster_label": i,
            "probability": 1.0,
            "is_rare_group": False,
            "representative": "e/000000/0",
            "is_joined": False,
            "cutout_sha256": "x",
        }
        for i in range(count)
    )


def test_a_table_comes_back_as_it_went(tmp_path):
    """Schema and rows survive the disk."""
    path = UPath(tmp_path) / "t" / "e1.parquet"
    written = write_table(CLUSTERS, rows("e1"), path)
    assert read_table(CLUSTERS, path).equals(written)


def test_an_absent_table_says_what_makes_it(tmp_path):
    """A person who meets this error must know what to do."""
    with pytest.raises(FileNotFoundError, match="Materialize the asset"):
        read_table(CLUSTERS, UPath(tmp_path) / "none.parquet")


def test_a_damaged_table_does_not_stop_its_own_remaking(tmp_path, caplog):
    """A partition whose table was damaged, or is of an older version, can be materialized again."""
    path = UPath(tmp_path) / "e1.parquet"
    write_table(CLUSTERS, rows("e1"), path)
    assert read_earlier_table(CLUSTERS, path).height == 3
    pl.read_parquet(str(path)).drop("probability").write_parquet(str(path))
    assert read_earlier_table(CLUSTERS, path).is_empty()
    path.write_bytes(b"PAR1 and no more")
    assert read_earlier_table(CLUSTERS, path).is_empty()
    assert "e1.parquet" in caplog.text


def test_a_damaged_table_is_named(tmp_path):
    """A truncated file is an error with a remedy, not a crash deep inside a reader."""
    path = UPath(tmp_path) / "e1.parquet"
    write_table(CLUSTERS, rows("e1"), path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(TableError, match=r"e1\.parquet.*Materialize its partition again"):
        read_table(CLUSTERS, path)


def test_unfinished_files_are_not_partitions(tmp_path):
    """A killed writer leaves a hidden temporary file; no reader may take it for a partition."""
    folder = UPath(tmp_path)
    write_table(CLUSTERS, rows("e1"), folder / "e1.parquet")
    (folder / ".e2.parquet.partial-1.parquet").write_bytes(b"half")
    assert list(table_files(folder)) == ["e1"]


def test_partitions_are_read_as_one(tmp_path):
    """Absent and empty partitions are left out, rows are filtered partition by partition."""
    folder = UPath(tmp_path)
    for episode, count in (("e1", 2), ("e2", 0), ("e3", 3)):
        write_table(CLUSTERS, rows(episode, count), folder / f"{episode}.parquet")
    found = read_partitions(CLUSTERS, folder, ["e1", "e2", "e3", "e9"], where=pl.col("cluster_label") > 0)
    assert found["instance_id"].to_list() == ["e1/000001/0", "e3/000001/0", "e3/000002/0"]


def test_columns_are_read_without_the_rest(tmp_path):
    """The planner reads two columns of half a million rows; a damaged file is named, or passed over where asked."""
    folder = UPath(tmp_path)
    for episode, count in (("e1", 2), ("e2", 0), ("e3", 3)):
        write_table(CLUSTERS, rows(episode, count), folder / f"{episode}.parquet")
    columns = ["instance_id", "cluster_label"]
    found = read_columns(CLUSTERS, folder, columns, ["e1", "e2", "e3"], where=pl.col("cluster_label") > 0)
    assert found.columns == columns
    assert found["instance_id"].to_list() == ["e1/000001/0", "e3/000001/0", "e3/000002/0"]
    (folder / "e1.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(TableError, match=r"e1\.parquet"):
        read_columns(CLUSTERS, folder, columns)
    assert read_columns(CLUSTERS, folder, columns, skip_damaged=True).height == 3
    assert read_columns(CLUSTERS, folder, columns, ["e9"]).schema == {c: CLUSTERS.schema[c] for c in columns}


def test_keys_with_dots_are_whole_keys(tmp_path):
    """Episode keys may hold dots (`s1.e01`): only the suffix is cut off."""
    folder = UPath(tmp_path)
    write_table(CLUSTERS, rows("s1.e01"), folder / "s1.e01.parquet")
    assert list(table_files(folder)) == ["s1.e01"]


def test_fingerprint_changes_with_any_file(tmp_path):
    """The planner relies on it to see that a partition was written anew, added or removed."""
    folder = UPath(tmp_path)
    write_table(CLUSTERS, rows("e1"), folder / "e1.parquet")
    before = files_fingerprint({"clusters": table_files(folder)})
    assert before == files_fingerprint({"clusters": table_files(folder)})
    os.utime(str(folder / "e1.parquet"), (1, 1))
    touched = files_fingerprint({"clusters": table_files(folder)})
    write_table(CLUSTERS, rows("e2"), folder / "e2.parquet")
    added = files_fingerprint({"clusters": table_files(folder)})
    assert len({before, touched, added}) == 3
