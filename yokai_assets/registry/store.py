"""Versions of the registry on disk: each whole in its own folder, one pointer that names the newest.

A crash at any instant leaves the pointer on a whole version. One process writes at a time (the asset is
unpartitioned); any number may read.
"""

import shutil
from pathlib import Path

import polars as pl
from upath import UPath

from yokai_assets.registry.registry import Registry, RegistryError
from yokai_assets.storage.files import is_local, write_text
from yokai_assets.storage.parquet import read_table, write_table
from yokai_assets.tables import CHARACTERS, EVENTS, MEMBERS, TableError, TableSpec

CURRENT = "CURRENT"
KEPT_VERSIONS = 10
_TABLES: tuple[TableSpec, ...] = (CHARACTERS, MEMBERS, EVENTS)


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
        return {spec.name: {"": self._folder_of(version) / f"{spec.name}.parquet"} for spec in _TABLES}

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
            try:
                tables[spec.name] = read_table(spec, file)
            except (FileNotFoundError, TableError) as error:
                raise RegistryError(
                    f"{file}: version {version} of the registry cannot be read ({error}). {self._way_back()}"
                ) from error
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
