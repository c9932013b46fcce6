"""The result of a diagnosis, and how it is printed."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from proofread.gradients.sentences import ANOTHER_NAME, NOTES

WIDTH = 79
EXPRESSION = (re.compile(r"\([^()]*\)"), re.compile(r" (\*\*|[-+*/@<>]|==) "))
FEW = 3  # rows or columns that are named
HOW = {
    "tie_convention": "up to a convention",
    "cancels": "up to rounding",
    "nearly_cancels": "up to rounding",
    "lost_in_rounding": "up to rounding",
}
CHANGES = "Your backward changes "
GREEN, RED, BOLD, DIM, RESET = "\033[32m", "\033[31m", "\033[1m", "\033[2m", "\033[0m"


@dataclass(frozen=True)
class Mistake:
    """One explanation: a stable label, one sentence with the user's names, and a hint."""

    label: str
    explanation: str
    hint: str

    def __str__(self) -> str:
        return f"{self.label}: {self.explanation}"


@dataclass(frozen=True)
class Note:
    """Something worth saying that is no mistake."""

    label: str
    text: str


@dataclass(repr=False)
class Diagnosis:
    """What is wrong with a gradient, best explanation first.

    `error` is the largest difference over the largest entry (inf where shapes differ),
    `gradient` the right gradient, of the argument's shape, `yours` the one that was judged.
    """

    ok: bool
    wrt: str
    mistakes: list[Mistake]
    error: float
    gradient: Tensor
    yours: Tensor
    notes: list[Note] = field(default_factory=list)
    where: str = ""

    def __repr__(self) -> str:
        labels = ", ".join(m.label for m in self.mistakes)
        return f"Diagnosis(ok={self.ok}, wrt={self.wrt!r}, mistakes=[{labels}])"

    def __str__(self) -> str:
        return self.text()

    def text(self, colour: bool = False, width: int = WIDTH) -> str:
        """Return the printed form, at most `width` columns wide."""
        green, red, bold, dim, reset = (
            (GREEN, RED, BOLD, DIM, RESET) if colour else ("", "", "", "", "")
        )
        shape = tuple(self.gradient.shape)
        if self.ok:
            labels = {note.label for note in self.notes}
            how = next((HOW[label] for label in HOW if label in labels), f"error {self.error:.1e}")
            lines = [
                f"{green}✓{reset} gradient with respect to {self.wrt}, shape {shape}: right ({how})"
            ]
        else:
            head = f"✗ gradient with respect to {self.wrt}, shape {shape}: {self._verdict()}"
            lines = wrapped(head, "", "    ", width)
            lines = [f"{red}{line}{reset}" for line in lines]
        # What is only another name for the same says nothing new; a change in place is seen.
        first, *others = self.mistakes or [None]
        shown = [m for m in others if not m.explanation.startswith(ANOTHER_NAME)]
        besides = [m for m in shown if m.label == "inputs_changed"]
        shown = [first, *[m for m in shown if m not in besides]] if first else []
        for k, mistake in enumerate(shown):
            lines.append("")
            if k == 1:
                lines += [f"{dim}The same numbers could also come from:{reset}", ""]
            lines.append(f"  {bold}{mistake.label}{reset}")
            lines += wrapped(mistake.explanation, "    ", width=width)
            if k == 0:
                lines += wrapped(mistake.hint, "    → ", "      ", width)
        for mistake in besides:
            said = mistake.explanation[0].lower() + mistake.explanation[1:]
            lines += ["", *wrapped(f"Besides, {said}", "  ", width=width)]
        # An unexplained mistake has said it already; what only changes its inputs differs nowhere.
        told = any(
            m.label == "unexplained" or self.where[1:-1] in m.explanation for m in self.mistakes
        )
        if self.where and not told and not self.where.startswith("0 of"):
            lines += ["", *wrapped(self.where, "  ", width=width)]
        for note in self.notes:
            lines += wrapped(note.text, "  note: ", "        ", width)
        return "\n".join(lines)

    def _verdict(self) -> str:
        """Say that a gradient is wrong, or what is wrong where its values are right."""
        said = self.mistakes[0].explanation
        if not self.where.startswith("0 of"):
            return "wrong"
        if said.startswith("Called again"):
            return "values right, but not if called again"
        if self.mistakes[0].label != "inputs_changed":
            return "wrong"
        names = said.removeprefix(CHANGES).removesuffix(" in place.")
        return f"values right, but {names} {'are' if ' and ' in names else 'is'} changed in place"

    def as_dict(self) -> dict[str, Any]:
        """Return what --json prints."""
        return {
            "ok": self.ok,
            "wrt": self.wrt,
            "error": None if self.error == float("inf") else self.error,
            "shape": list(self.yours.shape),
            "right_shape": list(self.gradient.shape),
            "mistakes": [vars(m) for m in self.mistakes],
            "notes": [vars(n) for n in self.notes],
            "where": self.where,
        }


