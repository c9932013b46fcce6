"""The command line: `python -m proofread <command> …`, or `proofread <command> …`.

Each part of the package brings its commands by a function `add_commands(subparsers)`
in its own `cli` module; a command stores `run`, a function of the parsed arguments
that returns the exit status.
"""

from __future__ import annotations

import argparse
import importlib
import sys

PARTS = ("proofread.equations.cli", "proofread.gradients.cli")


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
    return options.run(options)


if __name__ == "__main__":
    sys.exit(main())
