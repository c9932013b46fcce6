"""The command line: `python -m proofread <command> …`, or `proofread <command> …`.

Each part of the package brings its commands by a function `add_commands(subparsers)`
in its own `cli` module; a command stores `run`, a function of the parsed arguments
that returns the exit status.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys

PARTS = ("proofread.equations.cli", "proofread.practice.cli")
CLOSED = 141  # what a shell gives where a program ends for a closed pipe


def parser() -> argparse.ArgumentParser:
    """Build the parser with the commands of every part."""
    top = argparse.ArgumentParser(prog="proofread", description="Check gradient mathematics.")
    subparsers = top.add_subparsers(dest="command", required=True, metavar="command")
    for part in PARTS:
        importlib.import_module(part).add_commands(subparsers)
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status."""
    options = parser().parse_args(arguments)
    try:
        status = options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # as in `… | head`; the interpreter would flush once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED
    return status


if __name__ == "__main__":
    sys.exit(main())
