-- One row per embedded instance of the series: its group in the newest clustering.
-- A row is identified by: instance_id.
CREATE TABLE clusters (
    -- Instance: `<frame_id>/<instance_index>`.
    "instance_id"    VARCHAR NOT NULL,
    -- Episode key: the partition this row belongs to.
    "episode"        VARCHAR NOT NULL,
    -- Group of this clustering; -1 is noise. Labels mean nothing across clusterings.
    "cluster_label"  INTEGER NOT NULL,
    -- Strength of membership (0-1).
    "probability"    FLOAT NOT NULL,
    -- The group was found among what the first pass left over.
    "is_rare_group"  BOOLEAN NOT NULL,
    -- instance_id that stood for it, near-identical; itself if it did.
    "representative" VARCHAR NOT NULL,
    -- It came since the last clustering of all: joined by vote, or waits (-1).
    "is_joined"      BOOLEAN NOT NULL,
    -- Pixels that were clustered.
    "cutout_sha256"  VARCHAR NOT NULL
);
