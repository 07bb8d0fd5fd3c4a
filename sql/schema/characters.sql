-- One row per character ever found (asset `character_registry`).
-- A row is identified by: character_id.
CREATE TABLE characters (
    -- Character: `cluster_000`, ...; never reused.
    "character_id"      VARCHAR NOT NULL,
    -- `active`, `too_small` or `retired`.
    "state"             VARCHAR NOT NULL,
    -- Instances that belong to it now.
    "member_count"      INTEGER NOT NULL,
    -- Episodes it is seen in.
    "episode_count"     INTEGER NOT NULL,
    -- Registry version it was born in.
    "first_version"     INTEGER NOT NULL,
    -- Last registry version it was found in.
    "last_version"      INTEGER NOT NULL,
    -- instance_ids nearest to the centroid, most typical first.
    "exemplars"         VARCHAR[] NOT NULL,
    -- Unit mean of its vectors.
    "centroid"          FLOAT[] NOT NULL,
    -- Model of the centroid.
    "model_fingerprint" VARCHAR NOT NULL
);
