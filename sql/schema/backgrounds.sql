-- One row per shot: its clean plate, the background with the characters taken out.
-- A row is identified by: episode, shot.
CREATE TABLE backgrounds (
    -- Episode key: the partition this row belongs to.
    "episode"      VARCHAR NOT NULL,
    -- Shot of the episode, from 0.
    "shot"         INTEGER NOT NULL,
    -- Clean plate, WebP, relative to the data root.
    "plate"        VARCHAR NOT NULL,
    -- Frames that the plate was made of.
    "frame_count"  INTEGER NOT NULL,
    -- Share of pixels hidden in every frame and filled from around them.
    "filled_share" FLOAT NOT NULL,
    -- Width of the plate.
    "width_px"     INTEGER NOT NULL,
    -- Height of the plate.
    "height_px"    INTEGER NOT NULL
);
