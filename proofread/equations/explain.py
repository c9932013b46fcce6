"""What the comparisons of a relation come to, in words: where it fails, by what factor, or why it could not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import meaning as m
from .compare import Comparison, Link, constant_ratio
from .patterns import EQUAL

if TYPE_CHECKING:
    from .declare import Declarations


def settle(link: Link, comparisons: list[Comparison], declared: Declarations) -> None:
    """Turn the comparisons of all draws into a verdict."""
    result = link.result
    bad = [c for c in comparisons if not c.holds]
    if not bad:
        if result.op in {"\\approx", "\\simeq", "\\cong"}:
            result.reason = "to within 5%"
        return
    if result.op in {"\\approx", "\\simeq", "\\cong"}:
        result.verdict, result.reason = "skipped", "an approximation, off by more than 5%"
        return
    worst = max(bad, key=lambda c: c.error)
    result.left, result.right, result.indices = worst.left, worst.right, worst.indices
    at = ", ".join(f"{k} = {v}" for k, v in worst.indices.items())
    shown = f"{worst.left:.6g} {_plain(result.op)} {worst.right:.6g} is false"
    result.verdict = "fails"
    result.reason = f"at {at}: {shown}" if at else shown
    if len(bad) < len(comparisons) and comparisons[-1] in bad and len(bad) == 1:
        sizes = ", ".join(f"{k} = {v}" for k, v in worst.world.sizes.items())
        result.reason += f" (other draws agree; here {sizes})"
    if result.op in EQUAL:
        result.suggestion = suggest(comparisons)


def _plain(op: str) -> str:
    return {"=": "="}.get(op, op)


def suggest(comparisons: list[Comparison]) -> str:
    """What a constant ratio of the sides says: a sign, a factor, a size."""
    ratios = [constant_ratio(c.one, c.two) for c in comparisons]
    if all(r is not None for r in ratios):
        for name, factor in _factors(comparisons[0].world.sizes):
            if all(
                abs(r - factor(c.world.sizes)) <= 1e-7 * abs(r)
                for r, c in zip(ratios, comparisons, strict=True)
            ):
                return f"the left side is {name} times the right"
        if max(ratios) - min(ratios) <= 1e-9 * abs(ratios[0]):
            return f"the left side is {ratios[0]:.6g} times the right"
        return "the sides differ by a factor"
    return ""


def _factors(sizes):
    """Named factors, as functions of the sizes; the plainest first."""
    found = [
        ("-1", lambda s: -1.0),
        ("2", lambda s: 2.0),
        ("1/2", lambda s: 0.5),
        ("-2", lambda s: -2.0),
        ("-1/2", lambda s: -0.5),
    ]
    names = list(sizes)
    for sign, mark in ((1.0, ""), (-1.0, "-")):
        for n in names:
            found += [
                (f"{mark}{n}", lambda s, n=n, g=sign: g * s[n]),
                (f"{mark}1/{n}", lambda s, n=n, g=sign: g / s[n]),
                (f"{mark}{n}/2", lambda s, n=n, g=sign: g * s[n] / 2),
                (f"{mark}2/{n}", lambda s, n=n, g=sign: g * 2 / s[n]),
                (f"{mark}2{n}", lambda s, n=n, g=sign: g * 2 * s[n]),
                (f"{mark}1/(2{n})", lambda s, n=n, g=sign: g / (2 * s[n])),
            ]
        for at, n in enumerate(names):
            for k in names[at + 1 :]:
                found += [
                    (f"{mark}{n}{k}", lambda s, n=n, k=k, g=sign: g * s[n] * s[k]),
                    (f"{mark}1/({n}{k})", lambda s, n=n, k=k, g=sign: g / (s[n] * s[k])),
                    (f"{mark}{n}/{k}", lambda s, n=n, k=k, g=sign: g * s[n] / s[k]),
                    (f"{mark}{k}/{n}", lambda s, n=n, k=k, g=sign: g * s[k] / s[n]),
                ]
    return found


def vacuous(link: Link, comparisons, entered, totals) -> str:
    """Why the check of a link that holds could not have failed, if so."""
    literal = any(isinstance(s, m.Const | m.Like) for s in (link.left, link.right))
    if link.left == link.right:
        return "an equation with itself"
    for key, total in totals.items():
        if len(entered.get(key, ())) < total:
            return "a branch of the cases is never entered by the data"
    if all(c.zero for c in comparisons) and not literal:
        return "both sides are zero throughout"
    if not any(c.varied for c in comparisons):
        return "no index takes more than one value"
    return ""
