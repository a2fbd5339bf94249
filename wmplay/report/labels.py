"""Names in words: of metrics, of baselines, of policies."""

from __future__ import annotations

from collections.abc import Mapping

METRICS = {  # label of a metric, with its unit
    "iou": "foreground IoU",
    "mse": "mean squared error (pixels 0 to 1)",
    "mae": "mean absolute error",
}

QUALITIES = {  # of a model as a whole, by logged name; lower is better
    "arbiter/frechet": "Frechet distance to real clips",
    "surprise/bits": "bits per frame",
}
DISTANCES = {"iou": "1 - IoU", "mse": "squared error", "mae": "mean error"}
AGREEMENTS = {"iou": "IoU", "covered": "part of the drawn robot that is lit"}
SURPRISE_BASELINES = {"marginal": "independent pixels", "copy-last": "last frame, some pixels flip"}

POLICY = "policy"  # the name of the run's own policy among the scores
RANDOM = "random"
SAMPLED = "_sampled"  # ends the name of a score whose actions were sampled, as the policy learned

POLICIES: Mapping[str, tuple[str, str]] = {  # labels of other scores, and their meaning
    "learned": ("learned world", "the policy in the world model that it practised in"),
    "untrained": ("untrained", "a policy of the same kind that has learned nothing"),
    "real": ("trained in reality", "a policy of another run, which practised in the real world"),
    RANDOM: ("random", "actions drawn uniformly"),
}


def policy_label(name: str) -> str:
    """Return the label of a policy's score: "policy, sampled" for "policy_sampled"."""
    plain = name.removesuffix(SAMPLED)
    label = POLICIES[plain][0] if plain in POLICIES else plain.replace("_", " ")
    return label + (", sampled" if name.endswith(SAMPLED) else "")
