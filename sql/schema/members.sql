-- One row per instance that belongs to a character (asset `character_members`).
-- A row is identified by: instance_id.
CREATE TABLE members (
    -- Character: `cluster_000`, ...; never reused.
    "character_id"    VARCHAR NOT NULL,
    -- Character that it was found as, before decisions.
    "found_as"        VARCHAR,
    -- Instance: `<frame_id>/<instance_index>`.
    "instance_id"     VARCHAR NOT NULL,
    -- Episode key: the partition this row belongs to.
    "episode"         VARCHAR NOT NULL,
    -- Strength of membership (0-1).
    "probability"     FLOAT NOT NULL,
    -- Cosine to the mean of the character's members.
    "centroid_cosine" FLOAT NOT NULL
);
