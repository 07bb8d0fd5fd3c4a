"""Names that were made to do harm, or only to look like markup, are shown as they are."""

import io

import pytest
from rich.markup import escape
from rich.table import Table

from yokai_assets.cli.terminal import Terminal

NAME = "a\x1b[2J\x9b1A\rb\u202egpj[red]:cat:.png"
SHOWN = r"a\x1b[2J\x9b1A\rb\u202egpj[red]:cat:.png"


def printed(*, is_in_table: bool, is_on_terminal: bool) -> str:
    stream = io.StringIO()
    console = Terminal(file=stream, width=120, force_terminal=is_on_terminal, color_system=None)
    text = f"[bold]left[/] {escape(NAME)}"
    if is_in_table:
        table = Table(box=None)
        table.add_column("file")
        table.add_row(text)
        console.print(table)
    else:
        console.print(text)
    return stream.getvalue()


@pytest.mark.parametrize("is_in_table", [False, True])
@pytest.mark.parametrize("is_on_terminal", [False, True])
def test_a_file_name_cannot_steer_the_terminal(is_in_table: bool, is_on_terminal: bool) -> None:
    """Escape sequences in names clear screens, forge lines and set titles; emoji codes would show another name."""
    assert f"left {SHOWN}" in printed(is_in_table=is_in_table, is_on_terminal=is_on_terminal)
    assert NAME not in printed(is_in_table=is_in_table, is_on_terminal=is_on_terminal)
