"""The errors a reader of a page is told about."""

from __future__ import annotations


class Unreadable(Exception):
    """Something in a formula or a declaration that was not understood.

    `pos` is the offset in the formula's LaTeX, `None` where no place can be named;
    `suggestion` the nearest thing that would be understood.
    """

    def __init__(self, reason: str, pos: int | None = None, suggestion: str = ""):
        super().__init__(reason)
        self.reason = reason
        self.pos = pos
        self.suggestion = suggestion

    def __str__(self) -> str:
        return f"{self.reason}; {self.suggestion}" if self.suggestion else self.reason


class BadDeclaration(Unreadable):
    """Something in the front matter that was not understood, or a forward that raises."""


class TooLong(Unreadable):
    """An equation that takes more time or memory than one equation may."""


class Undefined(Unreadable):
    """A side that can't be evaluated: shapes that do not fit, a value that is not a number."""
