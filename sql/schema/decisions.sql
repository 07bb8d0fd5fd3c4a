-- One row per decision that a person made (`yokai characters`); only ever appended to.
-- A row is identified by: decision_id.
CREATE TABLE decisions (
    -- Running number, from 1.
    "decision_id"  INTEGER NOT NULL,
    -- When.
    "at"           TIMESTAMPTZ NOT NULL,
    -- Who.
    "by"           VARCHAR NOT NULL,
    -- `name`, `merge`, `split`, `exclude`, `dismiss`, `accept`, `freeze`, `retire`, `undo`.
    "kind"         VARCHAR NOT NULL,
    -- Character that it is about.
    "character_id" VARCHAR,
    -- In words.
    "meaning"      VARCHAR NOT NULL,
    -- `holds`, `undone`, or `lapsed`: it does not apply any more.
    "status"       VARCHAR NOT NULL,
    -- Why it lapsed.
    "reason"       VARCHAR
);
