"""Try the world models of other libraries by the properties of ``wmplay check``.

Run it where torchrl and stable-worldmodel are installed (``make bench`` makes such an environment):

    python scripts/check_peers.py [NAME ...] [KEY=VALUE ...]

The adapters below map names and shapes, and nothing else. All observations of an env become one vector; the
first frame of a segment is a step of its own, led to by an action of zeros; since no library's loss has a
mask, it is given the rows of one length at a time.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import torch
from benchmarks.peers import load_without_init, not_installed
from torch import Tensor, nn

import wmplay
from wmplay.check import check_model
from wmplay.contracts import LazyMapping, Prediction, Segment, modelled, observation_spaces

HIDDEN, STATE, EMBEDDING = 64, 16, 48
CATEGORIES, CLASSES, BINS = 8, 4, 41
FREE_NATS = 0.1  # below these a prior is not fitted, and a hundred updates do not go beyond more


class Peer(nn.Module):
    """The base of the adapters: observations {key: [..., *shape]} as one vector [..., D], and back."""

    def __init__(self, env: Any) -> None:
        super().__init__()
        spaces = modelled(observation_spaces(env.observation_space))
        self.shapes = {key: space.shape for key, space in spaces.items()}
        self.width = sum(math.prod(shape) for shape in self.shapes.values())
        self.actions = env.action_space.shape[0]

    def vector(self, observation: Mapping[str, Tensor]) -> Tensor:
        lead = {key: observation[key].ndim - len(shape) for key, shape in self.shapes.items()}
        return torch.cat([observation[key].flatten(lead[key]).float() for key in self.shapes], -1)

    def decode(self, latent: Tensor) -> Mapping[str, Tensor]:
        parts = self.reconstruct(latent).split([math.prod(shape) for shape in self.shapes.values()], -1)
        found = dict(zip(self.shapes, parts, strict=True))
        return LazyMapping(self.shapes, lambda key: found[key].unflatten(-1, self.shapes[key]))

    def reconstruct(self, latent: Tensor) -> Tensor:
        raise NotImplementedError

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the library's loss, averaged over rows, of one length at a time."""
        lengths = segment.mask.sum(1)
        total = segment.reward.new_zeros(())
        for length in lengths.unique().tolist():
            rows = lengths == length
            frames = self.vector(segment.observation)[rows, : length + 1]
            given = (x[rows, :length] for x in (segment.action, segment.reward))
            total = total + rows.float().mean() * self.loss_of(frames, *given)
        return total, {}

    def loss_of(self, frames: Tensor, action: Tensor, reward: Tensor) -> Tensor:
        raise NotImplementedError


class Recurrent(Peer):
    """An RSSM of torchrl: a stochastic state and a deterministic belief, [B, S] and [B, D]."""

    encoder: nn.Module
    reward_head: nn.Module
    decoder: nn.Module
    state: int

    def prior(self, carry: Tensor, action: Tensor, generator: Any) -> Tensor:
        raise NotImplementedError

    def posterior(self, carry: Tensor, embedding: Tensor) -> Tensor:
        raise NotImplementedError

    def initial(self, observation: dict[str, Tensor]) -> Tensor:
        seen = self.vector(observation)
        nothing = seen.new_zeros(len(seen), self.state + HIDDEN)
        return self.step(nothing, seen.new_zeros(len(seen), self.actions), seen)

    def step(self, carry: Tensor, action: Tensor, seen: Tensor) -> Tensor:
        return self.posterior(self.prior(carry, action, None), self.encoder(seen))

    def observe(self, belief: Tensor, action: Tensor, observation: dict[str, Tensor]) -> Tensor:
        seen = self.vector(observation)
        for t in range(action.shape[1]):
            belief = self.step(belief, action[:, t], seen[:, t])
        return belief

    def predict(self, belief: Tensor, action: Tensor, *, generator: Any = None) -> Prediction:
        steps = []
        for t in range(action.shape[1]):
            belief = self.prior(belief, action[:, t], generator)
            steps.append(belief)
        latent = torch.stack(steps, 1)
        return Prediction(latent, self.reward(latent), None, belief, self.decode)

    def reward(self, latent: Tensor) -> Tensor:
        return self.reward_head(latent).squeeze(-1)

    def reconstruct(self, latent: Tensor) -> Tensor:
        return self.decoder(latent)

    def sequence(self, frames: Tensor, action: Tensor, reward: Tensor) -> Any:
        """Return torchrl's TensorDict of T + 1 steps, of which the first leads to the first frame."""
        from tensordict import TensorDict

        rows, steps = frames.shape[:2]
        action, reward = (torch.cat([torch.zeros_like(x[:, :1]), x], 1) for x in (action, reward))
        after = TensorDict(
            {"pixels": frames[:, :, None, None], "reward": reward.unsqueeze(-1)}, [rows, steps]
        )
        given = {
            "state": frames.new_zeros(rows, steps, self.state),
            "belief": frames.new_zeros(rows, steps, HIDDEN),
            "action": action,
            "next": after,
        }
        return TensorDict(given, [rows, steps])

    def wired(self, rollout: nn.Module, reward_out: list[Any]) -> nn.Module:
        """Return torchrl's world model: encoder, rollout and decoder, and the reward model."""
        from tensordict.nn import TensorDictModule, TensorDictSequential
        from torchrl.modules import WorldModelWrapper

        flat = nn.Sequential(nn.Flatten(-3), self.encoder)
        picture = _Joined(nn.Sequential(self.decoder, nn.Unflatten(-1, (1, 1, self.width))))
        latent = [("next", "state"), ("next", "belief")]
        return WorldModelWrapper(
            TensorDictSequential(
                TensorDictModule(flat, in_keys=[("next", "pixels")], out_keys=[("next", "encoded_latents")]),
                rollout,
                TensorDictModule(picture, in_keys=latent, out_keys=[("next", "reco_pixels")]),
            ),
            TensorDictModule(_Joined(self.reward_head), in_keys=latent, out_keys=reward_out),
        )


