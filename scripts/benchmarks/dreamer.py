"""Dreamer's update: world model, actor and critic against torchrl's losses at equal sizes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from gymnasium.spaces import Box, Dict
from torch import Tensor, nn

from wmplay import registry
from wmplay.contracts import EnvSpec, Segment
from wmplay.loop.fitter import Fitter
from wmplay.policies.beliefs import fixed

from .measure import Result, Side, take_turns, time_ratio
from .peers import not_installed

SEEN, ACTED, ROWS, STEPS, HORIZON = 24, 6, 50, 50, 15
DETER, STOCH, HIDDEN, UNITS, LAYERS = 200, 30, 200, 400, 3
RATES, CLIP, GAMMA, DECAY = (6e-4, 8e-5), 100.0, 0.99, 0.95  # of the model, of actor and critic
REPEATS = 8
BAR = 0.8

Part = tuple[str, Callable[[], None], dict[str, int]]  # a side's name, an update, its weights by network


def benchmark() -> Result:
    missing = not_installed("torchrl")
    data = torch.rand(ROWS, STEPS + 1, SEEN), torch.rand(ROWS, STEPS, ACTED), torch.randn(ROWS, STEPS)
    parts = [_ours(*data)] + ([] if missing else [_torchrl(*data)])
    timings = take_turns(
        [Side(name, lambda update=update: update) for name, update, _ in parts],
        REPEATS,
        clock=time.process_time,
    )
    checks = []
    if missing is None:
        what = "Dreamer's update, against torchrl"
        checks.append(time_ratio(what, *timings, BAR))
    weights = "; ".join(
        f"{name}: {', '.join(f'{number:,} of the {part}' for part, number in each.items())}"
        for name, _, each in parts
    )
    return Result(
        "dreamer: an update of model, actor and critic against torchrl",
        f"Dreamer's first version: a Gaussian RSSM ({DETER} deterministic, {STOCH} stochastic, {HIDDEN} "
        f"hidden) on vectors of {SEEN}, fitted on {ROWS} x {STEPS} steps; {ROWS * STEPS:,} futures of "
        f"{HORIZON} steps with the gradient through the model, actor and critic of {LAYERS} layers of "
        f"{UNITS}; three gradient steps, clipped, with Adam; float32, processor time. torchrl: "
        "`DreamerModelLoss`, `DreamerActorLoss` and `DreamerValueLoss`, whose futures begin at the latents "
        f"of the model's loss; wmplay's begin at latents of the fitted model. Weights of {weights}.",
        timings,
        1,
        "updates",
        checks,
        [missing] if missing else [],
    )


def _ours(state: Tensor, action: Tensor, reward: Tensor) -> Part:
    spec = EnvSpec(Dict({"state": Box(-1, 1, (SEEN,))}), Box(-1, 1, (ACTED,)), max_steps=500)
    sizes = {"deter": DETER, "stoch": STOCH, "hidden": HIDDEN, "image_hidden": HIDDEN}
    model = registry.make("model", "rssm", env=spec, **sizes, position_features=0, continuation_weight=0.0)
    shape = {"hidden": UNITS, "layers": LAYERS, "gamma": GAMMA, "decay": DECAY, "horizon": HORIZON}
    policy = registry.make("policy", "dreamer_v1", env=spec, model=model, **shape, lr=RATES[1], clip=CLIP)
    how: dict[str, Any] = {"lr": RATES[0], "clip": CLIP, "precision": "float32"}
    fitter = Fitter(model, torch.device("cpu"), 1000, **how)
    generator = torch.Generator().manual_seed(0)

    def segment(steps: int) -> Segment:
        every = torch.ones(ROWS, steps, dtype=torch.bool)
        acted, gained = action[:, :steps], reward[:, :steps]
        return Segment({"state": state[:, : steps + 1]}, acted, gained, ~every, every, every[:, 0])

    whole, roots = segment(STEPS), segment(STEPS - 1)  # of STEPS frames

    def update() -> None:
        fitter.update(whole, 0, (0, 1000))
        with fixed(model):
            policy.update(roots, generator)

    networks = {"model": model, "actor": policy.agent.actor, "critic": policy.agent.critic}
    return "wmplay", update, {name: _size(each) for name, each in networks.items()}


def _torchrl(state: Tensor, action: Tensor, reward: Tensor) -> Part:
    from tensordict import TensorDict
    from tensordict.nn import InteractionType, TensorDictModule, TensorDictSequential
    from torchrl.data import Bounded, Composite, Unbounded
    from torchrl.envs.model_based.dreamer import DreamerEnv
    from torchrl.modules import MLP, DreamerActor, SafeProbabilisticModule, TanhNormal, WorldModelWrapper
    from torchrl.modules.models.model_based import RSSMPosterior, RSSMPrior, RSSMRollout
    from torchrl.objectives import DreamerActorLoss, DreamerModelLoss, DreamerValueLoss

    def module(net: nn.Module, inputs: list[Any], outputs: list[Any]) -> TensorDictModule:
        return TensorDictModule(net, in_keys=inputs, out_keys=outputs)

    def after(*keys: str) -> list[Any]:
        return [("next", key) for key in keys]

    def heads(outputs: int) -> nn.Module:
        return MLP(DETER + STOCH, outputs, depth=1, num_cells=HIDDEN, activation_class=nn.SiLU)

    actions = Bounded(-1.0, 1.0, (ACTED,))
    sizes = {"hidden_dim": HIDDEN, "rnn_hidden_dim": DETER, "state_dim": STOCH}
    prior = RSSMPrior(actions, action_dim=ACTED, **sizes)
    posterior = RSSMPosterior(obs_embed_dim=HIDDEN, **sizes)
    rollout = RSSMRollout(
        module(
            prior, ["state", "belief", "action"], [*after("prior_mean", "prior_std"), "_", *after("belief")]
        ),
        module(
            posterior,
            after("belief", "encoded_latents"),
            after("posterior_mean", "posterior_std", "state"),
        ),
    )
    encoder = MLP(SEEN, HIDDEN, depth=1, num_cells=HIDDEN, activation_class=nn.SiLU)
    reward_head = heads(1)
    sequence = TensorDictSequential(
        module(encoder, after("pixels"), after("encoded_latents")),
        rollout,
        module(heads(SEEN), after("state", "belief"), after("reco_pixels")),
    )
    model = WorldModelWrapper(sequence, module(reward_head, after("state", "belief"), after("reward")))
    transition = module(prior, ["state", "belief", "action"], ["_", "_", "state", "belief"])
    env = DreamerEnv(
        WorldModelWrapper(transition, module(reward_head, ["state", "belief"], ["reward"])),
        prior_shape=torch.Size([STOCH]),
        belief_shape=torch.Size([DETER]),
    )
    env.action_spec, env.reward_spec = actions, Unbounded((1,))
    env.observation_spec = Composite(state=Unbounded((STOCH,)), belief=Unbounded((DETER,)))
    env.state_spec = env.observation_spec.clone()
    actor = TensorDictSequential(
        module(
            DreamerActor(ACTED, depth=LAYERS, num_cells=UNITS, activation_class=nn.SiLU),
            ["state", "belief"],
            ["loc", "scale"],
        ),
        SafeProbabilisticModule(
            in_keys=["loc", "scale"],
            out_keys=["action"],
            default_interaction_type=InteractionType.RANDOM,
            distribution_class=TanhNormal,
            distribution_kwargs={"tanh_loc": True},
            spec=Composite(action=actions),
        ),
    )
    critic = module(
        MLP(DETER + STOCH, 1, depth=LAYERS, num_cells=UNITS, activation_class=nn.SiLU),
        ["state", "belief"],
        ["state_value"],
    )
    zeros = {"state": torch.zeros(ROWS, STEPS, STOCH), "belief": torch.zeros(ROWS, STEPS, DETER)}
    batch = TensorDict(
        {
            **zeros,
            "action": action,
            "next": TensorDict({"pixels": state[:, 1:], "reward": reward[..., None]}, [ROWS, STEPS]),
        },
        [ROWS, STEPS],
    )
    with torch.no_grad():  # makes the lazy layers of the actor
        actor(batch.clone())
    model_loss = DreamerModelLoss(model, global_average=True)
    actor_loss = DreamerActorLoss(actor, critic, env, imagination_horizon=HORIZON)
    actor_loss.make_value_estimator(gamma=GAMMA, lmbda=DECAY)
    critic_loss = DreamerValueLoss(critic, gamma=GAMMA)
    networks = {"model": model, "actor": actor, "critic": critic}
    steps = {
        name: torch.optim.Adam(net.parameters(), lr=RATES[name != "model"], fused=True)
        for name, net in networks.items()
    }

    def step(name: str, losses: TensorDict) -> None:
        steps[name].zero_grad(set_to_none=True)
        sum(losses.values()).backward()
        nn.utils.clip_grad_norm_(networks[name].parameters(), CLIP)
        steps[name].step()

    def update() -> None:
        losses, seen = model_loss(batch)
        step("model", losses)
        losses, futures = actor_loss(seen["next"].select("state", "belief").reshape(-1))
        step("actor", losses)
        step("critic", critic_loss(futures)[0])

    return "torchrl", update, {name: _size(net) for name, net in networks.items()}


def _size(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())