def wrapped(text: str, indent: str, later: str | None = None, width: int = WIDTH) -> list[str]:
    """Break a text into lines, the first with `indent`, the others with `later`.

    An expression such as `mean((A - Y) ** 2)` stays in one line where it can.
    """
    room = width - max(len(indent), len(later or ""))

    def held_together(found: re.Match) -> str:
        whole = found.group()
        return whole.replace(" ", "\xa0") if len(whole) < room / 2 else whole

    for expression in EXPRESSION:
        text = expression.sub(held_together, text)
    lines = textwrap.wrap(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=indent if later is None else later,
        break_long_words=True,
        break_on_hyphens=False,
    )
    return [line.replace("\xa0", " ") for line in lines]


def note(label: str, what: str = "") -> Note:
    return Note(label, NOTES[label].format(what=what))


def differing(u: Tensor, r: Tensor, tolerance: float) -> Tensor:
    """Tell of each entry whether the two differ."""
    scale = max(t.abs().nan_to_num(0, 0, 0).max() for t in (u, r))
    return ~((u - r).abs() <= tolerance * scale)


def locate(u: Tensor, r: Tensor, tolerance: float, name: str) -> str:
    """Say where two gradients of one shape, with respect to `name`, differ and by how much."""
    if u.shape != r.shape:
        return f"Yours has shape {tuple(u.shape)}, the right one {tuple(r.shape)}."
    wrong = differing(u, r, tolerance)
    count, total = int(wrong.sum()), wrong.numel()
    place = tuple(int(k) for k in (u - r).abs().nan_to_num(torch.inf).argmax().reshape(1))
    worst = tuple(int(k) for k in torch.unravel_index(torch.tensor(place[0]), r.shape))
    at = f"[{', '.join(map(str, worst))}]" if worst else ""
    yours, right = _apart(float(u[worst]), float(r[worst]))
    if total == 1 and count:
        return f"Yours is {yours}, the right one {right}."
    text = f"{count} of {total} entries differ{'s' if count == 1 else ''}"
    if r.dim() >= 2 and 1 < count < total:
        text += _lines(wrong, name)
    most = "the most at" if count > 1 else "at"
    return f"{text}; {most} {at}: yours {yours}, right {right}."


def _apart(a: float, b: float) -> tuple[str, str]:
    """Write two numbers in as few digits as tell them apart.

    >>> _apart(-1.25, 0.5), _apart(1.319214, 1.319207)
    (('-1.25', '0.5'), ('1.319214', '1.319207'))
    """
    texts = ((f"{a + 0.0:.{digits}g}", f"{b + 0.0:.{digits}g}") for digits in range(5, 13))
    return next((pair for pair in texts if pair[0] != pair[1]), (repr(a), repr(b)))


def _lines(wrong: Tensor, name: str) -> str:
    """Name the rows or columns that hold all differences, where few do."""
    for axis in range(wrong.dim()):
        flat = wrong.movedim(axis, 0).reshape(wrong.shape[axis], -1)
        found = [int(k) for k in flat.any(1).nonzero().flatten()]
        if len(found) < len(flat) and len(found) <= FEW:
            if wrong.dim() == 2:
                kind = ("row", "column")[axis] + "s" * (len(found) > 1)
                return f", all in {kind} {_listed(found)}"
            return ", all in " + _listed([f"{name}[{':, ' * axis}{k}]" for k in found])
    return ""


def _listed(items: list) -> str:
    *most, last = map(str, items)
    return f"{', '.join(most)} and {last}" if most else last