class _Joined(nn.Module):
    """A module of one input, given several."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *parts: Tensor) -> Tensor:
        return self.inner(torch.cat(parts, -1))


def _mlp(inputs: int, outputs: int) -> nn.Module:
    from torchrl.modules import MLP

    return MLP(in_features=inputs, out_features=outputs, num_cells=[HIDDEN], activation_class=nn.ELU)


class Dreamer(Recurrent):
    """torchrl: ``RSSMRollout`` over ``RSSMPrior`` and ``RSSMPosterior``, fitted by ``DreamerModelLoss``."""

    state = STATE

    def __init__(self, env: Any) -> None:
        from tensordict.nn import TensorDictModule
        from torchrl.data import Unbounded
        from torchrl.modules import RSSMPosterior, RSSMPrior, RSSMRollout
        from torchrl.objectives import DreamerModelLoss

        super().__init__(env)
        self.encoder, self.decoder = _mlp(self.width, EMBEDDING), _mlp(STATE + HIDDEN, self.width)
        self.reward_head = _mlp(STATE + HIDDEN, 1)
        sizes = {"hidden_dim": HIDDEN, "rnn_hidden_dim": HIDDEN, "state_dim": STATE}
        self.prior_net = RSSMPrior(Unbounded((self.actions,)), action_dim=self.actions, **sizes)
        self.posterior_net = RSSMPosterior(obs_embed_dim=EMBEDDING, **sizes)
        rollout = RSSMRollout(
            TensorDictModule(
                self.prior_net,
                in_keys=["state", "belief", "action"],
                out_keys=[("next", "prior_mean"), ("next", "prior_std"), "_", ("next", "belief")],
            ),
            TensorDictModule(
                self.posterior_net,
                in_keys=[("next", "belief"), ("next", "encoded_latents")],
                out_keys=[("next", "posterior_mean"), ("next", "posterior_std"), ("next", "state")],
            ),
        )
        world = self.wired(rollout, [("next", "reward")])
        self.criterion = DreamerModelLoss(world, free_nats=FREE_NATS)

    def prior(self, carry: Tensor, action: Tensor, generator: Any) -> Tensor:
        state, belief = carry.split([STATE, HIDDEN], -1)
        noise = torch.zeros_like(state) if generator is None else _normal(state, generator)
        _, _, state, belief = self.prior_net(state, belief, action, noise=noise)
        return torch.cat([state, belief], -1)

    def posterior(self, carry: Tensor, embedding: Tensor) -> Tensor:
        state, belief = carry.split([STATE, HIDDEN], -1)
        _, _, state = self.posterior_net(belief, embedding, noise=torch.zeros_like(state))
        return torch.cat([state, belief], -1)

    def loss_of(self, frames: Tensor, action: Tensor, reward: Tensor) -> Tensor:
        losses, _ = self.criterion(self.sequence(frames, action, reward))
        return sum(losses.values()).sum()


class DreamerV3(Recurrent):
    """torchrl: ``RSSMRolloutV3`` over ``RSSMPriorV3`` and ``RSSMPosteriorV3``, ``DreamerV3ModelLoss``.

    Args:
        env: to be made for.
        two_hot: whether rewards are chances of bins, or numbers: the loss takes both.
    """

    state = CATEGORIES * CLASSES

    def __init__(self, env: Any, two_hot: bool = True) -> None:
        from tensordict.nn import TensorDictModule
        from torchrl.modules import DreamerV3MLP, RSSMPosteriorV3, RSSMPriorV3, RSSMRolloutV3, SymExpTwoHot
        from torchrl.objectives import DreamerV3ModelLoss

        super().__init__(env)
        latent = self.state + HIDDEN
        self.encoder, self.decoder = _mlp(self.width, EMBEDDING), _mlp(latent, self.width)
        outputs = BINS if two_hot else 1
        self.reward_head = DreamerV3MLP(latent, outputs, depth=1, num_cells=HIDDEN, outscale=0.0)
        self.bins = SymExpTwoHot(BINS) if two_hot else nn.Identity()
        sizes = {"hidden_dim": HIDDEN, "num_categoricals": CATEGORIES, "num_classes": CLASSES}
        self.prior_net = RSSMPriorV3(
            action_shape=(self.actions,), action_dim=self.actions, rnn_hidden_dim=HIDDEN, **sizes
        )
        self.posterior_net = RSSMPosteriorV3(rnn_hidden_dim=HIDDEN, obs_embed_dim=EMBEDDING, **sizes)
        rollout = RSSMRolloutV3(
            TensorDictModule(
                self.prior_net,
                in_keys=["state", "belief", "action"],
                out_keys=[("next", "prior_logits"), ("next", "state"), ("next", "belief")],
            ),
            TensorDictModule(
                self.posterior_net,
                in_keys=[("next", "belief"), ("next", "encoded_latents")],
                out_keys=[("next", "posterior_logits"), ("next", "state")],
            ),
        )
        world = self.wired(rollout, [("next", "reward_logits" if two_hot else "reward")])
        self.criterion = DreamerV3ModelLoss(
            world, free_bits=FREE_NATS, num_reward_bins=BINS, reward_two_hot=two_hot, reco_symlog=False
        )

    def prior(self, carry: Tensor, action: Tensor, generator: Any) -> Tensor:
        state, belief = carry.split([self.state, HIDDEN], -1)
        uniform = state.new_zeros(len(state), CATEGORIES)  # else it draws from torch's global generator
        if generator is not None:
            uniform = torch.rand(uniform.shape, generator=generator, device=state.device)
        logits, drawn, belief = self.prior_net(state, belief, action, _uniform=uniform)
        return torch.cat([_likeliest(logits) if generator is None else drawn, belief], -1)

    def posterior(self, carry: Tensor, embedding: Tensor) -> Tensor:
        belief = carry[:, self.state :]
        logits, _ = self.posterior_net(belief, embedding, _uniform=belief.new_zeros(len(belief), CATEGORIES))
        return torch.cat([_likeliest(logits), belief], -1)

    def reward(self, latent: Tensor) -> Tensor:
        return self.bins(self.reward_head(latent)).squeeze(-1)

    def loss_of(self, frames: Tensor, action: Tensor, reward: Tensor) -> Tensor:
        losses, _ = self.criterion(self.sequence(frames, action, reward))
        return sum(losses.values()).sum()


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=like.device)


def _likeliest(logits: Tensor) -> Tensor:
    """Return the likeliest state [B, S] of logits [B, categories, classes]; its gradient is the chances'."""
    chances = logits.softmax(-1)
    hard = nn.functional.one_hot(logits.argmax(-1), logits.shape[-1]).to(chances.dtype)
    return (hard + chances - chances.detach()).flatten(1)


