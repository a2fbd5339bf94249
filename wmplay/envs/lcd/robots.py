"""The robots of the built-in worlds. Lengths in the drawings are in thirtieths of a metre."""

from __future__ import annotations

from wmplay.envs.lcd.world import (
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
    """A box of full size ``width`` x ``height`` units."""
    return box(width / 2 * UNIT, height / 2 * UNIT)


def urchin() -> Robot:
    """A ball with three legs, joined at its centre.

    Legs b and c start outside their joints' limits and are driven in by the first steps: this is part
    of the published world.
    """
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
    """A desk lamp that hops: a heavy foot, a knee, a hip and a light head, the root."""
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
    """A six-sided shell on two legs, with two arms that end in two-fingered claws.

    17 bodies and 12 movable joints: two in each leg, two in each arm and two in each claw (a finger's
    tip is fixed to its base). Only arms and claws meet objects.
    """
    shell = tuple(_point(x, y) for x, y in ((-22, 0), (-18, -14), (18, -14), (22, 0), (18, 14), (-18, 14)))
    parts: list[Body] = []
    joints: list[Joint] = []

    def hang(
        parent: str,
        child: str,
        shape: Shape,
        joint: tuple[Point, Point],
        angle: float,
        limits: Point,
        *,
        reaches: bool,
    ) -> None:
        mask = MEETS_WALLS_AND_OBJECTS if reaches else MEETS_WALLS
        parts.append(Body(child, shape, mask=mask, color="#f08c00" if reaches else "#e8590c"))
        joints.append(Joint(parent, child, *joint, angle, limits))

    for side, sign in (("left", -1.0), ("right", 1.0)):
        hip, knee = f"{side}_hip", f"{side}_knee"
        hang(
            "root",
            hip,
            _bar(8, 20),
            (_point(sign * 17, -10), _point(0, 10)),
            sign * 0.5,
            _mirror(sign, -0.2, 1.2),
            reaches=False,
        )
        hang(
            hip,
            knee,
            _bar(6.4, 20),
            (_point(0, -10), _point(0, 10)),
            0.0,
            _mirror(sign, -1.2, 0.2),
            reaches=False,
        )
    for side, sign in (("left", -1.0), ("right", 1.0)):
        shoulder, elbow = f"{side}_shoulder", f"{side}_elbow"
        hang(
            "root",
            shoulder,
            _bar(6, 20),
            (_point(sign * 17, 10), _point(0, -10)),
            -sign * 1.0,
            _mirror(-sign, -0.6, 2.0),
            reaches=True,
        )
        hang(
            shoulder,
            elbow,
            _bar(6, 18),
            (_point(0, 10), _point(0, -9)),
            sign * 0.2,
            _mirror(sign, -1.0, 2.0),
            reaches=True,
        )
        for finger, bend in (("outer", -sign), ("inner", sign)):
            base, tip = f"{side}_{finger}_base", f"{side}_{finger}_tip"
            hang(
                elbow,
                base,
                _bar(4, 10),
                (_point(0, 9), _point(0, -5)),
                sign * 0.2 + bend * 0.7,
                _mirror(bend, 0.1, 1.2),
                reaches=True,
            )
            hang(
                base,
                tip,
                _bar(4, 10),
                (_point(0, 5), _point(0, -5)),
                sign * 0.2 - bend * 0.1,
                (-bend * 0.8, -bend * 0.8),
                reaches=True,
            )
    root = Body("root", Polygon(shell), color="#d9480f")
    return Robot("crab", root, tuple(parts), tuple(joints), margin=2.0)


def spider() -> Robot:
    """A ball with four two-part legs, two hanging down and two reaching up: 9 bodies, 8 movable joints."""
    mask = MEETS_WALLS_AND_OBJECTS
    parts: list[Body] = []
    joints: list[Joint] = []
    for side, sign in (("left", -1.0), ("right", 1.0)):
        for end, up in (("lower", -1.0), ("upper", 1.0)):
            thigh, shin = f"{side}_{end}_thigh", f"{side}_{end}_shin"
            density = 1.0 if end == "lower" else 0.1
            parts.append(Body(thigh, _bar(6, 20), density, mask=mask))
            parts.append(Body(shin, _bar(4.8, 20), density, mask=mask, color="#f08c00"))
            lean, bend = -sign * up, sign * up  # outwards from the body, then back towards the vertical
            joints.append(
                Joint(
                    "root",
                    thigh,
                    _point(sign * 6, up * 6),
                    _point(0, -up * 10),
                    lean * 1.0,
                    _mirror(lean, 0.0, 1.6),
                )
            )
            joints.append(
                Joint(
                    thigh, shin, _point(0, up * 10), _point(0, -up * 10), lean * 0.4, _mirror(bend, -0.2, 1.4)
                )
            )
    root = Body("root", Circle(10 * UNIT), mask=mask, color="#d9480f")
    return Robot("spider", root, tuple(parts), tuple(joints), margin=1.3)


def _mirror(sign: float, low: float, high: float) -> Point:
    """Limits for one side's joint; the other side's are the same with the sense of rotation turned."""
    return (low, high) if sign > 0 else (-high, -low)
