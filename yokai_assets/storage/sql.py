"""SQL text by name, from the `sql/` folder.

Values are bound parameters (`?`), always. What cannot be bound (a table's name, a vector's width) is filled in
through `render_sql`, which takes checked identifiers and numbers only. Running SQL belongs to `storage.database`.
"""

import re
from functools import cache
from pathlib import Path
from string import Template

import yokai_assets

_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,62}")


class SqlError(ValueError):
    """SQL that is not there or a name that must not go into it; the message says which."""


@cache
def sql_folder() -> Path:
    """Return the folder of SQL files: inside the installed package, or beside it in a checkout.

    Raises:
        SqlError: There is none.
    """
    package = Path(yokai_assets.__file__).parent
    for folder in (package / "sql", package.parent / "sql"):
        if (folder / "schema").is_dir():
            return folder
    raise SqlError(f"{package}: the `sql` folder is missing. Install the package again.")


def sql_names(folder: str) -> list[str]:
    """Return the names under a subfolder, e.g. `views/episode_cast`, sorted."""
    return sorted(f"{folder}/{file.stem}" for file in (sql_folder() / folder).glob("*.sql"))


@cache
def load_sql(name: str) -> str:
    """Return SQL text by its name under `sql/`, e.g. `views/episode_cast`.

    Raises:
        SqlError: There is no such file.
    """
    file = sql_folder().joinpath(*name.split("/")).with_suffix(".sql")
    if not file.is_file():
        folder = name.split("/")[0]
        raise SqlError(f"no SQL named `{name}`; in `{folder}` there are {sql_names(folder)}")
    return file.read_text(encoding="utf-8")


def render_sql(name: str, **parts: str | int) -> str:
    """Return SQL text with `$name` placeholders filled in.

    Args:
        name: As for `load_sql`.
        parts: Identifiers (lower-case letters, digits, `_`; they are quoted) and positive whole numbers.

    Raises:
        SqlError: A part is neither, or a placeholder is left open.
    """
    try:
        return Template(load_sql(name)).substitute({key: _checked(part) for key, part in parts.items()})
    except KeyError as error:
        raise SqlError(f"SQL `{name}` needs a value for {error}") from error


def required_tables(name: str) -> list[str]:
    """Return the tables that a view's `-- requires:` line names."""
    found = re.search(r"^-- requires:(.*)$", load_sql(name), flags=re.MULTILINE)
    return [table.strip() for table in found.group(1).split(",")] if found else []


def _checked(part: str | int) -> str:
    if isinstance(part, int) and not isinstance(part, bool) and part > 0:
        return str(part)
    if isinstance(part, str) and _IDENTIFIER.fullmatch(part):
        return f'"{part}"'
    raise SqlError(f"{part!r} cannot go into SQL text: only lower-case identifiers and positive whole numbers can.")
