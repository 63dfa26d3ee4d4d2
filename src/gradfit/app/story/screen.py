"""The story on a screen, one chapter after the other."""

import os
import re
import shutil
import sys
from collections.abc import Sequence
from io import StringIO
from typing import TYPE_CHECKING

from gradfit.app.story.blocks import Block, Chapter, Code, Formula, Picture, Prose, Said, Table

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table as Grid
    from rich.text import Text

WIDEST = 96


def render(number: int, chapter: Chapter) -> str:
    """Return a chapter as text, with colours where standard output is a terminal."""
    from rich.console import Console
    from rich.text import Text

    out = StringIO()
    terminal = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    console = Console(
        file=out,
        force_terminal=terminal,
        width=min(shutil.get_terminal_size((WIDEST, 24)).columns, WIDEST),
        highlight=False,
        color_system="auto" if terminal else None,
    )
    console.print(Text(f"{number}  {chapter.title}", style="bold"))
    for block in chapter.blocks:
        console.print()
        console.print(_set(block))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _set(block: Block) -> "RenderableType":
    from rich.padding import Padding
    from rich.text import Text

    match block:
        case Prose(text):
            return _marked(text)
        case Formula(text, _):
            return Padding(Text(text, style="bold"), (0, 4))
        case Code(text):
            return Padding(Text(text, style="cyan"), (0, 4))
        case Said(call, text):
            said = Text(f"{call}\n", style="blue") + _marked(text)
            return Padding(said, (0, 4))
        case Table(head, rows):
            return _table(head, rows)
        case Picture(_, caption):
            return Padding(Text(f"Picture: {caption}", style="italic dim"), (0, 4))


def _marked(text: str) -> "Text":
    from rich.text import Text

    pieces = re.split(r"`([^`]+)`", text)
    marked = Text()
    for k, piece in enumerate(pieces):
        marked.append(piece, style="bold" if k % 2 else "")
    return marked


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> "Grid":
    from rich.table import Table as Grid

    grid = Grid(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for k, name in enumerate(head):
        grid.add_column(name, justify="right" if k else "left", no_wrap=k > 0)
    for row in rows:
        grid.add_row(*row)
    return grid
