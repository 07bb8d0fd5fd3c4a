-- What is published, so that the next publishing touches only what changed.
-- One row per partition of a table; `signature` is that of its Parquet file when it was read.
CREATE TABLE IF NOT EXISTS published_partitions (
    table_name   VARCHAR NOT NULL,
    -- Partition key; empty for a table that is one file.
    partition    VARCHAR NOT NULL,
    signature    VARCHAR NOT NULL,
    row_count    BIGINT NOT NULL,
    published_at TIMESTAMPTZ NOT NULL
);
-- One row per published table: its DDL and, for vectors, the model; another one means the table is built anew.
CREATE TABLE IF NOT EXISTS published_tables (
    table_name        VARCHAR NOT NULL,
    ddl_sha256        VARCHAR NOT NULL,
    model_fingerprint VARCHAR
);
