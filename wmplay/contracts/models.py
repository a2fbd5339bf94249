"""The contract of world models, and their optional capabilities."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol, TypeVar, overload, runtime_checkable

import torch
from torch import Tensor, nn

from wmplay.contracts.data import Belief, Decoded, Prediction, Segment, Surprise, modelled
from wmplay.errors import ConfigError

_V = TypeVar("_V")


@runtime_checkable
class WorldModel(Protocol):
    """A predictor of observations, rewards and endings. Every world model is also an ``nn.Module``.

    A model receives observations without the task's goals, unless it has ``goals = True`` (``seen_by``). All
    state is in the arguments and results: no call may change the module.

    Optional methods and attributes are read by ``capabilities``.
    """

    def initial(self, observation: dict[str, Tensor]) -> Belief:
        """Return the belief after an episode's first frame, {key: [B, ...]}."""

    def observe(self, belief: Belief, action: Tensor, observation: dict[str, Tensor]) -> Belief:
        """Return the belief after T more steps: action [B, T, A] and the frames they led to, {key: [B, T,
        ...]}."""

    def predict(
        self, belief: Belief, action: Tensor, *, generator: torch.Generator | None = None
    ) -> Prediction:
        """Predict the future under action [B, H, A].

        With a generator, each row is one sampled future. Without one nothing is drawn, and each row is the
        model's most likely future.
        """

    def decode(self, latent: Any) -> Decoded:
        """Return a distribution (or plain expectation) of each observation key."""

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """Return (scalar to minimise, metrics by name).

        Random draws come from torch's global generator, which the training loop seeds for each update.
        """


class Actions(Protocol):
    """A distribution over actions, of B rows."""

    logits: Tensor | None  # [B, C] of discrete actions

    def mode(self) -> Tensor:
        """Return the most likely actions [B, A], or [B] int64."""

    def sample(self, generator: torch.Generator | None) -> Tensor:
        """Draw actions; of continuous ones the draw has a gradient."""

    def log_prob(self, action: Tensor) -> Tensor:
        """Return the log-likelihood [B] of actions."""

    def entropy(self) -> Tensor:
        """Return the entropies [B]."""


@runtime_checkable
class Featured(WorldModel, Protocol):
    """A world model that shows its knowledge as numbers, for agents that act and imagine with it."""

    def features(self, belief: Belief) -> Tensor:
        """Return the knowledge in a belief, [B, F]: all that the future depends on, so that an actor needs no
        memory of its own.

        After ``predict`` it is that of the last predicted step. Gradients pass.
        """

    def track(self, segment: Segment) -> Belief:
        """Return the belief at every frame of a segment, all in about the time of one ``observe``.

        Returns:
            A belief of B * (T + 1) rows. Row b * (T + 1) + t is the belief after frames 0 to t of row b, as
            by ``initial`` and ``observe``; rows of frames that the mask leaves out have no meaning.
        """


@runtime_checkable
class Valued(WorldModel, Protocol):
    """A world model that also predicts returns and proposes actions. Its belief holds the goal, if any."""

    gamma: float  # discount per step of the returns

    def value(self, belief: Belief) -> Tensor:
        """Return the expected discounted return [B] from here on."""

    def policy(self, belief: Belief) -> Actions:
        """Return the proposed actions of each row."""


@runtime_checkable
class Branching(Valued, Protocol):
    """A valued model of discrete actions whose actions may have several outcomes, by chance.

    A tree search tries the outcomes in the proportion of their probabilities.
    """

    def chances(self, belief: Belief) -> Tensor | None:
        """Return the probabilities [B, C, K] of the outcomes of each action; None if actions have one."""

    def outcome(self, belief: Belief, action: Tensor, number: Tensor) -> Prediction:
        """Predict one step: outcome ``number`` [B] int64 of action [B] int64."""


@dataclass(frozen=True)
class Stage:
    """A part of a model's fit: a module and its loss, while all other weights are frozen."""

    name: str
    share: float  # of the updates of the first iteration
    module: nn.Module  # the model itself, or a part of it
    loss: Callable[[Segment], tuple[Tensor, dict[str, Tensor]]]  # as WorldModel.loss
    later: float = (
        0.0  # share of the updates of each later iteration; if all are 0, the last stage has them all
    )


