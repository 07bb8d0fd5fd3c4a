-- Rows of one partition. Parameter: the partition key.
DELETE FROM $table WHERE $partition_column = ?;
