"""Every table of the platform: names, grains, columns, units.

Specs only. Ids: `frame_id` is `<episode>/<frame_index:06d>`, `instance_id` is `<frame_id>/<instance_index>`.
Paths are relative to the data root (`cutout`, ...) or to the frames source (`source`), with `/` separators.
Boxes are half-open pixel ranges of the source frame: x0 <= x < x1.
"""

import polars as pl

from yokai_assets.tables.spec import VECTOR, Column, TableSpec

_EPISODE = Column("episode", pl.String, "Episode key: the partition this row belongs to.")
_FRAME_ID = Column("frame_id", pl.String, "Frame: `<episode>/<frame_index:06d>`.")
_FRAME_INDEX = Column("frame_index", pl.Int32, "Position in the episode's order of frames, from 0.")
_SHOT = Column("shot", pl.Int32, "Shot of the episode, from 0.")
_INSTANCE_ID = Column("instance_id", pl.String, "Instance: `<frame_id>/<instance_index>`.")
_CHARACTER = Column("character_id", pl.String, "Character: `cluster_000`, ...; never reused.")
_CUTOUT = Column("cutout", pl.String, "Cut-out, RGBA WebP of the box, relative to the data root.")
_BOX = (
    Column("x0", pl.Int32, "Left edge of the box in the frame (px)."),
    Column("y0", pl.Int32, "Top edge of the box in the frame (px)."),
    Column("x1", pl.Int32, "Right edge, exclusive (px)."),
    Column("y1", pl.Int32, "Bottom edge, exclusive (px)."),
)

FRAMES = TableSpec(
    name="frames",
    description="One row per frame of an episode, readable or not.",
    columns=(
        _FRAME_ID,
        _EPISODE,
        _FRAME_INDEX,
        Column(
            "source", pl.String, "Image file, or `video.mkv#<decoded frame number>`, relative to the frames source."
        ),
        Column("status", pl.String, "`ok`, `unreadable`, `dark`, `blank`, `faded` or `credits`."),
        Column("reason", pl.String, "Why a frame is not `ok`.", is_nullable=True),
        Column("size_bytes", pl.Int64, "File size; for video frames null.", is_nullable=True),
        Column("modified_ns", pl.Int64, "Modification time of the file (ns since 1970).", is_nullable=True),
        Column("print_version", pl.Int32, "Way of measuring; null when unreadable.", is_nullable=True),
        Column("width_px", pl.Int32, "Width; null when unreadable.", is_nullable=True),
        Column("height_px", pl.Int32, "Height; null when unreadable.", is_nullable=True),
        Column("content_sha256", pl.String, "sha256 of the file's bytes (video: of the pixels).", is_nullable=True),
        Column("dhash", pl.UInt64, "Difference hash, 64 bits.", is_nullable=True),
        Column("luma_mean", pl.Float32, "Mean luma (0-255).", is_nullable=True),
        Column("luma_deviation", pl.Float32, "Standard deviation of luma (0-255).", is_nullable=True),
        Column("text_share", pl.Float32, "Share of strong edges in lines of text, on plain ground.", is_nullable=True),
        Column("miniature", pl.Binary, "Luma means of 16x9 fields, a byte each, row by row.", is_nullable=True),
        Column("shot", pl.Int32, "Shot of the episode, from 0; null when unreadable.", is_nullable=True),
        Column(
            "representative",
            pl.String,
            "frame_id that stands for this near-duplicate; itself if it does.",
            is_nullable=True,
        ),
    ),
    key=("frame_id",),
)

REPEATS = TableSpec(
    name="repeats",
    description="One row per representative frame whose picture is shown again, anywhere in the series.",
    columns=(
        _FRAME_ID,
        _EPISODE,
        _FRAME_INDEX,
        Column("repeat_of", pl.String, "frame_id of the first frame with this picture; itself if it is that one."),
        Column("bits", pl.Int32, "Hamming distance to that frame (bits of 64)."),
        Column("frame_count", pl.Int32, "Frames that this one stands for in its shot."),
    ),
    key=("frame_id",),
)

