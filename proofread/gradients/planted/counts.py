"""Mistakes in a factor that is 1 over a count."""

from __future__ import annotations

import math
from collections.abc import Iterator

from proofread.gradients.graph.naming import number
from proofread.gradients.graph.program import Ref, Step, resolve
from proofread.gradients.planted.candidates import (
    LOCAL,
    Candidate,
    Enumeration,
)


def count_mistakes(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    factor = step.arguments[1]
    if isinstance(factor, Ref):
        factor = float(e.p[factor])
    count = 1 / abs(factor)  # a sum of weights need not be whole
    count = round(count) if abs(count - round(count)) < 1e-6 else count
    site = e.site(i)
    plain = e.p.steps[step.about].kind in ("mean", "sum", "div", "var", "mul")
    plain = plain and step.about not in e.p.recognised
    share = f"the 1/{number(count)} {'of' if plain else 'in one term of the gradient of'} {site}"
    yield e.instead(i, "missing_mean", f"{share} is left out", LOCAL, lambda g, f: g)
    yield from _not_all(e, i, step, count, share)
    yield e.instead(
        i,
        "extra_mean",
        f"{share} is there twice",
        LOCAL,
        lambda g, f: g * f * abs(f),
        ("applied_twice",),
    )
    sign = math.copysign(1, factor)
    counted = _all_entries(e, step)
    for other in sorted(e.sizes | counted | {count - 1, count + 1, _root(count)}):
        if other in (count, 1, count * count, 0):
            continue
        within = count % other == 0
        label, as_said = "wrong_mean_count", f"{'' if plain else 'one average of '}{site}"
        # 1/N twice, N a part of the count, is an average too many; N * C for N is a miscount.
        beyond = other % count == 0 and other // count in e.sizes
        repeated = beyond and count % (other // count) == 0
        rank = LOCAL + (1 if within or beyond else 3)
        also = ("missing_mean",) if within else ("extra_mean", "wrong_mean_count") if beyond else ()
        if other in counted and beyond:
            rank = LOCAL - 1
        if repeated:
            label = "extra_mean"
        elif step.details.get("bessel") and abs(other - count) == 1:
            label, rank, also = "other_variant", LOCAL - 2, ("wrong_mean_count",)
            as_said = f"the {'biased' if other < count else 'unbiased'} variance of {site}"
        yield e.instead(
            i,
            label,
            f"your gradient divides by {other} where it must divide by {number(count)}, as "
            f"{as_said} does",
            rank,
            lambda g, f, o=other: g * sign / o,
            also,
        )


def _not_all(e: Enumeration, i: int, step: Step, count: float, share: str) -> Iterator[Candidate]:
    """Where a mean runs over entries some of which are 0, those that are not stand for all."""
    about = e.p.steps[step.about] if step.about >= 0 else None
    if about is None or about.kind != "mean":
        return
    (source,) = about.operands()
    there = int((e.p[source] != 0).sum())
    if 0 < there < count:
        yield e.plant(
            i,
            "wrong_mean_count",
            f"{share} is 1 over how many entries of {e.p.describe(source)} are not 0",
            LOCAL - 1,
            lambda values: (
                resolve(step.arguments[0], values)
                * (count * step.arguments[1])
                / (values[source.i] != 0).sum()
            ),
        )


def _all_entries(e: Enumeration, step: Step) -> set[int]:
    """Return how many entries the values have that a loss is computed from: all, not the rows."""
    if e.p[e.p.output].dim():
        return set()
    before = (Ref(i) for i in range(step.about + 1) if e.active >> i & 1)
    return {e.p[ref].numel() for ref in before if e.p.is_float(ref)} - {1}


def _root(count: float) -> int:
    """Return the side of a square window, or 0."""
    side = math.isqrt(int(count))
    return side if side * side == count else 0


def window_mistakes(e: Enumeration, i: int, step: Step, full: int) -> Iterator[Candidate]:
    """Mistakes in an average over windows, some of which hold fewer entries."""
    site = e.site(i)
    yield e.instead(
        i, "missing_mean", f"the share of each entry in {site} is left out", LOCAL, lambda g, f: g
    )
    for count in sorted({full, _root(full)} - {0, 1}):
        yield e.instead(
            i,
            "wrong_mean_count",
            f"your gradient divides by {count} in every window of {site}, and some windows hold "
            "fewer entries",
            LOCAL,
            lambda g, f, n=count: g / n,
        )
