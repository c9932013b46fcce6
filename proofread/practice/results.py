"""What the check of a module has found, and how it is printed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from proofread.gradients.report import (
    BOLD,
    DIM,
    GREEN,
    RED,
    RESET,
    WIDTH,
    Diagnosis,
    wrapped,
)

RIGHT, WRONG, FAILED, UNWRITTEN = "right", "wrong", "failed", "not written yet"
MISSING, SKIPPED = "missing", "skipped"  # of the snippet's gradients; no gradient, by its name


@dataclass(frozen=True)
class Result:
    """One gradient, or a forward: its state, what it takes, and the diagnosis or the trouble.

    `because` is said in place of both, where it says all: the one line of code that is wrong, or
    another result that this one follows from.
    """

    name: str
    state: str
    takes: str
    diagnosis: Diagnosis | None = None
    trouble: str = ""
    because: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {
            "function": self.name,
            "state": self.state,
            "trouble": self.trouble,
            "because": self.because,
            "diagnosis": self.diagnosis.as_dict() if self.diagnosis else None,
        }


@dataclass(frozen=True)
class Report:
    """The results of a module, in the order of its file."""

    name: str
    results: list[Result] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return all(r.state == RIGHT for r in self.results)

    def count(self, state: str) -> int:
        return sum(r.state == state for r in self.results)

    def __str__(self) -> str:
        return self.text()

    def text(self, colour: bool = False) -> str:
        """Return the printed form, at most 80 columns wide."""
        green, red, bold, dim, reset = (
            (GREEN, RED, BOLD, DIM, RESET) if colour else ("", "", "", "", "")
        )
        marks = {
            RIGHT: f"{green}✓{reset}",
            UNWRITTEN: f"{dim}·{reset}",
            SKIPPED: f"{dim}·{reset}",
        }
        lines, taken = [], ("", "")
        for result in self.results:
            mark = marks.get(result.state, f"{red}✗{reset}")
            short = _in_one_line(result)
            if short:
                said = wrapped(f"{result.name}: {short}", "  ", "    ")
                faint = dim if result.state == UNWRITTEN else ""
                lines += [f"{mark}{faint}{said[0][1:]}{faint and reset}", *said[1:]]
            else:
                lines.append(f"{mark} {bold}{result.name}{reset}")
                lines += wrapped(result.trouble, "    ")
            if result.state in (UNWRITTEN, FAILED) and not result.because:
                # Of several gradients of one function, the first has said it.
                takes = (result.name.partition(",")[0], result.takes)
                if result.takes and takes != taken:
                    lines += wrapped(f"It takes {result.takes}.", "    ")
                taken = takes
            if result.diagnosis and not short:
                said = result.diagnosis.text(colour, WIDTH - 2).splitlines()
                # Where it raises, the sizes of the data are not those of the diagnosis.
                said = said[1:] if result.state == FAILED else said
                lines += [f"  {line}" if line else "" for line in said]
            lines.append("")
        skipped = self.count(SKIPPED)
        total = f"{self.count(RIGHT)} of {len(self.results) - skipped} right"
        lines.append(f"{self.name}: {total}" + (f", {skipped} skipped" if skipped else ""))
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "ok": self.ok,
            "results": [r.as_dict() for r in self.results],
        }


def _in_one_line(result: Result) -> str:
    if result.state in (MISSING, SKIPPED):
        return result.trouble
    return result.because or (result.state if result.state in (RIGHT, UNWRITTEN) else "")