INSTANCES = TableSpec(
    name="instances",
    description="One row per character instance cut out of a representative frame (asset `character_layers`).",
    columns=(
        _INSTANCE_ID,
        _FRAME_ID,
        _EPISODE,
        _FRAME_INDEX,
        Column("instance_index", pl.Int32, "Instance of the frame, from 0, largest first."),
        _SHOT,
        *_BOX,
        Column("frame_width_px", pl.Int32, "Width of the frame."),
        Column("frame_height_px", pl.Int32, "Height of the frame."),
        Column("area_share", pl.Float32, "Share of the frame that the instance covers."),
        Column("presence", pl.Float32, "Highest raw network output inside the instance (0-1)."),
        Column("edge_contact_share", pl.Float32, "Share of the instance's outline box that lies on the frame's edge."),
        Column("lobe_count", pl.Int32, "Thick parts that narrow necks join; more than usual: characters who touch."),
        Column("sharpness", pl.Float32, "Variance of the Laplacian inside the mask."),
        Column("luma_mean", pl.Float32, "Mean luma inside the mask (0-255)."),
        Column("weight", pl.Int32, "Frames that this instance stands for: itself and its near-duplicates."),
        _CUTOUT,
        Column("cutout_sha256", pl.String, "sha256 of the cut-out's RGBA pixels and size."),
        Column("frame_sha256", pl.String, "content_sha256 of the frame."),
        Column("matte_fingerprint", pl.String, "What made the mask: model file and parameters (sha256)."),
    ),
    key=("instance_id",),
)

BACKGROUNDS = TableSpec(
    name="backgrounds",
    description="One row per shot: its clean plate, the background with the characters taken out.",
    columns=(
        _EPISODE,
        _SHOT,
        Column("plate", pl.String, "Clean plate, WebP, relative to the data root."),
        Column("frame_count", pl.Int32, "Frames that the plate was made of."),
        Column("filled_share", pl.Float32, "Share of pixels hidden in every frame and filled from around them."),
        Column("width_px", pl.Int32, "Width of the plate."),
        Column("height_px", pl.Int32, "Height of the plate."),
    ),
    key=("episode", "shot"),
)

EMBEDDINGS = TableSpec(
    name="embeddings",
    description="One unit vector per instance.",
    columns=(
        _INSTANCE_ID,
        _EPISODE,
        Column("cutout_sha256", pl.String, "Pixels that were embedded: the cache key beside the model."),
        Column("model_fingerprint", pl.String, "Model and preprocessing (sha256)."),
        Column("vector", VECTOR, "Unit vector, float32."),
    ),
    key=("instance_id",),
)

CLUSTERS = TableSpec(
    name="clusters",
    description="One row per embedded instance of the series: its group in the newest clustering.",
    columns=(
        _INSTANCE_ID,
        _EPISODE,
        Column(
            "cluster_label", pl.Int32, "Group of this clustering; -1 is noise. Labels mean nothing across clusterings."
        ),
        Column("probability", pl.Float32, "Strength of membership (0-1)."),
        Column("is_rare_group", pl.Boolean, "The group was found among what the first pass left over."),
        Column("representative", pl.String, "instance_id that stood for it, near-identical; itself if it did."),
        Column("is_joined", pl.Boolean, "It came since the last clustering of all: joined by vote, or waits (-1)."),
        Column("cutout_sha256", pl.String, "Pixels that were clustered."),
    ),
    key=("instance_id",),
)

GROUPS = TableSpec(
    name="groups",
    description="One row per group of the newest clustering: how good it is (asset `group_quality`).",
    columns=(
        Column("cluster_label", pl.Int32, "Group of this clustering."),
        Column("size", pl.Int32, "Members."),
        Column("is_rare_group", pl.Boolean, "The group was found among what the first pass left over."),
        Column("tightness", pl.Float32, "Mean cosine of its members to its centroid."),
        Column("low_margin", pl.Float32, "5th percentile: own minus best other centroid cosine.", is_nullable=True),
        Column("stray_share", pl.Float32, "Share of members to whom another group's centroid is nearer."),
        Column("rival_label", pl.Int32, "Group most like it.", is_nullable=True),
        Column("rival_linkage", pl.Float32, "Likeness of the rival: 0 as strangers, 1 as members.", is_nullable=True),
        Column("halves_linkage", pl.Float32, "Likeness of its own two halves on that scale.", is_nullable=True),
        Column("stability", pl.Float32, "Mean Jaccard index with what parts of the series give.", is_nullable=True),
        Column("edge_contact", pl.Float32, "Median share of its boxes' outline on the frame's edge.", is_nullable=True),
        Column("several_share", pl.Float32, "Share of members that look like figures who touch.", is_nullable=True),
        Column("scenery_probability", pl.Float32, "Of showing no figure, by words; mean of members.", is_nullable=True),
        Column("shot_count", pl.Int32, "Shots of the series that its members come from."),
        Column("suspicion", pl.String, "`merge`, `split`, `several`, `scenery` or `unstable`.", is_nullable=True),
    ),
    key=("cluster_label",),
)

