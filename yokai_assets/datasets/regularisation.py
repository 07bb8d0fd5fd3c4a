"""The regularisation set of a series, for trainers that want one: empty scenery, and a few pictures of everybody.

One set for all characters; which parts a character's trainer reads (all but its own) is said in its `dataset.toml`.
Making it only; `lora_model` does not need it, as it preserves the base model's own pictures instead.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image
from upath import UPath

from yokai_assets.datasets.carrying import carry_over
from yokai_assets.datasets.grounds import MAX_FILLED_SHARE, plain_ground
from yokai_assets.datasets.manifest import MANIFEST_FILE, Folder, write_manifest
from yokai_assets.datasets.render import before, placed_mask, plain, scaled_down
from yokai_assets.frames.decoding import FrameError
from yokai_assets.frames.reader import read_frame
from yokai_assets.segmentation.layers import load_cutout
from yokai_assets.segmentation.restoring import Restore, nothing_to_restore
from yokai_assets.storage.files import is_local, sha256_of_parts
from yokai_assets.storage.folders import replaced_folder
from yokai_assets.storage.layout import Layout

SCENERY = "scenery"
SCENERY_CAPTION = "scenery, no characters"
CHARACTER_CAPTION = "a cartoon character"

_MANIFEST = "regularisation.txt"


@dataclass(frozen=True, slots=True)
class RegularisationSet:
    """What was written: part (`scenery`, or a character's id) -> pictures; what is unreadable; hash of the content."""

    folder: UPath
    counts: Mapping[str, int]
    problems: tuple[str, ...]
    fingerprint: str


def build_regularisation(
    exemplars: Mapping[str, list[str]],
    plates: pl.DataFrame,
    layout: Layout,
    image_count: int,
    seed: int,
    *,
    resolution_px: int,
    restore: Restore = nothing_to_restore,
) -> RegularisationSet:
    """Write the set, half scenery and half characters; the folder is replaced as a whole.

    Args:
        exemplars: character_id -> cut-outs that show it well, relative to the data root.
        plates: BACKGROUNDS of the series.
        layout: Where these lie and where the set goes.
        image_count: Pictures wanted; there may be fewer, and some more so that each character has as many. 0 removes
            the set, but no file of a person's own.
        seed: Of grounds.
        resolution_px: As for training sets.
        restore: Called with the cut-outs and plates that will be read.
    """
    folder, problems = layout.regularisation, list[str]()
    if not image_count:
        _remove_own(folder)
        return RegularisationSet(folder, {}, (), "")
    usable = plates.filter(pl.col("filled_share") <= MAX_FILLED_SHARE).sort("episode", "shot")
    wanted = min(usable.height, image_count // 2)
    places = np.linspace(0, usable.height - 1, wanted).round().astype(int).tolist() if wanted else []
    each = -(-(image_count - wanted) // max(1, len(exemplars)))
    counts: dict[str, int] = {}
    restore([*usable["plate"].gather(places), *(cutout for cutouts in exemplars.values() for cutout in cutouts[:each])])
    with replaced_folder(folder, last=_MANIFEST) as temporary:
        for number, plate in enumerate(usable["plate"].gather(places)):
            with _noted(problems):
                picture = read_frame(layout.absolute(plate))
                image = scaled_down(picture, Image.new("L", picture.size), resolution_px)[0]
                _write(temporary / SCENERY / f"{number:05d}.png", image, SCENERY_CAPTION)
                counts[SCENERY] = counts.get(SCENERY, 0) + 1
        for character, cutouts in sorted(exemplars.items()):
            for number, relative in enumerate(cutouts[:each]):
                with _noted(problems):
                    cutout = load_cutout(layout, relative)
                    box, ground = (0, 0, *cutout.size), plain_ground(relative, seed)
                    picture = before(plain(box, ground), cutout, box, box)
                    image = scaled_down(picture, placed_mask(cutout, box, box), resolution_px)[0]
                    _write(temporary / character / f"{number:05d}.png", image, f"{CHARACTER_CAPTION}, {ground.tag}")
                    counts[character] = counts.get(character, 0) + 1
        (temporary / _MANIFEST).write_text("".join(f"{name} {count}\n" for name, count in sorted(counts.items())))
        written = write_manifest(temporary, {}).files
        carry_over(Folder(folder, last=_MANIFEST), temporary, ())
    fingerprint = sha256_of_parts({name: file.sha256 for name, file in written.items()})[:32]
    return RegularisationSet(folder, counts, tuple(problems), fingerprint)


def regularisation_parts(layout: Layout, character_id: str) -> list[str]:
    """Return the folders (absolute) of the set that a character's trainer may read: all but its own, if any."""
    manifest = layout.regularisation / _MANIFEST
    if not manifest.exists():
        return []
    names = [line.rpartition(" ")[0] for line in manifest.read_text("utf-8").splitlines()]
    places = (layout.regularisation / name for name in names if name != character_id)
    return [str(Path(str(place)).absolute()) if is_local(place) else str(place) for place in places]


def _remove_own(folder: UPath) -> None:
    """Remove what was written; files of a person's own stay."""
    there = Folder(folder, last=_MANIFEST)
    for name in (*there.manifest.files, MANIFEST_FILE):
        if name in there.stamps and not there.is_changed(name):
            (folder / name).unlink()
    if is_local(folder):
        root = Path(str(folder))
        for place in (*sorted(root.rglob("*"), reverse=True), root):
            if place.is_dir() and not place.is_symlink() and not any(place.iterdir()):
                place.rmdir()


def _write(file: Path, image: Image.Image, caption: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file, "PNG")
    file.with_suffix(".txt").write_text(caption + "\n", "utf-8")


@contextlib.contextmanager
def _noted(problems: list[str]) -> Iterator[None]:
    try:
        yield
    except FrameError as error:
        problems.append(str(error))
