-- Published tables, the DDL they were made with and the model of their vectors.
SELECT table_name, ddl_sha256, model_fingerprint FROM published_tables ORDER BY table_name;
