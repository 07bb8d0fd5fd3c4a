-- Rows of one Parquet file, matched by column name. Parameter: the file.
INSERT INTO $table BY NAME SELECT * FROM read_parquet(?);
