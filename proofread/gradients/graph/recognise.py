"""Find, by value, the textbook functions in a forward that is written by hand.

`e / e.sum(-1)` is softmax because its values are. Who differentiates it uses the textbook
formula, so a wrong gradient is a wrong version of that formula, not of the quotient rule.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from proofread.gradients.graph import families
from proofread.gradients.graph.likeness import Likeness
from proofread.gradients.graph.program import Program, Ref
from proofread.gradients.graph.rules.core import RULES, mul
from proofread.gradients.graph.rules.functions import unary_gradient
from proofread.gradients.graph.rules.normalise import (
    Normalisation,
    normalise_gradient,
    standardise_gradient,
)
from proofread.gradients.graph.rules.softmax import log_softmax_gradient, softmax_gradient
from proofread.gradients.graph.unary import RECOGNISABLE, UNARY, leaky

TextbookRule = Callable[[Program, Ref, Ref], list[tuple[Ref, Ref]]]
TINY = 0.02  # what is added to a variance and is smaller is an eps
ATOMIC = {"softmax", "log_softmax", "normalise", "unary", "bce", "leaf", "view", "permute"}


def textbook_rules(p: Program) -> dict[int, TextbookRule]:
    """Return a rule for each forward step that computes a textbook function of an earlier value."""
    active = p.dependents(1 << p.wrt.i)
    look = Likeness(p)
    values = [
        i
        for i in range(p.output.i + 1)
        if active >> i & 1 and p.is_float(Ref(i)) and p[Ref(i)].isfinite().all()
    ]
    found: dict[int, TextbookRule] = {}
    for y in values:
        step = p.steps[y]
        # Instance norm is a batch norm between two views, which hide its axes.
        around = step.kind == "view" and p.steps[step.operands()[0].i].kind == "normalise"
        composed = step.kind == "unary"  # such as the log of 1 + exp(x)
        if (step.kind in ATOMIC and not (around or composed)) or y == p.wrt.i:
            continue
        direct = step.operands()[0].i if composed else -1
        earlier = (_recognise(p, look, Ref(x), Ref(y)) for x in values if x < y and x != direct)
        recognised = next((r for r in earlier if r), None) or _convolution(p, Ref(y))
        if recognised:
            found[y] = recognised
    return found


def _recognise(p: Program, look: Likeness, x: Ref, y: Ref) -> TextbookRule | None:
    a, b = p[x], p[y]
    if a.shape == b.shape and a.numel() > 2:
        return (
            (_softmax(p, x, y) if look.sums_to_one(y) else None)
            or (_elementwise(p, x, y) if look.elementwise(x, y) else None)
            or _normalised(p, look, x, y)
            or _standardised(p, x, y)
            or _bce(p, x, y)
        )
    if a.dim() == b.dim() + 1:
        return _cross_entropy(p, x, y)
    return None


def _same(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-6, atol=1e-9)


def _softmax(p: Program, x: Ref, y: Ref) -> TextbookRule | None:
    a, b = p[x], p[y]
    for axis in range(a.dim()):
        if a.shape[axis] < 2:
            continue
        if _same(torch.softmax(a, axis), b):
            p.recognise(y, "softmax", x)
            return lambda p, out, g, axis=axis: [(x, softmax_gradient(p, x, out, g, axis))]
        if _same(torch.log_softmax(a, axis), b):
            p.recognise(y, "log_softmax", x)
            return lambda p, out, g, axis=axis: [(x, log_softmax_gradient(p, x, out, g, axis))]
    return None


def _elementwise(p: Program, x: Ref, y: Ref) -> TextbookRule | None:
    a, b = p[x], p[y]
    if a.min() >= 0:  # relu and its like would pass for the identity
        return None
    for name in RECOGNISABLE:
        if _same(UNARY[name].function(a), b):
            p.recognise(y, name, x)
            return lambda p, out, g, name=name: [(x, unary_gradient(p, name, x, out, g))]
    if alpha := _alpha_of_elu(a, b):
        p.recognise(y, "elu", x)
        spec = families.elu(alpha)
        return lambda p, out, g: [(x, unary_gradient(p, "elu", x, out, g, spec))]
    positive = a > 0
    slopes = b[~positive] / a[~positive]
    if positive.any() and _same(a[positive], b[positive]) and slopes.numel() > 1:
        slope = float(slopes[0])
        if slope not in (0, 1, -1) and _same(slopes, slopes[:1].expand_as(slopes)):
            spec = leaky(slope)
            if 0 < slope < 1:
                p.recognise(y, "leaky_relu", x)
            return lambda p, out, g: [(x, unary_gradient(p, "leaky_relu", x, out, g, spec))]
    return None


def _alpha_of_elu(a: Tensor, b: Tensor) -> float:
    """Return alpha where b is a where it is positive, and alpha * (exp(a) - 1) elsewhere; else 0."""
    below = a < 0
    if below.sum() < 2 or below.all() or not _same(a[~below], b[~below]):
        return 0.0
    alpha = float(b[below][0] / torch.expm1(a[below][0]))
    return alpha if _same(alpha * torch.expm1(a[below]), b[below]) else 0.0


def _normalised(p: Program, look: Likeness, x: Ref, y: Ref) -> TextbookRule | None:
    form = _form(p[x], p[y], look.proportional(x, y))
    if form:
        if called := _normalisation_called(form, p[x].dim()):
            p.recognise(y, called, x)
        return _normalise_rule(x, form)
    if p.steps[y.i].kind not in ("mul", "div"):
        return None
    # gamma * (x - mean) / std, in this order: what is normalised has been scaled already.
    parts = p.steps[y.i].operands()
    for i in range(y.i):
        gamma = p.values[i]
        source = i
        while p.steps[source].kind == "view":
            source = p.steps[source].operands()[0].i
        if p.steps[source].kind != "leaf" or source in (x.i, p.wrt.i) or not p.is_float(Ref(i)):
            continue
        if (
            not 1 < gamma.numel() < p[y].numel()
            or (gamma == 0).any()
            or not _broadcasts(gamma, p[y])
        ):
            continue
        form = _form(p[x], p[y] / gamma, look.proportional(x, y, Ref(i)))
        if form and not any(
            p.shape(r) == p.shape(y) and _form(p[x], p[r], look.proportional(x, r)) for r in parts
        ):
            if called := _normalisation_called(form, p[x].dim()):
                p.recognise(y, called, x, Ref(i))
            return _scaled_rule(x, Ref(i), form)
    return None


def _broadcasts(small: Tensor, large: Tensor) -> bool:
    have, want = small.shape[::-1], large.shape[::-1]
    if len(have) > len(want):
        return False
    return all(a in (1, b) for a, b in zip(have, want, strict=False))


def _scaled_rule(x: Ref, gamma: Ref, form: Normalisation) -> TextbookRule:
    def rule(p, out, g):
        xhat = p.emit("div", lambda a, b: a / b, out, gamma, called="xhat")
        p.steps[xhat.i].name = "xhat"
        scaled = mul(p, g, gamma, "operand")
        return _normalise_rule(x, form)(p, xhat, scaled)

    return rule


def _form(a: Tensor, b: Tensor, ways: Iterable[tuple]) -> Normalisation | None:
    """Return how b is a normalised, or None; `ways` are the axes, and whether centred, to try."""
    for axes, centred in ways:
        count = math.prod(a.shape[i] for i in axes)
        c = a - a.mean(axes, keepdim=True) if centred else a
        scale = (b * c).sum(axes, keepdim=True) / (c * c).sum(axes, keepdim=True)
        if not _same(c * scale, b) or (scale <= 0).any():
            continue
        found = _divisor(c, scale, axes, count)
        if found is None or (scale - 1).abs().max() < 1e-6:
            continue
        return Normalisation(axes, centred, count, *found)
    return None


def _standardised(p: Program, x: Ref, y: Ref) -> TextbookRule | None:
    """Recognise (x - mean) / sqrt(var + eps) with a mean and a variance among the inputs."""
    a, b = p[x], p[y]
    if p.steps[y.i].kind not in ("mul", "div") or a.dim() < 2:
        return None
    given = [
        Ref(i)
        for i, step in enumerate(p.steps[: y.i])
        if step.kind == "leaf" and i != p.wrt.i and p.is_float(Ref(i)) and p.values[i].numel() > 1
    ]
    given = [r for r in given if _broadcasts(p[r], a)]
    spreads = [r for r in given if p[r].numel() < a.numel() and not (p[r] < 0).any()]
    pairs = [(m, v) for m in given for v in spreads if m != v and p.shape(m) == p.shape(v)]
    scales = [None, *[r for r in given if not (p[r] == 0).any()]] if pairs else []
    for (mean, var), gamma in itertools.product(pairs, scales):
        v = p[var]
        if gamma in (mean, var):
            continue
        eps = ((a - p[mean]) / b * (p[gamma] if gamma else 1)).square() - v
        if not (eps.abs() < TINY).all() or float(eps.max() - eps.min()) > 1e-8:
            continue
        aligned = (1,) * (a.dim() - v.dim()) + tuple(v.shape)
        axes = tuple(k for k, size in enumerate(aligned) if size == 1)
        if axes == (0, *range(2, a.dim())):
            p.recognise(y, "batch_norm", x, mean, var, *[gamma] * bool(gamma))
        return _standardise_rule(x, mean, var, gamma, axes, float(eps.mean()))
    return None


def _normalisation_called(form: Normalisation, rank: int) -> str:
    if form.axes == (2, 3) and rank == 4 and form.centred:
        return "instance_norm"
    if form.axes == tuple(range(rank - len(form.axes), rank)) and form.divisor == form.count:
        return "layer_norm" if form.centred else "rms_norm"
    if form.axes == (0, *range(2, rank)) and form.centred:
        return "batch_norm"
    return "normalize" if form.divisor == 1 and not form.centred else ""


def _divisor(c: Tensor, scale: Tensor, axes, count: int) -> tuple[int, float] | None:
    """Return divisor and eps where 1/scale² is squares / divisor + eps, eps being small."""
    squares = (c * c).sum(axes, keepdim=True)
    for divisor in (count, count - 1, 1):
        eps = scale**-2 - squares / divisor
        if (eps > -1e-9).all() and (eps < TINY).all() and float(eps.max() - eps.min()) < 1e-8:
            return divisor, float(eps.mean())
    return None


def _normalise_rule(x: Ref, form: Normalisation) -> TextbookRule:
    def rule(p, out, g):
        def rstd(v, y):
            c = v - v.mean(form.axes, keepdim=True) if form.centred else v
            products, squares = (y * c, c * c)
            return products.sum(form.axes, keepdim=True) / squares.sum(form.axes, keepdim=True)

        scale = p.emit("rstd", rstd, x, out, called=form.scale)
        p.steps[scale.i].name = form.scale
        return [(x, normalise_gradient(p, x, out, g, scale, form))]

    return rule


def _standardise_rule(x, mean, var, gamma: Ref | None, axes, eps: float) -> TextbookRule:
    def rule(p, out, g):
        scaled = mul(p, g, gamma, "operand") if gamma else g
        return [(x, standardise_gradient(p, x, mean, var, scaled, axes, eps))]

    return rule


def _bce(p: Program, x: Ref, y: Ref) -> TextbookRule | None:
    a, b = p[x], p[y]
    for i, step in enumerate(p.steps[: y.i]):
        target = p.values[i]
        if step.kind != "leaf" or not isinstance(target, Tensor) or i == p.wrt.i:
            continue
        if target.shape != a.shape or (target < 0).any() or (target > 1).any():
            continue
        target = target.to(a)
        for sign, losses in ((1, b), (-1, -b)):
            if _same(F.binary_cross_entropy_with_logits(a, target, reduction="none"), losses):
                if sign > 0:
                    p.recognise(y, "binary_cross_entropy_with_logits", x, Ref(i))
                return _bce_rule(x, Ref(i), sign)
            if (a > 0).all() and (a < 1).all():
                plain = F.binary_cross_entropy(a, target, reduction="none")
                if _same(plain, losses):
                    if sign > 0:
                        p.recognise(y, "binary_cross_entropy", x, Ref(i))
                    return _bce_rule(x, Ref(i), sign, "bce_probability")
    return None


def _bce_rule(x: Ref, target: Ref, sign: int, kind: str = "bce") -> TextbookRule:
    def rule(p, out, g):
        if sign < 0:
            g = mul(p, g, -1, "sign")
        step = p.steps[out.i]
        stand_in = type(step)(kind, step.function, (x, target), "forward")
        return RULES[kind](p, stand_in, out, g)[:1]

    return rule


def _convolution(p: Program, y: Ref) -> TextbookRule | None:
    """Recognise a sliding product of two vectors or two planes, flipped or not."""
    out = p[y]
    if out.dim() not in (1, 2) or p.steps[y.i].kind == "conv":
        return None
    convolve = F.conv1d if out.dim() == 1 else F.conv2d
    floats = [
        Ref(i)
        for i in range(y.i)
        if p.is_float(Ref(i)) and p.values[i].dim() == out.dim() and p.steps[i].kind == "leaf"
    ]
    for x, w in itertools.permutations(floats, 2):
        reach = tuple(n - k + 1 for n, k in zip(p.shape(x), p.shape(w), strict=True))
        if reach != tuple(out.shape) or max(p.shape(w)) < 2:
            continue
        signal, kernel = p[x][None, None], p[w][None, None]
        for flipped in (False, True):
            turned = kernel.flip(list(range(2, kernel.dim()))) if flipped else kernel
            if _same(convolve(signal, turned)[0, 0], out):
                called = "convolve" if flipped else f"conv{out.dim()}d"
                p.recognise(y, called, x, w)
                return _convolution_rule(x, w, flipped)
    return None


def _convolution_rule(x: Ref, w: Ref, flipped: bool) -> TextbookRule:
    def rule(p, out, g):
        rank = p[out].dim()
        spatial = list(range(2, 2 + rank))

        def lifted(v):
            return v[None, None]

        def turned(v):
            return v[None, None].flip(spatial)

        signal, gradient = (p.emit("view", lifted, v) for v in (x, g))
        kernel = p.emit("view", turned if flipped else lifted, w)
        step = p.steps[out.i]
        details = {"stride": [1] * rank, "padding": [0] * rank, "dilation": [1] * rank}
        stand_in = type(step)("conv", step.function, (signal, kernel), "forward", details=details)
        (_, by_x), (_, by_w) = RULES["conv"](p, stand_in, out, gradient)
        back = (lambda v: v.flip(spatial)[0, 0]) if flipped else (lambda v: v[0, 0])
        return [
            (x, p.emit("view", lambda v: v[0, 0], by_x)),
            (w, p.emit("view", back, by_w)),
        ]

    return rule


def _cross_entropy(p: Program, x: Ref, y: Ref) -> TextbookRule | None:
    a, b = p[x], p[y]
    for i, step in enumerate(p.steps[: y.i]):
        target = p.values[i]
        if step.kind != "leaf" or not isinstance(target, Tensor) or target.dtype != torch.int64:
            continue
        if (
            target.shape != b.shape
            or a.shape[:-1] != b.shape
            or (target < 0).any()
            or (target >= a.shape[-1]).any()
        ):
            continue
        log_p = torch.log_softmax(a, -1)
        picked = log_p.gather(-1, target.unsqueeze(-1)).squeeze(-1)
        for sign in (1, -1):
            if _same(sign * picked, b):
                if sign < 0:
                    p.recognise(y, "cross_entropy", x, Ref(i))
                return _cross_entropy_rule(x, Ref(i), sign)
    return None


def _cross_entropy_rule(x: Ref, target: Ref, sign: int) -> TextbookRule:
    def rule(p, out, g):
        if sign < 0:
            g = mul(p, g, -1, "sign")
        axis = p[x].dim() - 1
        log_p = p.emit("log_softmax", lambda z: torch.log_softmax(z, axis), x, axis=axis)

        def scatter(gradient, t, like):
            empty = torch.zeros_like(like)
            return empty.scatter(-1, t.unsqueeze(-1), gradient.unsqueeze(-1))

        onehot = p.emit("onehot", scatter, g, target, log_p, called="one-hot")
        return [(x, log_softmax_gradient(p, x, log_p, onehot, axis))]

    return rule
