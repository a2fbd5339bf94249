"""The command ``wmplay completion``: the completions of a command line, and the script that connects a shell.

The script runs ``wmplay completion reply "<the line so far>"`` at each <TAB>. The answer is read from texts
(YAML files, and plugins that are not imported), so that it comes within a fraction of a second.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any

from wmplay import registry
from wmplay.cli.commands.data import VERBS
from wmplay.cli.commands.list import chain, content, defaults_of
from wmplay.cli.main import COMMANDS
from wmplay.config import plugins
from wmplay.config.kinds import EXPERIMENT, KINDS
from wmplay.errors import ConfigError, UnknownName, WmplayError
from wmplay.system.printing import say
from wmplay.system.reading import read_yaml

BASH = r"""
_wmplay() {
    local line="${COMP_LINE:0:COMP_POINT}" word prefix="" reply
    word="${line##* }"
    case "$COMP_WORDBREAKS" in *=*) prefix="${word%"${word##*=}"}" ;; esac
    COMPREPLY=()
    while IFS= read -r reply; do
        COMPREPLY+=("${reply#"$prefix"}")
    done < <(wmplay completion reply "$line" 2>/dev/null)
    case "${COMPREPLY[*]}" in *[=.]) compopt -o nospace ;; esac
}
complete -o default -F _wmplay wmplay
"""
ZSH = r"""
#compdef wmplay
_wmplay() {
    local -a replies
    replies=("${(@f)$(wmplay completion reply "${(j: :)words[1,CURRENT]}" 2>/dev/null)}")
    replies=(${replies:#})
    if (( ! $#replies )); then _files; return; fi
    compadd -Q -S '' -- ${(M)replies:#*[=.]}
    compadd -Q -- ${replies:#*[=.]}
}
compdef _wmplay wmplay
"""
FISH = r"""
function __wmplay
    wmplay completion reply (commandline -cp | string collect) 2>/dev/null
end
complete -c wmplay -f -a '(__wmplay)'
complete -c wmplay -n 'not count (__wmplay) >/dev/null' -F
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
ADVICE = {
    "bash": 'in ~/.bashrc: eval "$(wmplay completion bash)"',
    "zsh": 'in ~/.zshrc, after compinit: eval "$(wmplay completion zsh)"',
    "fish": "wmplay completion fish > ~/.config/fish/completions/wmplay.fish",
}
WITH_OVERRIDES = ("train", "eval", "check")
GROUPS = (*KINDS, EXPERIMENT)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("shell", metavar="bash|zsh|fish", help="; ".join(ADVICE.values()))
    parser.add_argument("line", nargs="?", default="", help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> None:
    """Print the script of a shell, or the completions that the script requests."""
    if options.shell == "reply":
        for reply in completions(options.line):
            say(reply)
    elif options.shell in SCRIPTS:
        say(f"# {ADVICE[options.shell]}{SCRIPTS[options.shell]}", end="")
    else:
        raise UnknownName("shell", options.shell, SCRIPTS)


def completions(line: str) -> list[str]:
    """Return the completions of the last word of a command line; none for a path, which the shell completes.

    Args:
        line: the line so far, from ``wmplay`` on; it ends with a space if a new word begins.
    """
    _, *words = line.split(" ")
    typed = words.pop() if words else ""
    words = [word for word in words if word]
    with plugins.listed_once():
        try:
            found = _candidates(words, typed)
            return sorted({text for text in found if text.startswith(typed)})
        except WmplayError:  # a plugin or an experiment that is not complete yet
            return []


def _candidates(words: Sequence[str], typed: str) -> Iterable[str]:
    if not words:
        return (*COMMANDS, "--help", "--version")
    command, *given = words
    if typed.startswith("-"):
        return _options(command, given[0] if given else "") if command in COMMANDS else ()
    plain = [word for word in given if not word.startswith("-") and "=" not in word]
    match command, len(plain):
        case "list", 0:
            return GROUPS
        case "list", 1 if plain[0] in GROUPS:
            return registry.names(plain[0])
        case "new", 0:
            return KINDS
        case "completion", 0:
            return SCRIPTS
        case "data", 0:
            return VERBS
        case "simulate", 0:
            return registry.names("env")
        case "simulate", 1:
            return _assignments(defaults_of("env", plain[0]))
    return _overrides(given, typed) if command in WITH_OVERRIDES else ()


def _overrides(given: Sequence[str], typed: str) -> Iterable[str]:
    """Return the completions of an override of a run's config."""
    key, equals, _ = typed.partition("=")
    if equals:
        return (f"{key}={name}" for name in registry.names(key)) if key in GROUPS else ()
    train = {key: value for key, value in _train().items() if key not in ("defaults", "hydra")}
    choices = (f"{group}=" for group in GROUPS)
    sections = (f"{name}." for name in (*train, *KINDS) if name in KINDS or isinstance(train[name], Mapping))
    above, dot, _ = key.rpartition(".")
    if not dot:
        return (*choices, *sections, *_assignments(train))
    inside: Any = train
    for name in above.split("."):
        inside = inside.get(name, {}) if isinstance(inside, Mapping) else {}
    if above in KINDS:
        chosen = _chosen(above, given)
        inside = {**inside, **(defaults_of(above, chosen) if chosen else {})}
    return _assignments(inside, above=f"{above}.")


def _assignments(settings: Mapping[str, Any], above: str = "") -> list[str]:
    """Return ``key=`` of each setting, ``key.`` of each section."""
    return [
        f"{above}{key}{'.' if value and isinstance(value, dict) else '='}" for key, value in settings.items()
    ]


def _chosen(kind: str, given: Sequence[str]) -> str | None:
    """Return the piece of a kind that a command line chooses: itself, by its experiment, or by default."""
    typed = {key: value for key, equals, value in (word.partition("=") for word in given) if equals}
    if kind in typed:
        return typed[kind]
    experiment = typed.get(EXPERIMENT)
    files = [content(EXPERIMENT, name) for name in chain(EXPERIMENT, experiment)] if experiment else []
    entries = [
        entry for file in (*files, _train()) for entry in file.get("defaults", ()) if isinstance(entry, dict)
    ]
    names = [name for each in entries for group, name in each.items() if re.split("[ /]", group)[-1] == kind]
    return str(names[0]) if names and names[0] in registry.names(kind) else None


def _options(command: str, verb: str) -> list[str]:
    """Return the options of a command, as its --help has them."""
    parser = argparse.ArgumentParser()
    if command == "data" and verb in VERBS:
        VERBS[verb].add_arguments(parser)
    else:
        import_module(f"wmplay.cli.commands.{command}").add_arguments(parser)
    return ["--debug", *re.findall(r"(?<!\S)--?[a-z][a-z-]*", parser.format_help())]


def _train() -> dict[str, Any]:
    """Return the content of ``train.yaml``."""
    content: dict[str, Any] = read_yaml(plugins.config_folders()[0][1] / "train.yaml", ConfigError)
    return content
