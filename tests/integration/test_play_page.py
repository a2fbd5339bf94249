"""The page of ``wmplay play`` in a real browser: keys move the robot, forks and re-syncs do what they say.

Without Chromium (Debian's package) these tests are skipped.
"""

from __future__ import annotations

import asyncio
import base64
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Page, expect, sync_playwright
from refusals import failure, refused
from torch.utils._pytree import tree_leaves

import wmplay
from wmplay.cli import main
from wmplay.contracts import Prediction
from wmplay.errors import ConfigError
from wmplay.evaluation.cases import load_cases, save_case
from wmplay.play.games import games_of_run
from wmplay.play.program import Weights, step_program
from wmplay.play.server import Server
from wmplay.play.standalone import write_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")

TIMEOUT = 120_000  # ms
TINY = (
    "experiment=tiny",
    "iterations=1",
    "fit.steps=2",
    "evaluate.prediction.episodes=0",
    "evaluate.policy.episodes=0",
    "evaluate.generation.clips=0",
    "collect.random_episodes=4",
    "report=false",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("play") / "run"
    wmplay.train([*TINY, f"dir={path}"])
    return wmplay.load_run(path)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    expect.set_options(timeout=TIMEOUT)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def address(run: Any, tmp_path: Path) -> Iterator[str]:
    games = games_of_run(run, tmp_path / "cases")
    loop, started, found = asyncio.new_event_loop(), threading.Event(), list[str]()
    server = Server(games.session, games.world, games.fps, port=0)

    def serve() -> None:
        found.append(loop.run_until_complete(server.start()))
        started.set()
        loop.run_forever()

    thread = threading.Thread(target=serve)
    thread.start()
    assert started.wait(120)
    yield found[0]
    asyncio.run_coroutine_threadsafe(server.stop(), loop).result(120)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(120)
    loop.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.set_default_timeout(TIMEOUT)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.goto(address)
    page.wait_for_selector("body[data-ready=yes]")
    yield page
    page.close()
    assert wrong == []


def begin(page: Page) -> None:
    """Pause, and begin an episode."""
    page.keyboard.press(" ")
    page.keyboard.press("n")
    at_moment(page, 0)


def picture(page: Page, canvas: str) -> str:
    return str(page.evaluate(f"document.getElementById('{canvas}').toDataURL()"))


def at_moment(page: Page, number: int) -> None:
    page.wait_for_selector(f"body[data-moment='{number}']")


def test_keys_move_both_worlds(page: Page) -> None:
    begin(page)
    expect(page.locator("#seed")).to_have_value("1")
    real, learned = picture(page, "real"), picture(page, "learned")
    page.keyboard.down("ArrowRight")
    page.keyboard.down("s")
    for number in range(1, 6):
        page.keyboard.press("Enter")
        at_moment(page, number)
    assert picture(page, "real") != real
    assert picture(page, "learned") != learned
    page.keyboard.up("ArrowRight")
    page.keyboard.up("s")


def test_time_is_the_players(page: Page) -> None:
    begin(page)
    page.keyboard.down("ArrowRight")
    for number in range(1, 7):
        page.keyboard.press("Enter")
        at_moment(page, number)
    page.keyboard.up("ArrowRight")
    end = picture(page, "real"), picture(page, "learned")
    for _ in range(4):
        page.keyboard.press("[")
    page.keyboard.press("c")
    expect(page.locator("#branches button")).to_have_count(2)
    page.keyboard.press("Enter")
    page.keyboard.press("b")
    at_moment(page, 6)
    assert (picture(page, "real"), picture(page, "learned")) == end
    page.keyboard.press("x")
    page.keyboard.press("Enter")
    at_moment(page, 7)
    expect(page.locator("#now")).to_contain_text("moment 7")
    page.keyboard.press("m")
    page.keyboard.press("[")
    page.keyboard.press("Backspace")
    at_moment(page, 6)


def test_a_case_is_kept(page: Page, run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begin(page)
    page.keyboard.press("m")
    for number in range(1, 5):
        page.keyboard.press("Enter")
        at_moment(page, number)
    page.fill("#name", "A first fall!")
    page.click("#keep")
    expect(page.locator("#notice")).to_contain_text("a-first-fall")
    (case,) = load_cases(tmp_path / "cases")
    assert (case.about.name, case.about.since, case.steps, len(case.real)) == ("a-first-fall", 0, 4, 4)
    page.click("#keep")
    expect(page.locator("#notice")).to_have_class("wrong")
    capsys.readouterr()
    assert main(["eval", str(run.path), f"cases={tmp_path / 'cases'}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("a-first-fall: ")
    assert main(["cases", str(tmp_path / "cases"), "--replay"]) == 0
    assert "same" in capsys.readouterr().out
    env = wmplay.make_env("urchin")
    other = next(iter(wmplay.simulate(env, episodes=1, seed=0)))
    save_case(tmp_path / "cases" / "urchin", case.about, other, other, env)
    assert "urchin" in failure(capsys, "eval", str(run.path), f"cases={tmp_path / 'cases'}")


def test_a_page_without_a_server(browser: Any, run: Any, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    write_page(file, games_of_run(run, tmp_path / "cases"), run)
    assert file.stat().st_size < 5e6
    page, asked = browser.new_page(viewport={"width": 360, "height": 700}), list[str]()
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: asked.append(str(error)))
    page.goto(file.as_uri())
    page.wait_for_selector("body[data-ready=yes]")
    first = np.array(page.evaluate("window.replay(0, 5)"))
    assert np.array_equal(first, page.evaluate("window.replay(0, 5)"))
    page.keyboard.press("n")
    at_moment(page, 0)
    learned = picture(page, "learned")
    page.keyboard.down("ArrowRight")
    page.keyboard.press("Enter")
    at_moment(page, 1)
    assert page.input_value("#driver") == "player"
    assert picture(page, "learned") != learned
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert asked == [file.as_uri()]
    page.close()


ENGINE = (Path(wmplay.__file__).parent / "play" / "static" / "engine.js").read_text()
MODELS = {
    "mlp": {"hidden": 13, "image_hidden": 17},
    "gru": {"image_hidden": 17},
    "rssm": {"deter": 13, "hidden": 17, "image_hidden": 19},
    "fbt": {},
}


@pytest.mark.parametrize("name", MODELS)
def test_the_page_computes_what_torch_does(browser: Any, name: str) -> None:
    torch.manual_seed(0)
    env = wmplay.make_env("luxo")
    model = wmplay.make("model", name, env=env, **MODELS[name]).eval()
    (episode,) = wmplay.simulate(env, episodes=1, seed=0)
    frame = {key: torch.from_numpy(value[:1].copy()) for key, value in episode.observation.items()}
    actions = torch.from_numpy(episode.action)[:, None, None]
    with torch.no_grad():
        belief = model.initial(frame)
        program = step_program(model, belief, actions[0], "lcd", sampled=False)
        weights = Weights()
        given = {
            "program": program.as_json(weights),
            "leaves": [[list(leaf.shape), *weights.add(leaf)] for leaf in tree_leaves(belief)],
            "weights": base64.b64encode(weights.content()).decode(),
            "actions": actions.flatten(1).tolist(),
        }
        screens = []
        for action in actions:
            prediction = model.predict(belief, action)
            belief = prediction.belief
            screens.append(prediction.observation["lcd"][0, 0].numpy().ravel())
    page = browser.new_page()
    page.add_script_tag(content=ENGINE.replace("export class", "window.Program = class") + "\n" + REPLAY)
    found = np.array(page.evaluate("given => replay(given)", given))
    page.close()
    assert found.shape == (100, 512)
    np.testing.assert_allclose(found, np.array(screens), atol=1e-4)


REPLAY = """
window.replay = ({ program, leaves, weights, actions }) => {
  const buffer = Uint8Array.from(atob(weights), (c) => c.charCodeAt(0)).buffer;
  const of = ([shape, offset, isWhole]) => ({
    data: new (isWhole ? Int32Array : Float32Array)(buffer, 4 * offset, shape.reduce((a, b) => a * b, 1)),
    shape,
  });
  const step = new Program(program, buffer);
  let now = leaves.map(of);
  return actions.map((action) => {
    const outputs = step.run([{ data: Float32Array.from(action), shape: [1, 1, action.length] }, ...now]);
    const screen = outputs.pop();
    now = outputs;
    return Array.from(screen.data);
  });
};
"""


def test_what_the_page_cannot_compute_is_refused() -> None:
    class Odd(torch.nn.Module):
        def predict(
            self, belief: torch.Tensor, action: torch.Tensor, *, generator: object = None
        ) -> Prediction:
            return Prediction(belief, None, None, torch.linalg.inv(belief), lambda latent: {"lcd": latent})

    belief = torch.eye(3)[None]
    with refused(ConfigError, "linalg_inv_ex"):
        step_program(Odd(), belief, torch.zeros(1, 1, 2), "lcd", sampled=False)  # type: ignore[arg-type]


def test_a_model_that_predicts_no_screen_is_refused_before_the_page_opens(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(run), "model", wmplay.make("model", "cpc", env=run.env))
    with refused(ConfigError, "lcd"):
        games_of_run(run, tmp_path / "cases")


def test_small_screens_need_no_sideways_scrolling(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
