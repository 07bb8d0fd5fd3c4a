-- One row per judged checkpoint of a character, and one for the base model (step 0).
-- A row is identified by: character_id, step.
CREATE TABLE evaluations (
    -- Character: `cluster_000`, ...; never reused.
    "character_id"     VARCHAR NOT NULL,
    -- Training step of the checkpoint; 0 is the base model without LoRA.
    "step"             INTEGER NOT NULL,
    -- Checkpoint file, relative to the data root; null for the base.
    "checkpoint"       VARCHAR,
    -- Images drawn.
    "image_count"      INTEGER NOT NULL,
    -- Mean cosine of drawn to held-out images.
    "resemblance"      FLOAT NOT NULL,
    -- Lower end of the 95 % bootstrap interval.
    "resemblance_low"  FLOAT NOT NULL,
    -- Upper end of the 95 % bootstrap interval.
    "resemblance_high" FLOAT NOT NULL,
    -- Mean cosine among held-out and training images: the upper yardstick.
    "real_to_real"     FLOAT NOT NULL,
    -- Share of the distance base to real that is covered.
    "covered_share"    FLOAT,
    -- Share of drawn images whose nearest character is the right one.
    "identification"   FLOAT NOT NULL,
    -- Mean image-text cosine.
    "prompt_following" FLOAT,
    -- Mean pairwise cosine distance of drawn images.
    "diversity"        FLOAT NOT NULL,
    -- Share of drawn images nearer to a training image than any held-out image is to one.
    "memorised_share"  FLOAT NOT NULL,
    -- This checkpoint is the one to publish.
    "is_chosen"        BOOLEAN NOT NULL
);
