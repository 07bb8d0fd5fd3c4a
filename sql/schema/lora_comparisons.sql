-- Every judged LoRA against the real images of every character, by the pictures of its evaluation.
-- A row is identified by: lora_character_id, character_id.
CREATE TABLE lora_comparisons (
    -- Whose LoRA.
    "lora_character_id" VARCHAR NOT NULL,
    -- Whose real images.
    "character_id"      VARCHAR NOT NULL,
    -- Chosen training step of the LoRA.
    "step"              INTEGER NOT NULL,
    -- Images drawn with the LoRA, with its own trigger.
    "image_count"       INTEGER NOT NULL,
    -- Mean cosine of the drawn to the real images.
    "resemblance"       FLOAT NOT NULL,
    -- Lower end of its 95 % bootstrap interval.
    "resemblance_low"   FLOAT NOT NULL,
    -- Upper end of its 95 % bootstrap interval.
    "resemblance_high"  FLOAT NOT NULL,
    -- Share of the character's distance base to real.
    "covered_share"     FLOAT,
    -- Share of the drawn images that are recognised as the character.
    "recognised_share"  FLOAT NOT NULL
);
