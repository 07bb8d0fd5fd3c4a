"""The settings object: one section per stage, every field bounded and described.

Fields only. Reading files and the environment is `loading`; meaning is given by the stage that takes the section.
"""

from typing import Literal

from pydantic import Field, model_validator

from yokai_assets.settings.operations import OperationsSettings
from yokai_assets.settings.retention import RetentionSettings
from yokai_assets.settings.section import LoraWeight, Place, Section, Share, Slug
from yokai_assets.settings.training import TrainingSettings


class FramesSettings(Section):
    """Reading the series: videos, near-duplicates, shots."""

    video_frames_per_second: float = Field(
        default=2.0, gt=0, le=120, description="Frames taken from a second of a video file (frames/s)."
    )
    video_sampling: Literal["rate", "change"] = Field(
        default="rate",
        description="Which of these are kept: all of them, or those that are no near-duplicate of the one before.",
    )
    near_duplicate_bits: int = Field(
        default=4,
        ge=0,
        le=16,
        description="Two frames of one shot are near-duplicates up to this Hamming distance (bits of 64).",
    )
    near_duplicate_luma: float = Field(
        default=10.0,
        ge=0,
        le=255,
        description="... if no field of their 16x9 miniatures differs by more than this (luma levels, 0-255).",
    )
    shot_cut_bits: int = Field(
        default=16,
        ge=4,
        le=48,
        description="Hamming distance of neighbouring frames from which a cut is assumed (bits of 64).",
    )
    dark_luma: float = Field(
        default=12.0, ge=0, le=255, description="Mean luma below which a frame counts as black (0-255)."
    )
    flat_luma_deviation: float = Field(
        default=4.0, ge=0, le=128, description="Luma standard deviation below which a frame counts as blank (0-255)."
    )
    credits_text_share: Share = Field(
        default=0.85,
        description="Share of strong edges in lines of text from which a frame on plain ground counts as title or "
        "credits (1: none does).",
    )
    max_unreadable_share: Share = Field(
        default=0.2,
        description="Share of unreadable frames from which an episode's check fails and blocks what follows.",
    )


class SegmentationSettings(Section):
    """Cutting characters out of frames."""

    model: str = Field(
        default="isnet-anime",
        min_length=1,
        description="A rembg model name, `demo` for the bundled matte, or the path of a local ONNX file.",
    )
    model_size_px: int = Field(
        default=1024, ge=32, le=4096, description="Input side of a local ONNX file with free height and width (px)."
    )
    presence_threshold: Share = Field(
        default=0.5,
        description="Raw network output that a pixel must reach to count as character (not rembg's stretched mask).",
    )
    min_area_share: Share = Field(default=0.004, description="Smallest share of the frame that an instance covers.")
    max_area_share: Share = Field(default=0.9, description="Largest share of the frame; beyond it the mask is scenery.")
    min_side_px: int = Field(default=24, ge=4, le=4096, description="Smallest width and height of an instance (px).")
    max_instances_per_frame: int = Field(default=8, ge=1, le=64, description="Largest instances kept of one frame.")
    batch_size: int = Field(
        default=8, ge=1, le=256, description="Frames per network call where the graph allows batches."
    )
    refine_alpha: bool = Field(
        default=False, description="Let edges of cut-outs follow those of the picture (guided filter; some time)."
    )
    cutout_quality: int = Field(
        default=92, ge=1, le=100, description="WebP quality of cut-outs; 100 is lossless (alpha is always lossless)."
    )


class BackgroundSettings(Section):
    """Clean plates behind the characters."""

    max_frames_per_shot: int = Field(
        default=24, ge=1, le=500, description="Frames of a shot that the clean plate is made of."
    )
    max_width_px: int = Field(
        default=1280, ge=64, le=8192, description="Clean plates are scaled down to this width (px)."
    )
    webp_quality: int = Field(default=90, ge=1, le=100, description="WebP quality of clean plates.")


