"""The server of games: who may talk to it, and that nothing which is sent ends it."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType, WSServerHandshakeError
from refusals import refused
from test_play_session import luxo

from wmplay.errors import ConfigError, WmplayError
from wmplay.play import server as serving
from wmplay.play.game.session import Session
from wmplay.play.server import MOST_GAMES, Server

MESSAGES = 10_000


def paused() -> Session:
    session = luxo()
    session.running = False
    return session


@asynccontextmanager
async def served(make: Callable[[], Session] = paused) -> AsyncIterator[tuple[ClientSession, str, Server]]:
    server = Server(make, "luxo_ball", 10.0, port=0)
    address = await server.start()
    async with ClientSession() as client:
        try:
            yield client, address, server
        finally:
            await server.stop()


def parts(address: str) -> tuple[str, str]:
    found = urlsplit(address)
    return f"http://{found.netloc}", found.query


async def joined(client: ClientSession, address: str, **headers: str) -> ClientWebSocketResponse:
    base, token = parts(address)
    return await client.ws_connect(f"{base}/play.ws?{token}", headers={"Origin": base} | headers)


async def heard(socket: ClientWebSocketResponse, kind: str) -> dict[str, Any]:
    """The next message of a kind; "frame" is a binary one."""
    while True:
        message = await socket.receive()
        assert message.type in (WSMsgType.TEXT, WSMsgType.BINARY), message
        if message.type == WSMsgType.BINARY:
            if kind == "frame":
                return {"bytes": message.data}
        elif json.loads(message.data)["type"] == kind:
            found: dict[str, Any] = json.loads(message.data)
            return found


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(test(), 600)

    asyncio.run(limited())


def test_only_its_own_page_may_play() -> None:
    async def test() -> None:
        async with served() as (client, address, _):
            base, token = parts(address)
            statuses = {
                "page": (address, {}),
                "script": (f"{base}/main.js", {}),
                "no token": (base, {}),
                "wrong token": (f"{base}/?token=x", {}),
                "another host": (address, {"Host": "example.org"}),
                "another origin": (address, {"Origin": "http://example.org"}),
                "outside": (f"{base}/..%2fserver.py", {}),
                "source": (f"{base}/server.py", {}),
            }
            found = {}
            for name, (url, headers) in statuses.items():
                async with client.get(url, headers=headers) as response:
                    found[name] = response.status
                    if response.status == 200:
                        assert "default-src 'self'" in response.headers["Content-Security-Policy"]
            assert found == {
                "page": 200,
                "script": 200,
                "no token": 403,
                "wrong token": 403,
                "another host": 403,
                "another origin": 403,
                "outside": 404,
                "source": 404,
            }
            for headers in ({}, {"Origin": "http://example.org"}, {"Origin": "null"}):
                with pytest.raises(WSServerHandshakeError):
                    await client.ws_connect(f"{base}/play.ws?{token}", headers=headers)
            with pytest.raises(WSServerHandshakeError):
                await client.ws_connect(f"{base}/play.ws?token=x", headers={"Origin": base})

    run(test)


def test_a_game() -> None:
    async def test() -> None:
        async with served() as (client, address, _):
            socket = await joined(client, address)
            hello = await heard(socket, "hello")
            assert (hello["world"], hello["model"], hello["size"]) == ("luxo_ball", "MLP", [16, 24, 1])
            await heard(socket, "frame")
            await socket.send_json({"type": "step"})
            assert b'"moment":1' in (await heard(socket, "frame"))["bytes"]
            await socket.send_json({"type": "ping", "sent": 12.5})
            assert (await heard(socket, "pong"))["sent"] == 12.5
            await socket.send_json({"type": "clock", "running": True, "speed": 8.0})
            for moment in (2, 3, 4):
                assert f'"moment":{moment}'.encode() in (await heard(socket, "frame"))["bytes"]

    run(test)


def test_games_are_isolated_and_limited() -> None:
    async def test() -> None:
        async with served() as (client, address, _):
            sockets = [await joined(client, address) for _ in range(MOST_GAMES)]
            for socket in sockets:
                await heard(socket, "frame")
            full = await joined(client, address)
            assert (await heard(full, "notice"))["wrong"]
            assert (await full.receive()).type in (WSMsgType.CLOSE, WSMsgType.CLOSED)
            await sockets[0].send_json({"type": "step"})
            assert b'"moment":1' in (await heard(sockets[0], "frame"))["bytes"]
            await sockets[1].send_json({"type": "rewind", "at": 1})
            assert (await heard(sockets[1], "notice"))["wrong"]
            await sockets[0].close()
            again = await joined(client, address)
            await heard(again, "hello")

    run(test)


def mutant(rng: random.Random) -> str | bytes:
    """A message that is nearly one, or nothing like one."""
    kinds = ["act", "drive", "clock", "step", "resync", "rewind", "fork", "choose", "reset", "move", "tune"]
    keys = [
        "action",
        "who",
        "running",
        "speed",
        "at",
        "branch",
        "seed",
        "body",
        "right",
        "down",
        "futures",
        "name",
    ]
    values: list[Any] = [
        0,
        1,
        -1,
        2**40,
        10**400,
        0.5,
        float("nan"),
        "player",
        "",
        [0.0] * 3,
        [1e9] * 3,
        None,
        True,
        {},
    ]
    fields = {rng.choice(keys): rng.choice(values) for _ in range(rng.randrange(4))}
    text = json.dumps({"type": rng.choice(kinds), **fields})
    match rng.randrange(6):
        case 0:
            cut = rng.randrange(len(text))
            return text[:cut]
        case 1:
            raw = bytearray(text.encode())
            raw[rng.randrange(len(raw))] = rng.randrange(256)
            return bytes(raw)
        case 2:
            return rng.choice(["", "null", "[" * 1000, "{}", '"step"', "\x00", "a" * 3000])
        case _:
            return text


def test_no_message_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "PER_SECOND", 2 * MESSAGES)  # all of them may come within one second

    async def test() -> None:
        rng = random.Random(0)
        async with served() as (client, address, _):
            socket = await joined(client, address)
            await heard(socket, "frame")

            for number in range(MESSAGES):
                message = mutant(rng)
                await (socket.send_bytes(message) if isinstance(message, bytes) else socket.send_str(message))
                if number % 100 == 0:
                    await socket.send_json({"type": "ping", "sent": float(number)})
                    assert (await heard(socket, "pong"))["sent"] == number
            await socket.send_json({"type": "reset", "seed": 3})
            await heard(socket, "strip")
            await heard(socket, "frame")

    run(test)


def test_too_many_messages_and_too_long_ones() -> None:
    async def test() -> None:
        async with served() as (client, address, _):
            socket = await joined(client, address)
            await heard(socket, "frame")
            for _ in range(serving.PER_SECOND * 2):
                await socket.send_json({"type": "act", "action": [0.0, 0.0, 0.0]})
            assert (await heard(socket, "notice"))["wrong"]
            await socket.send_str(" " * 100_000)
            while (message := await socket.receive()).type in (WSMsgType.TEXT, WSMsgType.BINARY):
                pass
            assert message.type in (WSMsgType.CLOSE, WSMsgType.CLOSED)
            other = await joined(client, address)
            await heard(other, "frame")

    run(test)


def test_a_page_that_does_not_read_is_cut_off_and_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "MOST_UNSENT", 1000)

    class Full:
        cut = False

        async def send_str(self, message: str) -> None:
            await asyncio.Event().wait()

        def abort(self) -> None:
            self.cut = True

    async def test() -> None:
        page: Any = Full()
        outbox = serving._Outbox(page, page)
        sending = asyncio.create_task(outbox.send())
        outbox.put("x" * 600)
        await asyncio.sleep(0)
        assert not page.cut
        outbox.put("x" * 600)
        assert page.cut
        sending.cancel()

    run(test)


def test_what_cannot_begin_is_said() -> None:
    def broken() -> Session:
        raise ConfigError("no such world")

    async def test() -> None:
        async with served(broken) as (client, address, _):
            socket = await joined(client, address)
            notice = await heard(socket, "notice")
            assert (notice["text"], notice["wrong"]) == ("no such world", True)
            port = urlsplit(address).port or 0
            with refused(WmplayError, port, advice="port"):
                await Server(broken, "luxo", 10.0, port=port).start()

    run(test)
