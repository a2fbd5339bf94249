"""What ``wmplay list`` prints."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from wmplay import extras, plugins, registry


def print_pieces(kind: str | None = None) -> None:
    """A table of the pieces of a kind (None: all kinds), and the plugins that do not load.

    Raises:
        UnknownName: if there is no such kind.
    """
    console = Console(highlight=False)
    kinds = [kind] if kind is not None else [*registry.KINDS, "experiment"]
    table = Table("kind", "name", "from", "needs", box=None, pad_edge=False, header_style="bold")
    for each in kinds:
        for piece in registry.pieces(each):
            table.add_row(each, piece.name, piece.source, escape(_needs(piece)))
    console.print(table)
    for source, why in plugins.failures().items():
        console.print(f"[red]{escape(source)} does not load:[/red] {escape(why)}", soft_wrap=True)


def _needs(piece: registry.Piece) -> str:
    """The optional package of a built-in piece with its version, or how to install it."""
    if piece.name not in extras.PACKAGES or piece.source != plugins.BUILT_IN:
        return ""
    version = extras.installed(piece.name)
    return f"{extras.PACKAGES[piece.name]} {version}" if version else extras.how_to_install(piece.name)
