"""The profile of a character: what it looks like, how large, how often and with whom it is seen.

Only its content. Files and the summary picture are `writing` and `card`; captions are `yokai_assets.captioning`.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict

from yokai_assets.analysis.diversity import balanced_sample, farthest_first
from yokai_assets.analysis.outfits import find_outfits
from yokai_assets.analysis.palette import PaletteColor, extract_palette
from yokai_assets.analysis.vocabulary import Attribute, Vocabulary
from yokai_assets.analysis.zero_shot import Matrix, TextModel, tell, value_probabilities
from yokai_assets.embedding.instances import vector_matrix
from yokai_assets.frames.decoding import FrameError
from yokai_assets.segmentation.layers import load_cutout
from yokai_assets.segmentation.restoring import Restore, nothing_to_restore
from yokai_assets.settings.model import AnalysisSettings
from yokai_assets.storage.layout import Layout

EXEMPLAR_COUNT = 12
_PALETTE_IMAGES = 24
_PICTURE_PX = 384
_SIMILAR_COUNT = 3


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class AttributeReading(_Part):
    """One attribute of a character.

    Attributes:
        attribute: Its name in the vocabulary.
        title: Its name for people.
        kind: `identity` or `varying`.
        value: The value, or None where it cannot be told (always the most frequent one for `varying`).
        confidence: Mean probability of the most probable value over the images read (0-1).
        image_share: Share of the images in which that value alone reaches the confidence asked for (0-1).
        distribution: Value -> mean probability, most probable first; they sum to 1.
        tag: What captions say of the value ("two eyes"); empty where it is not worth a word.
    """

    attribute: str
    title: str
    kind: Literal["identity", "varying"]
    value: str | None
    confidence: float
    image_share: float
    distribution: dict[str, float]
    tag: str | None = None


class SizeStatistics(_Part):
    """How large a character is seen; medians with the 10th and 90th percentile, over its images."""

    width_px: tuple[float, float, float]
    height_px: tuple[float, float, float]
    frame_height_share: tuple[float, float, float]
    aspect_ratio: tuple[float, float, float]
    cut_off_share: float


class EpisodePresence(_Part):
    """A character in one episode: its images, and the frames that they stand for."""

    episode: str
    image_count: int
    screen_time_frames: int


class CoAppearance(_Part):
    """Another character seen in the same frames; `share` is of this character's screen time (0-1)."""

    character_id: str
    screen_time_frames: int
    share: float


class Exemplar(_Part):
    """An image that shows the character well."""

    instance_id: str
    cutout: str


class Outfit(_Part):
    """One look of a character: its share of the images read (0-1), the image that shows it best, its colours."""

    share: float
    exemplar: Exemplar
    palette: tuple[PaletteColor, ...]


class SimilarCharacter(_Part):
    """Another character that looks most like this one; `cosine` of their centroids."""

    character_id: str
    cosine: float


class CharacterProfile(_Part):
    """All that is known of a character; see the parts for units.

    Screen time is counted in frames: near-duplicates count, too, through the weight of their representative.
    """

    character_id: str
    series: str
    image_count: int
    read_image_count: int
    screen_time_frames: int
    episodes: tuple[EpisodePresence, ...]
    attributes: tuple[AttributeReading, ...]
    palette: tuple[PaletteColor, ...]
    sizes: SizeStatistics
    co_appearances: tuple[CoAppearance, ...]
    exemplars: tuple[Exemplar, ...]
    outfits: tuple[Outfit, ...] = ()
    similar: tuple[SimilarCharacter, ...] = ()
    notes: tuple[str, ...]
    vocabulary: str
    vocabulary_fingerprint: str
    model_fingerprint: str
    min_confidence: float

    @property
    def first_episode(self) -> str:
        """First episode the character is seen in."""
        return self.episodes[0].episode

    @property
    def last_episode(self) -> str:
        """Last episode the character is seen in."""
        return self.episodes[-1].episode

    @property
    def told_attribute_count(self) -> int:
        """Attributes that belong to the character and could be told."""
        return len(self.identity)

    @property
    def identity(self) -> dict[str, AttributeReading]:
        """Attribute -> reading of what belongs to the character and could be told."""
        return {r.attribute: r for r in self.attributes if r.kind == "identity" and r.value is not None}


