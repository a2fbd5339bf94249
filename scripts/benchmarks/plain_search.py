"""Tree search written plainly, for one tree: nodes are objects, and each simulation a walk in Python.

It is the side that ``wmplay.nets.search`` is timed against, and the reference of its test.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from wmplay.nets.search import PB_BASE, PB_INIT, halving

CONSIDERED, SCALE, OFFSET = 16, 0.1, 50.0


@dataclass
class Said:
    """What a model says of a state, in plain numbers."""

    belief: object
    reward: float
    discount: float
    logits: list[float]
    value: float
    chance: list[list[float]] | None = None  # of each action's outcomes


Step = Callable[[object, int, int], Said]  # (belief, action, outcome)


@dataclass
class Node:
    """A state of the tree."""

    said: Said
    visits: int = 1
    children: dict[tuple[int, int], Node] = field(default_factory=dict)
    returns: list[list[float]] = field(default_factory=list)  # what came back of each action

    def __post_init__(self) -> None:
        self.returns = [[] for _ in self.said.logits]
        largest = max(self.said.logits)
        weights = [math.exp(logit - largest) for logit in self.said.logits]
        self.prior = [weight / sum(weights) for weight in weights]

    @property
    def value(self) -> float:
        """The mean of what the model said and of all that came back."""
        back = [gain for gains in self.returns for gain in gains]
        return (self.said.value + sum(back)) / (1 + len(back))

    def completed(self) -> tuple[list[float], list[float]]:
        """Return the values of all actions, and the same transformed for Gumbel MuZero."""
        tried = [a for a, gains in enumerate(self.returns) if gains]
        total, share = sum(map(len, self.returns)), sum(self.prior[a] for a in tried)
        mixed = self.said.value
        if tried:
            mean = sum(self.prior[a] * _mean(self.returns[a]) for a in tried) / share
            mixed = (self.said.value + total * mean) / (total + 1)
        q = [_mean(gains) if gains else mixed for gains in self.returns]
        size = (OFFSET + max(map(len, self.returns))) * SCALE
        span = max(max(q) - min(q), 1e-8)
        return q, [size * (x - min(q)) / span for x in q]

    def improved(self) -> list[float]:
        """Return the improved policy."""
        scores = [x + y for x, y in zip(self.said.logits, self.completed()[1], strict=True)]
        weights = [math.exp(score - max(scores)) for score in scores]
        return [weight / sum(weights) for weight in weights]

    def puct(self) -> int:
        """Return the action that PUCT takes."""
        here = self.value
        q = [_mean(gains) if gains else here for gains in self.returns]
        low, high = min(*q, here), max(*q, here)
        rate = PB_INIT + math.log((self.visits + PB_BASE + 1) / PB_BASE)

        def score(action: int) -> float:
            taken = len(self.returns[action])
            value = (q[action] - low) / max(high - low, 1e-8) if taken else 0
            return value + rate * self.prior[action] * math.sqrt(self.visits) / (1 + taken)

        return max(range(len(q)), key=score)

    def outcome(self, action: int) -> int:
        """Return the outcome of an action that has happened least, compared with its probability."""
        if self.said.chance is None:
            return 0
        due = [
            p / (1 + (self.children[action, k].visits if (action, k) in self.children else 0))
            for k, p in enumerate(self.said.chance[action])
        ]
        return due.index(max(due))


def plain_search(step: Step, root: Said, simulations: int, rule: str) -> tuple[list[int], list[float], float]:
    """Return the visits of the root's actions, the improved policy and the value of the root."""
    top = Node(root)
    schedule = halving(min(len(root.logits), CONSIDERED), simulations)
    for due in schedule:
        path, node, action = [], top, _root_action(top, due) if rule == "gumbel" else top.puct()
        while True:
            way = action, node.outcome(action)
            path.append((node, way))
            if way not in node.children:
                break
            node = node.children[way]
            action = _inner_action(node) if rule == "gumbel" else node.puct()
        new = node.children[way] = Node(step(node.said.belief, *way))
        gain, below = new.said.value, new
        for node, way in reversed(path):
            gain = below.said.reward + below.said.discount * gain
            node.returns[way[0]].append(gain)
            node.visits += 1
            below = node
    visits = [len(gains) for gains in top.returns]
    if rule == "puct":
        return visits, [count / sum(visits) for count in visits], top.value
    policy = top.improved()
    return visits, policy, sum(p * q for p, q in zip(policy, top.completed()[0], strict=True))


def _root_action(root: Node, due: int) -> int:
    transformed = root.completed()[1]
    return max(
        (a for a, gains in enumerate(root.returns) if len(gains) == due),
        key=lambda a: root.said.logits[a] + transformed[a],
    )


def _inner_action(node: Node) -> int:
    total = sum(map(len, node.returns))
    due = [p - len(gains) / (1 + total) for p, gains in zip(node.improved(), node.returns, strict=True)]
    return due.index(max(due))


def _mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers)
