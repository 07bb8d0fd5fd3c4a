"""What a folder says of its images: text files in whatever encoding, `metadata.jsonl`, and the trigger word in front.

Texts only. Which file belongs to which image is `folder_files`; captions of our own making are `captioning`.
"""

import codecs
import json
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from upath import UPath

_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_SENTENCE_ENDS = (".", "!", "?", ":", ";")
_MAX_NAMED_LINES = 5


class TextFileError(ValueError):
    """A text file cannot be read; the message says why and what to do, not which file."""


@dataclass(frozen=True, slots=True)
class MetadataRow:
    """A line of `metadata.jsonl`.

    Attributes:
        caption: On one line; empty where the line has none.
        mask: The mask's file, relative to the training folder; empty where the line has none.
    """

    caption: str
    mask: str


def read_text(path: UPath) -> str:
    """Read a text file: UTF-8, UTF-16 where a byte order mark says so, else cp1252 as older Windows tools write.

    Raises:
        TextFileError: It cannot be opened, or is in none of these encodings.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise TextFileError(f"cannot be opened ({reason}). Check the file and its permissions.") from error
    for encoding in ("utf-16",) if data.startswith(_UTF16_MARKS) else ("utf-8-sig", "cp1252"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        # cp1252 and UTF-8 read every second byte of an unmarked UTF-16 file as NUL.
        if "\0" not in text:
            return text
    raise TextFileError("is no text in UTF-8, UTF-16 or Windows-1252. Save it as UTF-8.")


def one_line(text: str) -> str:
    """Return a caption on one line.

    Lines are joined with a comma, as one tag a line is usual; after the end of a sentence, with a space.
    """
    joined = ""
    for line in text.splitlines():
        printable = "".join(character if character.isprintable() else " " for character in line)
        words = " ".join(printable.split()).strip(", ")
        if words and joined:
            joined += " " if joined.endswith(_SENTENCE_ENDS) else ", "
        joined += words
    return joined


def has_word(caption: str, word: str) -> bool:
    """Say whether a caption has a word, or words, anywhere, whatever the case."""
    return re.search(rf"(?<!\w){re.escape(word.casefold())}(?!\w)", caption.casefold()) is not None


def with_trigger(caption: str, trigger: str) -> str:
    """Return a caption that begins with the trigger; one that does, in whatever case, is left as it is.

    `trigger` as a later tag of its own is taken to the front; in a tag with other words it stays there.
    """
    if re.match(rf"{re.escape(trigger.casefold())}(?!\w)", caption.casefold()):
        return caption
    tags = [tag.strip() for tag in caption.split(",")]
    others = [tag for tag in tags if tag.casefold() != trigger.casefold()]
    rest = caption if len(others) == len(tags) else ", ".join(others)
    return f"{trigger}, {rest}" if rest else trigger


def common_first_word(texts: Iterable[str]) -> str | None:
    """Return the word that all texts begin with, whatever the case; None where there is none."""
    firsts = [re.split(r"[\s,]+", text.strip(" ,"), maxsplit=1)[0] for text in texts]
    return firsts[0] if firsts and firsts[0] and len({first.casefold() for first in firsts}) == 1 else None


def name_key(name: str) -> str:
    """Return what names are compared by: macOS writes accents as characters of their own, metadata does not."""
    return unicodedata.normalize("NFC", name)


def metadata_rows(text: str, file: PurePosixPath) -> tuple[dict[str, MetadataRow], list[tuple[str, str]]]:
    """Read the lines of a `metadata.jsonl`.

    Args:
        text: All of it.
        file: Where it lies in the training folder; names in it are relative to its own folder.

    Returns:
        `name_key` of an image's path in the training folder -> its row, of two lines the later one; and
        (file and line, reason) of lines that cannot be used.
    """
    rows: dict[str, MetadataRow] = {}
    problems: list[tuple[str, str]] = []
    # Not `splitlines`: JSON may hold U+2028 and its like as they are.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            name, row = _metadata_row(json.loads(line), file.parent)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else error
            problems.append((f"{file}, line {number}", f"cannot be used ({reason}). Correct or remove the line."))
        else:
            rows[name] = row
    if len(problems) > _MAX_NAMED_LINES:
        more = len(problems) - _MAX_NAMED_LINES
        problems[_MAX_NAMED_LINES:] = [(str(file), f"{more} more lines cannot be used. It takes one object a line.")]
    return rows, problems


def _metadata_row(value: Any, parent: PurePosixPath) -> tuple[str, MetadataRow]:
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    name = _inside(parent, _text(value, "file_name"))
    if not name:
        raise ValueError("it has no file_name")
    caption = one_line(_text(value, "text")) or one_line(_text(value, "caption"))
    return name_key(name), MetadataRow(caption, _inside(parent, _text(value, "mask_file_name")))


def _text(value: dict[str, Any], key: str) -> str:
    found = value.get(key)
    if found is not None and not isinstance(found, str):
        raise ValueError(f"its {key} is no text")
    return found or ""


def _inside(parent: PurePosixPath, name: str) -> str:
    if not name:
        return ""
    path = PurePosixPath(name.replace("\\", "/"))
    if not path.name or "\0" in name:
        raise ValueError(f"{name!r} is no file name")
    if path.is_absolute() or ".." in path.parts or path.parts[0].endswith(":"):
        raise ValueError(f"{name} lies outside the folder")
    return (parent / path).as_posix()
