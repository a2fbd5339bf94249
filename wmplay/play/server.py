"""The server of the page: one game for each open page, over one WebSocket each.

Only pages that this server handed out may talk to it: the address holds a token, and the Origin and Host of a
request must be the server's own, so that no other web page can drive a game or read one. Games are isolated
from each other, limited in number, and limited in the messages that they take.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.resources import files
from typing import Any, TypeVar

from aiohttp import WSCloseCode, WSMsgType, web

from wmplay.errors import WmplayError
from wmplay.play import protocol
from wmplay.play.game.session import Session

T = TypeVar("T")

MOST_GAMES = 4
PER_SECOND = 200  # messages that a page may send
UNSEEN = (protocol.Act, protocol.Clock, protocol.Drive, protocol.Ping)  # requests that change no picture
IDLE = 120.0  # s without a message of the page, after which its clock is paused
MOST_UNSENT = 2**23  # bytes that wait for a page to read them, beyond which its connection is cut
SECURITY = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}


class Server:
    """An HTTP server of games.

    Args:
        make_session: makes a game, with an env of its own; called in a thread.
        world: name of the world, for the page.
        fps: steps of the world per second.
        host: address to listen on.
        port: to listen on; 0 = any free one.
    """

    def __init__(
        self,
        make_session: Callable[[], Session],
        world: str,
        fps: float,
        host: str = "127.0.0.1",
        port: int = 8765,
    ) -> None:
        self._make_session, self._world, self._fps = make_session, world, fps
        self._host, self._port = host, port
        self.token = secrets.token_urlsafe(16)
        self._sockets: set[web.WebSocketResponse] = set()
        self._threads = ThreadPoolExecutor(MOST_GAMES, thread_name_prefix="game")

    async def start(self) -> str:
        """Begin to listen, and return the address of the page.

        Raises:
            WmplayError: if the port is in use, or if the address is not this machine's.
        """
        app = web.Application(middlewares=[self._guarded])
        app.router.add_get("/", self._page)
        app.router.add_get("/play.ws", self._game)
        app.router.add_get("/{name}", self._file)
        app.on_shutdown.append(self._close_games)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        try:
            await site.start()
        except OSError as error:
            raise WmplayError(
                f"cannot listen on {self._host}:{self._port} ({error.strerror or error})",
                advice="choose another --port, or --port 0 for any free one",
            ) from error
        self._port = self._runner.addresses[0][1]
        return f"http://{self._shown_host}:{self._port}/?token={self.token}"

    async def stop(self) -> None:
        """Close all games and stop to listen."""
        await self._runner.cleanup()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _close_games(self, app: web.Application) -> None:
        for socket in [*self._sockets]:
            await socket.close(code=WSCloseCode.GOING_AWAY)

    @property
    def _shown_host(self) -> str:
        return f"[{self._host}]" if ":" in self._host else self._host

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Refuse requests for other hosts, from other pages, and without the token."""
        hosts = {f"{name}:{self._port}" for name in (self._shown_host, "127.0.0.1", "localhost", "[::1]")}
        everywhere = self._host in ("0.0.0.0", "::")  # chosen by the user, with a warning
        if not everywhere and request.host not in hosts:
            raise web.HTTPForbidden(text="another host")
        origin = request.headers.get("Origin")
        if origin is not None and origin != f"http://{request.host}":
            raise web.HTTPForbidden(text="another origin")
        if request.path in ("/", "/play.ws") and not secrets.compare_digest(
            request.query.get("token", "").encode(), self.token.encode()
        ):
            raise web.HTTPForbidden(text="the address that `wmplay play` printed has a token: open that one")
        if request.path == "/play.ws" and origin is None:
            raise web.HTTPForbidden(text="no origin")
        response: web.StreamResponse = await handler(request)
        if not response.prepared:
            response.headers.update(SECURITY)
        return response

    async def _page(self, request: web.Request) -> web.Response:
        return _static("index.html")

    async def _file(self, request: web.Request) -> web.Response:
        return _static(request.match_info["name"])

    async def _game(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(max_msg_size=protocol.LONGEST_MESSAGE, heartbeat=30, compress=False)
        await socket.prepare(request)
        if len(self._sockets) >= MOST_GAMES:
            full = f"{MOST_GAMES} pages are open already: close one and reload"
            await socket.send_str(protocol.written(protocol.Notice(full, wrong=True)))
            await socket.close()
            return socket
        self._sockets.add(socket)
        try:
            outbox = _Outbox(socket, request.transport)
            await _Game(socket, outbox, self._threads, self._fps).play(self._make_session, self._world)
        finally:
            self._sockets.discard(socket)
        return socket


class _Outbox:
    """Messages that wait to be sent, so that a page which does not read them holds up nothing else."""

    def __init__(self, socket: web.WebSocketResponse, transport: asyncio.Transport | None) -> None:
        self._socket, self._transport = socket, transport
        self._waiting: asyncio.Queue[str | bytes] = asyncio.Queue()
        self._unsent = 0  # bytes

    def put(self, message: str | bytes) -> None:
        """Add a message, or cut the connection of a page that has left too many unread."""
        self._waiting.put_nowait(message)
        self._unsent += len(message)
        if self._unsent > MOST_UNSENT and self._transport is not None:
            self._transport.abort()

    async def send(self) -> None:
        """Send one message after the other, until the connection is lost."""
        with suppress(ConnectionError):
            while True:
                message = await self._waiting.get()
                if isinstance(message, str):
                    await self._socket.send_str(message)
                else:
                    await self._socket.send_bytes(message)
                self._unsent -= len(message)


class _Game:
    """The connection of one page: its clock, and the requests that it sends."""

    def __init__(
        self, socket: web.WebSocketResponse, outbox: _Outbox, threads: ThreadPoolExecutor, fps: float
    ) -> None:
        self._socket, self._outbox, self._threads, self._fps = socket, outbox, threads, fps
        self._busy = asyncio.Lock()  # a session does one thing at a time
        self._heard = time.monotonic()
        self._changed = asyncio.Event()  # of the clock
        self.session: Session

    async def play(self, make_session: Callable[[], Session], world: str) -> None:
        """Serve a page until it is closed."""
        try:
            self.session = await self._in_thread(make_session)
        except WmplayError as error:
            with suppress(ConnectionError):
                await self._socket.send_str(protocol.written(protocol.Notice(str(error), wrong=True)))
            await self._socket.close()
            return
        self._tell([self.session.hello(world, self._fps), self.session.strip()])
        await self._show()
        async with asyncio.TaskGroup() as tasks:
            others = [tasks.create_task(self._run_clock()), tasks.create_task(self._outbox.send())]
            await self._listen()
            for other in others:
                other.cancel()

    async def _listen(self) -> None:
        window, count = time.monotonic(), 0
        async for message in self._socket:
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                continue
            now = self._heard = time.monotonic()
            if now - window >= 1:
                window, count = now, 0
            count += 1
            if count > PER_SECOND:
                if count == PER_SECOND + 1:
                    self._tell([protocol.Notice("too many messages a second", wrong=True)])
                continue
            await self._answer(message.data)

    async def _answer(self, data: str | bytes) -> None:
        try:
            request = protocol.read_request(data)
            answers = await self._answers(request)
        except WmplayError as error:
            self._tell([protocol.Notice(str(error), wrong=True)])
            return
        self._tell(answers)
        self._changed.set()
        if not isinstance(request, UNSEEN):
            await self._show()

    async def _answers(self, request: protocol.Request) -> list[protocol.Answer]:
        if isinstance(request, protocol.Ping):  # not behind a step that is being taken
            return self.session.answer(request)
        async with self._busy:
            return await self._in_thread(self.session.answer, request)

    async def _run_clock(self) -> None:
        """Take steps at the world's pace while the clock runs."""
        due = time.monotonic()
        while True:
            session = self.session
            if session.running and time.monotonic() - self._heard > IDLE:
                session.running = False
                self._tell([protocol.Notice("paused: nobody has touched anything for a while")])
            if not session.running:
                self._changed.clear()
                await self._changed.wait()
                due = time.monotonic()
                continue
            due = max(due + 1 / (self._fps * session.speed), time.monotonic() - 0.25)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await self._tick()

    async def _tick(self) -> None:
        session, answers = self.session, list[protocol.Answer]()
        try:
            async with self._busy:
                if not session.running:  # paused while this waited
                    return
                answers = await self._in_thread(session.step)
        except WmplayError as error:
            session.running = False
            answers = [protocol.Notice(str(error), wrong=True)]
        self._tell(answers)
        await self._show()

    async def _show(self) -> None:
        async with self._busy:
            self._outbox.put(self.session.frame())

    def _tell(self, answers: Sequence[protocol.Answer]) -> None:
        for answer in answers:
            self._outbox.put(protocol.written(answer))

    async def _in_thread(self, call: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)


def _static(name: str) -> web.Response:
    """Return a file of the page. Raises HTTPNotFound."""
    kind, file = TYPES.get(name.rpartition(".")[2]), files("wmplay.play") / "static" / name
    if kind is None or "/" in name or not file.is_file():
        raise web.HTTPNotFound
    return web.Response(body=file.read_bytes(), content_type=kind, charset="utf-8")