def profile_character(
    character_id: str,
    members: pl.DataFrame,
    instances: pl.DataFrame,
    embeddings: pl.DataFrame,
    layout: Layout,
    model: TextModel,
    vocabulary: Vocabulary,
    settings: AnalysisSettings,
    seed: int,
    *,
    characters: pl.DataFrame | None = None,
    restore: Restore = nothing_to_restore,
) -> CharacterProfile:
    """Describe a character.

    Args:
        character_id: Whom.
        members: MEMBERS of all characters: the others are needed for co-appearances.
        instances: INSTANCES that hold the character's rows at least.
        embeddings: EMBEDDINGS that hold the character's rows at least.
        layout: Where cut-outs lie.
        model: The image-text model that made the vectors.
        vocabulary: Words to read.
        settings: How many images, how many colours, how sure.
        seed: Of the image sample and the palette.
        characters: CHARACTERS, for the similar ones; unset: none are named.
        restore: Called with the cut-outs that this, and whoever shows the profile, will read.

    Raises:
        ValueError: The character has no member whose instance and vector are there.
    """
    own = (
        members.filter(pl.col("character_id") == character_id)
        .join(instances.drop("episode"), on="instance_id")
        .join(embeddings.select("instance_id", "vector", "model_fingerprint"), on="instance_id")
        .sort("episode", "frame_index", "instance_id")
    )
    if own.is_empty():
        raise ValueError(
            f"{character_id}: none of its members has both an instance and a vector. "
            "Materialize `character_layers`, `embeddings` and `character_members` again, in this order."
        )
    vectors = vector_matrix(own)
    rng = np.random.default_rng(seed)
    episodes = own["episode"].rank("dense").to_numpy().astype(np.int64)
    read = balanced_sample(episodes, settings.max_images, rng)
    exemplars = _exemplars(own, vectors)
    restore([*own["cutout"].gather(read), *(exemplar.cutout for exemplar in exemplars)])
    shown, pictures, notes = _load(read, own["cutout"], layout)
    presence = _episode_presence(own)
    return CharacterProfile(
        character_id=character_id,
        series=layout.series,
        image_count=own.height,
        read_image_count=len(read),
        screen_time_frames=sum(p.screen_time_frames for p in presence),
        episodes=presence,
        attributes=_read_attributes(vectors[read], model, vocabulary, settings.min_confidence),
        palette=_palette(pictures, settings.palette_colors, seed),
        sizes=_sizes(own),
        co_appearances=_co_appearances(character_id, own, members),
        exemplars=exemplars,
        outfits=_outfits(own, vectors, shown, pictures, settings.palette_colors, seed),
        similar=_similar(character_id, characters),
        notes=tuple(notes),
        vocabulary=vocabulary.name,
        vocabulary_fingerprint=vocabulary.fingerprint,
        model_fingerprint=model.fingerprint,
        min_confidence=settings.min_confidence,
    )


def _read_attributes(
    vectors: Matrix, model: TextModel, vocabulary: Vocabulary, min_confidence: float
) -> tuple[AttributeReading, ...]:
    probabilities = value_probabilities(vectors, model, vocabulary)
    return tuple(_read(a, probabilities[a.name], min_confidence) for a in vocabulary.attributes)


def _read(attribute: Attribute, probabilities: Matrix, min_confidence: float) -> AttributeReading:
    mean = probabilities.mean(axis=0)
    best = int(np.argmax(mean))
    reading = tell(attribute, mean, min_confidence if attribute.is_identity else 0.0)
    is_told = (probabilities.argmax(axis=1) == best) & (probabilities[:, best] >= min_confidence)
    order = np.argsort(-mean, kind="stable")
    return AttributeReading(
        attribute=attribute.name,
        title=attribute.title,
        kind=attribute.kind,
        value=reading.value.name if reading.value else None,
        confidence=round(reading.confidence, 4),
        image_share=round(float(is_told.mean()), 4),
        distribution={attribute.values[i].name: round(float(mean[i]), 4) for i in order},
        tag=reading.value.tag if reading.value else None,
    )


def _episode_presence(own: pl.DataFrame) -> tuple[EpisodePresence, ...]:
    frames = own.group_by("episode", "frame_id").agg(pl.len().alias("images"), pl.col("weight").max())
    table = frames.group_by("episode").agg(pl.col("images").sum(), pl.col("weight").sum()).sort("episode")
    return tuple(
        EpisodePresence(episode=episode, image_count=images, screen_time_frames=weight)
        for episode, images, weight in table.iter_rows()
    )


def _sizes(own: pl.DataFrame) -> SizeStatistics:
    box = own.select(
        width=pl.col("x1") - pl.col("x0"),
        height=pl.col("y1") - pl.col("y0"),
        frame_height="frame_height_px",
    )
    width, height = box["width"].to_numpy().astype(float), box["height"].to_numpy().astype(float)
    return SizeStatistics(
        width_px=_spread(width),
        height_px=_spread(height),
        frame_height_share=_spread(height / np.maximum(box["frame_height"].to_numpy(), 1)),
        aspect_ratio=_spread(width / np.maximum(height, 1)),
        cut_off_share=round(float((own["edge_contact_share"] > 0).mean() or 0), 4),  # pyright: ignore[reportArgumentType]
    )


