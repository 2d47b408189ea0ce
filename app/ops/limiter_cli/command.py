"""The command: looks at the limiter of a running server, once or until Ctrl-C, and sets it."""

import argparse
import getpass
import io
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import trio
from rich.console import Console
from rich.live import Live

from app.errors import StartError
from app.ops.limiter_cli.client import OpsClient, OpsServer, UnreachableError, connected, document_of, text_of
from app.ops.limiter_cli.history import Look, kept
from app.ops.limiter_cli.options import change_in
from app.ops.limiter_cli.view import ASCII, BLOCKS, frame

EVERY_S = 1.0
ROWS_BESIDES_CHANGES = 17
"""Of the live view, on a terminal that breaks no line."""
LONGEST_NAME = 200


def run(options: argparse.Namespace, server: OpsServer, say: Callable[[str], None]) -> None:
    """Do what the options ask for; returns at Ctrl-C, too.

    Args:
        options: as `add_options` has them.
        server: which to ask.
        say: takes JSON; pictures go to stdout.

    Raises:
        StartError: it cannot be done, and asking again would not help.
    """
    try:
        change = change_in(options, login_name())
    except ValueError as exc:
        raise StartError(str(exc)) from None
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an old terminal shows a question mark where it lacks a letter
    console = Console(highlight=False, markup=False, emoji=False)
    is_live = not (options.once or options.json or change) and console.file.isatty() and not console.is_dumb_terminal
    try:
        trio.run(partial(_watch, server, console) if is_live else partial(_once, options, server, console, change, say))
    except* KeyboardInterrupt:
        pass


def login_name() -> str:
    """Return the name of whoever runs this, as the system knows it, or nothing."""
    try:
        return getpass.getuser()[:LONGEST_NAME]
    except (OSError, KeyError, ImportError):  # KeyError until Python 3.13, ImportError where there is no pwd
        return ""


async def _once(
    options: argparse.Namespace,
    server: OpsServer,
    console: Console,
    change: dict[str, Any] | None,
    say: Callable[[str], None],
) -> None:
    async with connected(server) as client:
        body = await client.ask(change)
    if options.json:
        say(text_of(body, client.address).rstrip("\n"))
        return
    look = Look(at_s=trio.current_time(), limiter=document_of(body, client.address))
    console.print(frame([look], glyphs=ASCII if console.options.ascii_only else BLOCKS))


async def _watch(server: OpsServer, console: Console) -> None:
    """Look every second, and leave the last frame on the terminal as it was before."""
    view = _View(console)
    try:
        with Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_end_at_signal, nursery.cancel_scope)
                async with connected(server) as client:
                    view.trouble = f"Asking {client.address} ..."
                    live.update(view.frame(), refresh=True)
                    await _look_for_ever(client, view, live)
    finally:
        console.print(view.frame())


async def _look_for_ever(client: OpsClient, view: "_View", live: Live) -> None:
    while True:
        next_at = trio.current_time() + EVERY_S
        await view.look(client)
        live.update(view.frame(), refresh=True)
        await trio.sleep_until(next_at)


async def _end_at_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _number in signals:
            scope.cancel()


class _View:
    """What was seen so far, and why there is nothing newer."""

    def __init__(self, console: Console) -> None:
        self.trouble = ""
        self._console = console
        self._looks: list[Look] = []

    async def look(self, client: OpsClient) -> None:
        try:
            limiter = document_of(await client.ask(), client.address)
        except UnreachableError as exc:
            self.trouble = f"{exc}; asking again every second."
            return
        self.trouble = ""
        self._looks = kept([*self._looks, Look(at_s=trio.current_time(), limiter=limiter)])

    def frame(self) -> Any:
        glyphs = ASCII if self._console.options.ascii_only else BLOCKS
        room = max(0, self._console.size.height - ROWS_BESIDES_CHANGES)
        return frame(self._looks, trouble=self.trouble, changes=room, glyphs=glyphs, is_live=True)
