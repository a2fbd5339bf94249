"""A run as one portable folder, to act and to predict elsewhere, but not to continue training.

The folder holds ``weights.safetensors`` (``<part>.<name>``, of the model and of a policy with weights),
``config.yaml``, ``spaces.json`` (of the env, so that it need not be installed) and ``export.json``: versions,
provenance, and the checksums of the other files. ``card.json`` and ``card.md`` say how well the run does;
0.1.0 wrote neither.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gymnasium.spaces import Space
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from wmplay.config.run_config import read_config, write_config
from wmplay.errors import DamagedError, RunError
from wmplay.system.files import folder_written_beside, unsealed, write_sealed_json
from wmplay.system.reading import read_json
from wmplay.vector.spaces import space_from_json, space_to_json

ABOUT, CONFIG, SPACES, WEIGHTS = "export.json", "config.yaml", "spaces.json", "weights.safetensors"
CARD, PAGE = "card.json", "card.md"
DIGESTS = {"sha256": WEIGHTS, "config_sha256": CONFIG}  # of export.json: of which files
CARD_DIGESTS = {"card_sha256": CARD, "page_sha256": PAGE}
FORMAT = 1


def is_portable(path: Path) -> bool:
    """Return whether a path is an exported run."""
    return (path / ABOUT).exists()


def write_portable(
    path: Path,
    config: Mapping[str, Any],
    weights: Mapping[str, Mapping[str, Tensor]],
    spaces: Mapping[str, Space[Any]],
    about: Mapping[str, Any],
    card: Mapping[str, Any],
    page: str,
) -> None:
    """Write the folder, or nothing.

    Args:
        path: free, or an empty folder.
        config: of the run.
        weights: {part: its state_dict}.
        spaces: by name: the env's observation_space and action_space.
        about: further facts, as JSON.
        card: the content of ``card.json``.
        page: the same for people, as Markdown.

    Raises:
        SpaceError: for spaces other than Box, Discrete and a Dict of these.
        WriteError: no space, no permission, or the path is taken.
    """
    described = {name: space_to_json(space) for name, space in spaces.items()}
    tensors = {
        f"{part}.{name}": value.detach().cpu().contiguous().clone()  # tied weights are written twice
        for part, values in weights.items()
        for name, value in values.items()
    }
    with folder_written_beside(path) as folder:
        (folder / WEIGHTS).write_bytes(save(tensors))  # save_file makes a file that nobody else can read
        write_config(folder / CONFIG, config)
        write_sealed_json(folder / SPACES, described)
        write_sealed_json(folder / CARD, dict(card))
        (folder / PAGE).write_text(page, encoding="utf-8")
        digests = {key: _digest(folder / name) for key, name in {**DIGESTS, **CARD_DIGESTS}.items()}
        write_sealed_json(folder / ABOUT, {"format": FORMAT, **about, **digests})


class PortableDirectory:
    """An exported run on disk.

    Raises:
        RunError: if it is damaged, or of another format.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.about = self._json(ABOUT)
        if self.about.get("format") != FORMAT:
            raise RunError(
                f"{path} is an exported run of format {self.about.get('format')}",
                expected=f"{FORMAT}",
                advice="export it anew, or load it with the version that wrote it",
            )

    def config(self) -> dict[str, Any]:
        """Return the run's config. Raise RunError, also if its checksum differs; 0.1.0 wrote none."""
        if "config_sha256" in self.about:
            self._check("config_sha256")
        return read_config(self._there(CONFIG))

    def weights(self) -> dict[str, dict[str, Tensor]]:
        """Return {part: its state_dict}. Raise RunError, also if the checksum differs."""
        self._check("sha256")
        file = self.path / WEIGHTS
        try:
            tensors = load_file(file)
        except SafetensorError as error:
            raise RunError(f"{file} is damaged ({error})", advice="restore it from a copy") from error
        found: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            part, _, key = name.partition(".")
            found.setdefault(part, {})[key] = tensor
        return found

    def spaces(self) -> dict[str, Space[Any]]:
        """Return the env's observation_space and action_space. Raise RunError."""
        content = self._json(SPACES)
        try:
            return {name: space_from_json(content[name]) for name in ("observation_space", "action_space")}
        except (KeyError, TypeError, ValueError, AssertionError, OverflowError, AttributeError) as error:
            raise RunError(
                f"{self.path / SPACES} is damaged ({error!r})", advice="restore it from a copy"
            ) from error

    def card(self) -> dict[str, Any] | None:
        """Return the content of ``card.json``; None where 0.1.0 wrote none. Raise RunError as ``weights``
        does, also for a changed ``card.md``."""
        if "card_sha256" not in self.about:
            return None
        for key in CARD_DIGESTS:
            self._check(key)
        return self._json(CARD)

    def _check(self, key: str) -> None:
        """Compare a file with its checksum. Raise DamagedError if it differs."""
        file = self._there({**DIGESTS, **CARD_DIGESTS}[key])
        if _digest(file) != self.about.get(key):
            raise DamagedError(
                f"{file} is damaged (its checksum differs)",
                advice="restore it from a copy, or export it anew",
            )

    def _json(self, name: str) -> dict[str, Any]:
        file = self._there(name)
        return unsealed(read_json(file, RunError), file)

    def _there(self, name: str) -> Path:
        if not (self.path / name).is_file():
            raise RunError(f"{self.path} is not a whole exported run: it has no {name}; export it anew")
        return self.path / name


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
