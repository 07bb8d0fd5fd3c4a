-- One row per representative frame whose picture is shown again, anywhere in the series.
-- A row is identified by: frame_id.
CREATE TABLE repeats (
    -- Frame: `<episode>/<frame_index:06d>`.
    "frame_id"    VARCHAR NOT NULL,
    -- Episode key: the partition this row belongs to.
    "episode"     VARCHAR NOT NULL,
    -- Position in the episode's order of frames, from 0.
    "frame_index" INTEGER NOT NULL,
    -- frame_id of the first frame with this picture; itself if it is that one.
    "repeat_of"   VARCHAR NOT NULL,
    -- Hamming distance to that frame (bits of 64).
    "bits"        INTEGER NOT NULL,
    -- Frames that this one stands for in its shot.
    "frame_count" INTEGER NOT NULL
);
