-- Published partitions and their signatures.
SELECT table_name, partition, signature FROM published_partitions ORDER BY table_name, partition;
