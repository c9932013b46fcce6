"""The commands `equations` and `mutate`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import yaml

from .problem import Unreadable

NOTE = (
    "The forward under `proofread:` in a page's front matter is the author's own code and is run "
    "as such: check only pages whose code you would run."
)


def add_commands(subparsers) -> None:
    """Add this part's commands to the command line."""
    check = subparsers.add_parser(
        "equations",
        help="evaluate both sides of every = in documents",
        description="Evaluate both sides of every `=` in Markdown, notebooks and LaTeX files. "
        + NOTE,
    )
    _common(check)
    check.add_argument("--quiet", action="store_true", help="print only what is not right")
    check.add_argument(
        "--strict", action="store_true", help="exit 1 also for a check that could not have failed"
    )
    check.add_argument("--cache", metavar="DIR", help="keep results here between runs")
    check.set_defaults(run=run_equations)
    mutate = subparsers.add_parser(
        "mutate",
        help="measure how strong the check of the equations is",
        description="Edit each equation that holds as people err, and count how many of the edits "
        "the check catches. " + NOTE,
    )
    _common(mutate)
    mutate.add_argument(
        "--most", type=_count, default=40, metavar="N", help="edits of one equation at most (40)"
    )
    mutate.set_defaults(run=run_mutate)


def _count(text: str) -> int:
    """Read a whole number above 0."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is given; a whole number above 0 is needed")
    return int(text)


def _check_cache(folder: str | None) -> None:
    """Make the folder given by --cache; Unreadable where nothing can be kept in it."""
    if folder is None:
        return
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise Unreadable(f"--cache {folder} can't be made a folder: {problem.strerror}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise Unreadable(f"--cache {folder} can't be written to")


def _common(command: argparse.ArgumentParser) -> None:
    command.add_argument("files", nargs="+", metavar="FILE", help="a .md, .ipynb or .tex file")
    command.add_argument("--json", action="store_true", help="print the result as JSON")
    command.add_argument(
        "--declare", metavar="YAML", help="take the declarations from this file instead"
    )


def _declared(options) -> dict | None:
    """The mapping in the file given by --declare, with or without its key `proofread`."""
    if not options.declare:
        return None
    try:
        found = yaml.safe_load(Path(options.declare).read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as problem:
        text = str(problem).splitlines()[0]
        raise Unreadable(f"{options.declare} can't be read as YAML: {text}") from None
    if isinstance(found, dict) and "proofread" in found:
        found = found["proofread"] or {}
    if not isinstance(found, dict):
        raise Unreadable(f"{options.declare} holds {type(found).__name__}; a mapping is needed")
    return found


def run_equations(options) -> int:
    """Check the files; 0 if all that is claimed holds, else 1."""
    from .check import check_file

    try:
        declared = _declared(options)
        _check_cache(options.cache)
    except Unreadable as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    reports = [
        check_file(file, declarations=declared, cache_dir=options.cache) for file in options.files
    ]
    if options.json:
        print(json.dumps(_as_json(reports), indent=1))
    else:
        for report in reports:
            _print_report(report, quiet=options.quiet)
    bad = any(not report.ok for report in reports)
    return int(bad or (options.strict and any(report.vacuous for report in reports)))


def _as_json(reports) -> list[dict]:
    found = []
    for report in reports:
        if report.error:
            found.append(
                {"file": report.path, "line": 0, "verdict": "unreadable", "reason": report.error,
                 "latex": "", "equalities": []}
            )  # fmt: skip
        found += report.as_dicts()
    return found


def _print_report(report, *, quiet: bool) -> None:
    if report.error:
        print(f"{report.path}: error: {report.error}")
        return
    for formula in report.formulas:
        for chain in formula.chains:
            said = _say(formula, chain)
            if not (quiet and formula.ok):
                print(f"{_where(report, formula, chain)}: {said}")
        if formula.expected and not formula.ok:
            print(f"{report.path}:{formula.line}: error: {formula.reason}")
    counts = report.counts()
    parts = [f"{counts[v]} {v}" for v in ("holds", "fails", "convention", "unreadable", "skipped")
             if counts[v]]  # fmt: skip
    print(
        f"{report.path}: {', '.join(parts) or 'no equations'}; {counts['equalities']} equalities, "
        f"{counts['combinations']} index combinations, largest error {report.largest_error:.0e}"
    )


def _where(report, formula, chain) -> str:
    cell = f"cell {formula.cell}:" if formula.cell else ""
    return f"{report.path}:{cell}{formula.line_of(chain)}"


def _say(formula, chain) -> str:
    if chain.verdict == "holds":
        n = chain.checked
        said = (
            f"holds: {n} equalit{'y' if n == 1 else 'ies'}, {chain.combinations} combinations, "
            f"largest error {chain.error:.0e}"
        )
        if chain.defines:
            said = f"defines {chain.defines}" + (f"; {said}" if n > 1 else "")
        return said + (f"; vacuous: {chain.vacuous}" if chain.vacuous else "")
    expected = " (as marked)" if formula.expected and chain.verdict == "fails" else ""
    lines = [f"{chain.verdict}{expected}: {chain.reason}"]
    bad = next((e for e in chain.equalities if e.verdict == chain.verdict), None)
    if bad is not None and chain.verdict in {"fails", "convention"}:
        number = chain.equalities.index(bad) + 1
        lines.append(f"    relation {number} of {len(chain.equalities)}: "
                     f"{_short(bad.left_latex)} {bad.op} {_short(bad.right_latex)}")  # fmt: skip
    elif chain.verdict == "unreadable":
        lines += ["    " + line for line in formula.caret(chain).splitlines()]
    return "\n".join(lines)


def _short(latex: str) -> str:
    return latex if len(latex) <= 100 else latex[:97] + "..."


def run_mutate(options) -> int:
    """Mutate the equations of the files; 0 if every edit is caught or means the same."""
    from .mutate import mutate_file

    try:
        declared = _declared(options)
        results = [
            mutate_file(file, declarations=declared, most=options.most) for file in options.files
        ]
    except Unreadable as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps([result.as_dict() for result in results], indent=1))
    else:
        for result in results:
            print(result.as_text())
    return int(any(result.survivors for result in results))