class EmbeddingSettings(Section):
    """Image and text vectors, through open_clip."""

    model: str = Field(
        default="ViT-B-32",
        min_length=1,
        description="An open_clip architecture, `hf-hub:...`, `local-dir:...`, or `demo` for the bundled CLIP.",
    )
    pretrained: str | None = Field(
        default="laion2b_s34b_b79k",
        description="open_clip pretrained tag or local checkpoint; unused for `demo`, `hf-hub:` and `local-dir:`.",
    )
    batch_size: int = Field(default=64, ge=1, le=4096, description="Cut-outs per forward pass.")
    neutral_grey: int = Field(
        default=128, ge=0, le=255, description="Grey that replaces transparency behind a cut-out (0-255)."
    )
    context_share: Share = Field(
        default=0.0,
        description="How much of what surrounds the character in its box shows through that grey (0: nothing). Where "
        "characters are known by their places, it helps; else it gathers places.",
    )


class ClusteringSettings(Section):
    """Finding groups of instances that show one character."""

    method: Literal["auto", "umap_hdbscan", "communities"] = Field(
        default="auto", description="How groups are found; auto: by UMAP and HDBSCAN up to 4,000 instances."
    )
    min_cluster_size: int = Field(
        default=25, ge=2, le=100_000, description="Images from which a group is a character that can be trained."
    )
    min_rare_cluster_size: int = Field(
        default=6,
        ge=2,
        le=100_000,
        description="Images from which a group that is too small to train is still reported.",
    )
    min_samples: int = Field(
        default=5, ge=1, le=1000, description="HDBSCAN min_samples: higher leaves more points as noise."
    )
    umap_dimensions: int = Field(default=5, ge=2, le=64, description="Dimensions that UMAP reduces to before HDBSCAN.")
    umap_neighbors: int = Field(default=15, ge=2, le=200, description="UMAP n_neighbors.")
    recluster_share: Share = Field(
        default=0.05,
        description="Share of instances without a group since, or lost since, beyond which all is clustered anew; "
        "until then new ones join groups by the vote of their neighbours.",
    )
    max_noise_share: Share = Field(default=0.4, description="Noise share from which the clustering check fails.")
    max_stray_share: Share = Field(
        default=0.05, description="Share of members nearer to another group's centre from which the check warns."
    )


class RegistrySettings(Section):
    """Which groups become characters, and how they stay themselves."""

    match_min_jaccard: Share = Field(
        default=0.3,
        description="Overlap of members from which a new group is a known character (Jaccard on shared instances).",
    )
    match_min_centroid_cosine: float = Field(
        default=0.9,
        ge=-1,
        le=1,
        description="Centroid cosine from which a group without shared members is a known character.",
    )
    max_changed_share: Share = Field(
        default=0.3, description="Share of shared instances that change character: beyond it the check warns."
    )


class AnalysisSettings(Section):
    """The character profile."""

    vocabulary: str = Field(
        default="anime", description="A shipped vocabulary (`anime`, `creatures`) or the path of a TOML file."
    )
    max_images: int = Field(
        default=64, ge=1, le=10_000, description="Images of a character that attributes are read from."
    )
    palette_colors: int = Field(default=5, ge=1, le=12, description="Colours of the palette.")
    min_confidence: Share = Field(
        default=0.5, description="Share of probability that an attribute value needs; else it is not told."
    )


