"""The command ``wmplay list``: the catalogue of pieces, the settings of one piece, and the trained runs.

The catalogue is read from texts, without an import: from the comment above a piece's YAML, or from the
docstring of a plugin's class. The first sentence describes the piece; the lines ``family: ...``, ``paper:
...`` and ``needs: ...`` add the rest. A variant (``defaults: [rssm, _self_]``) inherits the lines that it
lacks from the piece that it varies.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from wmplay import registry
from wmplay.config import plugins
from wmplay.config.catalogue import config_file, unknown_piece
from wmplay.config.kinds import EXPERIMENT, KINDS, TARGET
from wmplay.errors import ConfigError
from wmplay.system.reading import read_yaml

FIELD = re.compile(r"(family|paper|needs): (.+)", re.IGNORECASE)
SENTENCE = re.compile(r".+?(?<!al)[.?!](?=\s|$)|.+")  # "et al. 2019" does not end a sentence
TRAINED = "trained"  # the runs that come with wmplay, in place of a kind
WITHOUT_FAMILY = "of plugins, without a family"


@dataclass(frozen=True)
class Head:
    """The description of a piece, from its text."""

    about: str = ""
    family: str = ""
    paper: str = ""
    needs: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("kind", nargs="?", help=f"one kind only: {', '.join((*KINDS, EXPERIMENT, TRAINED))}")
    parser.add_argument("name", nargs="?", help="show the settings of this piece of the kind")


def run(options: argparse.Namespace) -> None:
    """Print the catalogue, or the settings of a piece."""
    if options.kind == TRAINED:
        print_trained(options.name)
    elif options.name is None:
        print_pieces(options.kind)
    else:
        print_settings(options.kind, options.name)


def print_pieces(kind: str | None = None) -> None:
    """Print a line for each piece of a kind (None: all kinds), by family, and the plugins that do not load.

    Raises:
        UnknownName: for an unknown kind.
    """
    from rich.text import Text

    from wmplay.system.progress import terminal

    console = terminal()
    holders: dict[tuple[str, str], registry.Piece] = {}
    for each in [kind] if kind is not None else [*KINDS, EXPERIMENT]:
        pieces = [(head(each, piece.name), piece) for piece in registry.pieces(each)]
        holders |= {(each, piece.name): piece for _, piece in pieces}
        about = KINDS[each].about if each in KINDS else "chooses pieces and settings for a whole run"
        console.print(Text.assemble((each, "bold"), f"  {about}"), soft_wrap=True)
        width = max((len(piece.name) for _, piece in pieces), default=0)
        pieces.sort(key=lambda pair: (not pair[0].family, pair[0].family, pair[1].name))
        for family, members in groupby(pieces, lambda pair: pair[0].family or WITHOUT_FAMILY):
            console.print(Text(f"  {family}", "italic"), soft_wrap=True)
            for text, piece in members:
                line = Text.assemble("    ", (f"{piece.name:{width}}", "bold cyan"), f"  {text.about}")
                line.append("".join(f" [{note}]" for note in _notes(text, piece)), "dim")
                console.print(line, soft_wrap=True)
    for source, why in (*plugins.failures().items(), *_taken(holders)):
        console.print(Text.assemble((f"{source} does not load:", "red"), f" {why}"), soft_wrap=True)


def print_trained(name: str | None = None) -> None:
    """Print a line for each trained run that comes with wmplay, or the card of one.

    Raises:
        UnknownName: for an unknown run.
    """
    from wmplay.runs import shipped
    from wmplay.runs.disk.portable import PAGE
    from wmplay.system.printing import say

    for each in shipped.names() if name is None else [name]:
        title, _, about, *_ = card = (shipped.where(Path(each)) / PAGE).read_text("utf-8").splitlines()
        say("\n".join(card) if name is not None else f"{title.removeprefix('# ')}: {about}")


def print_settings(kind: str, name: str) -> None:
    """Print the YAML of a piece, then the YAML of the pieces that it builds upon; coloured in a terminal.

    Raises:
        UnknownName: for an unknown kind or piece.
    """
    from rich.syntax import Syntax

    from wmplay.system.printing import printable
    from wmplay.system.progress import terminal

    if name not in registry.names(kind):
        raise unknown_piece(kind, name)
    console = terminal()
    syntax = Syntax("", "yaml", theme="ansi_dark", background_color="default")
    for number, each in enumerate(chain(kind, name)):
        text = _as_yaml(kind, each)
        above = f"# {'which builds upon ' if number else ''}{kind}={each}\n"
        console.print(syntax.highlight(printable(above + text).rstrip()), soft_wrap=True)


def head(kind: str, name: str) -> Head:
    """Return the description of a piece, with the lines that it inherits."""
    found: dict[str, str] = {}
    for each in chain(kind, name):
        for key, value in _said(_text(kind, each)).items():
            found.setdefault(key, value)
    return Head(**found)


def chain(kind: str, name: str) -> Iterator[str]:
    """Yield the name of a piece and of those that its YAML builds upon, within its kind."""
    yield name
    for base in content(kind, name).get("defaults", ()):
        if isinstance(base, str) and base not in ("_self_", name):
            yield from chain(kind, base)


def defaults_of(kind: str, name: str) -> dict[str, Any]:
    """Return {setting: default} of a piece, as Python text for a plugin's class; for an experiment, its
    settings."""
    found: dict[str, Any] = {}
    for each in chain(kind, name):
        found = {**content(kind, each), **found}
    if config_file(kind, name) is None and (node := _class(kind, name)) is not None:
        return dict(_defaults(node))
    return {key: value for key, value in found.items() if key not in ("defaults", TARGET)}


def content(kind: str, name: str) -> Mapping[str, Any]:
    """Return the content of a piece's or an experiment's own YAML; nothing for a plugin's class."""
    path = config_file(kind, name)
    held = None if path is None else read_yaml(path, ConfigError)
    return held if isinstance(held, dict) else {}