class TDMPC2(Peer):
    """stable-worldmodel: ``TDMPC2``, fitted by ``tdmpc2_forward``. It predicts latents and rewards alone.

    Args:
        env: to be made for.
        seeded: whether the adapter seeds Python's generator for the loss, by torch's, and puts back the scale
            that the loss moves.
    """

    predicted = ()

    def __init__(self, env: Any, seeded: bool = False) -> None:
        from omegaconf import OmegaConf
        from stable_worldmodel.wm.tdmpc2 import TDMPC2 as Theirs

        super().__init__(env)
        world = {
            "encoding": {"state": EMBEDDING},
            "enc_dim": HIDDEN,
            "mlp_dim": HIDDEN,
            "simnorm_dim": 8,
            "num_q": 5,
            "num_bins": BINS,
            "vmin": -3.0,
            "vmax": 3.0,
            "horizon": 1,
            "discount": 0.99,
            "rho": 0.9,
            "tau": 0.01,
            "entropy_coef": 1e-4,
            "consistency_coef": 2.0,
            "reward_coef": 0.5,
            "value_coef": 0.1,
        }
        sizes = {"action_dim": self.actions, "extra_dims": {"state": self.width}}
        self.cfg = OmegaConf.create({**sizes, "wm": world})
        self.model, self.seeded = Theirs(self.cfg), seeded

    def initial(self, observation: dict[str, Tensor]) -> Tensor:
        return self.model.encode({"state": self.vector(observation)})

    def observe(self, belief: Tensor, action: Tensor, observation: dict[str, Tensor]) -> Tensor:
        return self.model.encode({"state": self.vector(observation)[:, -1]})

    def predict(self, belief: Tensor, action: Tensor, *, generator: Any = None) -> Prediction:
        from stable_worldmodel.wm.tdmpc2 import two_hot_inv

        latents, rewards = [], []
        for t in range(action.shape[1]):
            belief, logits = self.model(belief, action[:, t])
            latents.append(belief)
            rewards.append(two_hot_inv(logits, self.cfg).squeeze(-1))
        return Prediction(torch.stack(latents, 1), torch.stack(rewards, 1), None, belief, self.decode)

    def decode(self, latent: Tensor) -> Mapping[str, Tensor]:
        return {}

    def loss_of(self, frames: Tensor, action: Tensor, reward: Tensor) -> Tensor:
        from stable_worldmodel.wm.tdmpc2 import tdmpc2_forward

        cfg = self.cfg.copy()
        cfg.wm.horizon = action.shape[1]
        last = [torch.cat([x, torch.zeros_like(x[:, :1])], 1) for x in (action, reward)]  # of the last frame
        batch = {"state": frames, "action": last[0], "reward": last[1]}
        trainer = SimpleNamespace(model=self.model, log_dict=lambda *_, **__: None)
        scale = self.model.scale.value.clone()
        if self.seeded:
            random.seed(int(torch.randint(2**31, ())))
        loss = tdmpc2_forward(trainer, batch, "validate", cfg)["loss"]
        if self.seeded:
            self.model.scale.value = scale
        return loss


