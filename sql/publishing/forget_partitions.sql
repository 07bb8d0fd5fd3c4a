-- Parameter: the table's name.
DELETE FROM published_partitions WHERE table_name = ?;