def _text(kind: str, name: str) -> str:
    """Return the comment above a piece's YAML, or the docstring of a plugin's class."""
    path = config_file(kind, name)
    if path is None:
        node = _class(kind, name)
        return "" if node is None else ast.get_docstring(node) or ""
    comments = re.match(r"(#.*\n)*", path.read_text(encoding="utf-8"))
    lines = [] if comments is None else comments[0].splitlines()
    return "\n".join(line.removeprefix("#").strip() for line in lines if "@package" not in line)


def _said(text: str) -> dict[str, str]:
    """Return the fields of a text, and its first sentence as ``about``."""
    lines = [line.strip() for line in inspect.cleandoc(text).splitlines()]
    found = {match[1].lower(): match[2] for line in lines if (match := FIELD.fullmatch(line))}
    paragraph = " ".join(line for line in lines if not FIELD.fullmatch(line))
    sentence = SENTENCE.match(paragraph.partition("  ")[0])
    return found | ({} if sentence is None else {"about": sentence[0]})


def _as_yaml(kind: str, name: str) -> str:
    path = config_file(kind, name)
    if path is not None:
        return path.read_text(encoding="utf-8")
    comment = "".join(f"# {line}".rstrip() + "\n" for line in _text(kind, name).splitlines())
    return comment + "".join(f"{key}: {value}\n" for key, value in defaults_of(kind, name).items())


def _class(kind: str, name: str) -> ast.ClassDef | None:
    """Return the text of the class that a plugin registers as a piece."""
    for plugin in plugins.plugins():
        class_name = plugins.declared(plugin).get((kind, name))
        if class_name is not None:
            nodes = ast.walk(ast.parse(Path(plugin.path).read_bytes()))
            return next(n for n in nodes if isinstance(n, ast.ClassDef) and n.name == class_name)
    return None


def _defaults(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """Yield (parameter, default) of a class's own constructor."""
    for method in node.body:
        if isinstance(method, ast.FunctionDef) and method.name == "__init__":
            taken = method.args
            positional = [*taken.posonlyargs, *taken.args]
            first = len(positional) - len(taken.defaults)
            for argument, default in zip(positional[first:], taken.defaults, strict=True):
                yield argument.arg, ast.unparse(default)
            for argument, given in zip(taken.kwonlyargs, taken.kw_defaults, strict=True):
                if given is not None:
                    yield argument.arg, ast.unparse(given)


def _notes(text: Head, piece: registry.Piece) -> Iterator[str]:
    """Yield the paper, the requirements and the source of a piece."""
    from wmplay.system import extras

    if text.paper:
        yield text.paper
    if text.needs:
        yield f"needs {text.needs}"
    if piece.source != plugins.BUILT_IN:
        yield f"from {piece.source}"
    elif (extra := extras.extra_of(piece.name)) is not None:
        version = extras.installed(extra)
        yield f"{extras.PACKAGES[extra]} {version}" if version else extras.how_to_install(extra)


def _taken(holders: Mapping[tuple[str, str], registry.Piece]) -> Iterator[tuple[str, str]]:
    """Yield (plugin, advice) for each plugin that registers a name which another piece has."""
    for plugin in plugins.plugins():
        for kind, name in plugins.declared(plugin):
            if (kind, name) in holders and (source := holders[kind, name].source) != plugin.source:
                where = source if source == plugins.BUILT_IN else f"in {source}"
                yield plugin.source, f"{kind} '{name}' is already {where}: take another name"
