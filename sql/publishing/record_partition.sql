-- Parameters: table, partition, signature of its file, rows.
INSERT INTO published_partitions (table_name, partition, signature, row_count, published_at)
VALUES (?, ?, ?, ?, current_timestamp);