CHARACTERS = TableSpec(
    name="characters",
    description="One row per character ever found (asset `character_registry`).",
    columns=(
        _CHARACTER,
        Column("name", pl.String, "What people call it, by decision.", is_nullable=True),
        Column(
            "state",
            pl.String,
            "`active`, `too_small`, `provisional`, `split_from`, `merged_into`, `not_a_character` or `retired`.",
        ),
        Column("other_id", pl.String, "Character that it is part of, or came out of.", is_nullable=True),
        Column("reason", pl.String, "Why it is not `active`, or who said that it is.", is_nullable=True),
        Column("member_count", pl.Int32, "Instances that belong to it now."),
        Column("episode_count", pl.Int32, "Episodes it is seen in."),
        Column("first_version", pl.Int32, "Registry version it was born in."),
        Column("last_version", pl.Int32, "Last registry version it was found in."),
        Column("found_in", pl.String, "Clustering it was found in last (fingerprint).", is_nullable=True),
        Column("split_by", pl.Int32, "Decision that made it out of another one.", is_nullable=True),
        Column("frozen_by", pl.Int32, "Decision that holds its members.", is_nullable=True),
        Column("exemplars", pl.List(pl.String), "instance_ids nearest to the centroid, most typical first."),
        Column("centroid", VECTOR, "Unit mean of the vectors that it was found by."),
        Column("model_fingerprint", pl.String, "Model of the centroid."),
    ),
    key=("character_id",),
)

MEMBERS = TableSpec(
    name="members",
    description="One row per instance that belongs to a character (asset `character_members`).",
    columns=(
        _CHARACTER,
        Column("found_as", pl.String, "Character that it was found as, before decisions.", is_nullable=True),
        _INSTANCE_ID,
        _EPISODE,
        Column("probability", pl.Float32, "Strength of membership (0-1)."),
        Column("centroid_cosine", pl.Float32, "Cosine to the mean of the character's members."),
    ),
    key=("instance_id",),
)

EVENTS = TableSpec(
    name="events",
    description="One row per event in the life of a character; only ever appended to.",
    columns=(
        Column("event_id", pl.Int64, "Running number, from 0."),
        Column("registry_version", pl.Int32, "Registry version it happened in."),
        Column("at", pl.Datetime("us", "UTC"), "When."),
        _CHARACTER,
        Column(
            "kind",
            pl.String,
            "`born`, `grown`, `shrunk`, `merged`, `split`, `retired`, `returned`, `named`, `frozen`, `released`, "
            "`dismissed` or `confirmed`.",
        ),
        Column("other_id", pl.String, "The other character of a merge or split.", is_nullable=True),
        Column("member_count", pl.Int32, "Members after the event."),
        Column("note", pl.String, "In words."),
    ),
    key=("event_id",),
)

DECISIONS = TableSpec(
    name="decisions",
    description="One row per decision that a person made (`yokai characters`); only ever appended to.",
    columns=(
        Column("decision_id", pl.Int32, "Running number, from 1."),
        Column("at", pl.Datetime("us", "UTC"), "When."),
        Column("by", pl.String, "Who."),
        Column(
            "kind", pl.String, "`name`, `merge`, `split`, `exclude`, `dismiss`, `accept`, `freeze`, `retire`, `undo`."
        ),
        Column("character_id", pl.String, "Character that it is about.", is_nullable=True),
        Column("meaning", pl.String, "In words."),
        Column("status", pl.String, "`holds`, `undone`, or `lapsed`: it does not apply any more."),
        Column("reason", pl.String, "Why it lapsed.", is_nullable=True),
    ),
    key=("decision_id",),
)

CAPTIONS = TableSpec(
    name="captions",
    description="One row per member: its caption.",
    columns=(
        _CHARACTER,
        _INSTANCE_ID,
        Column("trigger", pl.String, "The character's trigger word."),
        Column("tags", pl.List(pl.String), "Tags in caption order, without the trigger."),
        Column("scores", pl.List(pl.Float32), "Confidence of each tag (0-1)."),
        Column("sentence", pl.String, "The same as words for people, without the trigger; empty: nothing to say."),
        Column("caption", pl.String, "Trigger and tags, or a sentence, as written to the `.txt`."),
    ),
    key=("instance_id",),
)

