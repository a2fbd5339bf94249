"""What ``wmplay list`` prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.markup import escape
from rich.table import Table

from wmplay import registry
from wmplay.config import plugins
from wmplay.system import extras
from wmplay.system.progress import terminal


def print_pieces(kind: str | None = None) -> None:
    """A table of the pieces of a kind (None: all kinds), and the plugins that do not load.

    Raises:
        UnknownName: if there is no such kind.
    """
    console = terminal()
    kinds = [kind] if kind is not None else [*registry.KINDS, "experiment"]
    table = Table("kind", "name", "from", "needs", box=None, pad_edge=False, header_style="bold")
    holders = {(each, piece.name): piece for each in kinds for piece in registry.pieces(each)}
    for piece in holders.values():
        table.add_row(piece.kind, piece.name, piece.source, escape(_needs(piece)))
    console.print(table)
    for source, why in (*plugins.failures().items(), *_taken(holders)):
        console.print(f"[red]{escape(source)} does not load:[/red] {escape(why)}", soft_wrap=True)


def _taken(holders: Mapping[tuple[str, str], registry.Piece]) -> Iterator[tuple[str, str]]:
    """Plugins that want a name which another one, or a built-in piece, has; and what to do."""
    for plugin in plugins.plugins():
        for kind, name in plugins.declared(plugin):
            if (kind, name) in holders and (source := holders[kind, name].source) != plugin.source:
                where = source if source == plugins.BUILT_IN else f"in {source}"
                yield plugin.source, f"{kind} '{name}' is already {where}: take another name"


def _needs(piece: registry.Piece) -> str:
    """The optional package of a built-in piece with its version, or how to install it."""
    extra = extras.extra_of(piece.name)
    if extra is None or piece.source != plugins.BUILT_IN:
        return ""
    version = extras.installed(extra)
    return f"{extras.PACKAGES[extra]} {version}" if version else extras.how_to_install(extra)