PEERS: Mapping[str, tuple[str, Callable[[Any], nn.Module]]] = {
    "dreamer": ("torchrl", Dreamer),
    "dreamer_v3": ("torchrl", DreamerV3),
    "dreamer_v3_numbers": ("torchrl", partial(DreamerV3, two_hot=False)),
    "tdmpc2": ("stable-worldmodel", TDMPC2),
    "tdmpc2_seeded": ("stable-worldmodel", partial(TDMPC2, seeded=True)),
}


def main(arguments: list[str]) -> None:
    names = [each for each in arguments if "=" not in each] or list(PEERS)
    settings = dict(each.split("=", 1) for each in arguments if "=" in each)
    env = wmplay.make_env(settings.pop("env", "luxo"), **{"physics": "fast", "task": "body_goal", **settings})
    for name, line in _reports(names, env):
        print(f"{name}: {line}", flush=True)


def _reports(names: list[str], env: Any) -> Iterator[tuple[str, str]]:
    for name in names:
        package, make = PEERS[name]
        missing = not_installed(package.replace("-", "_"))
        if missing:
            yield name, missing
            continue
        if package == "stable-worldmodel":
            for each in ("stable_worldmodel", "stable_worldmodel.wm"):
                load_without_init(each)
        torch.manual_seed(0)
        report = check_model(make(env), env)
        yield name, f"{package} {version(package)}, {report}"


if __name__ == "__main__":
    main(sys.argv[1:])
