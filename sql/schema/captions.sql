-- One row per member: its caption.
-- A row is identified by: instance_id.
CREATE TABLE captions (
    -- Character: `cluster_000`, ...; never reused.
    "character_id" VARCHAR NOT NULL,
    -- Instance: `<frame_id>/<instance_index>`.
    "instance_id"  VARCHAR NOT NULL,
    -- The character's trigger word.
    "trigger"      VARCHAR NOT NULL,
    -- Tags in caption order, without the trigger.
    "tags"         VARCHAR[] NOT NULL,
    -- Confidence of each tag (0-1).
    "scores"       FLOAT[] NOT NULL,
    -- The same as words for people, without the trigger; empty: nothing to say.
    "sentence"     VARCHAR NOT NULL,
    -- Trigger and tags, or a sentence, as written to the `.txt`.
    "caption"      VARCHAR NOT NULL
);
