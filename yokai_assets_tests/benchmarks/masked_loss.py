"""What masking the loss is good for: LoRAs trained with and without it, asked to draw their character elsewhere.

`python -m yokai_assets_tests.benchmarks.masked_loss --demo FOLDER [--work FOLDER] [--seeds 0,1] [--weights 1,0.3,0]`,
more than an hour on one core. It starts from a finished `yokai demo --folder FOLDER` and changes nothing there. Each
character's training set is made again on two kinds of ground: its frames' *own* ones, and *one place*, where all images
stand before the clean plate of one shot without the character, unlike everything that is asked for later. On each,
LoRAs are trained with the demo's settings but for `training.background_loss_weight`. Equal seeds give equal batches,
noise and first weights. All draw the same latents under "<trigger> on a white background", "... in a meadow" and so on.

*Covered*: mean cosine of the creature, cut out, to held-out images, as a share of the way from the base model's
pictures to real ones. *Recognised*: nearest, of all characters, by exemplars. Ground: what is outside the matte, in
CIELAB. *Off*: mean distance of its pixels from the same pixels of the ground asked for, as the base model was taught
it; *others off*: with "a creature" instead of the trigger. *Nearer to trained*: share of pictures whose ground's mean
colour is nearer to that of the training images' grounds than to the one asked for. *Unnamed, from trained*: distance of
these two colours where the prompt is the trigger alone. Intervals (95 %): bootstrap over trainings, and over pictures
of each. LoRAs that `--work` has are not trained again.
"""

import argparse
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage.color import rgb2lab
from upath import UPath

from yokai_assets.analysis import load_vocabulary
from yokai_assets.captioning import stranger_captions, told_values
from yokai_assets.datasets import Knowledge, build_dataset, load_training_image
from yokai_assets.defs.characters import inputs
from yokai_assets.demo.backgrounds import background_phrase, draw_background
from yokai_assets.devices import limit_threads
from yokai_assets.embedding.model import open_image_text_model
from yokai_assets.evaluation import measures
from yokai_assets.evaluation.drawing import draw_grid, to_image
from yokai_assets.evaluation.grid import GridCell
from yokai_assets.evaluation.judging import Yardsticks
from yokai_assets.evaluation.subjects import embed_drawn, exemplar_vectors, read_real_images
from yokai_assets.segmentation.matte import open_matte
from yokai_assets.settings import Settings, load_settings
from yokai_assets.settings.model import GroundShares
from yokai_assets.storage.layout import Layout
from yokai_assets.storage.parquet import read_table
from yokai_assets.tables import CAPTIONS, DATASET, MEMBERS
from yokai_assets.training.base_model import BaseModel, open_base_model
from yokai_assets.training.files import TrainingFiles
from yokai_assets.training.images import items_of
from yokai_assets.training.trainer import train_lora

GROUNDS = ("own", "one place")
ASKED = ("white", "meadow", "desert", "snow", "night")
MEASURES = {
    "covered": ("own", "covered"), "recognised": ("own", "recognised"), "off": ("own", "off"),
    "others off": ("others", "off"), "nearer to trained": ("own", "is_nearer"),
    "unnamed, from trained": ("unnamed", "from_trained"),
}  # fmt: skip
"""Measure -> kind of prompt, column."""
_MAX_FILLED, _LEAST_UNLIKE, _LEAST_GROUND = 0.1, 5.0, 0.1
_FIRST_LATENT, _LATENTS, _OTHER_LATENTS = 1000, 6, 2


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawn picture: of the character on a named ground (`own`), on none (`unnamed`), of some creature (`others`)."""

    kind: str
    asked: str
    latent: int
    image: Image.Image


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """A character's images on one kind of ground, and the mean colour of that ground (CIELAB)."""

    character: str
    trigger: str
    ground: str
    table: pl.DataFrame
    layout: Layout
    colour: NDArray[np.float64]


