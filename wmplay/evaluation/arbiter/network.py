"""The arbiter: a small frozen network for clips of a world, trained once for each world.

It is an autoencoder over five frames. One part compresses the screens into a few numbers and one the proprio,
so that neither can dominate; the frames and the four actions between them are decoded from the numbers. Only
the encoder and the decoder of actions are kept. Generated and real clips are compared by the numbers,
linearly transformed so that over real clips they have mean 0 and (nearly) the identity as covariance.

An arbiter is frozen: another recipe is another version, and every score names the arbiter that computed it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wmplay.contracts import Array
from wmplay.errors import ArbiterError, suggestion
from wmplay.nets.layers import ConvEncoder, mlp
from wmplay.system.array_files import arrays_in
from wmplay.system.files import written_beside
from wmplay.system.reading import parse_json

FRAMES = 5  # of a clip
VERSIONS = {"luxo_cube": 2, "urchin_cube": 2}  # of arbiters whose world has changed; the others are the first
FOLDER = Path(__file__).parent / "frozen"
ABOUT = "about"  # the name of the description among the arrays of a file
FULL_PRECISION = ("proprio_mean", "proprio_scale", "motion_scale", "center", "whitening")


class Arbiter(nn.Module):
    """A map from clips to latents [N, D], and from latents to the actions between the frames.

    Args:
        about: its description: "world", "version" and other facts.
        screen: (H, W).
        proprio: P, the entries of proprio; 0 in a world without a robot, where only screens are used.
        actions: A, the entries of an action; 0 in a world without a robot.
        latent: number of latents of the screens, and of the proprio.
        channels: of the first convolution.
        hidden: units of the layer before the latents.
    """

    proprio_mean: Tensor  # [P], over real frames
    proprio_scale: Tensor  # [P]
    motion_scale: Tensor  # [P], of the change from one frame to the next
    center: Tensor  # [D], over real clips
    whitening: Tensor  # [D, D]

    def __init__(
        self,
        about: Mapping[str, Any],
        screen: tuple[int, int],
        proprio: int,
        actions: int,
        latent: int = 24,
        channels: int = 16,
        hidden: int = 96,
    ) -> None:
        super().__init__()
        self.about = dict(about)
        self.sizes: dict[str, Any] = {
            "screen": list(screen),
            "proprio": proprio,
            "actions": actions,
            "latent": latent,
            "channels": channels,
            "hidden": hidden,
        }
        self.shapes = {"lcd": (FRAMES, *screen)} | ({"proprio": (FRAMES, proprio)} if proprio else {})
        self.dimensions = latent * len(self.shapes)
        self.convolutions = ConvEncoder((*screen, FRAMES), channels)
        self.screens = mlp(self.convolutions.size, hidden, 1, latent)
        self.movement = mlp((2 * FRAMES - 1) * proprio, hidden, 1, latent) if proprio else None
        self.reader = mlp(self.dimensions, hidden, 1, (FRAMES - 1) * actions) if actions else None
        self.register_buffer("proprio_mean", torch.zeros(proprio))
        self.register_buffer("proprio_scale", torch.ones(proprio))
        self.register_buffer("motion_scale", torch.ones(proprio))
        self.register_buffer("center", torch.zeros(self.dimensions))
        identity = torch.zeros(self.dimensions, self.dimensions).fill_diagonal_(1.0)
        self.register_buffer("whitening", identity)  # torch.eye on the meta device imports a compiler: 2 s

    @property
    def name(self) -> str:
        """The name, for example "luxo-v1"."""
        return f"{self.about['world']}-v{self.about['version']}"

    @property
    def digest(self) -> str:
        """A digest of all weights (half a SHA-256), which identifies an arbiter among others of its name."""
        sha = hashlib.sha256()
        for name, value in sorted(_arrays(self).items()):
            sha.update(f"{name} {value.dtype} {value.shape}".encode() + value.tobytes())
        return sha.hexdigest()[:32]

    def forward(self, clips: Mapping[str, Tensor]) -> Tensor:
        """Return latents [N, D] of clips {"lcd": [N, 5, H, W] of zeros and ones, "proprio": [N, 5, P]}.

        Raises:
            ArbiterError: for clips of other shapes.
        """
        self._check(clips)
        return (self.squeeze(clips) - self.center) @ self.whitening

    def squeeze(self, clips: Mapping[str, Tensor]) -> Tensor:
        """Return latents [N, D] before the linear transformation: the screens' half, then that of proprio."""
        halves = [self.screens(self.convolutions(clips["lcd"].float().movedim(1, -1)))]
        if self.movement is not None:
            halves.append(self.movement(self.moves(clips["proprio"])))
        return torch.cat(halves, dim=-1)

    def moves(self, proprio: Tensor) -> Tensor:
        """Return proprio [N, 5, P] and its changes as numbers of order one, [N, 9 P]."""
        frames = (proprio - self.proprio_mean) / self.proprio_scale
        changes = proprio.diff(dim=1) / self.motion_scale
        return torch.cat([frames.flatten(1), changes.flatten(1)], dim=-1)

    def read_actions(self, latent: Tensor) -> Tensor | None:
        """Return the actions [N, 4, A] between the frames, from latents [N, D]; None without a robot."""
        if self.reader is None:
            return None
        read: Tensor = self.reader(latent)
        return read.reshape(-1, FRAMES - 1, self.sizes["actions"])

    def _check(self, clips: Mapping[str, Tensor]) -> None:
        for key, shape in self.shapes.items():
            if key not in clips:
                raise ArbiterError(
                    f"arbiter {self.name} judges {' and '.join(self.shapes)}, got "
                    f"{' and '.join(clips) or 'neither'}: it needs a model that predicts '{key}' too",
                    got=list(clips),
                )
            if clips[key].shape[1:] != shape:
                got = list(clips[key].shape[1:])
                raise ArbiterError(
                    f"arbiter {self.name} judges clips of '{key}' {list(shape)}, got {got}: are they of "
                    "another world?",
                    got=got,
                )


