-- One row per image of a character's training set (asset `training_dataset`).
-- A row is identified by: instance_id.
CREATE TABLE dataset (
    -- Character: `cluster_000`, ...; never reused.
    "character_id"    VARCHAR NOT NULL,
    -- Instance: `<frame_id>/<instance_index>`.
    "instance_id"     VARCHAR NOT NULL,
    -- `train` or `held_out`.
    "split"           VARCHAR NOT NULL,
    -- Episode key.
    "episode"         VARCHAR NOT NULL,
    -- Shot of the episode, from 0.
    "shot"            INTEGER NOT NULL,
    -- PNG, relative to the data root.
    "image"           VARCHAR NOT NULL,
    -- Alpha as grey PNG of the same size, relative to the data root.
    "mask"            VARCHAR NOT NULL,
    -- As in the `.txt` beside the PNG.
    "caption"         VARCHAR NOT NULL,
    -- `original`, `plain`, `plate` or `transparent`.
    "background"      VARCHAR NOT NULL,
    -- Look of the character, 0 the most frequent one.
    "outfit"          INTEGER NOT NULL,
    -- Side it is seen from, in words; null where it cannot be told.
    "view"            VARCHAR,
    -- `whole`, or cut by the frame's lower edge: `part` or `close`.
    "framing"         VARCHAR NOT NULL,
    -- Own less best other centroid cosine.
    "identity_margin" FLOAT,
    -- Cut-out that it was made of.
    "cutout_sha256"   VARCHAR NOT NULL,
    -- Width of the PNG.
    "width_px"        INTEGER NOT NULL,
    -- Height of the PNG.
    "height_px"       INTEGER NOT NULL,
    -- sha256 of the PNG's pixels and mask.
    "image_sha256"    VARCHAR NOT NULL
);
