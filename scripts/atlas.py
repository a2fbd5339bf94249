"""Makes docs/atlas.md: every built-in model in four worlds, on equal data, with equal updates and weights.

    nice python scripts/atlas.py fit --seeds 0 --minutes 14    adds cells to docs/measured/atlas.json
    nice python scripts/atlas.py fit --models mine --worlds luxo
    python scripts/atlas.py page      writes the tables into docs/atlas.md, the pictures into docs/models.md

A cell is a run of one model in one world with one seed. It is fitted on random episodes, scored on others,
and plans. A finished cell is not run again, so that a stopped script goes on. A model that cannot see a
world, or cannot plan in it, has the reason in its cell. The first seed also draws the pictures of
docs/models.md: the truth above, the most likely future below.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image

import wmplay
from wmplay import registry
from wmplay.config.settings import Settings
from wmplay.contracts import env_spec
from wmplay.envs import build_env
from wmplay.errors import WmplayError
from wmplay.evaluation.clips import cut_clips
from wmplay.evaluation.files import load_evaluation
from wmplay.evaluation.gallery import load_clips
from wmplay.evaluation.metrics.prediction import evaluate_prediction
from wmplay.evaluation.scores import MODEL, Evaluation, PredictionScore
from wmplay.evaluation.statistics import mean_interval
from wmplay.runs.pieces import env_config
from wmplay.system.progress import Interrupted

ROOT = Path(__file__).parents[1]
FILE, PAGE = ROOT / "docs" / "measured" / "atlas.json", ROOT / "docs" / "atlas.md"
MODELS = ROOT / "docs" / "models.md"
SAME = [  # of all cells
    *("threads=1", "report=false", "name=atlas", "fit.batch_size=16", "fit.steps=250", "explorer=null"),
    *("evaluate.prediction.episodes=32", "evaluate.generation.clips=8", "evaluate.generation.futures=4"),
    *("evaluate.generation.steps=10", "evaluate.policy.starts=manifest", "planner.candidates=32"),
]
WORLDS = {
    "luxo": [
        *("env=luxo", "env.task=body_goal", "collect.env={task: null}", "collect.random_episodes=128"),
        *("objective=goal_distance", "planner.iterations=2", "evaluate.policy.episodes=16"),
    ],
    "catch": [
        *("env=catch", "collect.random_episodes=512", "objective=sum_of_rewards", "fit.length=9"),
        *("planner.horizon=9", "planner.hold=1", "planner.iterations=2", "evaluate.policy.episodes=64"),
        *("evaluate.prediction.context=2", "evaluate.prediction.horizon=7", "evaluate.generation.steps=8"),
    ],
    "bounce2": ["env=bounce2", "collect.random_episodes=128"],
    "pendulum_screen": [
        *("env=pendulum_screen", "collect.random_episodes=64", "objective=sum_of_rewards"),
        *("planner.iterations=2", "evaluate.policy.episodes=4"),
    ],
}
ALONE = ["policy=random", "planner=null", "objective=null", "evaluate.policy.episodes=0"]  # no planning
ELSEWHERE = {
    "luxo": {"factors": {"gravity": 20}, "task": "body_goal"},  # some models need goals
    "bounce2": {"factors": {"gravity": 20}},
    "catch": {"windy": True},
}
HORIZONS = {"catch": (1, 7)}  # others: 1, 20
WEIGHTS = 150_000  # of each model, as near as its widths allow
WIDTHS = (
    *("hidden", "units", "image_hidden", "encoder_hidden", "deter", "size", "latent", "width", "memory"),
    *("channels", "sizes"),
)
MULTIPLE = 8  # of every width
FACTORS = [2 ** (power / 4) for power in range(-12, 9)]
OWN = {  # what a model needs besides
    "muzero": [
        *("planner=mcts", "planner.simulations=16", "policy.precision=float32", "fit.precision=float32"),
        "model.simulations=4",
    ],
    "oracle": ["fit.steps=0", "collect.random_episodes=2"],
}
LATENT = ("cpc", "frozen_jepa", "lewm", "pldm")  # they plan to a pose by its latent
PICTURED, PICTURES = ("luxo", "bounce2", "catch"), ROOT / "docs" / "pictures" / "futures"
SHOWN_STEPS, GAP = (1, 2, 3, 5, 7, 10, 15, 20), 2  # of the picture; pixels between frames
SCALE, WIDTH = 3, 360  # at least so many times as large, and so many pixels wide
INNER = {  # models whose weights are another model's
    "ensemble": ["model.settings={hidden: 32, image_hidden: 24}"],
    "frozen_jepa": ["model.settings={hidden: 48}", "model.hidden=48", "model.width=48"],
}
GOALS = ("reward_only", "sv2p", "tdmpc2", "muzero")  # they see goals, also in the data, and predict rewards
PLANNED = {"muzero": "candidates|iterations|hold|horizon"}  # settings of a planner that its own one lacks
SLOW = (  # last, and without planning
    *("autoregressive", "sv2p", "svg", "epva", "diamond", "shortcut", "delta_iris", "iris"),
    *("latent_action", "videoflow"),
)


def models() -> list[str]:
    """Return the built-in models, slow ones last, without those that are another one in another size."""
    sizes = re.compile(r".*_(published|small|large)|mlp_beta")
    found = [piece.name for piece in registry.pieces("model") if piece.source == "built in"]
    return sorted(
        (name for name in found if not sizes.fullmatch(name)), key=lambda name: (name in SLOW, name)
    )


def overrides(model: str, world: str, planning: bool) -> list[str]:
    """Return the overrides of a cell."""
    lost = re.compile(rf"planner\.({PLANNED.get(model, 'nothing')})=.*")
    chosen = [text for text in (*SAME, *WORLDS[world]) if not lost.fullmatch(text)]
    if model in GOALS:
        others = ("collect.env", "objective=goal_distance")
        chosen = [text for text in chosen if not text.startswith(others)]
    if not planning or world == "bounce2":
        kept = [text for text in chosen if not re.match(r"(planner|objective|evaluate\.policy)", text)]
        return [
            *kept,
            *ALONE,
            f"model={model}",
            *(text for text in OWN.get(model, []) if not re.match("plan|policy", text)),
        ]
    if model in LATENT:
        chosen = [text.replace("=goal_distance", "=latent_distance") for text in chosen]
    return [*chosen, f"model={model}", *OWN.get(model, [])]


def sized(model: str, settings: Settings) -> list[str]:
    """Return the overrides that give a model about ``WEIGHTS`` weights."""
    if model in INNER:
        return INNER[model]
    given = settings.model or {}
    widths = {key: value for key, value in given.items() if key in WIDTHS and value}
    with closing(build_env(env_config(settings))) as env:
        spec = env_spec(env)
        best, nearest = list[str](), math.inf
        for factor in FACTORS if widths else []:
            scaled = {key: _scaled(value, factor) for key, value in widths.items()}
            try:
                built = registry.build({**given, **scaled}, env=spec)
            except WmplayError:
                continue
            count = sum(weight.numel() for weight in built.parameters())
            if abs(math.log(count / WEIGHTS)) < nearest:
                nearest = abs(math.log(count / WEIGHTS))
                best = [f"model.{key}={json.dumps(value)}" for key, value in scaled.items()]
    return best


def _scaled(value: Any, factor: float) -> Any:
    if isinstance(value, list | tuple):
        return [_scaled(each, factor) for each in value]
    return max(MULTIPLE, round(value * factor / MULTIPLE) * MULTIPLE)


def kept() -> dict[str, Any]:
    """Return the finished cells."""
    return json.loads(FILE.read_text()) if FILE.exists() else {}


def cell(model: str, world: str, seed: int) -> dict[str, Any]:
    """Return the numbers of one cell, or the reason why the model does not go with the world."""
    start, reasons = time.process_time(), list[str]()
    for planning in (False,) if model in SLOW else (True, False):
        chosen = [*overrides(model, world, planning), f"seed={seed}"]
        with TemporaryDirectory() as folder:
            try:
                chosen += sized(model, registry.compose(chosen))
                run = wmplay.train(chosen, dir=Path(folder) / "run")
            except Interrupted:  # the next call makes this cell
                raise
            except Exception as error:  # of any kind: the page says it
                reasons.append(str(error) if isinstance(error, WmplayError) else repr(error))
                continue
            evaluation = load_evaluation(run.path)
            assert evaluation is not None
            found = numbers(evaluation, world) | transferred(run, world)
            weights = sum(weight.numel() for weight in run.model.parameters())
            if world in PICTURED and seed == 0:
                draw(run.path, PICTURES / f"{model}_{world}.png")
        planless = "too slow: not run" if model in SLOW else reasons[0] if reasons else None
        return {
            **{key: _rounded(value) for key, value in found.items()},
            "weights": weights,
            "seconds": round(time.process_time() - start),
            "no_planning": planless if world != "bounce2" else None,
            "command": " ".join(["wmplay train", *chosen]),
        }
    return {"refused": reasons[-1]}


def numbers(evaluation: Evaluation, world: str) -> dict[str, float]:
    """Return what the tables show of an evaluation."""
    logged = evaluation.numbers()
    found = dict(_predicted("prediction", evaluation.prediction, world)) if evaluation.prediction else {}
    if evaluation.spread is not None and (
        spread := evaluation.spread.keys.get(_screen(evaluation.spread.keys))
    ):
        found |= {"spread/among": spread.among.mean[-1], "spread/to_truth": spread.to_truth.mean[-1]}
    if evaluation.surprise is not None:
        found["surprise/bits"] = evaluation.surprise.bits.value
        found |= {f"surprise/{name}": each.value for name, each in evaluation.surprise.baselines.items()}
    found |= {key: logged[key] for key in ("features/jumps",) if key in logged}
    for name in ("policy", "random"):
        if name in evaluation.policies:
            score = evaluation.policies[name]
            found[f"planning/{name}"] = (score.success or score.mean_return).value
    return found


def _predicted(name: str, score: PredictionScore, world: str) -> Iterator[tuple[str, float]]:
    if not score.keys:  # a model without observations
        return
    key = _screen(score.keys)
    yield f"{name}/{score.keys[key].metric}", 1.0
    first, last = HORIZONS.get(world, (1, 20))
    for who in (MODEL, "copy-last"):
        if who in score.keys[key].curves:
            yield f"{name}/{who}@first", score.keys[key].curves[who].at(first).value
            yield f"{name}/{who}@last", score.keys[key].curves[who].at(min(last, score.horizon)).value


def _screen(keys: Mapping[str, Any]) -> str:
    """Return the name of the screen among observations, otherwise of the first one."""
    return next((key for key in keys if key in ("lcd", "screen")), next(iter(keys), ""))


def transferred(run: Any, world: str) -> dict[str, float]:
    """Return the prediction of a model, and of the last frame, in a world that it was not fitted on."""
    if world not in ELSEWHERE or run.settings.evaluate.prediction.episodes == 0:
        return {}
    cfg = run.settings.evaluate.prediction
    env = wmplay.make_env(world, 16, **ELSEWHERE[world])
    episodes = wmplay.simulate(env, None, cfg.episodes, seed=1)
    clips = cut_clips(list(episodes), cfg.context, cfg.horizon, cfg.episodes, 0)
    with torch.no_grad():
        return dict(_predicted("transfer", evaluate_prediction(run.model.eval(), clips), world))


def draw(run: Path, path: Path) -> None:
    """Draw the first clip of a run: true frames above, predicted ones below; nothing without screens."""
    clips = load_clips(run)
    key = "" if clips is None else _screen(clips.prediction)
    if clips is None or key not in clips.prediction or clips.prediction[key].ndim != 4:
        return
    steps = [step - 1 for step in SHOWN_STEPS if step <= clips.prediction[key].shape[1]]
    rows = [clips.truth[key][0, clips.context :], clips.prediction[key][0]]
    frames = [[np.pad(255.0 * row[step], GAP, constant_values=128) for step in steps] for row in rows]
    picture = Image.fromarray(np.vstack([np.hstack(row) for row in frames]).astype(np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    scale = max(SCALE, WIDTH // picture.width)
    size = (scale * picture.width, scale * picture.height)
    picture.resize(size, Image.Resampling.NEAREST).save(path, optimize=True)


def _rounded(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None


# ---- the page --------------------------------------------------------------------------------------

COLUMNS = {
    "prediction": ("IoU 1 step", "prediction/model@first"),
    "later": ("IoU last step", "prediction/model@last"),
    "generation": ("futures apart / from the truth", "spread/among"),
    "surprise": ("bits per frame", "surprise/bits"),
    "jumps": ("jumps noticed", "features/jumps"),
    "planning": ("planning", "planning/policy"),
    "transfer": ("IoU elsewhere", "transfer/model@first"),
}


def tables(cells: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines of the page's tables."""
    for world in WORLDS:
        mine = {key: each for key, each in cells.items() if key.split("/")[1] == world}
        if not mine:
            continue
        yield f"### {world}"
        yield ""
        yield f"| model (seeds) | weights | {' | '.join(title for title, _ in COLUMNS.values())} |"
        yield "|---" * (2 + len(COLUMNS)) + "|"
        refused = dict[str, str]()
        for model in dict.fromkeys(key.split("/")[0] for key in mine):
            found = [each for key, each in mine.items() if key.split("/")[0] == model]
            whole = [each for each in found if "refused" not in each]
            if not whole:
                refused[model] = found[0]["refused"]
                continue
            shown = [_shown(whole, name) for _, name in COLUMNS.values()]
            if shown[0] and not whole[0].get("prediction/iou"):  # vectors, whose error is no IoU
                for place, (_, name) in enumerate(COLUMNS.values()):
                    if name.startswith(("prediction", "transfer")):
                        shown[place] = f"error {shown[place]}"
            shown[2] = f"{shown[2]} / {_shown(whole, 'spread/to_truth')}" if shown[2] else ""
            yield f"| `{model}` ({len(whole)}) | {whole[0]['weights']:,} | {' | '.join(shown)} |"
        yield f"| copy last, random actions | | {' | '.join(_floors(list(mine.values())))} |"
        yield ""
        planless = {
            key.split("/")[0]: each["no_planning"] for key, each in mine.items() if each.get("no_planning")
        }
        for what, reasons in (("does not go with this world", refused), ("does not plan here", planless)):
            for why in dict.fromkeys(reasons.values()):
                names = ", ".join(f"`{model}`" for model, said in reasons.items() if said == why)
                yield f"- {what}: {names}; {_plain(why)}"
        yield ""


