"""Serving of games until Ctrl-C."""

from __future__ import annotations

import asyncio
import webbrowser

from wmplay.play.games import Games
from wmplay.play.server import Server
from wmplay.system.printing import say

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(games: Games, host: str, port: int, *, browser: bool) -> None:
    """Print the address of the page, open it, and serve games until Ctrl-C.

    Raises:
        WmplayError: if the port is in use, or if the address is not this machine's.
        KeyboardInterrupt: after Ctrl-C.
    """
    if host not in LOOPBACK:
        say(f"warning: {host} can be reached from other machines: whoever has the address can play")
    asyncio.run(_serve(Server(games.session, games.world, games.fps, host, port), browser))


async def _serve(server: Server, browser: bool) -> None:
    address = await server.start()
    say(f"play at {address}  (Ctrl-C ends)")
    if browser and not await asyncio.to_thread(webbrowser.open, address):
        say("no browser was found here: open the address yourself")
    try:
        await asyncio.Event().wait()
    finally:
        await server.stop()
