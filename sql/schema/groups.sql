-- One row per group of the newest clustering: how good it is (asset `group_quality`).
-- A row is identified by: cluster_label.
CREATE TABLE groups (
    -- Group of this clustering.
    "cluster_label"       INTEGER NOT NULL,
    -- Members.
    "size"                INTEGER NOT NULL,
    -- The group was found among what the first pass left over.
    "is_rare_group"       BOOLEAN NOT NULL,
    -- Mean cosine of its members to its centroid.
    "tightness"           FLOAT NOT NULL,
    -- 5th percentile: own minus best other centroid cosine.
    "low_margin"          FLOAT,
    -- Share of members to whom another group's centroid is nearer.
    "stray_share"         FLOAT NOT NULL,
    -- Group most like it.
    "rival_label"         INTEGER,
    -- Likeness of the rival: 0 as strangers, 1 as members.
    "rival_linkage"       FLOAT,
    -- Likeness of its own two halves on that scale.
    "halves_linkage"      FLOAT,
    -- Mean Jaccard index with what parts of the series give.
    "stability"           FLOAT,
    -- Median share of its boxes' outline on the frame's edge.
    "edge_contact"        FLOAT,
    -- Share of members that look like figures who touch.
    "several_share"       FLOAT,
    -- Of showing no figure, by words; mean of members.
    "scenery_probability" FLOAT,
    -- Shots of the series that its members come from.
    "shot_count"          INTEGER NOT NULL,
    -- `merge`, `split`, `several`, `scenery` or `unstable`.
    "suspicion"           VARCHAR
);
