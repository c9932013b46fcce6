"""The result of a diagnosis, and how it is printed."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from proofread.gradients.sentences import NOTES, SENTENCES

WIDTH = 79
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
            tied = any(note.label == "tie_convention" for note in self.notes)
            how = "up to a convention" if tied else f"error {self.error:.1e}"
            lines = [
                f"{green}✓{reset} gradient with respect to {self.wrt}, shape {shape}: right ({how})"
            ]
        else:
            lines = [f"{red}✗ gradient with respect to {self.wrt}, shape {shape}: wrong{reset}"]
        for k, mistake in enumerate(self.mistakes):
            lines.append("")
            if k == 1:
                lines += [f"{dim}The same numbers could also come from:{reset}", ""]
            lines.append(f"  {bold}{mistake.label}{reset}")
            lines += wrapped(mistake.explanation, "    ", width=width)
            if k == 0:
                lines += wrapped(mistake.hint, "    → ", "      ", width)
        # An unexplained mistake has said it already; what only changes its inputs differs nowhere.
        told = any(self.where[1:-1] in m.explanation for m in self.mistakes)
        if self.where and not told and not self.where.startswith("0 of"):
            lines += ["", *wrapped(self.where, "  ", width=width)]
        for note in self.notes:
            lines += wrapped(note.text, "  note: ", "        ", width)
        return "\n".join(lines)

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
    """Break a text into lines, the first with `indent`, the others with `later`."""
    return textwrap.wrap(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=indent if later is None else later,
        break_long_words=True,
        break_on_hyphens=False,
    )


def mistake(label: str, what: str, wrt: str, shape: tuple[int, ...]) -> Mistake:
    sentence, hint = SENTENCES[label]
    words = {"what": what, "wrt": wrt, "shape": shape}
    return Mistake(label, sentence.format(**words), hint.format(**words))


def note(label: str, what: str = "") -> Note:
    return Note(label, NOTES[label].format(what=what))


def locate(u: Tensor, r: Tensor, tolerance: float) -> str:
    """Say where two gradients of one shape differ and by how much."""
    if u.shape != r.shape:
        return f"Yours has shape {tuple(u.shape)}, the right one {tuple(r.shape)}."
    scale = torch.maximum(u.abs().max(), r.abs().max())
    wrong = ~((u - r).abs() <= tolerance * scale)
    count, total = int(wrong.sum()), wrong.numel()
    place = tuple(int(k) for k in (u - r).abs().nan_to_num(torch.inf).argmax().reshape(1))
    worst = tuple(int(k) for k in torch.unravel_index(torch.tensor(place[0]), r.shape))
    at = f"[{', '.join(map(str, worst))}]" if worst else ""
    text = f"{count} of {total} entries differ"
    if r.dim() >= 2 and 0 < count < total:
        text += _lines(wrong)
    return (
        f"{text}; the most at {at or 'the only one'}: yours {float(u[worst]):.5g}, "
        f"right {float(r[worst]):.5g}."
    )


def _lines(wrong: Tensor) -> str:
    """Name the rows or columns that hold all differences, where few do."""
    flat = wrong.reshape(-1, wrong.shape[-1])
    rows, columns = flat.any(1).nonzero().flatten(), flat.any(0).nonzero().flatten()
    for name, found, size in (("row", rows, flat.shape[0]), ("column", columns, flat.shape[1])):
        if len(found) < size:
            listed = ", ".join(str(int(k)) for k in found[:6])
            more = ", …" if len(found) > 6 else ""
            return f", all in {name}{'s' if len(found) > 1 else ''} {listed}{more}"
    return ""
