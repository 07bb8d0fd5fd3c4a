"""Is it true what is read off a character? Attributes, profiles and captions of drawn series, held against the truth.

`python -m yokai_assets_tests.benchmarks.traits [--seeds 7,1,2] [--episodes N] [--frames N]`. Frames go through the
production stages with the settings of the profile `demo`. A cut-out counts where it shows one creature of the truth:
box IoU of at least a half, and no other creature mostly in its box. Characters are those of the truth, so that mistakes
of clustering are not counted here. Reliability and expected calibration error follow Guo et al. 2017
(arXiv:1706.04599), with ten bins of equal width.
"""

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from upath import UPath

from yokai_assets.analysis.profile import CharacterProfile, profile_character
from yokai_assets.analysis.vocabulary import Vocabulary, load_vocabulary
from yokai_assets.analysis.zero_shot import TextModel, value_probabilities
from yokai_assets.captioning.captions import caption_members
from yokai_assets.demo.creatures import IDENTITY_ATTRIBUTES, POSE_ATTRIBUTES, attribute_value
from yokai_assets.demo.score import match_instances
from yokai_assets.demo.series import episode_name, generate_series
from yokai_assets.demo.story import plan_episode
from yokai_assets.demo.truth import Truth
from yokai_assets.embedding.instances import embed_instances, vector_matrix
from yokai_assets.embedding.model import ImageTextModel, open_image_text_model
from yokai_assets.evaluation.measures import bootstrap_mean
from yokai_assets.frames.episodes import discover_episodes
from yokai_assets.frames.scan import scan_episode
from yokai_assets.segmentation.layers import segment_episode
from yokai_assets.segmentation.matte import open_matte
from yokai_assets.settings import Settings, load_settings
from yokai_assets.storage.layout import Layout
from yokai_assets.tables import MEMBERS

WHOLE = 0.95
"""Creatures of which at least this share is visible are whole; others are cut off or hidden in part."""
_BINS = 10
_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Series:
    """A drawn series as the platform cut it out.

    `traits` has a row per cut-out that shows one creature: `instance_id`, `character`, `visible_share` (0-1), and the
    true value of every attribute. `instances`, `embeddings` and `members` hold the same cut-outs. `left_out` counts
    cut-outs that show nobody or several.
    """

    layout: Layout
    traits: pl.DataFrame
    instances: pl.DataFrame
    embeddings: pl.DataFrame
    members: pl.DataFrame
    left_out: int


@dataclass(frozen=True, slots=True)
class Judged:
    """What was read off one or more series, beside the truth; see the `judge_...` functions for the columns."""

    images: pl.DataFrame
    profiles: pl.DataFrame
    tags: pl.DataFrame
    traits: pl.DataFrame


def true_traits(truth: Truth, frames: int) -> pl.DataFrame:
    """Return `truth_id`, `character`, `visible_share` and the value of each attribute, a row per drawn creature.

    Poses are in no file: the plan of an episode, which depends on nothing but the seed, says them again.
    """
    designs = {member.name: member.design for member in truth.characters}
    rows = []
    for number in range(1, truth.frames["episode"].n_unique() + 1):
        plan = plan_episode(truth.characters, number, frames, truth.seed, truth.size_px[1])
        for index, drawing in enumerate(one for one in plan for _ in range(one.hold)):
            for position, shown in enumerate(drawing.performances):
                design = designs[shown.name]
                identity = {name: attribute_value(design, name) for name in IDENTITY_ATTRIBUTES}
                pose = {name: attribute_value(shown.pose, name) for name in POSE_ATTRIBUTES}
                rows.append({"truth_id": f"{episode_name(number)}/{index:06d}/{position}", **identity, **pose})
    shown = truth.instances.select("truth_id", "character", "visible_share")
    return shown.join(pl.DataFrame(rows), on="truth_id", validate="1:1")