class CaptionSettings(Section):
    """Captions of training images."""

    trigger_prefix: Slug = Field(
        default="ykai", description="Beginning of every trigger word; the character's own letters follow."
    )
    core_tag_share: Share = Field(
        default=0.6,
        description="Tags that at least this share of a character's images carry are left to the trigger word.",
    )
    max_tags: int = Field(default=20, ge=0, le=75, description="Most tags in a caption.")
    form: Literal["tags", "sentence", "both"] = Field(
        default="tags",
        description="What a caption is: tags after the trigger (SD 1.5, SDXL for drawings), a sentence, or both.",
    )
    blacklist: tuple[str, ...] = Field(default=(), description="Tags that no caption of any character has.")
    tagger: str | None = Field(
        default=None,
        min_length=1,
        description="WD14-family tagger: folder with model.onnx and selected_tags.csv, or a hub id; unset: words of "
        "the vocabulary alone.",
    )
    tagger_min_probability: Share = Field(
        default=0.35, description="Probability from which a word of the tagger is a tag (0-1)."
    )
    captioner: str | None = Field(
        default=None,
        min_length=1,
        description="Image captioner through transformers (BLIP, GIT, ...): local folder or hub id; unset: "
        "sentences are put together from the tags' words.",
    )
    reader_batch_size: int = Field(
        default=8, ge=1, le=256, description="Cut-outs that the tagger and the captioner see at once."
    )


class GroundShares(Section):
    """What is behind the character in training images, in parts of each other."""

    original: float = Field(default=4.0, ge=0, le=100, description="The frame's own background.")
    plain: float = Field(default=3.0, ge=0, le=100, description="White, grey or a pastel; the caption says so.")
    plate: float = Field(default=3.0, ge=0, le=100, description="The clean plate of another shot.")
    transparent: float = Field(
        default=0.0, ge=0, le=100, description="RGBA images, white under the transparency; the caption says so."
    )

    @model_validator(mode="after")
    def _something_is_asked_for(self) -> "GroundShares":
        if self.original + self.plain + self.plate + self.transparent <= 0:
            raise ValueError("all shares are 0: give at least one ground a share")
        return self


class DatasetSettings(Section):
    """What a character's training set holds."""

    min_images: int = Field(
        default=10, ge=2, le=10_000, description="Fewest training images; below it the character is skipped."
    )
    max_images: int = Field(
        default=200, ge=2, le=10_000, description="Most training images, the most diverse ones kept."
    )
    held_out_share: Share = Field(
        default=0.15, description="Share of a character's images kept from training, whole shots."
    )
    margin_share: Share = Field(default=0.08, description="Space around the character, as a share of its longer side.")
    epoch_images: int = Field(
        default=100,
        ge=1,
        le=100_000,
        description="Images of an epoch that small sets are brought near by repeats, at most 10 (`dataset.toml`).",
    )
    regularisation_images: int = Field(
        default=0,
        ge=0,
        le=100_000,
        description="Pictures of scenery and of all characters, shared by the series, for trainers that want a "
        "regularisation set (named in `dataset.toml`); 0: none.",
    )
    grounds: GroundShares = Field(
        default_factory=GroundShares,
        description="Mixture of what is behind the character, so that the LoRA does not learn a place.",
    )
    min_side_px: int = Field(default=48, ge=8, le=4096, description="Smaller cut-outs are not trained on (px).")


class EvaluationSettings(Section):
    """Pictures drawn with every LoRA, and how they are judged."""

    prompts: tuple[str, ...] = Field(
        default=(
            "{trigger}",
            "{trigger}, full body, standing, simple background",
            "{trigger}, portrait, smiling, looking at viewer",
            "{trigger}, running, from side, in a forest",
            "{trigger}, sitting, from behind, city street at night",
            "a person walking a dog in a park",
            "a house by a lake",
        ),
        min_length=1,
        description="Prompts; `{trigger}` is the character's trigger word. Those without it are control prompts: their "
        "pictures should stay as the base model draws them.",
    )
    images_per_prompt: int = Field(default=4, ge=1, le=256, description="Seeds per prompt.")
    inference_steps: int = Field(default=25, ge=1, le=1000, description="Denoising steps.")
    guidance_scale: float = Field(default=7.0, ge=0, le=50, description="Classifier-free guidance.")
    negative_prompt: str = Field(default="", description="Negative prompt.")
    max_checkpoints: int | None = Field(
        default=None, ge=1, description="Checkpoints judged, evenly spread, the last one always; unset: all."
    )
    weights: tuple[LoraWeight, ...] = Field(
        default=(0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2),
        description="Weights that the chosen checkpoint is tried at; the best one is suggested. Empty: only 1.0.",
    )
    images_per_weight: int = Field(default=2, ge=1, le=256, description="Seeds per prompt when weights are tried.")
    bootstrap_samples: int = Field(default=1000, ge=100, le=100_000, description="Resamples for 95 % intervals.")
    min_covered_share: float = Field(
        default=0.1, ge=0, le=1, description="Share of the way from base model to real images that a LoRA must cover."
    )
    min_identification: float = Field(
        default=0.5, ge=0, le=1, description="Share of a LoRA's pictures that must be recognised as its character."
    )
    max_memorised_share: float = Field(
        default=0.5, ge=0, le=1, description="Share of a LoRA's pictures that may be near-copies of training images."
    )
    max_prompt_loss: float = Field(
        default=0.6, ge=0, le=1, description="Share of the base model's prompt-following that a LoRA may lose."
    )
    max_defect_share: float = Field(
        default=0.1, ge=0, le=1, description="Share of pictures that may be black, constant or not a number."
    )


