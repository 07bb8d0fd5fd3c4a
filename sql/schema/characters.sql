-- One row per character ever found (asset `character_registry`).
-- A row is identified by: character_id.
CREATE TABLE characters (
    -- Character: `cluster_000`, ...; never reused.
    "character_id"      VARCHAR NOT NULL,
    -- What people call it, by decision.
    "name"              VARCHAR,
    -- `active`, `too_small`, `provisional`, `split_from`, `merged_into`, `not_a_character` or `retired`.
    "state"             VARCHAR NOT NULL,
    -- Character that it is part of, or came out of.
    "other_id"          VARCHAR,
    -- Why it is not `active`, or who said that it is.
    "reason"            VARCHAR,
    -- Instances that belong to it now.
    "member_count"      INTEGER NOT NULL,
    -- Episodes it is seen in.
    "episode_count"     INTEGER NOT NULL,
    -- Registry version it was born in.
    "first_version"     INTEGER NOT NULL,
    -- Last registry version it was found in.
    "last_version"      INTEGER NOT NULL,
    -- Clustering it was found in last (fingerprint).
    "found_in"          VARCHAR,
    -- Decision that made it out of another one.
    "split_by"          INTEGER,
    -- Decision that holds its members.
    "frozen_by"         INTEGER,
    -- instance_ids nearest to the centroid, most typical first.
    "exemplars"         VARCHAR[] NOT NULL,
    -- Unit mean of the vectors that it was found by.
    "centroid"          FLOAT[] NOT NULL,
    -- Model of the centroid.
    "model_fingerprint" VARCHAR NOT NULL
);
