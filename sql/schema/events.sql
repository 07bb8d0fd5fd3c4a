-- One row per event in the life of a character; only ever appended to.
-- A row is identified by: event_id.
CREATE TABLE events (
    -- Running number, from 0.
    "event_id"         BIGINT NOT NULL,
    -- Registry version it happened in.
    "registry_version" INTEGER NOT NULL,
    -- When.
    "at"               TIMESTAMPTZ NOT NULL,
    -- Character: `cluster_000`, ...; never reused.
    "character_id"     VARCHAR NOT NULL,
    -- `born`, `grown`, `shrunk`, `merged`, `split`, `retired`, `returned`, `named`, `frozen`, `released`, `dismissed` or `confirmed`.
    "kind"             VARCHAR NOT NULL,
    -- The other character of a merge or split.
    "other_id"         VARCHAR,
    -- Members after the event.
    "member_count"     INTEGER NOT NULL,
    -- In words.
    "note"             VARCHAR NOT NULL
);
