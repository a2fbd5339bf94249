"""The page of ``wmplay play`` in a real browser: keys move the robot, forks and re-syncs do what they say.

Without Chromium (Debian's package) these tests are skipped.
"""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from playwright.sync_api import Page, expect, sync_playwright

import wmplay
from wmplay.evaluation.cases import load_cases
from wmplay.play.games import games_of_run
from wmplay.play.server import Server

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")

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
    torch.set_num_threads(1)
    return wmplay.load_run(path)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
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
    assert started.wait(30)
    yield found[0]
    asyncio.run_coroutine_threadsafe(server.stop(), loop).result(30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(30)
    loop.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.goto(address)
    page.wait_for_selector("body[data-ready=yes]", timeout=60_000)
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
    page.wait_for_selector(f"body[data-moment='{number}']", timeout=30_000)


def test_keys_move_both_worlds(page: Page) -> None:
    begin(page)
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


def test_a_case_is_kept(page: Page, run: Any, tmp_path: Path) -> None:
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


def test_small_screens_need_no_sideways_scrolling(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
