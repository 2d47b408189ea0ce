"""The options of the command, and what they ask of the server. Without rich, which only the command itself needs."""

import argparse
from typing import Any


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--once", action="store_true", help="one frame, not a live view")
    parser.add_argument("--json", action="store_true", help="print the server's document as it came")
    parser.add_argument("--total", type=int, metavar="N", help="set so many slots; the mode is fixed then")
    parser.add_argument("--mode", choices=("fixed", "adaptive"), help="who decides the number of slots")
    parser.add_argument("--min", type=int, metavar="N", help="the adaptive limit's smallest size")
    parser.add_argument("--max", type=int, metavar="N", help="the adaptive limit's largest size")
    parser.add_argument("--why", default="", metavar="TEXT", help="kept and logged with a change")
    parser.add_argument("--who", metavar="NAME", help="the same; else your login name")
    parser.add_argument("--url", help="of the server; else made from BIND (http://127.0.0.1:8000)")
    parser.add_argument("--token", help="else OPS_TOKEN, which does not show in the list of processes")


def change_in(options: argparse.Namespace, login: str) -> dict[str, Any] | None:
    """Return the body of the change that the options ask for, or None when they only look.

    Args:
        options: as `add_options` has them.
        login: who asks, when the options do not say.

    Raises:
        ValueError: they say who or why, but not what.
    """
    wanted = {"total_tokens": options.total, "mode": options.mode, "min": options.min, "max": options.max}
    change = {name: value for name, value in wanted.items() if value is not None}
    if not change:
        if options.why or options.who:
            raise ValueError("--who and --why go with a change: --total, --mode, --min or --max")
        return None
    if options.total is not None:
        change.setdefault("mode", "fixed")
    told = {"who": login if options.who is None else options.who, "why": options.why}
    return {**change, **{name: text for name, text in told.items() if text}}
