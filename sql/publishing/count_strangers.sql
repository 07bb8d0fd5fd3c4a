-- Rows of a file that do not belong to the partition it stands for. Parameters: the file, the partition key.
SELECT count(*) FROM read_parquet(?) WHERE $partition_column IS DISTINCT FROM ?;
