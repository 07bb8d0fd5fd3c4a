-- One row per frame of an episode, readable or not.
-- A row is identified by: frame_id.
CREATE TABLE frames (
    -- Frame: `<episode>/<frame_index:06d>`.
    "frame_id"       VARCHAR NOT NULL,
    -- Episode key: the partition this row belongs to.
    "episode"        VARCHAR NOT NULL,
    -- Position in the episode's order of frames, from 0.
    "frame_index"    INTEGER NOT NULL,
    -- Image file, or `video.mkv#<decoded frame number>`, relative to the frames source.
    "source"         VARCHAR NOT NULL,
    -- `ok`, `unreadable`, `dark`, `blank`, `faded` or `credits`.
    "status"         VARCHAR NOT NULL,
    -- Why a frame is not `ok`.
    "reason"         VARCHAR,
    -- File size; for video frames null.
    "size_bytes"     BIGINT,
    -- Modification time of the file (ns since 1970).
    "modified_ns"    BIGINT,
    -- Way of measuring; null when unreadable.
    "print_version"  INTEGER,
    -- Width; null when unreadable.
    "width_px"       INTEGER,
    -- Height; null when unreadable.
    "height_px"      INTEGER,
    -- sha256 of the file's bytes (video: of the pixels).
    "content_sha256" VARCHAR,
    -- Difference hash, 64 bits.
    "dhash"          UBIGINT,
    -- Mean luma (0-255).
    "luma_mean"      FLOAT,
    -- Standard deviation of luma (0-255).
    "luma_deviation" FLOAT,
    -- Share of strong edges in lines of text, on plain ground.
    "text_share"     FLOAT,
    -- Luma means of 16x9 fields, a byte each, row by row.
    "miniature"      BLOB,
    -- Shot of the episode, from 0; null when unreadable.
    "shot"           INTEGER,
    -- frame_id that stands for this near-duplicate; itself if it does.
    "representative" VARCHAR
);
