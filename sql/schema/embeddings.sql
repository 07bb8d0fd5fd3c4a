-- One unit vector per instance.
-- A row is identified by: instance_id.
-- $dimension is the width of the vectors, known when the table is published.
CREATE TABLE embeddings (
    -- Instance: `<frame_id>/<instance_index>`.
    "instance_id"       VARCHAR NOT NULL,
    -- Episode key: the partition this row belongs to.
    "episode"           VARCHAR NOT NULL,
    -- Pixels that were embedded: the cache key beside the model.
    "cutout_sha256"     VARCHAR NOT NULL,
    -- Model and preprocessing (sha256).
    "model_fingerprint" VARCHAR NOT NULL,
    -- Unit vector, float32.
    "vector"            FLOAT[$dimension] NOT NULL
);
