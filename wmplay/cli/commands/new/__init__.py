"""The command ``wmplay new``: write a complete, working piece to start from, with its test.

The files come from ``templates/<kind>/``, where ``my_piece`` stands for the name and ``MyPiece`` for the
class; next to the plain piece of a kind a folder may hold variants.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import keyword
import re
from collections.abc import Mapping
from pathlib import Path

from wmplay import registry
from wmplay.errors import UnknownName, UsageError
from wmplay.system.files import explained
from wmplay.system.printing import say

TEMPLATES = Path(__file__).parent / "templates"
NAME = re.compile(r"[a-z][a-z0-9_]{0,29}")  # the templates' lines have room for 30 characters
PLAIN = "piece"  # the variant of every kind
Settings = Mapping[str, Mapping[str, object]]  # of a run: {group: {name: value}}
VARIANTS: Mapping[str, Mapping[str, tuple[str, Settings]]] = {  # by kind, with what a small run of it needs
    "model": {"valued": ("a value and a policy, for plans that look beyond their end", {})},
    "policy": {
        "imagining": (
            "an actor and a critic that learn in the model's imagination",
            {"policy": {"reward": "task"}, "improve": {"world": "none", "steps": 600}},
        )
    },
}
NOT_NAMES = frozenset({"null", "true", "false", "yes", "no", "on", "off", "nan", "inf"})  # YAML's own words


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("kind", metavar="KIND", help=", ".join(registry.KINDS))
    parser.add_argument("name", metavar="NAME", help="in snake_case, for example my_idea")
    known = [f"{kind}: {name} ({what})" for kind, of in VARIANTS.items() for name, (what, _) in of.items()]
    parser.add_argument("--variant", default=PLAIN, help=f"another piece to start from; {'; '.join(known)}")
    parser.add_argument(
        "--package", action="store_true", help="write an installable package (./NAME), not a file (./plugins)"
    )


def run(options: argparse.Namespace) -> None:
    """Write a piece, and print the next steps."""
    how = {"package": options.package, "variant": options.variant}
    for path in new_piece(options.kind, options.name, **how):
        say(f"wrote {path}")
    steps = next_steps(options.kind, options.name, **how)
    width = max(len(command) for command, _ in steps)
    print("next:", *(f"  {command:{width}}  # {purpose}" for command, purpose in steps), sep="\n")


def new_piece(kind: str, name: str, *, package: bool = False, variant: str = PLAIN) -> list[Path]:
    """Write a working piece and its test into ``./plugins``; return the paths written.

    Args:
        kind: one of ``registry.KINDS``.
        name: of the piece and of its file, in snake_case.
        package: write an installable package into ``./<name>`` instead, with an entry point and a folder of
            configs.
        variant: of the kind's ``VARIANTS``.

    Raises:
        UnknownName: for another kind or variant.
        UsageError: for a name that is not allowed or is taken, or if a file to write exists already.
        WriteError: without space or permission.
    """
    if kind not in registry.KINDS:
        raise UnknownName("kind of piece", kind, registry.KINDS)
    variants = [PLAIN, *VARIANTS.get(kind, {})]
    if variant not in variants:
        raise UnknownName(f"variant of {kind}", variant, variants)
    piece, test = _template(f"{kind}/{variant}.py.txt"), _template(f"{kind}/test_{variant}.py.txt")
    _check_name(kind, name)
    class_name = "".join(word.capitalize() for word in name.split("_"))
    if class_name in _names_used(piece) - {"MyPiece"}:
        raise UsageError(
            f"the class of '{name}' would be {class_name}, which its file needs", advice="choose another name"
        )
    files = _plugin_files(name, piece, test)
    if package:
        files = _package_files(name, piece, test, _experiment(kind, variant))
    # a package needs a folder of its own; next to plugins/<name>.py, plugins/<name>/ is the same module
    taken = [Path(name)] if package else [Path("plugins") / name, *files]
    for path in taken:
        if path.exists():
            raise UsageError(
                f"{path} exists already, and is left as it is", advice="choose another name, or move it away"
            )
    for path, text in files.items():
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(text.replace("my_piece", name).replace("MyPiece", class_name))
    return list(files)


def next_steps(kind: str, name: str, *, package: bool = False, variant: str = PLAIN) -> list[tuple[str, str]]:
    """Return (command, purpose) of the next steps with a new piece."""
    further = [f"{group}.{key}={value}" for group, of in _needs(kind, variant) for key, value in of.items()]
    small = " ".join([f"experiment=tiny {kind}={name}", *further])
    if kind == "env":
        small = f"env={name} objective=goal_distance fit.steps=200"
    steps = [
        (f"wmplay train {small}", "a small run with it, which works already"),
        (f"pytest plugins/tests/test_{name}.py", "its own test"),
    ]
    if package:
        steps = [(f"wmplay train experiment={name}", steps[0][1]), (f"pytest {name}", steps[1][1])]
    steps.insert(1, (f"wmplay check {kind}={name}", "looks for the mistakes that silently ruin results"))
    if package:
        steps.insert(0, (f"pip install --editable {name}", "makes it known to wmplay"))
    return steps


def _check_name(kind: str, name: str) -> None:
    if not NAME.fullmatch(name):
        spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+", "_", name).strip("_").lower()
        example = spaced if NAME.fullmatch(spaced) else "my_idea"
        raise UsageError(
            f"the name is '{name}'", expected=f"snake_case of at most 30 characters, such as '{example}'"
        )
    if keyword.iskeyword(name) or name in NOT_NAMES or name == "tests" or name.startswith("test_"):
        raise UsageError(
            f"the name '{name}' means something else to Python, YAML or pytest", advice="choose another"
        )
    for piece in registry.pieces(kind):
        if piece.name == name:
            raise UsageError(
                f"there is a {kind} '{name}' already ({piece.source})", advice="choose another name"
            )


def _names_used(text: str) -> set[str]:
    """Return the names that a file imports, defines or uses."""
    nodes = list(ast.walk(ast.parse(text)))
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    defined = {node.name for node in nodes if isinstance(node, ast.ClassDef)}
    return used | defined | {node.name for node in nodes if isinstance(node, ast.alias)}


def _plugin_files(name: str, piece: str, test: str) -> dict[Path, str]:
    folder = Path("plugins")
    return {folder / f"{name}.py": piece, folder / "tests" / f"test_{name}.py": test}


def _package_files(name: str, piece: str, test: str, experiment: str) -> dict[Path, str]:
    """Return the files of an installable package. Raises UsageError for a name that would hide a module."""
    if importlib.util.find_spec(name) is not None:
        raise UsageError(
            f"there is a Python module '{name}' already", advice="choose another name for the package"
        )
    if name in registry.names("experiment"):
        raise UsageError(
            f"there is an experiment '{name}' already", advice="choose another name for the package"
        )
    folder = Path(name)
    source = folder / "src" / name
    return {
        folder / "pyproject.toml": _template("pyproject.toml.txt"),
        source / "__init__.py": piece,
        source / "configs" / "experiment" / f"{name}.yaml": experiment,
        folder / "tests" / f"test_{name}.py": test,
    }


def _experiment(kind: str, variant: str) -> str:
    """Return a small experiment with the piece; all but an env or an objective are tried on a Luxo goal."""
    chosen = {kind: "my_piece"} if kind == "objective" else {kind: "my_piece", "objective": "goal_distance"}
    overrides = "".join(f"\n  - override /{group}: {name}" for group, name in chosen.items())
    text = _template("experiment.yaml.txt").replace("defaults: []", f"defaults:{overrides}")
    for group, of in _needs(kind, variant):
        text += "".join([f"{group}:\n", *(f"  {key}: {value}\n" for key, value in of.items())])
    return text.replace("env: {}\n", "" if kind == "env" else "env:\n  task: body_goal\n")


def _needs(kind: str, variant: str) -> list[tuple[str, Mapping[str, object]]]:
    _, settings = VARIANTS.get(kind, {}).get(variant, ("", {}))
    return [*settings.items()]


def _template(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")
