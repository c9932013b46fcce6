"""The commands `proofread gradients FILE` and `proofread progress`."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType

ALL_RIGHT, MISTAKE, UNUSABLE = 0, 1, 2
EXERCISES = Path("exercises")


class Unusable(Exception):
    """A file that cannot be checked, with one sentence that says why."""


def add_commands(subparsers) -> None:
    """Add this part's commands to the command line."""
    gradients = subparsers.add_parser(
        "gradients",
        help="check the gradient functions of a file and name their mistakes",
        description="Check every grad_* function of a Python file against the snippet of the "
        "same name. The exit status is 0 where all are right, 1 where one is not, 2 where the "
        "file cannot be checked.",
    )
    gradients.add_argument("file", type=Path, help="such as exercises/linear.py")
    gradients.add_argument("--json", action="store_true", help="print the results as JSON")
    gradients.set_defaults(run=_gradients)
    progress = subparsers.add_parser("progress", help="show which exercises are done, in one table")
    progress.add_argument(
        "folder", type=Path, nargs="?", default=EXERCISES, help="default: exercises"
    )
    progress.add_argument("--json", action="store_true", help="print the table as JSON")
    progress.set_defaults(run=_progress)


def _gradients(options: argparse.Namespace) -> int:
    try:
        report = _report(options.file)
    except Unusable as reason:
        print(reason, file=sys.stderr)
        return UNUSABLE
    if options.json:
        print(json.dumps(report.as_dict(), ensure_ascii=False))
    else:
        print(report.text(colour=_colour()))
    return ALL_RIGHT if report.ok else MISTAKE


def _progress(options: argparse.Namespace) -> int:
    if not options.folder.is_dir():
        print(f"{options.folder} is not a folder of exercises", file=sys.stderr)
        return UNUSABLE
    rows, status = [], ALL_RIGHT
    for file in sorted(options.folder.glob("*.py")):
        if file.name.startswith("_"):
            continue
        try:
            rows.append(_report(file))
        except Unusable as reason:
            print(reason, file=sys.stderr)
            status = UNUSABLE
    if options.json:
        print(json.dumps([r.as_dict() for r in rows], ensure_ascii=False))
    else:
        print(_table(rows))
    if status == ALL_RIGHT and not all(r.ok for r in rows):
        status = MISTAKE
    return status


def _table(reports: list) -> str:
    from proofread.gradients.check import FAILED, MISSING, RIGHT, UNWRITTEN, WRONG

    width = max([len("exercise"), *(len(r.name) for r in reports)])
    lines = [f"{'exercise':{width}}  right  wrong  not written"]
    totals = [0, 0, 0]
    for report in reports:
        counts = [
            report.count(RIGHT),
            report.count(WRONG) + report.count(FAILED),
            report.count(UNWRITTEN) + report.count(MISSING),
        ]
        totals = [a + b for a, b in zip(totals, counts, strict=True)]
        lines.append(_row(report.name, counts, width))
    lines.append(_row("all", totals, width))
    return "\n".join(lines)


def _row(name: str, counts: list[int], width: int) -> str:
    right, wrong, unwritten = counts
    return f"{name:{width}}  {right:5}  {wrong:5}  {unwritten:11}"


def _report(file: Path):
    """Check one file; raise Unusable with one sentence where it cannot be."""
    from proofread.gradients.check import check

    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # where `snippets` lies
    module = _load(file)
    try:
        return check(module)
    except (LookupError, ImportError, TypeError, ValueError) as reason:
        raise Unusable(f"{file}: {reason}") from None


def _load(file: Path) -> ModuleType:
    if file.is_dir():
        raise Unusable(f"{file} is a folder; one Python file is needed")
    if not file.is_file():
        raise Unusable(f"{file}: there is no such file")
    if file.suffix != ".py":
        raise Unusable(f"{file} is no Python file")
    from proofread.signatures import brief

    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        line = f", line {error.lineno}" if error.lineno else ""
        raise Unusable(f"{error.filename or file}{line}: {error.msg}") from None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the user's file does
        raise Unusable(f"{file} cannot be run: {brief(error)}") from None
    return module


def _colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
