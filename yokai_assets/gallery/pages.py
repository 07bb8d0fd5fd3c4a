"""Which pictures, rows and charts stand on a character's card and page.

Choosing only: what is known is `characters`, words and looks are `templates/`, files are `build`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yokai_assets.evaluation import EvaluationRecord, PictureRecord
from yokai_assets.evaluation.reporting import WEIGHTS_FILE
from yokai_assets.gallery.characters import CharacterEntry
from yokai_assets.gallery.charts import IntervalRow, LineChart, interval_rows, line_chart
from yokai_assets.gallery.comparisons import nearest_loras
from yokai_assets.gallery.data import GalleryData
from yokai_assets.gallery.images import PendingPicture, PictureFolder
from yokai_assets.storage.files import is_local
from yokai_assets.storage.layout import Layout

_CARD_PX, _TILE_PX, _SAMPLE_PX, _MAP_PX, _PLATE_PX, _SHEET_PX = 320, 200, 384, 96, 360, 1600
_MAX_EXEMPLARS, _MAX_PLATES, _MAX_TRAINING_IMAGES, _MAX_PAIRS, _MAX_CLOSEST = 12, 4, 400, 8, 4


@dataclass(frozen=True, slots=True)
class Pair:
    """Two pictures to compare, what they are, and whether the prompt was one without the trigger word."""

    left: PendingPicture
    right: PendingPicture
    caption: str
    is_control: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    """A file of the data root: what it is, and the way to it from the data root."""

    name: str
    path: str


@dataclass(slots=True)
class CharacterPage:
    """What a character's card and page show. Pictures are encoded while pages are put together."""

    entry: CharacterEntry
    montage: PendingPicture | None = None
    exemplars: list[PendingPicture] = field(default_factory=list)
    plates: list[tuple[PendingPicture, str]] = field(default_factory=list)
    preview: PendingPicture | None = None
    map_picture: PendingPicture | None = None
    comparison: PendingPicture | None = None
    weight_sheet: PendingPicture | None = None
    pairs: list[Pair] = field(default_factory=list)
    closest: list[Pair] = field(default_factory=list)
    training_images: list[tuple[PendingPicture, str, str]] = field(default_factory=list)
    loss_chart: LineChart | None = None
    resemblance_rows: list[IntervalRow] = field(default_factory=list)
    rival_rows: list[IntervalRow] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)


def character_page(entry: CharacterEntry, data: GalleryData, layout: Layout, pictures: PictureFolder) -> CharacterPage:
    """Choose what is shown of a character.

    Args:
        entry: The character.
        data: The series.
        layout: Where pictures lie.
        pictures: Where they go.
    """
    page = CharacterPage(entry)
    _add_layers(page, layout, pictures)
    if entry.evaluation:
        _add_evaluation(page, entry.evaluation, layout, pictures)
    titles = {other.character_id: other.title for other in data.characters}
    page.rival_rows = nearest_loras(data.comparison, entry.character_id, titles)
    _add_training(page, layout, pictures)
    page.links = _links(entry, layout) if is_local(layout.root) else []
    return page


def _add_layers(page: CharacterPage, layout: Layout, pictures: PictureFolder) -> None:
    entry, name = page.entry, page.entry.character_id
    cutouts = [layout.absolute(cutout) for cutout in entry.exemplars[:_MAX_EXEMPLARS]]
    for index, source in enumerate(cutouts):
        alt = f"{entry.title} as seen in the series, picture {index + 1}"
        page.exemplars.append(
            pictures.thumbnail(source, f"{name}/exemplar{index:02d}", _CARD_PX, alt, is_named_by_content=True)
        )
    if cutouts:
        alt = f"{entry.title} as seen in the series"
        page.montage = pictures.montage(cutouts, f"{name}/montage", _CARD_PX, alt, is_named_by_content=True)
        page.map_picture = pictures.thumbnail(cutouts[0], f"{name}/map", _MAP_PX, entry.title, is_named_by_content=True)
    scenes = {scene.plate: scene for scene in reversed(entry.scenes) if scene.plate}
    for index, (plate, scene) in enumerate(list(reversed(scenes.items()))[:_MAX_PLATES]):
        where = f"{scene.episode}, shot {scene.shot}"
        alt = f"Background of {where}, without characters"
        source = layout.absolute(str(plate))
        page.plates.append(
            (pictures.thumbnail(source, f"{name}/plate{index:02d}", _PLATE_PX, alt, is_named_by_content=True), where)
        )
    preview = layout.lora(name) / f"{name}.preview.png"
    if entry.lora:
        page.preview = pictures.thumbnail(preview, f"{name}/lora", _CARD_PX, f"{entry.title} as drawn by its LoRA")


