-- Parameters: name, sha256 of the DDL, model fingerprint.
INSERT INTO published_tables (table_name, ddl_sha256, model_fingerprint) VALUES (?, ?, ?);