@dataclass(frozen=True)
class Group:
    """Weights of a model that are fitted in their own way. All other weights are fitted as configured."""

    parameters: Sequence[nn.Parameter]
    rate: float = 1.0  # times fit.lr
    clip: float | None = None  # largest gradient norm of this group; None = within fit.clip with the others
    weight_decay: float | None = None  # None = fit.weight_decay
    epsilon: float | None = None  # added to the root of the mean squared gradient; None = the optimiser's own


@dataclass(frozen=True)
class Capabilities:
    """The optional parts of a world model. A model has one by having the attribute."""

    stages: Callable[[], Sequence[Stage]] | None = None  # of a model that is fitted in stages
    groups: Callable[[], Sequence[Group]] | None = None  # of a model whose weights differ in rate or clipping
    # Called after each update with the part 0..1 of all updates that are done: the only place where a model
    # may change what is not a weight under a gradient (slow copies, scales, ramps).
    after_update: Callable[[float], None] | None = None
    surprise: Callable[[Segment], Surprise] | None = None  # of a model with a likelihood of screens
    predicted: Sequence[str] | None = None  # the observation keys that it predicts; None = all modelled ones
    compiles: Sequence[str] = ()  # those of "loss" and "predict" that ``torch.compile`` captures whole
    least_length: int = 1  # steps that a segment needs for all of the model to be fitted on it
    features: Callable[[Belief], Tensor] | None = None  # of a ``Featured`` model, and so is ``track``
    track: Callable[[Segment], Belief] | None = None
    # {key: [..., *shape]} -> [..., E]: single frames as in ``Prediction.latent``, of a model whose features
    # also hold a past
    embed: Callable[[Mapping[str, Tensor]], Tensor] | None = None
    reads: Sequence[str] | None = None  # the observation keys that it reads; None = all modelled ones
    smooths: bool = False  # its loss infers a latent of a whole segment from all frames in it
    goals: bool = False  # receives the task's ``goal_`` keys too, which stay the same during an episode
    temperature: bool = False
    # ``predict`` takes ``temperature``, the spread of samples: 1 as fitted, towards 0 the most likely future


def capabilities(model: Any) -> Capabilities:
    """Return the capabilities of a world model, or of a part of one.

    An attribute of another meaning, such as the ``groups`` of a convolution, is none.
    """
    offered: dict[str, Any] = {}
    for each in fields(Capabilities):
        value = getattr(model, each.name, each.default)
        a_method = "Callable" in str(each.type)
        offered[each.name] = value if callable(value) or not a_method else each.default
    offered["goals"] = offered["goals"] is True
    if None in (offered["features"], offered["track"]):
        offered["features"] = offered["track"] = None
    del offered["temperature"]
    predicts = isinstance(model, WorldModel)
    return Capabilities(
        **offered, temperature=predicts and "temperature" in inspect.signature(model.predict).parameters
    )


@overload
def seen_by(model: Any, given: Segment) -> Segment: ...


@overload
def seen_by(model: Any, given: Mapping[str, _V]) -> dict[str, _V]: ...


def seen_by(model: Any, given: Any) -> Any:
    """Return the part of an observation, or of a segment, that a world model receives.

    Whoever calls ``initial``, ``observe``, ``loss`` or ``surprise`` of a model passes this part: without the
    task's goals, unless the model takes them (``Capabilities.goals``).
    """
    segment = isinstance(given, Segment)
    if capabilities(model).goals:
        return given if segment else dict(given)
    return given.modelled() if segment else modelled(given)


def featured(model: Any, who: str) -> Featured:
    """Return a model that has features. Raise ConfigError, naming who needs them, for any other."""
    if capabilities(model).features is None:
        raise ConfigError(
            f"{who} needs the features of a model, and {type(model).__name__} has none",
            got=type(model).__name__,
            expected="a model with features(belief) and track(segment)",
            advice="choose another model (model=rssm)",
        )
    found: Featured = model
    return found
