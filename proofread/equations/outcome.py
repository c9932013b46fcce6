"""What comes of checking a relation, and of the chain that it stands in."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from .problem import TooLong, Unreadable

RANK = {"fails": 0, "unreadable": 1, "convention": 2, "holds": 3, "skipped": 4}


@dataclass
class Equality:
    """One relation of a chain and what came of it.

    Attributes:
        verdict: holds, fails, convention, unreadable or skipped.
        combinations: index combinations compared, over all draws.
        error: the largest difference relative to the largest entry.
        indices: the combination with the largest difference, where it fails.
        left, right: both values there.
        vacuous: why this check could not have failed, if it could not.
    """

    left_latex: str
    op: str
    right_latex: str
    verdict: str = "holds"
    reason: str = ""
    suggestion: str = ""
    convention: str = ""
    combinations: int = 0
    error: float = 0.0
    indices: dict[str, int] = field(default_factory=dict)
    left: float | None = None
    right: float | None = None
    vacuous: str = ""
    pos: int | None = None


@dataclass
class Chain:
    """A row of sides joined by relations, as it stands on a page."""

    latex: str
    verdict: str
    equalities: list[Equality] = field(default_factory=list)
    reason: str = ""
    convention: str = ""
    pos: int | None = None
    defines: str = ""
    timed_out: bool = False

    @property
    def vacuous(self) -> str:
        """Why a check of this chain could not have failed, if one could not."""
        return next((e.vacuous for e in self.equalities if e.vacuous), "")

    @property
    def checked(self) -> int:
        """How many relations were evaluated."""
        return sum(e.verdict in {"holds", "fails", "convention"} for e in self.equalities)

    @property
    def combinations(self) -> int:
        return sum(e.combinations for e in self.equalities)

    @property
    def error(self) -> float:
        return max((e.error for e in self.equalities), default=0.0)

    def as_dict(self) -> dict:
        """The chain as plain data."""
        return asdict(self) | {
            "vacuous": self.vacuous,
            "checked": self.checked,
            "combinations": self.combinations,
            "error": self.error,
        }


def refused(latex: str, problem: Unreadable) -> Chain:
    late = isinstance(problem, TooLong)
    return Chain(latex, "unreadable", reason=str(problem), pos=problem.pos, timed_out=late)


def refuse(result: Equality, problem: Unreadable) -> None:
    result.verdict, result.reason = "unreadable", problem.reason
    result.suggestion, result.pos = problem.suggestion, problem.pos


def fail(result: Equality, reason: str, pos: int | None = None) -> None:
    result.verdict, result.reason, result.pos = "fails", reason, pos
