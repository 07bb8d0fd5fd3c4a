"""Versions of the registry on disk, each whole in its own folder, one pointer that names the newest; and decisions.

A crash at any instant leaves the pointer on a whole version. One process writes versions at a time (the asset is
unpartitioned); any number may read. A decision is a file that is never changed.
"""

import getpass
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from pydantic import ValidationError
from upath import UPath

from yokai_assets.registry.decisions import Decision, DecisionLog, What
from yokai_assets.registry.groups import RegistryError
from yokai_assets.registry.registry import Registry
from yokai_assets.storage.files import is_local, temporary_beside, told_when_full, write_text
from yokai_assets.storage.parquet import read_table, write_table
from yokai_assets.tables import CHARACTERS, DECISIONS, EVENTS, MEMBERS, TableError, TableSpec

CURRENT = "CURRENT"
KEPT_VERSIONS = 10
_TABLES: tuple[TableSpec, ...] = (CHARACTERS, MEMBERS, EVENTS, DECISIONS)


class RegistryStore:
    """Registry versions of one series in a folder (`Layout.registry`)."""

    def __init__(self, folder: UPath | Path) -> None:
        self.folder = UPath(folder)

    def load(self) -> Registry | None:
        """Return the version that the pointer names; None where there is none yet.

        Raises:
            RegistryError: The pointer or its version is damaged; the message names an older version to go back to.
        """
        version = self._current_version()
        return None if version is None else self._load_version(version)

    def load_last_two(self) -> tuple[Registry, Registry | None]:
        """Return the newest version and the one before it (None where it is the first, or no longer kept).

        Raises:
            RegistryError: There is no version yet, or it is damaged.
        """
        now = self.load()
        if now is None:
            raise RegistryError(f"{self.folder}: no registry yet. Materialize `character_registry` first.")
        before = [version for version in self._versions() if version < now.version]
        return now, self._load_version(before[-1]) if before else None

    def save(self, registry: Registry) -> None:
        """Write a version, then point to it, then remove versions beyond the last ten.

        A version whose content the pointer already names is not written again.
        """
        current = self._current_version()
        if (
            current is not None
            and current == registry.version
            and self._load_version(current).content_hash == registry.content_hash
        ):
            return
        for spec in _TABLES:
            write_table(spec, getattr(registry, spec.name), self._folder_of(registry.version) / f"{spec.name}.parquet")
        write_text(self.folder / CURRENT, self._folder_of(registry.version).name + "\n")
        self._remove_old(registry.version)

    def table_files(self) -> dict[str, dict[str, UPath]]:
        """Return table -> {"": Parquet file} of the newest version, as `storage.database.publish` takes them."""
        version = self._current_version()
        if version is None:
            return {spec.name: {} for spec in _TABLES}
        files = {spec.name: self._folder_of(version) / f"{spec.name}.parquet" for spec in _TABLES}
        return {name: {"": file} if file.exists() else {} for name, file in files.items()}

    def _folder_of(self, version: int) -> UPath:
        return self.folder / f"v{version:06d}"

    def _versions(self) -> list[int]:
        if not self.folder.exists():
            return []
        names = (entry.name for entry in self.folder.iterdir())
        return sorted(int(name[1:]) for name in names if name.startswith("v") and name[1:].isdigit())

    def _current_version(self) -> int | None:
        pointer = self.folder / CURRENT
        if not pointer.exists():
            return None
        name = pointer.read_text(encoding="utf-8").strip()
        if not (name.startswith("v") and name[1:].isdigit()):
            raise RegistryError(f"{pointer}: names no version ({name!r}). {self._way_back()}")
        return int(name[1:])

    def _load_version(self, version: int) -> Registry:
        tables: dict[str, pl.DataFrame] = {}
        for spec in _TABLES:
            file = self._folder_of(version) / f"{spec.name}.parquet"
            if spec is DECISIONS and not file.exists():
                continue  # versions from before there were decisions
            try:
                tables[spec.name] = read_table(spec, file, is_completed=True)
            except (FileNotFoundError, TableError) as error:
                raise RegistryError(
                    f"{file}: version {version} of the registry cannot be read ({error}). {self._way_back()}"
                ) from error
        # Versions from before there were decisions: everybody is whom they were found as.
        tables["members"] = tables["members"].with_columns(pl.col("found_as").fill_null(pl.col("character_id")))
        return Registry(version, **tables)

    def _way_back(self) -> str:
        kept = ", ".join(self._folder_of(version).name for version in self._versions())
        return f"Write the name of a whole version ({kept or 'there is none'}) into {self.folder / CURRENT}."

    def _remove_old(self, newest: int) -> None:
        # A version beyond the newest is what a crash left before the pointer moved; its number is taken again.
        past = [version for version in self._versions() if version <= newest]
        for version in past[:-KEPT_VERSIONS]:
            folder = self._folder_of(version)
            if is_local(folder):
                shutil.rmtree(str(folder), ignore_errors=True)
            else:
                folder.rmdir(recursive=True)


class DecisionStore:
    """Decisions of one series: `000001.json`, `000002.json`, ... in a folder of the registry."""

    def __init__(self, registry_folder: UPath | Path) -> None:
        self.folder = UPath(registry_folder) / "decisions"

    def load(self) -> DecisionLog:
        """Return all decisions, oldest first.

        Raises:
            RegistryError: A file is damaged; the message names it.
        """
        return DecisionLog(tuple(self._read(file) for file in self._files()))

    def add(self, what: What, by: str | None = None) -> Decision:
        """Write one decision down; it is on disk when this returns.

        Two who decide at the same moment get different numbers: a name that is taken is never written over.
        """
        while True:
            files = self._files()
            number = int(files[-1].stem) + 1 if files else 1
            decision = Decision(decision_id=number, at=datetime.now(UTC), by=by or _user(), what=what)
            try:
                self._write(self.folder / f"{number:06d}.json", decision.model_dump_json(indent=2) + "\n")
                return decision
            except FileExistsError:
                continue

    def _files(self) -> list[UPath]:
        if not self.folder.exists():
            return []
        found = (file for file in self.folder.iterdir() if file.suffix == ".json" and file.stem.isdigit())
        return sorted(found, key=lambda file: int(file.stem))

    def _read(self, file: UPath) -> Decision:
        try:
            return Decision.model_validate_json(file.read_bytes())
        except (ValidationError, OSError) as error:
            raise RegistryError(
                f"{file}: cannot be read as a decision ({' '.join(str(error).split())[:200]}). Mend it, or take it out "
                "of the folder if it is not to hold."
            ) from error

    @staticmethod
    def _write(file: UPath, text: str) -> None:
        if not is_local(file):
            if file.exists():
                raise FileExistsError(str(file))
            write_text(file, text)
            return
        target = Path(str(file))
        temporary = temporary_beside(target)
        try:
            with told_when_full(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                temporary.write_text(text, "utf-8")
                with temporary.open("rb") as written:
                    os.fsync(written.fileno())
            os.link(temporary, target)  # fails where the name is taken, unlike a rename
        finally:
            temporary.unlink(missing_ok=True)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may have no such user
        return "somebody"
