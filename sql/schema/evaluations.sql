-- One row per judged checkpoint of a character, and one for the base model (step 0).
-- A row is identified by: character_id, step.
CREATE TABLE evaluations (
    -- Character: `cluster_000`, ...; never reused.
    "character_id"          VARCHAR NOT NULL,
    -- Training step of the checkpoint; 0 is the base model without LoRA.
    "step"                  INTEGER NOT NULL,
    -- Checkpoint file, relative to the data root; null for the base.
    "checkpoint"            VARCHAR,
    -- Images drawn.
    "image_count"           INTEGER NOT NULL,
    -- Images that are black, constant or not a number.
    "defect_count"          INTEGER NOT NULL,
    -- Mean cosine among held-out and training images: the upper yardstick.
    "real_to_real"          FLOAT NOT NULL,
    -- Mean cosine of drawn to held-out images.
    "resemblance"           FLOAT NOT NULL,
    -- Lower end of its 95 % bootstrap interval.
    "resemblance_low"       FLOAT NOT NULL,
    -- Upper end of its 95 % bootstrap interval.
    "resemblance_high"      FLOAT NOT NULL,
    -- Resemblance minus the base model's, in pairs of one seed.
    "resemblance_gain"      FLOAT,
    -- Lower end of its 95 % bootstrap interval.
    "resemblance_gain_low"  FLOAT,
    -- Upper end of its 95 % bootstrap interval.
    "resemblance_gain_high" FLOAT,
    -- Share of the distance base to real that is covered.
    "covered_share"         FLOAT,
    -- Lower end of its 95 % bootstrap interval.
    "covered_share_low"     FLOAT,
    -- Upper end of its 95 % bootstrap interval.
    "covered_share_high"    FLOAT,
    -- Share of drawn images whose nearest character is the right one.
    "identification"        FLOAT NOT NULL,
    -- Lower end of its 95 % bootstrap interval.
    "identification_low"    FLOAT NOT NULL,
    -- Upper end of its 95 % bootstrap interval.
    "identification_high"   FLOAT NOT NULL,
    -- Mean image-text cosine.
    "text_similarity"       FLOAT,
    -- Lower end of its 95 % bootstrap interval.
    "text_similarity_low"   FLOAT,
    -- Upper end of its 95 % bootstrap interval.
    "text_similarity_high"  FLOAT,
    -- How much nearer images are to their own prompt's text than images of other prompts are.
    "prompt_following"      FLOAT,
    -- Lower end of its 95 % bootstrap interval.
    "prompt_following_low"  FLOAT,
    -- Upper end of its 95 % bootstrap interval.
    "prompt_following_high" FLOAT,
    -- Share of the base model's prompt-following that is lost.
    "prompt_loss"           FLOAT,
    -- Lower end of its 95 % bootstrap interval.
    "prompt_loss_low"       FLOAT,
    -- Upper end of its 95 % bootstrap interval.
    "prompt_loss_high"      FLOAT,
    -- Mean cosine distance of drawn images of one prompt.
    "diversity"             FLOAT NOT NULL,
    -- Lower end of its 95 % bootstrap interval.
    "diversity_low"         FLOAT NOT NULL,
    -- Upper end of its 95 % bootstrap interval.
    "diversity_high"        FLOAT NOT NULL,
    -- Share of drawn images nearer to a training image than any held-out image is to one.
    "memorised_share"       FLOAT NOT NULL,
    -- Lower end of its 95 % bootstrap interval.
    "memorised_share_low"   FLOAT NOT NULL,
    -- Upper end of its 95 % bootstrap interval.
    "memorised_share_high"  FLOAT NOT NULL,
    -- Cosine distance to the base model's images of prompts without trigger.
    "bleeding"              FLOAT,
    -- Lower end of its 95 % bootstrap interval.
    "bleeding_low"          FLOAT,
    -- Upper end of its 95 % bootstrap interval.
    "bleeding_high"         FLOAT,
    -- Loss on held-out images at this step of training.
    "validation_loss"       FLOAT,
    -- Score of the choice; null for the base model.
    "score"                 FLOAT,
    -- Best weight of the chosen checkpoint; else null.
    "suggested_weight"      FLOAT,
    -- This checkpoint is the one to publish.
    "is_chosen"             BOOLEAN NOT NULL
);
