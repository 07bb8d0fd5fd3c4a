"""Where a reader's files are: a local folder, or a hub.

Names and files only; what is in the files belongs to `booru` and `captioner`.
"""

from collections.abc import Sequence
from pathlib import Path

from yokai_assets.tagging.reading import TaggerError


def local_folder(name: str, setting: str, files: Sequence[str]) -> Path | None:
    """Return the folder that a setting names, or None where it can only be a hub id (`owner/name`).

    Args:
        name: Value of the setting.
        setting: Its name, for messages.
        files: Names of files that the folder must hold.

    Raises:
        TaggerError: Neither a folder nor a hub id, or a folder without one of the files.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        missing = [file for file in files if not (folder / file).is_file()]
        if missing:
            raise TaggerError(
                f"{folder}: {' and '.join(missing)} not found in this folder. Set {setting} to a folder that holds "
                f"{' and '.join(files)}, or fetch the model again."
            )
        return folder
    if folder.is_file():
        raise TaggerError(f"{folder}: this is a file. Set {setting} to the folder that holds {' and '.join(files)}.")
    if name.count("/") != 1 or name.startswith((".", "~", "/")) or name.endswith("/"):
        raise TaggerError(
            f"{name}: there is no such folder. Set {setting} to a folder that holds {' and '.join(files)}, or to a "
            "hub id (`owner/name`)."
        )
    return None


def cannot_fetch(hub_id: str, setting: str, files: Sequence[str], error: Exception) -> TaggerError:
    """Return the error of a hub that does not answer, or does not hold the files: it says how to fetch by hand."""
    command = " ".join(["hf download", hub_id, *files, "--local-dir FOLDER"])
    return TaggerError(
        f"{hub_id}: there is no folder of this name, and the model could not be fetched from the hub "
        f"({first_line(error)}). Run `{command}` on a machine with a connection, bring the folder here, and set "
        f"{setting} to it."
    )


def first_line(error: Exception) -> str:
    """Return an error's kind and the first line of its text, at most 300 characters."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:300]}" if text else type(error).__name__