def training_set(character: str, ground: str, settings: Settings, work: Path, taken: list[NDArray]) -> TrainingSet:
    """Make a character's training set on another ground; `taken` are the colours of places that others stand before."""
    demo = Layout.of(settings)
    layout = Layout(UPath(work) / ground.replace(" ", "_"), demo.series)
    shutil.copytree(str(demo.layers), str(layout.layers), dirs_exist_ok=True)
    members = read_table(MEMBERS, demo.table("character_members", character))
    captions = read_table(CAPTIONS, demo.table("captions", character))
    rows = inputs.rows_of(members, demo)
    rivals = inputs.rivals_of(inputs.load_registry(demo), character, rows.embeddings)
    views = told_values(captions, load_vocabulary(settings.analysis.vocabulary), "view")
    plates = None if ground == "own" else unlike_place(rows.instances, members, demo, taken)
    shares = GroundShares(original=plates is None, plain=0, plate=plates is not None)
    result = build_dataset(
        character, members, rows.instances, inputs.frames_of(rows.instances, demo), rows.embeddings, captions,
        UPath(settings.frames_source), layout, settings.dataset.model_copy(update={"grounds": shares}), settings.seed,
        resolution_px=settings.training.resolution_px, knowledge=Knowledge(rivals=rivals, views=views), plates=plates,
    )  # fmt: skip
    colours = []
    for row in result.table.filter(split="train").iter_rows(named=True):
        image, mask = load_training_image(layout, row)
        colours.append(rgb2lab(image)[np.asarray(mask) < 128].mean(axis=0))
    return TrainingSet(character, captions["trigger"][0], ground, result.table, layout, np.mean(colours, axis=0))


def unlike_place(instances: pl.DataFrame, members: pl.DataFrame, demo: Layout, taken: list[NDArray]) -> pl.DataFrame:
    """Return the plate least like what is asked for, of a shot with characters but without this one."""
    asked = [rgb2lab(draw_background(name, 64)).mean(axis=(0, 1)) for name in ASKED]
    own = instances.filter(pl.col("instance_id").is_in(members["instance_id"].implode()))
    plates = inputs.plates_of(members, demo).filter(pl.col("filled_share").is_between(0.001, _MAX_FILLED))
    found = []
    for name in plates.join(own, on=["episode", "shot"], how="anti")["plate"].sort():
        with Image.open(str(demo.absolute(name))) as plate:
            colour = rgb2lab(plate.convert("RGB")).mean(axis=(0, 1))
        if all(np.linalg.norm(colour - other) > _LEAST_UNLIKE for other in taken):
            found.append((min(float(np.linalg.norm(colour - other)) for other in asked), name, colour))
    _, best, colour = max(found, key=lambda one: one[:2])
    taken.append(colour)
    return plates.filter(pl.col("plate") == best)


def trained(images: TrainingSet, weight: float | None, seed: int | None, settings: Settings, work: Path, base: BaseModel
) -> Path | None:  # fmt: skip
    """Return the LoRA of a set, a weight of the ground and a seed; train it if it is not there. None: base model."""
    if weight is None or seed is None:
        return None
    name = f"{images.character}-{images.ground.replace(' ', '_')}-weight{weight:g}-seed{seed}"
    path = work / "loras" / f"{name}.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        once = {"background_loss_weight": weight, "save_every_n_steps": settings.training.max_train_steps}
        result = train_lora(
            items_of(images.table, images.character, images.layout),
            TrainingFiles.of_character(images.layout, images.character),
            settings.training.model_copy(update=once), "cpu", seed, header={}, base=base,
            prior_captions=stranger_captions(load_vocabulary(settings.analysis.vocabulary), 200, settings.seed),
        )  # fmt: skip
        shutil.copy(str(result.checkpoints[-1].path), path.with_suffix(".part"))
        path.with_suffix(".part").rename(path)
    return path


def drawn(lora: Path | None, trigger: str, settings: Settings, base: BaseModel) -> list[Picture]:
    """Draw the character, and some creature, on every ground that is asked for, and the character on none."""
    wanted = [("own", asked, trigger, _LATENTS) for asked in ASKED] + [("unnamed", "", trigger, _LATENTS)]
    wanted += [("others", asked, "a creature", _OTHER_LATENTS) for asked in ASKED]
    cells = {
        GridCell(number, latent, f"{subject} {background_phrase(asked)}" if asked else subject, "", True): (kind, asked)
        for number, (kind, asked, subject, count) in enumerate(wanted)
        for latent in range(_FIRST_LATENT, _FIRST_LATENT + count)
    }
    grid = draw_grid(base.build_pipeline(lora), list(cells), settings.evaluation, settings.training.resolution_px)
    return [Picture(*cells[cell], cell.seed, to_image(pixels)) for cell, pixels in grid]


