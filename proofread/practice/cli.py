"""The commands `proofread gradients FILE` and `proofread progress`."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import traceback
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proofread.practice.results import Report

ALL_RIGHT, MISTAKE, UNUSABLE, STOPPED = 0, 1, 2, 130
EXERCISES = Path("exercises")


class Unusable(Exception):
    """A file that cannot be checked, with one sentence that says why.

    `trouble` says it without the file.
    """

    def __init__(self, file: Path | str, between: str, trouble: str) -> None:
        super().__init__(f"{file}{between}{trouble}")
        self.trouble = trouble


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
        with _prints_apart(options.json):
            report = _report(options.file)
    except Unusable as reason:
        print(reason, file=sys.stderr)
        return UNUSABLE
    except KeyboardInterrupt as stop:
        return _stopped(stop, options.file)
    if options.json:
        print(json.dumps(report.as_dict(), ensure_ascii=False))
    else:
        print(report.text(colour=_colour()))
    return ALL_RIGHT if report.ok else MISTAKE


def _progress(options: argparse.Namespace) -> int:
    if not options.folder.is_dir():
        where = "run this in the root of the clone, or name the folder"
        print(f"no folder {options.folder}/ here: {where}", file=sys.stderr)
        return UNUSABLE
    rows: list[tuple[str, Report | Unusable]] = []
    for file in sorted(options.folder.glob("*.py")):
        if file.name.startswith("_"):
            continue
        try:
            with _prints_apart(options.json):
                rows.append((file.stem, _report(file)))
        except Unusable as reason:
            rows.append((file.stem, reason))
        except KeyboardInterrupt as stop:
            return _stopped(stop, file)
    if options.json:
        print(json.dumps([_as_dict(*row) for row in rows], ensure_ascii=False))
    else:
        print(_table(rows))
    if any(isinstance(found, Unusable) for _, found in rows):
        return UNUSABLE
    return ALL_RIGHT if all(found.ok for _, found in rows) else MISTAKE


def _stopped(stop: KeyboardInterrupt, file: Path) -> int:
    """Say in which line of the exercise Ctrl-C has stopped it, as in an endless loop."""
    frames = traceback.extract_tb(stop.__traceback__)
    frame = next((f for f in reversed(frames) if f.filename == str(file.absolute())), None)
    if frame is None:
        print("stopped", file=sys.stderr)
    else:
        where = str(file) if frame.name == "<module>" else frame.name
        print(f"stopped in {where}, line {frame.lineno}: {frame.line}", file=sys.stderr)
    return STOPPED


def _prints_apart(apart: bool) -> AbstractContextManager:
    """Send what an exercise prints to stderr, so that stdout holds nothing but JSON."""
    return redirect_stdout(sys.stderr) if apart else nullcontext()


def _as_dict(name: str, found: Report | Unusable) -> dict:
    if isinstance(found, Unusable):
        return {"name": name, "ok": False, "results": [], "trouble": found.trouble}
    return found.as_dict()


def _table(rows: list[tuple[str, Report | Unusable]]) -> str:
    from proofread.practice.results import FAILED, MISSING, RIGHT, SKIPPED, UNWRITTEN, WRONG

    width = max([len("exercise"), *(len(name) for name, _ in rows)])
    lines = [f"{'exercise':{width}}  right  wrong  not written"]
    totals, unread = [0, 0, 0], 0
    for name, found in rows:
        if isinstance(found, Unusable):
            lines += _unread(name, found.trouble, width)
            unread += 1
            continue
        counts = [
            found.count(RIGHT),
            found.count(WRONG) + found.count(FAILED),
            found.count(UNWRITTEN) + found.count(MISSING),
        ]
        totals = [a + b for a, b in zip(totals, counts, strict=True)]
        skipped = found.count(SKIPPED)
        lines.append(_row(name, counts, width) + (f"  ({skipped} skipped)" if skipped else ""))
    lines.append(_row("all", totals, width) + (f"  ({unread} cannot be read)" if unread else ""))
    return "\n".join(lines)


def _unread(name: str, trouble: str, width: int) -> list[str]:
    from proofread.gradients.report import wrapped

    said = trouble if trouble.startswith("cannot") else f"cannot be read: {trouble}"
    return wrapped(said, f"{name:{width}}  ", " " * (width + 2))


def _row(name: str, counts: list[int], width: int) -> str:
    right, wrong, unwritten = counts
    return f"{name:{width}}  {right:5}  {wrong:5}  {unwritten:11}"


def _report(file: Path):
    """Check one file; raise Unusable with one sentence where it cannot be."""
    from proofread.practice.check import check

    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # where `snippets` lies
    module = _load(file)
    try:
        return check(module)
    except (LookupError, ImportError, TypeError, ValueError) as reason:
        raise Unusable(file, ": ", f"{reason}") from None


def _load(file: Path) -> ModuleType:
    if file.is_dir():
        raise Unusable(file, " ", "is a folder; one Python file is needed")
    if not file.is_file():
        names = (file.with_suffix(".py"), EXERCISES / f"{file.stem}.py")
        meant = next((f"; is it {name}?" for name in names if name.is_file()), "")
        raise Unusable(file, ": ", f"there is no such file{meant}")
    if file.suffix != ".py":
        raise Unusable(file, " ", "is no Python file")
    from proofread.signatures import brief, line_of

    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        line = f"line {error.lineno}" if error.lineno else ""
        line += f", `{error.text.strip()}`" if line and (error.text or "").strip() else ""
        line += ": " if line else ""
        raise Unusable(error.filename or file, ", " if line else ": ", line + error.msg) from None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the user's file does
        at = line_of(error, module.__spec__.origin)
        raise Unusable(file, " ", f"cannot be run: {at and at + ': '}{brief(error)}") from None
    return module


def _colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
