"""What lies in a folder of training images, whoever made it: the images, and which text and mask belong to each.

    <image>.png, <image>.txt | .caption           flat; captions may stand in `metadata.jsonl` instead
    <repeats>_<class tokens>/<image>.png, ...     kohya's sd-scripts; for images without a text the tokens are it
    metadata.jsonl                                HF `imagefolder`; sub-folders that it names are read
    masks/<image>.png                             beside the images, in each of these; OneTrainer's
                                                  `<image>-masklabel.png` too
    held_out/...                                  never trained on (`kohya`: our own layout)

Names and metadata only: no image is opened here, what can be trained on is `folder`'s matter.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath

from upath import UPath

from yokai_assets.datasets import kohya
from yokai_assets.datasets.folder_captions import MetadataRow, TextFileError, metadata_rows, name_key, read_text
from yokai_assets.frames.listing import Entry, is_storable_name, list_folder, natural_key
from yokai_assets.storage.files import is_local, path_below
from yokai_assets.training.images import Split

TEXT_SUFFIXES = (".txt", ".caption")

_REPEATS_FOLDER = re.compile(r"(\d{1,4})_(.*\S.*)")
_MASK_LABEL = "-masklabel"
_MAX_SEARCH_DEPTH = 3
_MAX_SEARCHED_FOLDERS = 200


@dataclass(frozen=True, slots=True)
class Place:
    """A folder whose images are read.

    Attributes:
        path: Relative to the training folder; empty for that itself.
        split: Of its images.
        repeats: Of its images.
        class_tokens: What the folder's name says of its images; empty: nothing.
    """

    path: str
    split: Split = "train"
    repeats: int = 1
    class_tokens: str = ""

    def joined(self, name: str) -> str:
        """Return the path of a file in it, relative to the training folder."""
        return f"{self.path}/{name}" if self.path else name


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image and what belongs to it; nothing of it is opened yet.

    Attributes:
        name: Path relative to the training folder, with `/`.
        path: Where it lies.
        mask: Where its mask lies; one that metadata names may not be there.
        texts: Its text files; the first that is not empty counts.
        metadata_caption: What metadata says of it; empty: nothing.
        place: The folder that it lies in.
    """

    name: str
    path: UPath
    mask: UPath | None
    texts: tuple[UPath, ...]
    metadata_caption: str
    place: Place


@dataclass(slots=True)
class FolderContents:
    """What was found in a training folder.

    Attributes:
        images: In natural order of their paths.
        gone: Images that metadata names and that are not there.
        unread: Sub-folders with images that are not read -> number of these.
        other_suffixes: Files directly in the folder that are no images, by suffix.
        problems: (file, reason) of everything that could not be read.
        unnamed: How many of these are images left out for their names.
    """

    images: list[ImageFile] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    unread: dict[str, int] = field(default_factory=dict)
    other_suffixes: Counter[str] = field(default_factory=Counter)
    problems: list[tuple[str, str]] = field(default_factory=list)
    unnamed: int = 0


def find_training_images(folder: UPath) -> FolderContents:
    """List a training folder.

    Raises:
        OSError: The folder itself cannot be listed. A sub-folder that cannot be is reported in `problems`.
    """
    return _Finder(folder, list_folder(folder)).find()


def path_key(path: str) -> tuple[object, ...]:
    """Return a sort key of natural order for a path with `/`."""
    return tuple(natural_key(part) for part in path.split("/"))


def folder_to_name(path: str) -> str:
    """Return which sub-folder is to be read for the images in `path`: the one above a `<repeats>_<words>` folder."""
    above, _, name = path.rpartition("/")
    return above if above and _REPEATS_FOLDER.fullmatch(name) else path