def cut_out(folder: Path, seed: int, episodes: int, frames: int, settings: Settings, model: ImageTextModel) -> Series:
    """Draw a series as `yokai demo` does into the folder, cut its characters out and embed them."""
    source, layout = UPath(folder / "frames"), Layout(UPath(folder / "data"), "series")
    truth = generate_series(
        Path(str(source)), episodes=episodes, frames_per_episode=frames, characters=4, rare_characters=1, seed=seed
    )
    matte, parts = open_matte(settings.segmentation, "cpu"), []
    for episode in discover_episodes(source)[0]:
        table = scan_episode(episode, source, settings.frames)
        parts.append(segment_episode(table, source, matte, settings.segmentation, layout).instances)
    found = pl.concat(parts)
    traits = (
        match_instances(truth, found)
        .filter(pl.col("covered") <= 1)
        .select("instance_id", "truth_id")
        .join(true_traits(truth, frames), on="truth_id")
        .sort("instance_id")
    )
    instances = found.join(traits.select("instance_id"), on="instance_id", how="semi")
    embeddings = embed_instances(instances, layout, model, settings.embedding).table
    return Series(layout, traits, instances, embeddings, _members(traits, embeddings), found.height - traits.height)


def _members(traits: pl.DataFrame, embeddings: pl.DataFrame) -> pl.DataFrame:
    own = traits.select("instance_id", "character").join(embeddings, on="instance_id", maintain_order="left")
    vectors, names = vector_matrix(own), own["character"].to_list()
    centres = {name: vectors[own["character"] == name].mean(axis=0) for name in set(names)}
    return MEMBERS.from_rows(
        {
            **dict.fromkeys(MEMBERS.schema),
            **{"character_id": name, "instance_id": instance_id, "episode": episode, "probability": 1.0},
            "centroid_cosine": float(vector @ centres[name] / np.linalg.norm(centres[name])),
        }
        for instance_id, episode, name, vector in zip(
            own["instance_id"], own["episode"], names, vectors, strict=True
        )
    )  # fmt: skip


def judge(series: Series, model: TextModel, vocabulary: Vocabulary, settings: Settings) -> Judged:
    """Read the cut-outs, describe the characters and write their captions, and hold all of it against the truth."""
    profiles = [
        profile_character(
            name, series.members, series.instances, series.embeddings, series.layout, model, vocabulary,
            settings.analysis, 0,
        )
        for name in series.traits["character"].unique().sort()
    ]  # fmt: skip
    captions = pl.concat(
        [
            caption_members(
                one, series.members, series.embeddings, model, vocabulary, settings.captions, series.layout.series
            )
            for one in profiles
        ]
    )
    return Judged(
        images=judge_images(series, model, vocabulary, settings.analysis.min_confidence),
        profiles=judge_profiles(profiles, series.traits),
        tags=judge_tags(captions, series.traits, vocabulary),
        traits=series.traits,
    )


def judge_images(series: Series, model: TextModel, vocabulary: Vocabulary, min_confidence: float) -> pl.DataFrame:
    """Return a row per cut-out and attribute.

    `character`, `attribute`, `confidence` (0-1) of the most probable value, whether it `is_told` and `is_right`, and
    whether the creature `is_whole`.
    """
    own = series.traits.join(series.embeddings.select("instance_id", "vector"), on="instance_id", maintain_order="left")
    probabilities = value_probabilities(vector_matrix(own), model, vocabulary)
    parts = []
    for attribute in vocabulary.attributes:
        scores = probabilities[attribute.name]
        values = np.array([value.name for value in attribute.values])[scores.argmax(axis=1)]
        confidence = scores.max(axis=1).astype(float)
        parts.append(
            own.select(
                "character",
                attribute=pl.lit(attribute.name),
                confidence=pl.Series(confidence),
                is_told=pl.Series(confidence >= min_confidence),
                is_right=pl.Series(values) == pl.col(attribute.name),
                is_whole=pl.col("visible_share") >= WHOLE,
            )
        )
    return pl.concat(parts)