def _spread(values: np.ndarray) -> tuple[float, float, float]:
    middle, low, high = np.percentile(values, [50, 10, 90])
    return round(float(middle), 3), round(float(low), 3), round(float(high), 3)


def _co_appearances(character_id: str, own: pl.DataFrame, members: pl.DataFrame) -> tuple[CoAppearance, ...]:
    frames = own.group_by("frame_id").agg(pl.col("weight").max())
    total = int(frames["weight"].sum())
    others = (
        members.filter(pl.col("character_id") != character_id)
        .with_columns(frame_id=pl.col("instance_id").str.replace(r"/[^/]*$", ""))
        .unique(["character_id", "frame_id"])
        .join(frames, on="frame_id")
        .group_by("character_id")
        .agg(pl.col("weight").sum())
        .sort("weight", "character_id", descending=[True, False])
    )
    return tuple(
        CoAppearance(character_id=other, screen_time_frames=weight, share=round(weight / max(total, 1), 4))
        for other, weight in others.iter_rows()
    )


def _exemplars(own: pl.DataFrame, vectors: Matrix) -> tuple[Exemplar, ...]:
    """Choose images that are typical, not cut off and not tiny, then as different as possible."""
    is_good = (
        (own["centroid_cosine"] >= own["centroid_cosine"].quantile(0.25))
        & (own["edge_contact_share"] <= own["edge_contact_share"].median())
        & (own["area_share"] >= own["area_share"].quantile(0.25))
    ).to_numpy()
    pool = np.flatnonzero(is_good) if is_good.sum() >= EXEMPLAR_COUNT else np.arange(own.height)
    chosen = pool[farthest_first(vectors[pool], EXEMPLAR_COUNT)]
    return tuple(Exemplar(instance_id=own["instance_id"][int(i)], cutout=own["cutout"][int(i)]) for i in chosen)


def _outfits(
    own: pl.DataFrame, vectors: Matrix, shown: list[int], pictures: list[Image.Image], colors: int, seed: int
) -> tuple[Outfit, ...]:
    """Return the looks among the pictures, most frequent first; the image nearest to a look's mean shows it."""
    found = find_outfits(pictures, vectors[shown], seed)
    outfits = []
    for number, share in enumerate(found.shares):
        places = np.flatnonzero(found.labels == number)
        rows = [shown[place] for place in places]
        best = rows[int(np.argmax(vectors[rows] @ vectors[rows].mean(axis=0)))]
        palette = _palette([pictures[place] for place in places], colors, seed)
        exemplar = Exemplar(instance_id=own["instance_id"][best], cutout=own["cutout"][best])
        outfits.append(Outfit(share=round(share, 4), exemplar=exemplar, palette=palette))
    return tuple(outfits)


def _palette(pictures: Sequence[Image.Image], colors: int, seed: int) -> tuple[PaletteColor, ...]:
    return tuple(extract_palette(pictures[:: max(1, -(-len(pictures) // _PALETTE_IMAGES))], colors, seed))


def _similar(character_id: str, characters: pl.DataFrame | None) -> tuple[SimilarCharacter, ...]:
    """Return the characters whose centroids are nearest, among those that have members and vectors of one model."""
    if characters is None:
        return ()
    own = characters.filter(pl.col("character_id") == character_id)
    if own.is_empty():
        return ()
    others = characters.filter(
        (pl.col("character_id") != character_id)
        & (pl.col("member_count") > 0)
        & (pl.col("model_fingerprint") == own["model_fingerprint"][0])
    )
    if others.is_empty():
        return ()
    cosines = np.asarray(others["centroid"].to_list(), np.float32) @ np.asarray(own["centroid"][0], np.float32)
    return tuple(
        SimilarCharacter(character_id=others["character_id"][int(place)], cosine=round(float(cosines[place]), 4))
        for place in np.argsort(-cosines, kind="stable")[:_SIMILAR_COUNT]
    )


def _load(
    rows: NDArray[np.integer], cutouts: pl.Series, layout: Layout
) -> tuple[list[int], list[Image.Image], list[str]]:
    """Return the rows whose cut-outs can be read, small pictures of these, and what is amiss with the others."""
    shown, pictures, notes = [], [], []
    for row in rows.tolist():
        try:
            picture = load_cutout(layout, cutouts[row])
        except FrameError as error:
            notes.append(f"{cutouts[row]}: not readable ({error}); its episode's `character_layers` can be made again")
            continue
        picture.thumbnail((_PICTURE_PX, _PICTURE_PX), Image.Resampling.BOX)
        shown.append(row)
        pictures.append(picture)
    return shown, pictures, notes