class _Finder:
    """Goes through the places of one folder."""

    def __init__(self, folder: UPath, top: list[Entry]) -> None:
        self._folder = folder
        self._entries: dict[str, list[Entry]] = {"": top}
        self._rows: dict[str, MetadataRow] = {}
        self._found = FolderContents()

    def find(self) -> FolderContents:
        places = self._places()
        for place in places:
            self._take_images(place)
        found = self._found
        found.images.sort(key=lambda image: path_key(image.name))
        there = {name_key(image.name) for image in found.images}
        found.gone = sorted((name for name in self._rows if name not in there), key=path_key)
        files = [entry for entry in self._entries[""] if not entry.is_folder and not entry.is_image]
        found.other_suffixes = Counter(entry.suffix or entry.name for entry in files)
        self._search({place.path for place in places})
        return found

    def _places(self) -> list[Place]:
        top = Place("")
        self._read_metadata(top)
        places = {"": top}
        for entry in self._entries[""]:
            place = _place_of(entry)
            if place is not None and self._list(place.path) is not None:
                places[entry.name] = place
                self._read_metadata(place)
        for parent in sorted({PurePosixPath(name).parent for name in self._rows}):
            path = "" if parent == PurePosixPath() else parent.as_posix()
            if path not in places and parent.name != kohya.MASKS and self._list(path) is not None:
                places[path] = Place(path, "held_out" if parent.parts[0] == kohya.HELD_OUT else "train")
        return list(places.values())

    def _list(self, path: str) -> list[Entry] | None:
        """Return a sub-folder's entries: none where it cannot be listed, which is reported; None where it is gone."""
        if path not in self._entries:
            entries, problem = [], ""
            try:
                if self._leads_up(path):
                    problem = "is a link to a folder that it lies in, and not followed. Remove it."
                else:
                    entries = list_folder(path_below(self._folder, path))
            except (FileNotFoundError, NotADirectoryError):  # a name in metadata
                return None
            except OSError as error:
                problem = f"cannot be listed ({error.strerror or error}). Check its permissions."
            if problem:
                self._found.problems.append((path, problem))
            self._entries[path] = entries
        return self._entries[path]

    def _leads_up(self, path: str) -> bool:
        if not is_local(self._folder):
            return False
        try:
            root = Path(str(self._folder)).resolve()
            return root.is_relative_to((root / path).resolve())
        except (OSError, RuntimeError):  # a link into itself
            return False

    def _read_metadata(self, place: Place) -> None:
        names = {kohya.METADATA_FILE, kohya.RECORDS_FILE} if place.split == kohya.HELD_OUT else {kohya.METADATA_FILE}
        for entry in self._entries[place.path]:
            if entry.is_folder or entry.name not in names:
                continue
            file = place.joined(entry.name)
            try:
                rows, problems = metadata_rows(read_text(path_below(self._folder, file)), PurePosixPath(file))
            except TextFileError as error:
                rows, problems = {}, [(file, str(error))]
            self._rows |= rows
            self._found.problems += problems

    def _take_images(self, place: Place) -> None:
        entries = [entry for entry in self._entries[place.path] if not entry.is_folder]
        pictures = {entry.name: _stem(entry.name) for entry in entries if entry.is_image}
        stems = set(pictures.values())
        labels = {name: stem.removesuffix(_MASK_LABEL) for name, stem in pictures.items() if stem.endswith(_MASK_LABEL)}
        labels = {name: stem for name, stem in labels.items() if stem in stems}
        masks = {stem: place.joined(name) for name, stem in labels.items()} | self._masks(place)
        texts = {
            suffix: {_stem(entry.name): entry.name for entry in entries if entry.suffix == suffix}
            for suffix in TEXT_SUFFIXES
        }
        for name, stem in pictures.items():
            if not is_storable_name(name):
                shown = place.joined(name).encode("utf-8", "replace").decode()
                self._found.problems.append((shown, "its name is no Unicode, the image is left out. Rename it."))
                self._found.unnamed += 1
            elif name not in labels:
                said = [place.joined(names[stem]) for names in texts.values() if stem in names]
                self._found.images.append(self._image(place, name, said, masks.get(stem, "")))

    def _image(self, place: Place, name: str, texts: Iterable[str], mask: str) -> ImageFile:
        path = place.joined(name)
        row = self._rows.get(name_key(path), MetadataRow("", ""))
        mask = row.mask or mask
        return ImageFile(
            name=path,
            path=path_below(self._folder, path),
            mask=path_below(self._folder, mask) if mask else None,
            texts=tuple(path_below(self._folder, text) for text in texts),
            metadata_caption=row.caption,
            place=place,
        )

    def _masks(self, place: Place) -> dict[str, str]:
        """Return stem -> mask in the folder of masks; of several, the PNG."""
        if not any(entry.is_folder and entry.name == kohya.MASKS for entry in self._entries[place.path]):
            return {}
        path = place.joined(kohya.MASKS)
        names = [entry.name for entry in self._list(path) or [] if entry.is_image]
        return {_stem(name): f"{path}/{name}" for name in sorted(names, key=lambda name: name.lower().endswith(".png"))}

    def _search(self, read: set[str]) -> None:
        """Look for images in further sub-folders, not too far, so that it can be said that they are not read."""
        queue = [(path, 1) for place in sorted(read) for path in self._sub_folders(place, read)]
        for path, depth in islice(queue, _MAX_SEARCHED_FOLDERS):  # it grows meanwhile
            entries = self._list(path)
            count = sum(entry.is_image for entry in entries or [])
            if count:
                self._found.unread[path] = count
            if entries and depth < _MAX_SEARCH_DEPTH:
                queue += [(path, depth + 1) for path in self._sub_folders(path, read)]

    def _sub_folders(self, path: str, read: set[str]) -> list[str]:
        names = [
            entry.name
            for entry in self._entries[path]
            if entry.is_folder and not entry.is_link and entry.name not in (kohya.MASKS, kohya.HELD_OUT)
        ]
        return [path for path in map(Place(path).joined, names) if path not in read]


def _place_of(entry: Entry) -> Place | None:
    if not entry.is_folder:
        return None
    if entry.name == kohya.HELD_OUT:
        return Place(entry.name, "held_out")
    named = _REPEATS_FOLDER.fullmatch(entry.name)
    if named is None or not int(named[1]):
        return None
    return Place(entry.name, repeats=int(named[1]), class_tokens=named[2].strip())


def _stem(name: str) -> str:
    return name_key(PurePosixPath(name).stem)