class Judge:
    """Holds pictures against held-out images, exemplars, and the ground that was asked for."""

    def __init__(self, settings: Settings, characters: Sequence[str]) -> None:
        demo, segmentation = Layout.of(settings), settings.segmentation
        self._model, self._grey = open_image_text_model(settings.embedding, "cpu"), settings.embedding.neutral_grey
        self._matte, self._threshold = open_matte(segmentation, "cpu"), segmentation.presence_threshold
        registry, model = inputs.load_registry(demo), self._model.fingerprint
        self._yardsticks: dict[str, Yardsticks] = {}
        for character in characters:
            table = read_table(DATASET, demo.table("training_dataset", character))
            splits = (table.filter(split=split) for split in ("held_out", "train"))
            real = [read_real_images(one, demo, self._model, self._grey, is_cut_out=True).vectors for one in splits]
            members = read_table(MEMBERS, demo.table("character_members", character))
            known = inputs.yardstick_vectors(registry, members, character, demo, model)
            exemplars = exemplar_vectors(registry.characters, known, members, model, also=character)
            self._yardsticks[character] = Yardsticks.of(character, real[0], real[1], exemplars)

    def rows(self, pictures: Sequence[Picture], images: TrainingSet) -> Iterator[dict[str, Any]]:
        """Yield what is measured of each picture."""
        plain = [picture.image for picture in pictures]
        vectors = embed_drawn(plain, self._model, self._matte, self._threshold, self._grey, len(plain))
        yardsticks = self._yardsticks[images.character]
        real = float(yardsticks.real_to_real.mean())
        cosines = measures.mean_cosines(vectors, yardsticks.reference)
        names = measures.identify(vectors, yardsticks.exemplars)
        for picture, raw, cosine, name in zip(pictures, self._matte.raw(plain), cosines, names, strict=True):
            known = {"ground": images.ground, "character": images.character}
            known |= {"kind": picture.kind, "asked": picture.asked, "latent": picture.latent}
            likeness = {"cosine": float(cosine), "recognised": float(name == images.character), "real": real}
            yield known | likeness | ground_measures(picture, raw, images.colour)


def ground_measures(picture: Picture, raw: NDArray[np.float32], trained_on: NDArray[np.float64]) -> dict[str, Any]:
    """Hold what is outside the matte against the ground asked for, and against the colour trained on."""
    is_ground = np.logical_not(ndimage.binary_dilation(raw >= 0.2, iterations=2))
    if is_ground.mean() < _LEAST_GROUND:
        return dict.fromkeys(("from_trained", "off", "is_nearer"))
    found = rgb2lab(picture.image)[is_ground]
    from_trained = float(np.linalg.norm(found.mean(axis=0) - trained_on))
    if not picture.asked:
        return {"from_trained": from_trained, "off": None, "is_nearer": None}
    wanted = rgb2lab(draw_background(picture.asked, picture.image.width))[is_ground]
    is_nearer = from_trained < np.linalg.norm(found.mean(axis=0) - wanted.mean(axis=0))
    off = float(np.linalg.norm(found - wanted, axis=1).mean())
    return {"from_trained": from_trained, "off": off, "is_nearer": float(is_nearer)}


def measured(options: argparse.Namespace, settings: Settings) -> pl.DataFrame:
    """Train, draw, measure: a row for each picture. What is there so far is in `pictures.parquet` after each set."""
    registry, base = inputs.load_registry(Layout.of(settings)), open_base_model(settings.training.base_model, "cpu")
    characters = sorted(registry.characters.filter(state="active")["character_id"])
    judge, taken = Judge(settings, characters), []
    sets = [training_set(c, g, settings, options.work, taken) for g in GROUNDS for c in characters]
    rows: list[dict[str, Any]] = []
    for seed, weights in ((None, (None,)), *((int(seed), options.weights) for seed in options.seeds.split(","))):
        for images in sets:
            shown = []
            for weight in weights:
                lora = trained(images, weight, seed, settings, options.work, base)
                shown.append(drawn(lora, images.trigger, settings, base))
                rows += [{"seed": seed, "weight": weight} | row for row in judge.rows(shown[-1], images)]
            name = f"{images.character}-{images.ground.replace(' ', '_')}-{'base' if seed is None else f'seed{seed}'}"
            save_sheet(shown, options.work / f"{name}.png")
            pl.DataFrame(rows, infer_schema_length=None).write_parquet(options.work / "pictures.parquet")
            print(f"{name}: done", file=sys.stderr, flush=True)
    return pl.DataFrame(rows, infer_schema_length=None)


