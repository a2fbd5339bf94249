"""The sound of a world: the energies of the impacts of a step, by the pitch of the bodies that meet.

A body rings at a pitch that falls with its size, so that its impacts are heard in one of four bands, each an
octave of sizes. A contact is heard when it begins: bodies that lie or slide are silent.
"""

from __future__ import annotations

import math
from typing import Any

import Box2D
import numpy as np

from wmplay.envs.lcd.worlds.world import Shape
from wmplay.system.arrays import Array

BANDS = 4  # of bodies that reach more than 1/2, 1/4, 1/8 m from their origin, and of smaller ones


class Ear(Box2D.b2ContactListener):  # type: ignore[misc]
    """A listener to the contacts of one Box2D world, whose bodies have their index as user data.

    Args:
        shapes: of the moving bodies.
    """

    def __init__(self, shapes: list[Shape]) -> None:
        super().__init__()
        self.energy = [0.0] * BANDS  # J, since it was last set to zero
        self._band = [min(max(math.ceil(-math.log2(shape.reach)) - 1, 0), BANDS - 1) for shape in shapes]
        self._begun: set[tuple[int | None, int | None]] = set()

    def forget(self) -> None:
        """Begin a substep: contacts from before are silent."""
        self._begun.clear()

    def BeginContact(self, contact: Any) -> None:
        """Note a new contact."""
        self._begun.add(_pair(contact))

    def PostSolve(self, contact: Any, impulse: Any) -> None:
        """Hear an impulse, in N s, if its contact is new."""
        pair = _pair(contact)
        if pair not in self._begun:
            return
        bodies = [each.body for each in (contact.fixtureA, contact.fixtureB) if each.body.mass]
        pushed = sum(impulse.normalImpulses)
        energy = pushed**2 / 2 * sum(1 / body.mass for body in bodies)  # of the reduced mass
        for body in bodies:
            self.energy[self._band[body.userData]] += energy / len(bodies)


def heard(energies: Array) -> Array:
    """Return the sound, float32, of energies [..., BANDS] in J: log(1 + energy)."""
    return np.log1p(energies).astype(np.float32)


def _pair(contact: Any) -> tuple[int | None, int | None]:
    return contact.fixtureA.body.userData, contact.fixtureB.body.userData
