-- Parameters: table, partition.
DELETE FROM published_partitions WHERE table_name = ? AND partition = ?;