def save_sheet(pictures: Sequence[Sequence[Picture]], path: Path) -> None:
    """Save two pictures for each ground asked for, and two for none: a row for every weight."""
    shown = [[one for one in row if one.kind != "others" and one.latent <= _FIRST_LATENT + 1] for row in pictures]
    pixels = np.vstack([np.hstack([np.asarray(one.image) for one in row]) for row in shown])
    Image.fromarray(pixels.repeat(2, axis=0).repeat(2, axis=1)).save(path)


def interval(rows: pl.DataFrame, column: str) -> str:
    """Return the mean and its bootstrap interval: trainings are drawn, and pictures of each."""
    groups = [own[column].drop_nulls().to_numpy() for own in rows.partition_by("character", "seed")]
    groups, rng, means = [group for group in groups if len(group)], np.random.default_rng(0), []
    for _ in range(1000):
        chosen = (groups[one] for one in rng.integers(len(groups), size=len(groups)))
        means.append(np.concatenate([rng.choice(group, len(group)) for group in chosen]).mean())
    low, high = np.quantile(means, [0.025, 0.975])
    return f"{np.concatenate(groups).mean():.2f} ({low:.2f} to {high:.2f})"


def print_measures(title: str, rows: pl.DataFrame, weights: Sequence[float | None], suffix: str = "") -> None:
    """Print intervals of all measures, a row for each kind of ground and weight."""
    print(f"\n| ground | {title} | " + " | ".join(MEASURES) + " |\n|---|---|" + "---|" * len(MEASURES))
    for ground in GROUNDS:
        for weight in weights:
            chosen = rows.filter(pl.col("ground") == ground, pl.col("weight").eq_missing(weight))
            cells = [interval(chosen.filter(kind=kind), column + suffix) for kind, column in MEASURES.values()]
            print(f"| {ground} | {'base model' if weight is None else f'{weight:g}'} | " + " | ".join(cells) + " |")


def report(rows: pl.DataFrame, weights: Sequence[float]) -> None:
    """Print measures, differences to the first weight, and measures by the ground that was asked for."""
    bases = rows.filter(pl.col("weight").is_null(), kind="own").group_by("character").agg(base=pl.col("cosine").mean())
    share = (pl.col("cosine") - pl.col("base")) / (pl.col("real") - pl.col("base"))
    rows = rows.join(bases, on="character").with_columns(covered=share)
    print_measures("weight", rows, (None, *weights))
    keys = ["ground", "character", "seed", "kind", "asked", "latent"]
    paired = rows.join(rows.filter(weight=weights[0]), on=keys, suffix="_first")
    columns = {column for _, column in MEASURES.values()}
    differences = {f"{column}_more": pl.col(column) - pl.col(f"{column}_first") for column in columns}
    print_measures(f"weight, minus weight {weights[0]:g}", paired.with_columns(**differences), weights[1:], "_more")
    shown = [(name, weight) for name in ("covered", "off") for weight in weights]
    print("\n| ground | asked for | " + " | ".join(f"{name}, {weight:g}" for name, weight in shown) + " |")
    print("|---|---|" + "---|" * len(shown))
    for ground in GROUNDS:
        for asked in ASKED:
            own = rows.filter(kind="own", ground=ground, asked=asked)
            cells = [interval(own.filter(weight=weight), name) for name, weight in shown]
            print(f"| {ground} | {asked} | " + " | ".join(cells) + " |")


def main() -> None:
    """Measure and print tables in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--demo", type=Path, help="Folder of a finished `yokai demo`; without it nothing is measured.")
    parser.add_argument("--work", type=Path, default=Path("build/masked_loss"), help="Where LoRAs and sheets go.")
    parser.add_argument("--seeds", default="0,1", help="Of the trainings.")
    parser.add_argument("--weights", default="1,0.3,0", help="Of the ground in the loss; the first is compared with.")
    options = parser.parse_args()
    options.weights = [float(weight) for weight in options.weights.split(",")]
    if options.demo is None or not (options.demo / "yokai.toml").exists():
        print("Takes more than an hour, and a finished demo: run `make demo`, then name its folder with --demo.")
        return
    settings = load_settings(options.demo / "yokai.toml", environment={})
    limit_threads(settings.cpu_threads)
    report(measured(options, settings), options.weights)


if __name__ == "__main__":
    main()
