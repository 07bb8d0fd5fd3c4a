"""Any folder of training images, ours or somebody else's, as items for the trainer.

What cannot be trained on is left out and named, everything else is trained on. Which layouts are read is told in
`folder_files`, what becomes of texts in `folder_captions`, who is held out in `near_duplicates`. Nothing is written
here. A tree of unsorted cut-outs is the `importer`'s matter.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from upath import UPath

from yokai_assets.datasets.folder_captions import (
    TextFileError,
    common_first_word,
    has_word,
    one_line,
    read_text,
    with_trigger,
)
from yokai_assets.datasets.folder_files import FolderContents, ImageFile, find_training_images, folder_to_name
from yokai_assets.datasets.near_duplicates import PicturePrint, hold_out_pictures, print_of
from yokai_assets.frames.decoding import FrameError
from yokai_assets.progress import Progress, silent
from yokai_assets.training.images import TrainingImageError, TrainingItem, read_item

MIN_SIDE_PX = 32
"""Smaller images show nothing that could be learnt."""

_MAX_NAMED = 8
_WITHOUT_CAPTION = "Write one, or give a trigger word that serves instead: --trigger WORD."


class TrainingFolderError(ValueError):
    """A folder cannot be trained on; the message names the folder, the reason and the remedy."""


@dataclass(frozen=True, slots=True)
class TrainingFolder:
    """A folder that can be trained on.

    Attributes:
        items: In natural order of their paths; `item_id` is an image's path relative to the folder.
        trigger: The word as given; else the first one of the class tokens, where all training images share it; else
            the one that all captions begin with.
        problems: (file relative to the folder, reason and remedy) of everything that is not as it should be.
        skipped: Kind -> number of images left out: `unreadable`, `too small`, `empty mask`, `no caption`,
            `unreadable caption`, `no Unicode name`, and `gone`, which metadata names only.
    """

    items: list[TrainingItem]
    trigger: str | None
    problems: list[tuple[str, str]]
    skipped: dict[str, int]

    def others(self) -> tuple[str, ...]:
        """Return what the captions say besides the trigger: descriptions of others; empty where it is not known.

        A text that still holds the trigger is none: what it describes is the character.
        """
        if not self.trigger:
            return ()
        word = self.trigger
        tags = ([tag.strip() for tag in item.caption.split(",")] for item in self.items)
        return tuple(sorted({", ".join(t for t in one if t and not has_word(t, word)) for one in tags} - {""}))


def read_training_folder(
    folder: UPath | Path,
    *,
    trigger: str | None = None,
    held_out_share: float = 0.1,
    seed: int = 0,
    progress: Progress = silent,
) -> TrainingFolder:
    """Read a folder of training images; every image is decoded once.

    The caption of an image is the first of these that is not empty: its `.txt`, its `.caption`, its line in
    `metadata.jsonl`, the class tokens of its folder's name, the trigger; an image with none is left out. Lines of a
    text become one, see `folder_captions.one_line`. Images in `held_out/` are held out, and then no others.

    Args:
        folder: In one of the layouts of `folder_files`.
        trigger: Word that stands for the character; put in front of captions that do not begin with it.
        held_out_share: Share of the images that measure the validation loss (0-1), an image and its near-duplicates
            on one side; 0 holds out none, and so does a folder of fewer than 8.
        seed: Of the choice of held-out images.
        progress: Told of every image.

    Raises:
        TrainingFolderError: There is no such folder, no image in it, no caption and no trigger, or no image that can
            be trained on.
    """
    root = UPath(folder)
    contents = _contents(root)
    report = _Report(
        list(contents.problems), +Counter({"gone": len(contents.gone), "no Unicode name": contents.unnamed})
    )
    _report_unread(contents, report)
    word = " ".join((trigger or "").split()).strip(" ,")
    captions = _captions(contents.images, word, report)
    if not captions:
        raise TrainingFolderError(_without_captions(root, len(contents.images), report))
    shown = [image for image in contents.images if image.name in captions]
    items, prints = _readable(shown, captions, report, progress)
    if not any(item.split == "train" for item in items):
        raise TrainingFolderError(_without_training_images(root, len(contents.images), report))
    if not any(item.split == "held_out" for item in items):
        items = _with_held_out(items, prints, held_out_share, seed, report)
    return TrainingFolder(
        items=items,
        trigger=word or _told_trigger(shown, captions, report) or _common_first_tag(items),
        problems=report.problems,
        skipped=dict(report.skipped),
    )


@dataclass(slots=True)
class _Report:
    problems: list[tuple[str, str]] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    def leave_out(self, kind: str, name: str, reason: str) -> None:
        self.skipped[kind] += 1
        self.problems.append((name, reason))


def _contents(root: UPath) -> FolderContents:
    try:
        contents = find_training_images(root)
    except FileNotFoundError as error:
        raise TrainingFolderError(f"{root}: no such folder. Name a folder of images.") from error
    except NotADirectoryError as error:
        raise TrainingFolderError(f"{root}: is a file. Name the folder of images; unpack an archive first.") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise TrainingFolderError(f"{root}: cannot be listed ({reason}). Check its permissions.") from error
    if not contents.images:
        raise TrainingFolderError(_without_images(root, contents))
    return contents


def _without_images(root: UPath, contents: FolderContents) -> str:
    if contents.unread:
        places = _some([f"{path} ({count})" for path, count in contents.unread.items()])
        first = next(iter(contents.unread))
        return (
            f"{root}: holds no images itself, but in sub-folders: {places}. Name {root / folder_to_name(first)}, or "
            f"another of them; or move those to be trained on together to the top, as <repeats>_<words>."
        )
    suffixes = [f"{count} {suffix}" for suffix, count in contents.other_suffixes.most_common()]
    found = f"there are {_some(suffixes)}" if suffixes else "there are no files in it"
    amiss = "".join(f" {name}: {reason}" for name, reason in contents.problems[:_MAX_NAMED])
    return f"{root}: no images (.png, .jpg, .webp, ...); {found}. Name the folder that holds them.{amiss}"


def _report_unread(contents: FolderContents, report: _Report) -> None:
    for path, count in contents.unread.items():
        remedy = f"Name {folder_to_name(path)} by itself, or move it to the top as <repeats>_<words>."
        report.problems.append((path, f"a sub-folder whose images ({count}) are not read. {remedy}"))


def _captions(images: Sequence[ImageFile], word: str, report: _Report) -> dict[str, str]:
    """Return image name -> caption; images without one are reported."""
    captions = {}
    for image in images:
        try:
            caption = _text_of(image) or image.metadata_caption or one_line(image.place.class_tokens)
        except TextFileError as error:
            report.leave_out("unreadable caption", image.name, f"left out, as its text {error}")
            continue
        if caption or word:
            captions[image.name] = with_trigger(caption, word) if word else caption
        else:
            report.leave_out("no caption", image.name, f"left out, as it has no caption. {_WITHOUT_CAPTION}")
    return captions


def _text_of(image: ImageFile) -> str:
    for path in image.texts:
        try:
            text = one_line(read_text(path))
        except TextFileError as error:
            raise TextFileError(f"{path.name} {error}") from error
        if text:
            return text
    return ""


def _without_captions(root: UPath, count: int, report: _Report) -> str:
    message = f"{root}: none of {count} images has a caption that can be read."
    if report.skipped["no caption"]:
        message += f" It stands in a .txt or .caption of the image's name, or in metadata.jsonl. {_WITHOUT_CAPTION}"
    others = [f"{name}: {reason}" for name, reason in report.problems if not reason.endswith(_WITHOUT_CAPTION)]
    return " ".join([message, *others[:_MAX_NAMED]])


def _readable(
    images: Sequence[ImageFile], captions: dict[str, str], report: _Report, progress: Progress
) -> tuple[list[TrainingItem], list[PicturePrint]]:
    items, prints = [], []
    for done, image in enumerate(images, start=1):
        item = TrainingItem(
            item_id=image.name,
            image=image.path,
            mask=image.mask,
            caption=captions[image.name],
            split=image.place.split,
            repeats=image.place.repeats,
        )
        found = _print_of_item(item, report)
        if found is not None:
            items.append(item)
            prints.append(found)
        progress(done, len(images), "reading images")
    return items, prints


def _print_of_item(item: TrainingItem, report: _Report) -> PicturePrint | None:
    """Decode an item; None, and reported, where it cannot be trained on."""
    try:
        image, mask, _ = read_item(item)
    except TrainingImageError as error:
        report.leave_out("unreadable", item.item_id, _unreadable(error, item))
        return None
    if min(image.size) < MIN_SIDE_PX:
        reason = f"left out, as its {image.width} x {image.height} px are too few: a side has {MIN_SIDE_PX} at least."
        report.leave_out("too small", item.item_id, f"{reason} Replace or remove it.")
        return None
    if mask is not None and not mask.getbbox():
        reason = "left out, as its mask is black all over. Paint the character white in it, or remove the mask."
        report.leave_out("empty mask", item.item_id, reason)
        return None
    return print_of(image)


def _unreadable(error: TrainingImageError, item: TrainingItem) -> str:
    cause, text = error.__cause__, str(error)
    is_mask = item.mask is not None and text.startswith(f"{item.mask}: ")
    what = f"left out, as its mask {item.mask.name}" if item.mask is not None and is_mask else "left out, as it"
    if not isinstance(cause, FrameError):
        return f"{what} does not fit: {text.removeprefix(f'{item.mask}: ')}"
    return f"{what} {cause.reason}. Replace or remove it."


def _without_training_images(root: UPath, count: int, report: _Report) -> str:
    reasons = "; ".join(f"{name}: {reason}" for name, reason in report.problems[:3]) or "all lie in held_out"
    return f"{root}: none of {count} images is left to train on ({reasons}). Correct these, or name another folder."


def _with_held_out(
    items: list[TrainingItem], prints: list[PicturePrint], share: float, seed: int, report: _Report
) -> list[TrainingItem]:
    held_out = hold_out_pictures(prints, share, seed)
    if held_out.torn_shot is not None:
        reason = (
            "no image is held out, so no validation loss is measured: groups of near-duplicates are too large for "
            f"{share:.0%}. Put images that are unlike the others into held_out, or ask for a larger share."
        )
        report.problems.append((items[held_out.torn_shot].item_id, reason))
    chosen = set(held_out.positions.tolist())
    return [replace(item, split="held_out") if n in chosen else item for n, item in enumerate(items)]


def _told_trigger(images: Sequence[ImageFile], captions: dict[str, str], report: _Report) -> str | None:
    """Return the first word of the class tokens of all training images; captions without it are reported."""
    trained = [image for image in images if image.place.split == "train"]
    word = common_first_word(image.place.class_tokens for image in trained)
    lacking = [image.name for image in trained if word and not has_word(captions[image.name], word)]
    if lacking:
        reason = f"{len(lacking)} captions lack {word}, which the folder's name begins with, so training does not tie"
        remedy = f"Give it to put it in front of them: --trigger {word}."
        report.problems.append((lacking[0], f"{reason} the character to it. {remedy}"))
    return word


def _common_first_tag(items: Sequence[TrainingItem]) -> str | None:
    """Return the word that all captions have for their first tag: what people write a trigger as."""
    first = {item.caption.partition(",")[0].strip() for item in items}
    word = next(iter(first)) if len(first) == 1 and len(items) > 1 else ""
    return word if word and " " not in word else None


def _some(names: Sequence[str]) -> str:
    more = [f"and {len(names) - _MAX_NAMED} more"] if len(names) > _MAX_NAMED else []
    return ", ".join([*names[:_MAX_NAMED], *more])