def pictures() -> Iterator[str]:
    """Yield the lines that show all pictures, model by model."""
    found = sorted(path.stem.rpartition("_") for path in PICTURES.glob("*.png"))
    for model, each in itertools.groupby(found, key=lambda parts: parts[0]):
        yield f"`{model}`"
        yield ""
        for _, _, world in each:
            file = f"pictures/futures/{model}_{world}.png"
            yield f"![{world}: the truth, and the future that {model} predicts]({file})"
            yield ""


def write_into(page: Path, name: str, lines: Iterator[str]) -> None:
    """Write lines into a page, between its two comments of a name."""
    begin, end = (f"<!-- {name}: {what} -->" for what in ("begin", "end"))
    shown = "\n".join(lines)
    page.write_text(re.sub(f"(?s){begin}.*{end}", lambda _: f"{begin}\n\n{shown}\n{end}", page.read_text()))


def _plain(why: str) -> str:
    """Return a reason without the characters that Markdown would read, shortened."""
    return re.sub(r"[\[\]<>|]", "", why)[:150].rstrip(".") + "."


def _floors(found: list[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the cells of what has learned nothing."""
    floors = {
        "prediction/model@first": "prediction/copy-last@first",
        "prediction/model@last": "prediction/copy-last@last",
        "surprise/bits": "surprise/copy-last",
        "planning/policy": "planning/random",
        "transfer/model@first": "transfer/copy-last@first",
    }
    found = [each for each in found if each.get("prediction/iou")]  # of screens
    for _, name in COLUMNS.values():
        yield _shown(found, floors[name]) if name in floors else ""


def _shown(found: list[Mapping[str, Any]], name: str) -> str:
    """Return the mean over seeds, with the half-width of its interval where there are three or more."""
    values = np.array([each[name] for each in found if each.get(name) is not None])
    if not len(values):
        return ""
    mean, low, high = mean_interval(values)
    shown = f"{mean:,.0f}" if abs(mean) >= 100 else f"{mean:.3g}"
    return shown if len(values) < 3 or np.allclose(values, mean) else f"{shown} ± {(high - low) / 2:.2g}"


# ---- the command -----------------------------------------------------------------------------------


def main() -> None:
    """Fit what is missing, or write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["fit", "page"])
    parser.add_argument("--models", nargs="+", choices=models(), metavar="MODEL", default=models())
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=list(WORLDS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no cell after this time")
    given = parser.parse_args()
    cells = kept()
    if given.what == "page":
        write_into(PAGE, "measured", tables(dict(sorted(cells.items()))))
        write_into(MODELS, "pictures", pictures())
        return
    begin = time.monotonic()
    chosen = itertools.product(given.seeds, (False, True), given.worlds, given.models)
    for seed, slow, world, model in chosen:
        if (model in SLOW) != slow:
            continue
        key = f"{model}/{world}/{seed}"
        if key not in kept() and time.monotonic() - begin < 60 * given.minutes:
            found = {key: cell(model, world, seed)}
            print(json.dumps(found), flush=True)
            FILE.write_text(json.dumps({**kept(), **found}, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
