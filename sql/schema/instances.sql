-- One row per character instance cut out of a representative frame (asset `character_layers`).
-- A row is identified by: instance_id.
CREATE TABLE instances (
    -- Instance: `<frame_id>/<instance_index>`.
    "instance_id"        VARCHAR NOT NULL,
    -- Frame: `<episode>/<frame_index:06d>`.
    "frame_id"           VARCHAR NOT NULL,
    -- Episode key: the partition this row belongs to.
    "episode"            VARCHAR NOT NULL,
    -- Position in the episode's order of frames, from 0.
    "frame_index"        INTEGER NOT NULL,
    -- Instance of the frame, from 0, largest first.
    "instance_index"     INTEGER NOT NULL,
    -- Shot of the episode, from 0.
    "shot"               INTEGER NOT NULL,
    -- Left edge of the box in the frame (px).
    "x0"                 INTEGER NOT NULL,
    -- Top edge of the box in the frame (px).
    "y0"                 INTEGER NOT NULL,
    -- Right edge, exclusive (px).
    "x1"                 INTEGER NOT NULL,
    -- Bottom edge, exclusive (px).
    "y1"                 INTEGER NOT NULL,
    -- Width of the frame.
    "frame_width_px"     INTEGER NOT NULL,
    -- Height of the frame.
    "frame_height_px"    INTEGER NOT NULL,
    -- Share of the frame that the instance covers.
    "area_share"         FLOAT NOT NULL,
    -- Highest raw network output inside the instance (0-1).
    "presence"           FLOAT NOT NULL,
    -- Share of the instance's outline box that lies on the frame's edge.
    "edge_contact_share" FLOAT NOT NULL,
    -- Thick parts that narrow necks join; more than usual: characters who touch.
    "lobe_count"         INTEGER NOT NULL,
    -- Variance of the Laplacian inside the mask.
    "sharpness"          FLOAT NOT NULL,
    -- Mean luma inside the mask (0-255).
    "luma_mean"          FLOAT NOT NULL,
    -- Frames that this instance stands for: itself and its near-duplicates.
    "weight"             INTEGER NOT NULL,
    -- Cut-out, RGBA WebP of the box, relative to the data root.
    "cutout"             VARCHAR NOT NULL,
    -- sha256 of the cut-out's RGBA pixels and size.
    "cutout_sha256"      VARCHAR NOT NULL,
    -- content_sha256 of the frame.
    "frame_sha256"       VARCHAR NOT NULL,
    -- What made the mask: model file and parameters (sha256).
    "matte_fingerprint"  VARCHAR NOT NULL
);
