"""What the pages show of the code: their `--8<--` lines and the sections these name."""

import re
from pathlib import Path

DIRECTIVE = re.compile(r'--8<-- "(?P<path>[\w./]+\.py)(?::(?P<section>\w+))?"')
MARKER = re.compile(r"\s*# --8<-- \[(start|end):(\w+)\]")
FENCE = re.compile(r"^\s*(?:```|~~~)\s*\{?\.?(\w*)")


def sections(source: str) -> dict[str, list[str]]:
    """Return the lines of each section; ValueError where one is twice, open, nested or empty."""
    found: dict[str, list[str]] = {}
    current = None
    for number, line in enumerate(source.splitlines(), 1):
        if marker := MARKER.fullmatch(line):
            kind, name = marker.groups()
            if kind == "start" and current is None and name not in found:
                current = name
                found[name] = []
            elif kind == "end" and current == name:
                current = None
            else:
                raise ValueError(f"line {number}: {kind} of {name!r} is out of place")
        elif "8<" in line:
            raise ValueError(f"line {number}: {line.strip()!r} is no marker")
        elif current:
            found[current].append(line)
    if current:
        raise ValueError(f"section {current!r} is not closed")
    if empty := [name for name, lines in found.items() if not "".join(lines).strip()]:
        raise ValueError(f"nothing in {empty}")
    return found


def shown(page: str, root: Path) -> set[tuple[str, str | None]]:
    """Return the (file, section) pairs that a page shows.

    ValueError where a Python fence holds anything but directives, where a directive stands
    outside of one or is misspelt, and where what it names does not exist.
    """
    found = set()
    language = None
    for number, line in enumerate(page.splitlines(), 1):
        if fence := FENCE.match(line):
            language = None if language is not None else fence[1].lower()
            continue
        directive = DIRECTIVE.fullmatch(line)
        python = language in {"python", "py", "python3", "pycon"}
        if python and line.strip() and not directive:
            raise ValueError(f"line {number}: {line.strip()!r} is typed by hand")
        if not python and re.search(r"8\s?<", line) and "`" not in line:
            raise ValueError(f"line {number}: {line.strip()!r} stands outside a Python fence")
        if directive:
            path, section = directive["path"], directive["section"]
            if not (root / path).is_file():
                raise ValueError(f"line {number}: there is no {path}")
            if section and section not in sections((root / path).read_text()):
                raise ValueError(f"line {number}: {path} has no section {section!r}")
            found.add((path, section))
    return found
