"""Where the commands print: consoles on which what files and people are named is shown, never obeyed.

A file name may hold escape sequences that clear the screen or forge a line; `[red]` and `:cat:` in one are text. Layout
and wording belong to the commands.
"""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.text import Text

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters but tab and line feed, and those that turn the direction of writing."""


class Terminal(Console):
    r"""A console that shows control characters (as `\x1b`), and takes no `:name:` for a picture."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return the text to print; rich calls this for every string."""
        return super().render_str(visible(text), **options)


def visible(text: str) -> str:
    """Return a text with its control characters written out."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


@contextmanager
def terminal() -> Iterator[Terminal]:
    """Yield a console on the terminal itself.

    Steps capture the process's standard output for their logs in the UI, so what is meant for the person goes to
    a copy of the descriptor made before.
    """
    sys.stdout.flush()
    with os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1) as stream:
        yield Terminal(file=stream, width=None if stream.isatty() else 120)