def judge_profiles(profiles: list[CharacterProfile], traits: pl.DataFrame) -> pl.DataFrame:
    """Return a row per character and identity attribute: `attribute`, `confidence`, `is_told`, `is_right`."""
    rows = []
    for one in profiles:
        true = traits.filter(pl.col("character") == one.character_id).row(0, named=True)
        rows += [
            {
                "attribute": reading.attribute,
                "confidence": reading.confidence,
                "is_told": reading.value is not None,
                "is_right": next(iter(reading.distribution)) == true[reading.attribute],
            }
            for reading in one.attributes
            if reading.kind == "identity"
        ]
    return pl.DataFrame(rows)


def judge_tags(captions: pl.DataFrame, traits: pl.DataFrame, vocabulary: Vocabulary) -> pl.DataFrame:
    """Return a row per tag in a caption: `instance_id`, `attribute`, `is_identity`, `is_right`."""
    meaning = {value.tag: (attribute, value.name) for attribute in vocabulary.attributes for value in attribute.values}
    true = {row["instance_id"]: row for row in traits.iter_rows(named=True)}
    rows = []
    for instance_id, tags in captions.select("instance_id", "tags").iter_rows():
        for attribute, value in map(meaning.__getitem__, tags):
            rows.append(
                (instance_id, attribute.name, attribute.is_identity, true[instance_id][attribute.name] == value)
            )
    schema = {"instance_id": pl.String, "attribute": pl.String, "is_identity": pl.Boolean, "is_right": pl.Boolean}
    return pl.DataFrame(rows, schema=schema, orient="row")


def together(parts: list[Judged]) -> Judged:
    """Return the rows of all series as of one; characters of different series keep apart."""
    return Judged(
        *(
            pl.concat(
                frame.with_columns(pl.col("^(character|instance_id)$") + f" {number}")
                for number, frame in enumerate(frames)
            )
            for frames in zip(*((one.images, one.profiles, one.tags, one.traits) for one in parts), strict=True)
        )
    )


def calibration_error(readings: pl.DataFrame) -> float:
    """Return the expected calibration error: bins' |accuracy - mean confidence|, weighted by how many they hold."""
    binned = readings.with_columns(bin=_bin()).group_by("bin")
    gaps = binned.agg(gap=(pl.col("is_right").mean() - pl.col("confidence").mean()).abs(), count=pl.len())
    return float((gaps["gap"] * gaps["count"]).sum() / max(1, readings.height))


def _bin() -> pl.Expr:
    return (pl.col("confidence") * _BINS).floor().clip(0, _BINS - 1).cast(pl.Int32)


