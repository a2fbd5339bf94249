"""A world model in one file: a GRU that predicts the next frame, and continues from its predictions.

Try it: `wmplay train experiment=quickstart model=my_gru`. For binary screens and vectors, by squared error.
"""

import math

import torch
from torch import nn

import wmplay


@wmplay.register("model", "my_gru")
class GRU(nn.Module):
    """A GRU over frames. Belief: its state and the last frame. Latent: the next frame [F], the reward."""

    def __init__(self, observation_space, action_space, hidden: int = 200):
        super().__init__()
        keys = [key for key in observation_space if not key.startswith("goal_")]  # goals are the task's
        self.shapes = {key: observation_space[key].shape for key in keys}
        self.sizes = [math.prod(shape) for shape in self.shapes.values()]
        self.classes = int(getattr(action_space, "n", 0))  # of discrete actions
        self.cell = nn.GRUCell(sum(self.sizes) + (self.classes or action_space.shape[0]), hidden)
        self.head = nn.Linear(hidden, sum(self.sizes) + 1)

    def initial(self, observation):  # {key: [B, ...]}, the first frame -> belief
        frame = self.flat(observation, 1)
        return {"hidden": frame.new_zeros(len(frame), self.cell.hidden_size), "frame": frame}

    def observe(self, belief, action, observation):  # [B, T, A], what it led to {key: [B, T, ...]} -> belief
        return self.unroll(belief, action, self.flat(observation, 2))[1]

    def predict(self, belief, action, *, generator=None):  # [B, H, A] -> Prediction
        latent, belief = self.unroll(belief, action)
        return wmplay.Prediction(latent, latent[..., -1], None, belief, self.decode)

    def decode(self, latent):  # [..., F + 1] -> expected {key: [..., *shape]}
        parts = zip(self.shapes.items(), latent[..., :-1].split(self.sizes, -1), strict=True)
        return {key: part.unflatten(-1, shape) for (key, shape), part in parts}

    def loss(self, segment):
        """Return the squared error of each frame and reward, predicted from the real frames before it."""
        start = self.initial({key: value[:, 0] for key, value in segment.observation.items()})
        frames = self.flat({key: value[:, 1:] for key, value in segment.observation.items()}, 2)
        latent, _ = self.unroll(start, segment.action, frames)
        error = (latent - torch.cat([frames, segment.reward.unsqueeze(-1)], -1)).square()[segment.mask]
        return error.sum(-1).mean(), {"loss/frame": error[:, :-1].sum(-1).mean().detach()}

    def unroll(self, belief, action, frames=None):  # [B, T, A], true frames [B, T, F] or own guesses
        action = nn.functional.one_hot(action, self.classes) if self.classes else action
        latents = []
        for t in range(action.shape[1]):
            hidden = self.cell(torch.cat([belief["frame"], action[:, t]], -1), belief["hidden"])
            latents.append(self.head(hidden) + nn.functional.pad(belief["frame"], (0, 1)))  # learns changes
            belief = {"hidden": hidden, "frame": latents[-1][:, :-1] if frames is None else frames[:, t]}
        return torch.stack(latents, 1), belief

    def flat(self, observation, axes):  # {key: [..., *shape]}, number of leading axes -> [..., F]
        return torch.cat([observation[key].float().flatten(axes) for key in self.shapes], -1)
