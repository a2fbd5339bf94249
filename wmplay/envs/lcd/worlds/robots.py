"""The robots of the built-in worlds. Lengths in the drawings are in thirtieths of a metre."""

from __future__ import annotations

from wmplay.envs.lcd.worlds.world import (
    MEETS_WALLS,
    MEETS_WALLS_AND_OBJECTS,
    Body,
    Circle,
    Joint,
    Point,
    Polygon,
    Robot,
    Shape,
    box,
)

UNIT = 1 / 30


def _point(x: float, y: float) -> Point:
    return (x * UNIT, y * UNIT)


def _bar(width: float, height: float) -> Polygon:
    """Return a box of full size ``width`` x ``height`` units."""
    return box(width / 2 * UNIT, height / 2 * UNIT)


def urchin() -> Robot:
    """Return a ball with three legs, joined at its centre."""
    starts = {"leg_a": 0.0, "leg_b": 2.0, "leg_c": 4.2}
    return Robot(
        name="urchin",
        root=Body("root", Circle(0.8 * 8 * UNIT), color="#f76707"),
        parts=tuple(Body(leg, _bar(8, 40), mask=MEETS_WALLS_AND_OBJECTS) for leg in starts),
        joints=tuple(Joint("root", leg, _point(0, 0), _point(0, 20), angle) for leg, angle in starts.items()),
        margin=1.25,
        random_angle=True,
    )


def luxo() -> Robot:
    """Return a desk lamp that hops: a heavy foot, a knee, a hip and a light head, the root."""
    head = Polygon(tuple(_point(0.8 * x, 0.8 * y) for x, y in ((-15, 15), (-15, -15), (20, -25), (20, 25))))
    mask = MEETS_WALLS_AND_OBJECTS
    return Robot(
        name="luxo",
        root=Body("root", head, density=0.1, mask=mask, color="#fab005"),
        parts=(
            Body("hip", _bar(8, 24), mask=mask),
            Body("knee", _bar(6.4, 20), mask=mask),
            Body("foot", _bar(48, 8), mask=mask),
        ),
        joints=(
            Joint("root", "hip", _point(-5, -10), _point(0, 12), -0.5, (-0.1, 0.1)),
            Joint("hip", "knee", _point(0, -12), _point(0, 10), 0.5, (-0.9, 0.9)),
            Joint("knee", "foot", _point(0, -12), _point(0, 4), 0.0, (-0.5, 0.9)),
        ),
        margin=2.0,
    )


def crab() -> Robot:
    """Return a six-sided shell on two legs, with two arms that end in two-fingered claws.

    It has 17 bodies and 12 movable joints: two in each leg, two in each arm and two in each claw (a finger's
    tip is fixed to its base). Only arms and claws collide with objects.
    """
    shell = ((-22, 0), (-18, -14), (18, -14), (22, 0), (18, 14), (-18, 14))
    limbs = _Limbs()
    for side, out in (("left", -1.0), ("right", 1.0)):
        hip, knee = f"{side}_hip", f"{side}_knee"
        hip_at = (_point(out * 17, -10), _point(0, 10))
        limbs.hang("root", hip, _bar(8, 20), hip_at, 0.5 * out, _turn(out, -0.7, 0.7), mask=MEETS_WALLS)
        knee_at = (_point(0, -10), _point(0, 10))
        limbs.hang(hip, knee, _bar(6.4, 20), knee_at, 0.0, _turn(out, -0.7, 0.7), mask=MEETS_WALLS)
    for side, out in (("left", -1.0), ("right", 1.0)):
        shoulder, elbow = f"{side}_shoulder", f"{side}_elbow"
        shoulder_at = (_point(out * 17, 10), _point(0, -10))
        limbs.hang("root", shoulder, _bar(6, 20), shoulder_at, -1.0 * out, _turn(out, -1.0, 1.6))
        limbs.hang(
            shoulder, elbow, _bar(6, 18), (_point(0, 10), _point(0, -9)), 0.2 * out, _turn(out, -2.2, 0.8)
        )
        for finger, bend in (("outer", -out), ("inner", out)):
            base, tip = f"{side}_{finger}_base", f"{side}_{finger}_tip"
            base_at, tip_at = (_point(0, 9), _point(0, -5)), (_point(0, 5), _point(0, -5))
            limbs.hang(elbow, base, _bar(4, 10), base_at, 0.2 * out + 0.7 * bend, _turn(bend, -0.6, 0.5))
            limbs.hang(base, tip, _bar(4, 10), tip_at, 0.2 * out - 0.1 * bend, (0.0, 0.0))
    root = Body("root", Polygon(tuple(_point(x, y) for x, y in shell)), color="#d9480f")
    return Robot("crab", root, tuple(limbs.parts), tuple(limbs.joints), margin=2.0)


def spider() -> Robot:
    """Return a ball with four two-part legs, two hanging down and two reaching up.

    It has 9 bodies and 8 movable joints.
    """
    limbs = _Limbs()
    for side, out in (("left", -1.0), ("right", 1.0)):
        for end, up in (("lower", -1.0), ("upper", 1.0)):
            thigh, shin = f"{side}_{end}_thigh", f"{side}_{end}_shin"
            density = 1.0 if end == "lower" else 0.1
            lean = -out * up  # sense of rotation that moves a leg outwards
            thigh_at = (_point(out * 6, up * 6), _point(0, -up * 10))
            limbs.hang("root", thigh, _bar(6, 20), thigh_at, lean, _turn(lean, -1.0, 0.6), density)
            shin_at = (_point(0, up * 10), _point(0, -up * 10))
            limbs.hang(thigh, shin, _bar(4.8, 20), shin_at, 0.4 * lean, _turn(lean, -0.8, 0.8), density)
    root = Body("root", Circle(10 * UNIT), mask=MEETS_WALLS_AND_OBJECTS, color="#d9480f")
    return Robot("spider", root, tuple(limbs.parts), tuple(limbs.joints), margin=1.3)


class _Limbs:
    """A list of parts and their joints, in which each part is attached to an earlier one."""

    def __init__(self) -> None:
        self.parts: list[Body] = []
        self.joints: list[Joint] = []

    def hang(
        self,
        parent: str,
        child: str,
        shape: Shape,
        anchors: tuple[Point, Point],
        angle: float,
        limits: Point,
        density: float = 1.0,
        mask: int = MEETS_WALLS_AND_OBJECTS,
    ) -> None:
        self.parts.append(Body(child, shape, density, mask=mask))
        self.joints.append(Joint(parent, child, *anchors, angle, limits))


def _turn(sign: float, low: float, high: float) -> Point:
    """Return joint limits for one side of a robot, mirrored if the sign is negative."""
    return (low, high) if sign > 0 else (-high, -low)