def print_series(judged: dict[str, Judged], left_out: dict[str, int], vocabulary: Vocabulary) -> None:
    """Print a row per series: what is told and right in images, of characters, in captions."""
    print("| seed | cut-outs (left out) | told | right when told (95 % over characters) | ECE |", end="")
    print(" of characters: told | right when told |", end="")
    print(" tags that are true | varying traits named | identity tags left out | identity tags that stay (true) |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for seed, one in judged.items():
        told, profiled = one.images.filter("is_told"), one.profiles.filter("is_told")
        by_character = told.group_by("character").agg(pl.col("is_right").mean())["is_right"].to_numpy()
        interval = bootstrap_mean(by_character, _RESAMPLES, 0)
        identity = one.tags.filter("is_identity")
        print(
            f"| {seed} | {one.traits.height} ({left_out[seed]}) | {share(one.images['is_told'])} | "
            f"{share(told['is_right'])} ({interval.low:.3f}-{interval.high:.3f}) | "
            f"{calibration_error(one.images):.3f} | {profiled.height} of {one.profiles.height} | "
            f"{int(profiled['is_right'].sum())} of {profiled.height} | {share(one.tags['is_right'])} | "
            f"{named_share(one, vocabulary):.3f} | {pruned_share(one, vocabulary):.3f} | "
            f"{identity.height} ({int(identity['is_right'].sum())}) |"
        )


def named_share(judged: Judged, vocabulary: Vocabulary) -> float:
    """Return the share of the images' true varying values that their captions name (0-1)."""
    right = judged.tags.filter(~pl.col("is_identity"), "is_right").height
    return right / max(1, _tagged_values(judged, vocabulary, is_identity=False))


def pruned_share(judged: Judged, vocabulary: Vocabulary) -> float:
    """Return the share of the images' true identity values that captions leave to the trigger word (0-1)."""
    right = judged.tags.filter("is_identity", "is_right").height
    return 1 - right / max(1, _tagged_values(judged, vocabulary, is_identity=True))


def _tagged_values(judged: Judged, vocabulary: Vocabulary, *, is_identity: bool) -> int:
    """Count the true values of images that there is a tag for."""
    return sum(
        int(judged.traits[attribute.name].is_in([value.name for value in attribute.values if value.tag]).sum())
        for attribute in vocabulary.attributes
        if attribute.is_identity == is_identity
    )


def print_attributes(judged: Judged, vocabulary: Vocabulary) -> None:
    """Print a row per attribute."""
    print(
        "\n| attribute | told | right when told | of whole creatures | of characters: told | right when told |", end=""
    )
    print(" in captions | of these true |\n|---|---|---|---|---|---|---|---|")
    for attribute in vocabulary.attributes:
        images, profiles, tags = (
            frame.filter(pl.col("attribute") == attribute.name)
            for frame in (judged.images, judged.profiles, judged.tags)
        )
        told, profiled = images.filter("is_told"), profiles.filter("is_told")
        whole = told.filter("is_whole")
        of_characters = (
            f"{profiled.height} of {profiles.height} | {int(profiled['is_right'].sum())} of {profiled.height}"
            if attribute.is_identity
            else "varies | "
        )
        print(
            f"| {attribute.title} | {share(images['is_told'])} | {share(told['is_right'])} | "
            f"{share(whole['is_right'])} | {of_characters} | {tags.height} | {share(tags['is_right'])} |"
        )


def print_reliability(images: pl.DataFrame) -> None:
    """Print a row per bin of confidence; what is not told is one bin."""
    print("\n| confidence | readings | mean confidence | right |\n|---|---|---|---|")
    first = pl.when("is_told").then(_bin()).otherwise(-1)
    for (lowest,), part in sorted(images.group_by(first.alias("bin")), key=lambda one: one[0]):
        name = "not told" if lowest < 0 else f"{lowest / _BINS:.1f}-{(lowest + 1) / _BINS:.1f}"
        print(f"| {name} | {part.height} | {share(part['confidence'])} | {share(part['is_right'])} |")


def share(values: pl.Series) -> str:
    """Return the mean as text."""
    return f"{values.mean():.3f}" if len(values) else "-"


def main() -> None:
    """Measure and print tables in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", default="7,1,2", help="Of the series, with commas; 7 is the demo.")
    parser.add_argument("--episodes", type=int, default=6, help="Episodes of each series.")
    parser.add_argument("--frames", type=int, default=60, help="Frames of each episode.")
    options = parser.parse_args()
    settings = load_settings(environment={}, overrides={"profile": "demo", "device": "cpu"})
    model = open_image_text_model(settings.embedding, "cpu")
    vocabulary = load_vocabulary(settings.analysis.vocabulary)
    judged: dict[str, Judged] = {}
    left_out: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for seed in options.seeds.split(","):
            series = cut_out(Path(scratch) / seed, int(seed), options.episodes, options.frames, settings, model)
            judged[seed], left_out[seed] = judge(series, model, vocabulary, settings), series.left_out
    print_series(judged, left_out, vocabulary)
    every = together(list(judged.values()))
    print_attributes(every, vocabulary)
    print_reliability(every.images)


if __name__ == "__main__":
    main()