# On disk ----------------------------------------------------------------------------------------------


def shipped_arbiters() -> list[str]:
    """Return the worlds that have an arbiter."""
    worlds = {path.stem.rpartition("-v")[0] for path in FOLDER.glob("*.npz")}
    return sorted(world for world in worlds if shipped(world).exists())


def version_of(world: str) -> int:
    """Return the version of a world's arbiter, which changes with the recipe and with the world."""
    return VERSIONS.get(world, 1)


def shipped(world: str) -> Path:
    """Return the path of a world's arbiter, whether or not it exists."""
    return FOLDER / f"{world}-v{version_of(world)}.npz"


def load_arbiter(world: str, path: Path | None = None) -> Arbiter:
    """Return the arbiter of a world.

    Args:
        world: for example "luxo".
        path: of a file; None is the one in the package.

    Raises:
        ArbiterError: if the file is missing, of another world or version, or damaged.
    """
    if path is None:
        path = shipped(world)
        if not path.exists():
            raise ArbiterError(
                f"no arbiter judges the world '{world}': {suggestion(world, shipped_arbiters())}", got=world
            )
    try:
        with path.open("rb") as file:
            arrays = arrays_in(file)
        about = parse_json(str(arrays.pop(ABOUT)).encode(), path, ArbiterError)
        found, sizes, digest = (about["world"], about["version"]), about.pop("sizes"), about.pop("digest")
    except Exception as error:  # a damaged archive fails in many ways
        raise ArbiterError(
            f"{path} is no arbiter, or damaged ({type(error).__name__}: {error})", got=path
        ) from error
    if found != (world, version_of(world)):
        raise ArbiterError(
            f"{path} is of world '{found[0]}' and version {found[1]}",
            got=found,
            expected=f"'{world}' and {version_of(world)}: scores of different arbiters do not compare",
        )
    try:
        with torch.device("meta"):  # no memory for sizes that the weights do not have
            arbiter = Arbiter(about, **{**sizes, "screen": tuple(sizes["screen"])})
        weights = {name: torch.tensor(value).float() for name, value in arrays.items()}
        arbiter.load_state_dict(weights, assign=True)
    except Exception as error:  # sizes may be anything
        raise ArbiterError(f"{path} is damaged: its weights do not fit its sizes", got=path) from error
    if arbiter.digest != digest:
        raise ArbiterError(
            f"{path} is damaged: its weights are {arbiter.digest}", got=arbiter.digest, expected=f"{digest}"
        )
    return arbiter.eval().requires_grad_(False)


def save_arbiter(arbiter: Arbiter, path: Path) -> None:
    """Write an arbiter atomically, with weights in half precision.

    Raises:
        WriteError: no space, no permission.
    """
    about = json.dumps({**arbiter.about, "sizes": arbiter.sizes, "digest": arbiter.digest})
    with written_beside(path) as beside, beside.open("wb") as file:
        np.savez_compressed(file, **{ABOUT: np.array(about)}, **_arrays(arbiter))  # type: ignore[arg-type]


def _arrays(arbiter: Arbiter) -> dict[str, Array]:
    """Return the weights as they are stored."""
    return {
        name: value.numpy().astype(np.float32 if name in FULL_PRECISION else np.float16)
        for name, value in arbiter.state_dict().items()
    }
