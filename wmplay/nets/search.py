"""Tree search in a model, for a batch of trees at once, as a pure function.

Two ways to choose: Gumbel MuZero (Danihelka et al. 2022, openreview bERaNdoegnO), which spends its
simulations at the root by sequential halving and improves the policy with any number of them, and PUCT
(MuZero, Schrittwieser et al. 2020, arXiv 1911.08265, appendix B).

Shapes: B trees, M nodes (one for each simulation, and the root), C actions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from wmplay.contracts import Belief

LOWEST = -1e9  # a score below that of every possible action
PB_INIT, PB_BASE = 1.25, 19_652  # of PUCT


@dataclass(frozen=True)
class Reached:
    """The state that an action leads to, and what the model says of it."""

    belief: Belief  # of B rows
    reward: Tensor  # [B], of the action
    discount: Tensor  # [B]: gamma, times the probability that the episode goes on
    logits: Tensor  # [B, C] of the prior policy
    value: Tensor  # [B]


Expand: TypeAlias = Callable[[Belief, Tensor], Reached]  # (belief, action [B] int64)


@dataclass(frozen=True)
class Search:
    """The result of a search."""

    action: Tensor  # [B] int64: the best one
    policy: Tensor  # [B, C]: the improved policy, a target for learning
    value: Tensor  # [B]: of the root, after the search
    visits: Tensor  # [B, C] int64, of the root's actions
    tree: Tree


class Tree:
    """The nodes of B trees. Node 0 is the root; simulation i makes node i + 1."""

    def __init__(self, root: Reached, nodes: int) -> None:
        batch, actions = root.logits.shape
        device = root.logits.device
        self.row = torch.arange(batch, device=device)
        self.visits = torch.zeros(batch, nodes, device=device)
        self.value = torch.zeros(batch, nodes, device=device)  # mean of what came back
        self.raw = torch.zeros(batch, nodes, device=device)  # as the model said
        self.logits = torch.zeros(batch, nodes, actions, device=device)
        self.child = torch.full((batch, nodes, actions), -1, device=device)
        self.reward, self.discount, self.child_visits, self.child_value = (
            torch.zeros(batch, nodes, actions, device=device) for _ in range(4)
        )
        self.parent = torch.full((batch, nodes), -1, device=device)
        self.action = torch.full((batch, nodes), -1, device=device)
        self.belief = tree_map(lambda x: x.new_zeros(batch, nodes, *x.shape[1:]), root.belief)
        self.put(torch.zeros(batch, dtype=torch.long, device=device), root)
        self.visits[:, 0] = 1

    def put(self, node: Tensor, reached: Reached) -> None:
        """Write what the model says of nodes [B]."""
        self.logits[self.row, node] = reached.logits
        self.value[self.row, node] = self.raw[self.row, node] = reached.value
        tree_map(
            lambda all_, new: all_.index_put_((self.row, node), new.to(all_.dtype)),
            self.belief,
            reached.belief,
        )

    def q(self, node: Tensor) -> Tensor:
        """Return the values [B, C] of the actions of nodes [B]; those never taken are meaningless."""
        at = (self.row, node)
        return self.reward[at] + self.discount[at] * self.child_value[at]


def search(
    expand: Expand,
    root: Reached,
    simulations: int,
    *,
    rule: Literal["gumbel", "puct"] = "gumbel",
    depth: int | None = None,
    allowed: Tensor | None = None,
    considered: int = 16,
    gumbel: Tensor | None = None,
    value_scale: float = 0.1,
    visit_offset: float = 50.0,
) -> Search:
    """Search from a root, and return the best action and an improved policy.

    Args:
        expand: one step of the model for B rows.
        root: the state to search from; its reward and discount are not read.
        simulations: number of steps of the model, in each tree.
        rule: of choosing actions.
        depth: the largest depth of a node; None = no limit.
        allowed: [B, C] bool, the actions of the root that may be chosen; None = all.
        considered: the largest number of actions that Gumbel MuZero tries at the root.
        gumbel: [B, C], noise on the root's logits that makes the action a draw of the policy; None = none.
        value_scale: of Gumbel MuZero's transformed values.
        visit_offset: added to the most visits in the same place.
    """
    logits = root.logits if allowed is None else root.logits.masked_fill(~allowed, LOWEST)
    root = Reached(root.belief, root.reward, root.discount, logits, root.value)
    tree = Tree(root, simulations + 1)
    noise = torch.zeros_like(logits) if gumbel is None else gumbel
    scale = (value_scale, visit_offset)
    possible = (logits > LOWEST / 2).sum(1)
    schedules = {n: halving(n, simulations) for n in range(1, min(considered, logits.shape[1]) + 1)}
    for number in range(simulations):
        due = torch.tensor(
            [schedules[min(int(n), considered)][number] for n in possible], device=logits.device
        )
        node = torch.zeros_like(tree.row)
        action = _root_action(tree, noise, due, scale) if rule == "gumbel" else _puct(tree, node)
        deep = torch.ones_like(node)  # depth of the node that the action leads to
        while True:
            following = tree.child[tree.row, node, action]
            goes_on = (following >= 0) & (deep < (depth or simulations + 1))
            if not goes_on.any():
                break
            node = torch.where(goes_on, following, node)
            chosen = _inner_action(tree, node, scale) if rule == "gumbel" else _puct(tree, node)
            action, deep = torch.where(goes_on, chosen, action), deep + goes_on.long()
        _grow(tree, expand, node, action, number + 1)
    at_root = torch.zeros_like(tree.row)
    visits = tree.child_visits[:, 0]
    if rule == "puct":
        policy = visits / visits.sum(1, keepdim=True).clamp(min=1)
        best = visits.argmax(1)
    else:
        completed = _completed(tree, at_root, scale)
        policy = (logits + completed).softmax(1)
        best = _considered(visits, visits.amax(1), noise, logits, completed).argmax(1)
    return Search(best, policy, tree.value[:, 0], visits.long(), tree)


def halving(actions: int, simulations: int) -> list[int]:
    """Return the number of visits that an action must have to be visited by each simulation.

    Sequential halving: all actions are visited equally often, then the better half, and so on.
    """
    if actions == 1:
        return list(range(simulations))
    rounds = math.ceil(math.log2(actions))
    visits, number, schedule = [0] * actions, actions, list[int]()
    while len(schedule) < simulations:
        for _ in range(max(1, simulations // (rounds * number))):
            schedule += visits[:number]
            visits[:number] = [count + 1 for count in visits[:number]]
        number = max(2, number // 2)
    return schedule[:simulations]


def _grow(tree: Tree, expand: Expand, node: Tensor, action: Tensor, number: int) -> None:
    """Take the action [B] of each node [B] in the model, and tell all nodes above."""
    at = (tree.row, node)
    belief = tree_map(lambda x: x[at], tree.belief)
    reached = expand(belief, action)
    known = tree.child[tree.row, node, action]
    new = torch.where(known >= 0, known, number)  # known at the largest depth only
    tree.put(new, reached)
    tree.parent[tree.row, new], tree.action[tree.row, new] = node, action
    edge = (tree.row, node, action)
    tree.child[edge], tree.reward[edge], tree.discount[edge] = new, reached.reward, reached.discount
    tree.visits[tree.row, new] += 1
    come_back, below = reached.value, new
    while bool((inside := tree.parent[tree.row, below] >= 0).any()):
        row, from_ = tree.row[inside], below[inside]
        up, act = tree.parent[row, from_], tree.action[row, from_]
        tree.child_value[row, up, act] = tree.value[row, from_]
        tree.child_visits[row, up, act] += 1
        gained = tree.reward[row, up, act] + tree.discount[row, up, act] * come_back[inside]
        tree.value[row, up] += (gained - tree.value[row, up]) / (tree.visits[row, up] + 1)
        tree.visits[row, up] += 1
        come_back, below = come_back.index_put((row,), gained), below.index_put((row,), up)


def _root_action(tree: Tree, noise: Tensor, due: Tensor, scale: tuple[float, float]) -> Tensor:
    completed = _completed(tree, torch.zeros_like(tree.row), scale)
    return _considered(tree.child_visits[:, 0], due, noise, tree.logits[:, 0], completed).argmax(1)


def _considered(visits: Tensor, due: Tensor, noise: Tensor, logits: Tensor, completed: Tensor) -> Tensor:
    """Return the scores [B, C] of the actions with ``due`` [B] visits; others have minus infinity."""
    score = (noise + logits - logits.amax(1, keepdim=True) + completed).clamp(min=LOWEST)
    return score.masked_fill(visits != due.unsqueeze(1), -torch.inf)


def _inner_action(tree: Tree, node: Tensor, scale: tuple[float, float]) -> Tensor:
    at = (tree.row, node)
    visits = tree.child_visits[at]
    improved = (tree.logits[at] + _completed(tree, node, scale)).softmax(1)
    return (improved - visits / (1 + visits.sum(1, keepdim=True))).argmax(1)


def _completed(tree: Tree, node: Tensor, scale: tuple[float, float]) -> Tensor:
    """Return transformed values [B, C]: of actions never taken the mixed value of the node (appendix D)."""
    at = (tree.row, node)
    visits, q, prior = tree.child_visits[at], tree.q(node), tree.logits[at].softmax(1)
    taken, total = visits > 0, visits.sum(1)
    prior = prior.clamp(min=torch.finfo(prior.dtype).tiny) * taken
    mean = (prior * q).sum(1) / prior.sum(1).clamp(min=torch.finfo(prior.dtype).tiny)
    mixed = (tree.raw[at] + total * mean) / (total + 1)
    q = torch.where(taken, q, mixed.unsqueeze(1))
    low, high = q.amin(1, keepdim=True), q.amax(1, keepdim=True)
    value_scale, offset = scale
    return (offset + visits.amax(1, keepdim=True)) * value_scale * (q - low) / (high - low).clamp(min=1e-8)


def _puct(tree: Tree, node: Tensor) -> Tensor:
    at = (tree.row, node)
    visits, logits, here = tree.child_visits[at], tree.logits[at], tree.value[at].unsqueeze(1)
    q = torch.where(visits > 0, tree.q(node), here)
    low, high = q.amin(1, keepdim=True), q.amax(1, keepdim=True)
    # of actions never taken the lowest value: MuZero begins with what it knows
    value = torch.where(visits > 0, (q - low) / (high - low).clamp(min=1e-8), 0)
    total = visits.sum(1, keepdim=True)
    rate = PB_INIT + torch.log((total + PB_BASE + 1) / PB_BASE)
    score = value + rate * logits.softmax(1) * total.sqrt() / (1 + visits)
    return score.masked_fill(logits <= LOWEST / 2, -torch.inf).argmax(1)
