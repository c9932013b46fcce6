"""Layer, batch, group and RMS norm: an argument scaled by a statistic of its own."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch

from proofread.gradients.graph.naming import axes_said
from proofread.gradients.graph.program import Alternative, Program, Ref
from proofread.gradients.graph.rules.core import by_autograd, mul, rule, total


@rule("normalise")
def _normalise(p, step, out, g):
    x, axes = step.arguments[0], step.details["axes"]
    centred, eps = step.details["centre"], step.details["eps"]

    def rstd(v):
        c = v - v.mean(axes, keepdim=True) if centred else v
        return torch.rsqrt(c.square().mean(axes, keepdim=True) + eps)

    scale = p.emit("rstd", rstd, x, called="1/std")
    p.steps[scale.i].name = "1/std"
    count = math.prod(p.shape(x)[a] for a in axes)
    form = Normalisation(axes, centred, count, count, eps)
    return [(x, normalise_gradient(p, x, out, g, scale, form))]


@rule("standardise")
def _standardise(p, step, out, g):
    """(x - mean) / sqrt(var + eps), by a mean and a variance that are given."""
    scaled = standardise_gradient(p, *step.arguments, g, step.details["axes"], step.details["eps"])
    rest = by_autograd(p, step, out, g)
    return [(step.arguments[0], scaled), *[pair for pair in rest if pair[0] != step.arguments[0]]]


def standardise_gradient(p: Program, x, mean, var, g, axes, eps) -> Ref:
    """g / std: what is given does not depend on x."""

    def in_training(g, hat, r):
        return r * (g - g.mean(axes, keepdim=True) - hat * (g * hat).mean(axes, keepdim=True))

    def by_its_own(g, scale):
        c = p[x] - p[x].mean(axes, keepdim=True)
        r = torch.rsqrt(c.square().mean(axes, keepdim=True) + eps)
        return in_training(g, c * r, r)

    def by_the_given(g, scale):
        return in_training(g, (p[x] - p[mean]) * scale, scale)

    what = (
        "this differentiates the statistics of the batch too, as in training; "
        "{site} takes those it is given"
    )
    scale = p.emit("rstd", lambda v: torch.rsqrt(v + eps), var, called="1/std")
    p.steps[scale.i].name = "1/std"
    return p.emit(
        "mul",
        lambda a, b: a * b,
        *(g, scale),
        role="operand",
        alternatives=(
            Alternative("other_variant", what, by_its_own),
            Alternative("other_variant", what, by_the_given),
        ),
    )


@dataclass(frozen=True)
class Normalisation:
    """(x - mean) / sqrt(squares / divisor + eps) over `count` entries, or without the mean."""

    axes: tuple[int, ...]
    centred: bool
    count: int
    divisor: int
    eps: float

    @property
    def statistic(self) -> str:
        """What the scale is made of, in the words of its layer: LayerNorm, RMSNorm, a unit vector."""
        return "variance" if self.centred else "norm" if self.divisor == 1 else "mean square"

    @property
    def scale(self) -> str:
        return {"variance": "1/std", "norm": "1/norm", "mean square": "1/rms"}[self.statistic]


def normalise_gradient(
    p: Program, x: Ref, xhat: Ref, g: Ref, rstd: Ref, form: Normalisation
) -> Ref:
    """r (dn - <dn> - xhat <dn xhat>), in the steps of that formula."""
    axes, centred, count, divisor = form.axes, form.centred, form.count, form.divisor
    inner = total(p, mul(p, g, xhat, "inner"), axes, True, "stat")
    inner = mul(p, inner, 1 / divisor, "count", count=divisor, bessel=True)
    product = mul(p, xhat, inner, "stat_product")
    if centred:
        average = mul(p, total(p, g, axes, True, "stat"), 1 / count, "count", count=count)
    else:
        average = mul(p, total(p, g, axes, True, "stat"), 0.0, "absent")
    statistic, scale = form.statistic, form.scale
    inner_said = "sum" if statistic == "norm" else "mean"
    hint = f"The term of the {statistic} is subtracted: g - xhat * {inner_said}(g * xhat)."
    depends = ""
    if centred:
        hint = "Each term of a statistic is subtracted: g - mean(g) - xhat * mean(g * xhat)."
    elif statistic == "norm":
        depends = (
            f"The norm depends on {p.describe(x)} as well: there is a term along the unit vector."
        )
    alternatives = [
        Alternative(
            "norm_stats_detached",
            "the norm in {site} is treated as a constant"
            if statistic == "norm"
            else "the statistics of {site} are treated as constants",
            lambda g, m, t, i, a, r: g,
            depends,
        ),
        Alternative(
            "norm_var_term_missing",
            f"the path through the {statistic} of {{site}} is left out",
            lambda g, m, t, i, a, r: g - m,
            depends,
        ),
        Alternative(
            "sign_error",
            f"the term of the {statistic} has the wrong sign in the gradient of {{site}}",
            lambda g, m, t, i, a, r: g - m + t,
            hint,
        ),
        Alternative(
            "missing_path",
            "the direct path is left out: only the terms of the statistics of {site} are there",
            lambda g, m, t, i, a, r: -m - t,
        ),
        Alternative(
            "double_counted",
            f"the term of the {statistic} is subtracted twice in the gradient of {{site}}",
            lambda g, m, t, i, a, r: g - m - 2 * t,
        ),
        Alternative(
            "missing_scale_factor",
            f"the normalised values are left out of the term of the {statistic} in the gradient of {{site}}",
            lambda g, m, t, i, a, r: g - m - i,
        ),
        Alternative(
            "missing_upstream",
            f"the term of the {statistic} in the gradient of {{site}} is not multiplied by the upstream gradient",
            lambda g, m, t, i, a, r: g - m - a * a.square().mean(axes, keepdim=True),
        ),
        *[
            Alternative(
                "wrong_power",
                f"the term of the {statistic} in the gradient of {{site}} has {_power(1 + k, scale)} where {scale} belongs{_as_power(k, statistic)}",
                lambda g, m, t, i, a, r, k=k: g - m - t * r**k,
            )
            for k in (-2, -1, 1, 2)
        ],
        Alternative(
            "missing_scale_factor",
            f"the 2 of the square is left out of the term of the {statistic} in the gradient of {{site}}",
            lambda g, m, t, i, a, r: g - m - t / 2,
        ),
    ]
    for other in _other_counts(p.shape(x), count):
        said = f"divide by {other}, and must divide by {count}"
        if other == 1:
            said = f"are sums, not divided by {count}"
        alternatives.append(
            Alternative(
                "wrong_mean_count" if other > 1 else "missing_mean",
                f"the averages in the gradient of {{site}} {said}",
                lambda g, m, t, i, a, r, o=other: g - (m + t) * (count / o),
            )
        )
    shape = p.shape(x)
    if axes == (len(shape) - 1,) and shape[-1:] == shape[-2:-1]:
        alternatives += _without_keepdim(statistic)
    for other in other_axes(axes, p[x].dim()):
        alternatives += _over_other_axes(other, axes, centred)
    if centred:
        alternatives += [
            Alternative(
                "norm_mean_term_missing",
                "the path through the mean of {site} is left out",
                lambda g, m, t, i, a, r: g - t,
            ),
            Alternative(
                "sign_error",
                "the term of the mean has the wrong sign in the gradient of {site}",
                lambda g, m, t, i, a, r: g + m - t,
                hint,
            ),
            Alternative(
                "sign_error",
                "both terms of the statistics, mean and variance, have the wrong sign in the gradient of {site}",
                lambda g, m, t, i, a, r: g + m + t,
                hint,
            ),
            Alternative(
                "double_counted",
                "the term of the mean is subtracted twice in the gradient of {site}",
                lambda g, m, t, i, a, r: g - 2 * m - t,
            ),
        ]
    else:
        alternatives = [
            Alternative(
                "norm_var_term_missing",
                f"the path through the {statistic} of {{site}} is left out",
                lambda g, m, t, i, a, r: g,
                depends,
            ),
            Alternative(
                "other_variant",
                "this subtracts the mean of the upstream gradient, as for LayerNorm, but {site} "
                "subtracts no mean",
                lambda g, m, t, i, a, r: g - g.mean(axes, keepdim=True) - t,
            ),
            *alternatives,
        ]
    bracket = p.emit(
        "bracket",
        lambda g, m, t, i, a, r: g - m - t,
        g,
        average,
        product,
        inner,
        xhat,
        rstd,
        role="bracket",
        alternatives=tuple(alternatives),
    )
    return p.emit(
        "stat_mul",
        lambda d, r, g, t: d * r,
        bracket,
        rstd,
        g,
        product,
        role="stat",
        alternatives=(
            *_other_variance(form),
            Alternative(
                "missing_scale_factor",
                f"the factor {scale} is left out in the gradient of {{site}}",
                lambda d, r, g, t: d,
            ),
            Alternative(
                "wrong_power",
                f"the factor {scale} is there twice in the gradient of {{site}}",
                lambda d, r, g, t: d * r * r,
            ),
            Alternative(
                "wrong_power",
                f"the factor {scale} is there three times in the gradient of {{site}}",
                lambda d, r, g, t: d * r**3,
            ),
            Alternative(
                "wrong_power",
                f"the gradient is multiplied by {scale[2:]} where {scale} belongs in the gradient of {{site}}",
                lambda d, r, g, t: d / r,
            ),
            Alternative(
                "wrong_power",
                f"the root of {scale} stands where {scale} belongs in the gradient of {{site}}",
                lambda d, r, g, t: d * r.sqrt(),
            ),
            Alternative(
                "missing_local_derivative",
                "the derivative of {site} is left out",
                lambda d, r, g, t: g,
            ),
            Alternative(
                "missing_cross_terms",
                "only the diagonal of the Jacobian of {site} is used",
                lambda d, r, g, t: _norm_diagonal(r, g, p[xhat], centred, count, divisor),
            ),
        ),
    )


def _other_variance(form: Normalisation) -> list[Alternative]:
    """The gradient with the unbiased variance for the biased one, or the reverse."""
    if form.divisor == 1 or form.count == 1:
        return []
    biased = form.divisor == form.count
    share = form.divisor / (form.count - 1 if biased else form.count)

    def scale_of(r):
        return torch.rsqrt((r**-2 - form.eps) * share + form.eps)

    def rule(d, r, g, t):
        return (d + t - t * share * (scale_of(r) / r) ** 2) * scale_of(r)

    def mixed(d, r, g, t):
        return (d + t - t * (scale_of(r) / r) ** 2) * scale_of(r)

    variance, other = ("unbiased", "biased") if biased else ("biased", "unbiased")
    what = f"this is the gradient for the {variance} variance, and {{site}} has the {other} one"
    said = f"the {variance} variance is taken, in the rule for the {other} one of {{site}}"
    return [Alternative("other_variant", what, rule), Alternative("other_variant", said, mixed)]


def _other_counts(shape: tuple[int, ...], count: int) -> list[int]:
    """Return every number of entries along some axes, but the right one; 1 for a sum."""
    sets = [c for n in range(len(shape) + 1) for c in itertools.combinations(shape, n)]
    return sorted({math.prod(c) for c in sets} - {count})


def _power(k: int, scale: str) -> str:
    return {0: f"no {scale}", -1: scale[2:], 2: f"({scale})²", 3: f"({scale})³"}[k]


def _as_power(k: int, statistic: str) -> str:
    """Say the same of who writes the derivative of the scale as a power of variance + eps."""
    said = {"variance": "var", "mean square": "mean square"}.get(statistic)
    return f": ({said} + eps)**{-1.5 - k / 2:g} for **-1.5" if said else ""


def other_axes(axes: tuple[int, ...], rank: int) -> list[tuple[int, ...]]:
    """Return every set of axes but the given one."""
    sets = [c for n in range(1, rank + 1) for c in itertools.combinations(range(rank), n)]
    return [other for other in sets if other != axes]


def _over_other_axes(other, axes, centred: bool) -> list[Alternative]:
    what = f"the averages in the gradient of {{site}} run over {axes_said(other)}, and must run over {axes_said(axes)}"

    def average(v):
        return v.mean(other, keepdim=True)

    found = [
        Alternative("wrong_axis", what, lambda g, m, t, i, a, r: g - m - a * average(g * a)),
    ]
    one = f"the sum in the term of the variance in the gradient of {{site}} runs over {axes_said(other)}, and must run over {axes_said(axes)}"

    def share(v, i):
        return v.sum(other, keepdim=True) * i.numel() / v.numel()

    found += [
        Alternative("wrong_axis", one, lambda g, m, t, i, a, r: g - m - a * share(g * a, i)),
        Alternative(
            "wrong_axis", one, lambda g, m, t, i, a, r: g - m - a * r * share(g * a / r, i)
        ),
    ]
    if centred:
        found += [
            Alternative(
                "wrong_axis", what, lambda g, m, t, i, a, r: g - average(g) - a * average(g * a)
            ),
            Alternative("wrong_axis", what, lambda g, m, t, i, a, r: g - average(g) - t),
        ]
    return found


def _without_keepdim(statistic: str) -> list[Alternative]:
    """A row's sum that meets the columns, which as many columns as rows let pass."""
    what = (
        f"the sum in the term of the {statistic} in the gradient of {{site}} loses a dimension: "
        "it needs keepdim=True"
    )
    hint = "Without keepdim, the next operation broadcasts over other axes."
    return [
        Alternative("wrong_axis", what, lambda g, m, t, i, a, r, o=other: g - m - a * o(i, r), hint)
        for other in (lambda i, r: i.mT, lambda i, r: r * (i / r).mT)
    ]


def _norm_diagonal(r, g, xhat, centred, count, divisor):
    return r * g * (1 - (1 / count if centred else 0) - xhat * xhat / divisor)
