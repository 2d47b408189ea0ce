"""`python -m app doctor`: looks at everything the server needs, from outside, and says what is wrong and what to do.

Here are its options, without what only the command itself needs.
"""

import argparse
from pathlib import Path


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument(
        "--bundle", type=Path, metavar="FILE", help="write what a support request needs into a new file"
    )
    parser.add_argument("--url", help="of the running server, for --bundle; else made from BIND")
    parser.add_argument("--anon-key", metavar="KEY", help="the key that front ends have: to see which rows it opens")