class Settings(Section):
    """Everything a user may choose. Sections are named like the stages of the road."""

    profile: Literal["anime", "demo"] = Field(default="anime", description="Shipped defaults that the rest refines.")
    data_root: Place = Field(default="data", description="Folder or fsspec URL that holds everything produced.")
    series: Slug = Field(default="series", description="Name of the series; part of output paths and LoRA headers.")
    frames_source: Place = Field(
        default="frames", description="Folder (or fsspec URL) with one folder or video file per episode."
    )
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="`auto` (a GPU where there is one), `cpu`, `cuda`, `cuda:N`.",
    )
    cpu_threads: int = Field(default=0, ge=0, le=1024, description="Threads for networks on the CPU; 0: all cores.")
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Seed of everything that is drawn at random.")
    max_characters: int | None = Field(default=None, ge=1, description="Train only the largest characters; unset: all.")
    frames: FramesSettings = Field(default_factory=lambda: FramesSettings(), description="Reading the series.")
    segmentation: SegmentationSettings = Field(
        default_factory=lambda: SegmentationSettings(), description="Cutting characters out."
    )
    background: BackgroundSettings = Field(default_factory=lambda: BackgroundSettings(), description="Clean plates.")
    embedding: EmbeddingSettings = Field(default_factory=lambda: EmbeddingSettings(), description="Image vectors.")
    clustering: ClusteringSettings = Field(
        default_factory=lambda: ClusteringSettings(), description="Finding characters."
    )
    registry: RegistrySettings = Field(default_factory=lambda: RegistrySettings(), description="Keeping characters.")
    analysis: AnalysisSettings = Field(default_factory=lambda: AnalysisSettings(), description="Character profiles.")
    captions: CaptionSettings = Field(default_factory=lambda: CaptionSettings(), description="Captions.")
    dataset: DatasetSettings = Field(default_factory=lambda: DatasetSettings(), description="Training sets.")
    training: TrainingSettings = Field(default_factory=lambda: TrainingSettings(), description="LoRA training.")
    evaluation: EvaluationSettings = Field(default_factory=lambda: EvaluationSettings(), description="LoRA evaluation.")
    operations: OperationsSettings = Field(
        default_factory=lambda: OperationsSettings(), description="Working unattended."
    )
    retention: RetentionSettings = Field(default_factory=lambda: RetentionSettings(), description="What stays on disk.")

    @model_validator(mode="after")
    def _sizes_agree(self) -> "Settings":
        if self.clustering.min_rare_cluster_size > self.clustering.min_cluster_size:
            raise ValueError(
                "clustering.min_rare_cluster_size must not exceed clustering.min_cluster_size "
                f"({self.clustering.min_rare_cluster_size} > {self.clustering.min_cluster_size})"
            )
        if self.dataset.min_images > self.dataset.max_images:
            raise ValueError("dataset.min_images must not exceed dataset.max_images")
        return self