def _add_evaluation(page: CharacterPage, record: EvaluationRecord, layout: Layout, pictures: PictureFolder) -> None:
    name, folder = page.entry.character_id, layout.lora_tests(page.entry.character_id)
    alt = f"Real images, base model and checkpoints of {page.entry.title}, row by row"
    page.comparison = pictures.thumbnail(folder / record.comparison, f"{name}/comparison", _SHEET_PX, alt)
    if len(record.weights) > 1:
        alt = f"The chosen checkpoint of {page.entry.title} at each weight, row by row"
        page.weight_sheet = pictures.thumbnail(folder / WEIGHTS_FILE, f"{name}/weights", _SHEET_PX, alt)

    def sample(picture: PictureRecord, kind: str) -> PendingPicture:
        label = f"{kind}: {picture.prompt}, seed {picture.seed}"
        return pictures.thumbnail(folder / picture.file, f"{name}/{Path(picture.file).stem}", _SAMPLE_PX, label)

    base = {(p.prompt_index, p.seed): p for p in record.pictures if p.step == 0}
    chosen = {(p.prompt_index, p.seed): p for p in record.pictures if p.step == record.chosen_step}
    for key in _spread(sorted(base.keys() & chosen.keys()), _MAX_PAIRS):
        caption = f"{chosen[key].prompt} · seed {chosen[key].seed}"
        left, right = sample(base[key], "base model"), sample(chosen[key], "LoRA")
        page.pairs.append(Pair(left, right, caption, is_control=_is_control(record, chosen[key])))
    page.closest = _closest(page, list(chosen.values()), layout, pictures, sample)
    page.resemblance_rows = _resemblance_rows(record)


def _is_control(record: EvaluationRecord, picture: PictureRecord) -> bool:
    return "{trigger}" not in (record.prompts[picture.prompt_index : picture.prompt_index + 1] or ["{trigger}"])[0]


def _closest(
    page: CharacterPage, chosen: Sequence[PictureRecord], layout: Layout, pictures: PictureFolder, sample: Any
) -> list[Pair]:
    name, images = page.entry.character_id, dict(page.entry.dataset.select("instance_id", "image").iter_rows())
    nearest = sorted(chosen, key=lambda p: (-(p.nearest_training_cosine or 0.0), p.file))
    pairs = []
    for picture in [p for p in nearest if p.nearest_training_image in images][:_MAX_CLOSEST]:
        source = layout.absolute(images[picture.nearest_training_image])
        file = f"{name}/closest_{Path(picture.file).stem}"
        training = pictures.thumbnail(source, file, _SAMPLE_PX, f"training image of {page.entry.title}")
        pairs.append(Pair(sample(picture, "LoRA"), training, f"cosine {picture.nearest_training_cosine or 0:.3f}"))
    return pairs


def _add_training(page: CharacterPage, layout: Layout, pictures: PictureFolder) -> None:
    name, dataset = page.entry.character_id, page.entry.dataset
    rows = dataset.sort("split", "image").to_dicts()
    for index, row in enumerate(_spread(rows, _MAX_TRAINING_IMAGES)):
        kind = "held out" if row["split"] == "held_out" else "trained on"
        alt = f"Image of {page.entry.title}, {kind}: {row['caption']}"
        picture = pictures.thumbnail(layout.absolute(row["image"]), f"{name}/training{index:03d}", _TILE_PX, alt)
        page.training_images.append((picture, row["split"], row["caption"]))
    training = page.entry.training
    if training:
        steps = range(1, len(training.losses) + 1)
        series: dict[str, tuple[Sequence[float], Sequence[float]]] = {"training": (steps, training.losses)}
        if training.validation_losses:
            validation = training.validation_losses
            series["held out"] = ([step for step, _ in validation], [loss for _, loss in validation])
        chosen = page.entry.evaluation.chosen_step if page.entry.evaluation else None
        page.loss_chart = line_chart(series, mark=("chosen", chosen) if chosen else None)


def _resemblance_rows(record: EvaluationRecord) -> list[IntervalRow]:
    rows = [
        (
            "base model" if row.step == 0 else f"step {row.step:,}",
            row.resemblance.low,
            row.resemblance.mean,
            row.resemblance.high,
            "chosen" if row.step == record.chosen_step and row.checkpoint else "other",
        )
        for row in record.checkpoints
    ]
    others = [
        (anchor.name, anchor.resemblance.low, anchor.resemblance.mean, anchor.resemblance.high, "other")
        for anchor in record.anchors
        if anchor.kind == "other"
    ]
    real = record.real_to_real
    return interval_rows([*rows[:1], *others, *rows[1:], ("real images", real.low, real.mean, real.high, "real")])


def _links(entry: CharacterEntry, layout: Layout) -> list[Link]:
    """Return the files of a character that are there, for people to open."""
    name = entry.character_id
    lora, tests, analysis = layout.lora(name), layout.lora_tests(name), layout.ai_analysis(name)
    candidates = {
        "LoRA": lora / f"{name}.safetensors",
        "model card": lora / "README.md",
        "profile": analysis / "profile.md",
        "training images": layout.training_data(name),
        "test pictures": tests,
        "evaluation, all numbers": tests / "evaluation.json",
        "training record": lora / f"{name}-training.json",
    }
    return [Link(what, layout.relative(path)) for what, path in candidates.items() if path.exists()]


def ready_pairs(pairs: Sequence[Pair]) -> list[Mapping[str, Any]]:
    """Return the pairs of which both pictures could be read."""
    ready = (
        {"left": p.left.ready(), "right": p.right.ready(), "caption": p.caption, "is_control": p.is_control}
        for p in pairs
    )
    return [pair for pair in ready if pair["left"] and pair["right"]]


def _spread(items: Sequence[Any], count: int) -> list[Any]:
    """Return at most `count` items, evenly spread, in order."""
    if len(items) <= count:
        return list(items)
    return [items[round(index * (len(items) - 1) / (count - 1))] for index in range(count)]