DATASET = TableSpec(
    name="dataset",
    description="One row per image of a character's training set (asset `training_dataset`).",
    columns=(
        _CHARACTER,
        _INSTANCE_ID,
        Column("split", pl.String, "`train` or `held_out`."),
        Column("episode", pl.String, "Episode key."),
        _SHOT,
        Column("image", pl.String, "PNG, relative to the data root."),
        Column("mask", pl.String, "Alpha as grey PNG of the same size, relative to the data root."),
        Column("caption", pl.String, "As in the `.txt` beside the PNG."),
        Column("background", pl.String, "`original`, `plain`, `plate` or `transparent`."),
        Column("outfit", pl.Int32, "Look of the character, 0 the most frequent one."),
        Column("view", pl.String, "Side it is seen from, in words; null where it cannot be told.", is_nullable=True),
        Column("framing", pl.String, "`whole`, or cut by the frame's lower edge: `part` or `close`."),
        Column("identity_margin", pl.Float32, "Own less best other centroid cosine.", is_nullable=True),
        Column("cutout_sha256", pl.String, "Cut-out that it was made of."),
        Column("width_px", pl.Int32, "Width of the PNG."),
        Column("height_px", pl.Int32, "Height of the PNG."),
        Column("image_sha256", pl.String, "sha256 of the PNG's pixels and mask."),
    ),
    key=("instance_id",),
)


def _interval(name: str, description: str, *, is_nullable: bool = False) -> tuple[Column, Column, Column]:
    return (
        Column(name, pl.Float32, description, is_nullable=is_nullable),
        Column(f"{name}_low", pl.Float32, "Lower end of its 95 % bootstrap interval.", is_nullable=is_nullable),
        Column(f"{name}_high", pl.Float32, "Upper end of its 95 % bootstrap interval.", is_nullable=is_nullable),
    )


EVALUATIONS = TableSpec(
    name="evaluations",
    description="One row per judged checkpoint of a character, and one for the base model (step 0).",
    columns=(
        _CHARACTER,
        Column("step", pl.Int32, "Training step of the checkpoint; 0 is the base model without LoRA."),
        Column(
            "checkpoint", pl.String, "Checkpoint file, relative to the data root; null for the base.", is_nullable=True
        ),
        Column("image_count", pl.Int32, "Images drawn."),
        Column("defect_count", pl.Int32, "Images that are black, constant or not a number."),
        Column("real_to_real", pl.Float32, "Mean cosine among held-out and training images: the upper yardstick."),
        *_interval("resemblance", "Mean cosine of drawn to held-out images."),
        *_interval("resemblance_gain", "Resemblance minus the base model's, in pairs of one seed.", is_nullable=True),
        *_interval("covered_share", "Share of the distance base to real that is covered.", is_nullable=True),
        *_interval("identification", "Share of drawn images whose nearest character is the right one."),
        *_interval("text_similarity", "Mean image-text cosine.", is_nullable=True),
        *_interval(
            "prompt_following",
            "How much nearer images are to their own prompt's text than images of other prompts are.",
            is_nullable=True,
        ),
        *_interval("prompt_loss", "Share of the base model's prompt-following that is lost.", is_nullable=True),
        *_interval("diversity", "Mean cosine distance of drawn images of one prompt."),
        *_interval(
            "memorised_share", "Share of drawn images nearer to a training image than any held-out image is to one."
        ),
        *_interval(
            "bleeding", "Cosine distance to the base model's images of prompts without trigger.", is_nullable=True
        ),
        Column("validation_loss", pl.Float32, "Loss on held-out images at this step of training.", is_nullable=True),
        Column("score", pl.Float32, "Score of the choice; null for the base model.", is_nullable=True),
        Column("suggested_weight", pl.Float32, "Best weight of the chosen checkpoint; else null.", is_nullable=True),
        Column("is_chosen", pl.Boolean, "This checkpoint is the one to publish."),
    ),
    key=("character_id", "step"),
)

LORA_COMPARISONS = TableSpec(
    name="lora_comparisons",
    description="Every judged LoRA against the real images of every character, by the pictures of its evaluation.",
    columns=(
        Column("lora_character_id", pl.String, "Whose LoRA."),
        Column("character_id", pl.String, "Whose real images."),
        Column("step", pl.Int32, "Chosen training step of the LoRA."),
        Column("image_count", pl.Int32, "Images drawn with the LoRA, with its own trigger."),
        *_interval("resemblance", "Mean cosine of the drawn to the real images."),
        Column("covered_share", pl.Float32, "Share of the character's distance base to real.", is_nullable=True),
        Column("recognised_share", pl.Float32, "Share of the drawn images that are recognised as the character."),
    ),
    key=("lora_character_id", "character_id"),
)

ALL_TABLES: tuple[TableSpec, ...] = (
    FRAMES,
    REPEATS,
    INSTANCES,
    BACKGROUNDS,
    EMBEDDINGS,
    CLUSTERS,
    GROUPS,
    CHARACTERS,
    MEMBERS,
    EVENTS,
    DECISIONS,
    CAPTIONS,
    DATASET,
    EVALUATIONS,
    LORA_COMPARISONS,
)
