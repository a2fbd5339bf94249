"""Tree search in a model, for a batch of trees at once, as a pure function.

Two ways to choose: Gumbel MuZero (Danihelka et al. 2022, openreview bERaNdoegnO), which spends its
simulations at the root by sequential halving and improves the policy with any number of them, and PUCT
(MuZero, Schrittwieser et al. 2020, arXiv 1911.08265, appendix B). An action may have several outcomes, with
probabilities (Stochastic MuZero, Antonoglou et al. 2022, openreview X6D9bAHhBQ1).

Shapes: B trees, M nodes in each (one for each simulation, and the root), C actions, K outcomes of an action,
R any number of nodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from wmplay.contracts import Belief

LOWEST = -1e9  # a score below that of every possible action
PB_INIT, PB_BASE = 1.25, 19_652  # of PUCT
TINY = 1e-30


@dataclass(frozen=True)
class Reached:
    """The state that an action leads to, and what the model says of it."""

    belief: Belief  # of B rows
    reward: Tensor  # [B], of the action
    discount: Tensor  # [B]: gamma, times the probability that the episode goes on
    logits: Tensor  # [B, C] of the prior policy
    value: Tensor  # [B]
    chance: Tensor | None = None  # [B, C, K]: probabilities of each action's outcomes; None = it has one


# (belief, action [B] int64) -> Reached; with several outcomes (belief, action, outcome [B] int64)
Expand: TypeAlias = Callable[..., Reached]


@dataclass(frozen=True)
class Search:
    """The result of a search."""

    action: Tensor  # [B] int64: the best one
    policy: Tensor  # [B, C]: the improved policy, a target for learning; of PUCT the shares of the visits
    value: Tensor  # [B]: of the root under the improved policy; of PUCT the mean of its simulations
    visits: Tensor  # [B, C] int64, of the root's actions
    tree: Tree


class Tree:
    """The nodes of B trees, all in the same arrays: node m of tree b is number b * M + m, and node 0 the
    root.

    Args:
        root: the first nodes.
        nodes: M.
    """

    def __init__(self, root: Reached, nodes: int) -> None:
        batch, self.actions = root.logits.shape
        self.outcomes = 1 if root.chance is None else root.chance.shape[-1]
        device, total = root.logits.device, batch * nodes
        self.root = torch.arange(batch, device=device) * nodes  # [B]
        self.visits, self.value, self.raw, self.reward, self.discount = (
            torch.zeros(total, device=device) for _ in range(5)
        )  # [B * M]; value: mean of what came back; raw: as the model said; reward, discount: on the way in
        self.logits, self.prior, self.q, self.taken = (
            torch.zeros(total, self.actions, device=device) for _ in range(4)
        )  # [B * M, C]; q: mean of what came back of an action; taken: how often
        self.child = torch.full((total, self.actions * self.outcomes), -1, device=device)
        self.next = torch.zeros(total, dtype=torch.long, device=device)  # the way that is taken next
        if root.chance is not None:
            self.chance = torch.zeros(total, *root.chance.shape[1:], device=device)
            self.happened = torch.zeros_like(self.chance)
        self.belief = tree_map(lambda x: x.new_empty(total, *x.shape[1:]), root.belief)
        self.put(self.root, root)
        self.visits[self.root] = 1

    def put(self, node: Tensor, reached: Reached) -> None:
        """Write what the model says of nodes [B], in full precision, whatever the model's is."""
        logits = reached.logits.float()
        self.logits[node], self.prior[node] = logits, logits.softmax(1)
        self.value[node] = self.raw[node] = reached.value.float()
        self.reward[node], self.discount[node] = reached.reward.float(), reached.discount.float()
        if reached.chance is not None:
            self.chance[node] = reached.chance.float()
        tree_map(lambda all_, new: all_.index_copy_(0, node, new.to(all_.dtype)), self.belief, reached.belief)

    def way(self, node: Tensor, action: Tensor) -> Tensor:
        """Return the number of the child [R] that an action [R] of nodes [R] leads to next.

        Of several outcomes it is the one that has happened least, compared with its probability.
        """
        if self.outcomes == 1:
            return action
        due = self.chance[node, action] / (1 + self.happened[node, action])
        return action * self.outcomes + due.argmax(1)

    def path(self, action: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """Return the most taken path [B, length] after a root's action [B], and where it is known, bool.

        Of several outcomes it follows the most probable one.
        """
        node, path, known = self.root, [action], [torch.ones_like(action, dtype=torch.bool)]
        for _ in range(length - 1):
            way = action
            if self.outcomes > 1:
                way = action * self.outcomes + self.chance[node, action].argmax(1)
            following = self.child[node, way]
            node = torch.where(following >= 0, following, node)
            known.append(known[-1] & (following >= 0) & (self.visits[node] > 1))
            action = self.taken[node].argmax(1)
            path.append(action)
        return torch.stack(path, 1), torch.stack(known, 1)


class Scale(NamedTuple):
    """The numbers of Gumbel MuZero's transformed values."""

    value: float
    offset: float  # added to the most visits in the same place
    least: float  # smallest range of values that is stretched to 0..1


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
    least_range: float = 1e-8,
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
        least_range: the smallest range of the values of a node's actions that is stretched to 0..1; smaller
            differences, such as those of an untrained model, have less weight.
    """
    logits = root.logits if allowed is None else root.logits.masked_fill(~allowed, LOWEST)
    tree, scale = (
        Tree(replace(root, logits=logits), simulations + 1),
        Scale(value_scale, visit_offset, least_range),
    )
    noise = torch.zeros_like(logits) if gumbel is None else gumbel
    schedules = [halving(max(n, 1), simulations) for n in range(min(considered, logits.shape[1]) + 1)]
    possible = (logits > LOWEST / 2).sum(1).clamp(max=len(schedules) - 1)
    due = torch.tensor(schedules, device=logits.device)[possible]  # [B, simulations]
    for number in range(simulations):
        if rule == "gumbel":
            best = _considered(tree, due[:, number], noise, scale).argmax(1)
            tree.next[tree.root] = tree.way(tree.root, best)
        elif number == 0:
            tree.next[tree.root] = tree.way(tree.root, _puct(tree, tree.root))
        changed = _simulate(tree, expand, number + 1, depth or simulations)
        chosen = _improving(tree, changed, scale) if rule == "gumbel" else _puct(tree, changed)
        tree.next[changed] = tree.way(changed, chosen)
    visits = tree.taken[tree.root]
    if rule == "puct":
        policy = visits / visits.sum(1, keepdim=True).clamp(min=1)
        return Search(visits.argmax(1), policy, tree.value[tree.root], visits.long(), tree)
    q, transformed = completed(tree, tree.root, scale)
    policy = (logits + transformed).softmax(1)
    best = _considered(tree, visits.amax(1), noise, scale).argmax(1)
    return Search(best, policy, (policy * q).sum(1), visits.long(), tree)


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


def completed(tree: Tree, node: Tensor, scale: Scale) -> tuple[Tensor, Tensor]:
    """Return the values [R, C] of the actions of nodes [R], and the same transformed for Gumbel MuZero.

    Of actions never taken it is the mixed value of the node (appendix D).
    """
    taken, prior = tree.taken[node], tree.prior[node]
    tried = taken > 0
    weights = prior.clamp(min=TINY) * tried
    mean = (weights * tree.q[node]).sum(1) / weights.sum(1).clamp(min=TINY)
    total = taken.sum(1)
    mixed = (tree.raw[node] + total * mean) / (total + 1)
    q = torch.where(tried, tree.q[node], mixed.unsqueeze(1))
    low, high = q.aminmax(dim=1, keepdim=True)
    size = (scale.offset + taken.amax(1, keepdim=True)) * scale.value
    return q, size * (q - low) / (high - low).clamp(min=scale.least)


def exploration_rate(visits: Tensor) -> Tensor:
    """Return PUCT's weight of the prior in nodes that were visited so often."""
    return PB_INIT + torch.log((visits + PB_BASE + 1) / PB_BASE)


def _simulate(tree: Tree, expand: Expand, number: int, depth: int) -> Tensor:
    """Follow the next ways to a new node in each tree; return the nodes [R] on them, the new ones last."""
    node, way = tree.root, tree.next[tree.root]
    nodes, ways, reached = [node], [way], [torch.ones_like(node, dtype=torch.bool)]
    while True:
        following = tree.child[node, way]
        goes_on = following >= 0
        if len(nodes) >= depth or not bool(goes_on.any()):
            break
        node = torch.where(goes_on, following, node)
        way = torch.where(goes_on, tree.next[node], way)
        nodes.append(node)
        ways.append(way)
        reached.append(goes_on)
    new = torch.where(following >= 0, following, tree.root + number)  # known at the largest depth only
    action, outcome = way // tree.outcomes, way % tree.outcomes
    belief = tree_map(lambda x: x.index_select(0, node), tree.belief)
    found = expand(belief, action) if tree.outcomes == 1 else expand(belief, action, outcome)
    tree.put(new, found)
    tree.child[node, way] = new
    tree.visits[new] += 1
    gains = _gains(tree, found.value, new, nodes, reached)
    on_path = torch.stack(reached)
    node, way, gain = torch.stack(nodes)[on_path], torch.stack(ways)[on_path], torch.stack(gains)[on_path]
    _count(tree, node, way, gain)
    return torch.cat([node, new])


def _gains(
    tree: Tree, value: Tensor, new: Tensor, nodes: list[Tensor], reached: list[Tensor]
) -> list[Tensor]:
    """Return what comes back [B] to each node of the paths, from the root on."""
    gains, below, gain = list[Tensor](), new, value
    for node, on_path in zip(reversed(nodes), reversed(reached), strict=True):
        come_back = tree.reward[below] + tree.discount[below] * gain
        gain, below = torch.where(on_path, come_back, gain), torch.where(on_path, node, below)
        gains.append(gain)
    return gains[::-1]


def _count(tree: Tree, node: Tensor, way: Tensor, gain: Tensor) -> None:
    """Add what came back [R] to the means of nodes [R] and of their actions; no node may occur twice."""
    tree.value[node] += (gain - tree.value[node]) / (tree.visits[node] + 1)
    tree.visits[node] += 1
    edge = node * tree.actions + way // tree.outcomes
    q, taken = tree.q.view(-1), tree.taken.view(-1)
    taken[edge] += 1
    q[edge] += (gain - q[edge]) / taken[edge]
    if tree.outcomes > 1:
        tree.happened.view(-1)[node * tree.actions * tree.outcomes + way] += 1


def _considered(tree: Tree, due: Tensor, noise: Tensor, scale: Scale) -> Tensor:
    """Return the scores [B, C] of the roots' actions with ``due`` [B] visits; others have minus infinity."""
    logits = tree.logits[tree.root]
    _, transformed = completed(tree, tree.root, scale)
    score = (noise + logits - logits.amax(1, keepdim=True) + transformed).clamp(min=LOWEST)
    return score.masked_fill(tree.taken[tree.root] != due.unsqueeze(1), -torch.inf)


def _improving(tree: Tree, node: Tensor, scale: Scale) -> Tensor:
    """Return the actions [R] that bring the visits of nodes [R] nearest to the improved policy."""
    taken = tree.taken[node]
    improved = (tree.logits[node] + completed(tree, node, scale)[1]).softmax(1)
    return (improved - taken / (1 + taken.sum(1, keepdim=True))).argmax(1)


def _puct(tree: Tree, node: Tensor) -> Tensor:
    """Return the actions [R] that PUCT takes in nodes [R]."""
    taken, here, visits = tree.taken[node], tree.value[node].unsqueeze(1), tree.visits[node].unsqueeze(1)
    q = torch.where(taken > 0, tree.q[node], here)
    low, high = q.aminmax(dim=1, keepdim=True)
    low, high = torch.minimum(low, here), torch.maximum(high, here)
    # of actions never taken the lowest value: MuZero begins with what it knows
    value = torch.where(taken > 0, (q - low) / (high - low).clamp(min=1e-8), 0)
    score = value + exploration_rate(visits) * tree.prior[node] * visits.sqrt() / (1 + taken)
    return score.masked_fill(tree.logits[node] <= LOWEST / 2, -torch.inf).argmax(1)
