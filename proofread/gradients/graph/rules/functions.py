"""Functions of one variable, from the table of `unary`."""

from __future__ import annotations

import torch

from proofread.gradients.graph.naming import spelled
from proofread.gradients.graph.program import Alternative, Program, Ref
from proofread.gradients.graph.rules.core import mul, rule
from proofread.gradients.graph.unary import UNARY, Unary, mistaken

# The derivative of each is a mask of slopes.
SLOPES = ("relu", "leaky_relu", "prelu", "relu6", "hardtanh", "hardsigmoid", "clamp")


def _level(t: torch.Tensor) -> bool:
    return bool((t == t.reshape(-1)[0]).all())


@rule("unary")
def _unary(p, step, out, g):
    z = step.arguments[0]
    name = step.details["called"]
    return [(z, unary_gradient(p, name, z, out, g, step.details.get("spec")))]


def unary_gradient(p: Program, name: str, z: Ref, y: Ref, g: Ref, spec: Unary | None = None) -> Ref:
    """The gradient with respect to z of a function of one variable, `spec` or the one of that name."""
    spec = spec or UNARY[name]
    said = spelled(name)
    what = f"the derivative of {said}"
    label, mistake = (
        "derivative_at_wrong_point",
        f"{what}, in its form for the input, is given the output",
    )
    # The output of a leaky ReLU of negative slope has one sign.
    level = _level(spec.from_input(p[y])) and not _level(spec.from_input(p[z]))
    if name in ("leaky_relu", "prelu") and level:
        label, mistake = (
            "wrong_mask",
            "the mask of {site} asks its output, whose sign never changes",
        )
    alternatives = [Alternative(label, mistake, lambda zz, yy: spec.from_input(yy))]
    # Where it is the same for each output, as of abs, it is rather left out.
    if name == "abs" or (name in SLOPES and level and "leaky" not in name and name != "prelu"):
        alternatives = []
    if spec.from_output:
        alternatives += [
            Alternative(
                "derivative_at_wrong_point",
                f"{what}, in its form for the output, is given the input",
                lambda zz, yy: spec.from_output(zz),
            ),
            Alternative(
                "derivative_at_wrong_point",
                f"{said} is applied once too often inside its derivative",
                lambda zz, yy: spec.from_output(spec.function(yy)),
            ),
        ]
    for k, term in enumerate(spec.terms):
        alternatives.append(
            Alternative(
                "missing_product_term",
                "the derivative of {site} has two terms, and one is left out",
                lambda zz, yy, t=term: t(zz),
            )
        )
        others = [t for j, t in enumerate(spec.terms) if j != k]
        alternatives.append(
            Alternative(
                "sign_error",
                f"one term of {what} has the wrong sign",
                lambda zz, yy, t=term, o=others: sum(f(zz) for f in o) - t(zz),
            )
        )
        alternatives.append(
            Alternative(
                "double_counted",
                f"one term of {what} is added twice",
                lambda zz, yy, t=term, o=others: sum(f(zz) for f in o) + 2 * t(zz),
            )
        )
    if spec.terms:
        alternatives.append(
            Alternative(
                "derivative_at_wrong_point",
                f"{what} is given the output in one of its terms",
                lambda zz, yy: spec.terms[0](zz) + spec.terms[1](yy),
            )
        )
        first, second = spec.terms
        alternatives += [
            Alternative(
                "missing_product_term",
                f"the second term of {what} lacks the factor {p.describe(z)}",
                lambda zz, yy: first(zz) + second(zz) / zz,
            ),
            Alternative(
                "missing_local_derivative",
                "the value of {site} stands where its derivative belongs",
                lambda zz, yy: yy,
            ),
        ]
    if name == "relu":
        alternatives += [
            Alternative(
                "wrong_mask", "the mask of {site} is inverted", lambda zz, yy: (zz <= 0).to(zz)
            ),
            Alternative(
                "wrong_mask",
                f"the sign of {p.describe(z)} stands where the mask of {{site}} belongs",
                lambda zz, yy: torch.sign(zz),
            ),
            Alternative(
                "wrong_mask",
                f"the mask of {{site}} asks {p.describe(z)} > 1, not > 0",
                lambda zz, yy: (zz > 1).to(zz),
            ),
            Alternative(
                "wrong_operand",
                "the value of {site} stands where its mask belongs",
                lambda zz, yy: yy,
            ),
        ]
    else:
        alternatives += [
            Alternative(
                "missing_local_derivative",
                "the value of {site} stands where its derivative belongs",
                lambda zz, yy: yy,
            ),
            Alternative(
                "wrong_power",
                f"the root of {what} is taken",
                lambda zz, yy: spec.from_input(zz).abs().sqrt(),
            ),
        ][: 1 if name == "abs" else 2]
    if name == "leaky_relu":
        slope = float(spec.from_input(torch.tensor(-1.0)))
        alternatives += [
            Alternative(
                "wrong_mask",
                "the two slopes of {site} are exchanged",
                lambda zz, yy: torch.where(zz > 0, slope, 1.0).to(zz),
            ),
            *[
                Alternative(
                    "wrong_scale_factor",
                    f"the slope of {{site}} is {other:.4g} where it must be {slope:.4g}",
                    lambda zz, yy, s=other: torch.where(zz > 0, 1.0, s).to(zz),
                )
                for other in (-slope, 0.01, 0.1, 0.2, 0.3, 1 - slope, 1 / slope)
                if abs(other - slope) > 1e-9
            ],
        ]
    powers = [
        Alternative(
            "wrong_power",
            f"the exponent in {what} is not the right one",
            lambda zz, yy, w=wrong: w(zz),
        )
        for wrong in spec.wrong_powers
    ]
    # In a statistic, 1/x for 1/sqrt(x) is an exponent rather than a point of evaluation.
    inside = p.shape(z) != p.shape(p.wrt)
    alternatives = powers + alternatives if inside else alternatives + powers
    if spec.unscaled:
        alternatives.insert(
            0,
            Alternative(
                "missing_scale_factor",
                f"the constant factor of {what} is left out",
                lambda zz, yy: spec.unscaled(zz),
                "(2ˣ)' = ln 2 · 2ˣ" if name == "exp2" else "(xⁿ)' = n xⁿ⁻¹; √x is x to the 1/2.",
            ),
        )
    if name == "sigmoid":
        alternatives += [
            Alternative(
                "missing_product_term",
                f"{what} is s (1 - s), and the factor s is left out",
                lambda zz, yy: 1 - yy,
            ),
            Alternative(
                "sign_error", f"one term of {what} has the wrong sign", lambda zz, yy: yy * (1 + yy)
            ),
        ]
    if name == "tanh":
        alternatives += [
            Alternative(
                "wrong_power",
                f"{what} is 1 - tanh², and the square is left out",
                lambda zz, yy: 1 - yy,
                "Of y = tanh(z), the derivative is 1 - y².",
            ),
            Alternative(
                "sign_error", f"one term of {what} has the wrong sign", lambda zz, yy: 1 + yy * yy
            ),
        ]
    # A lost setting is likelier than a lost exponent.
    alternatives[:0] = [
        Alternative(slip.label, slip.what, lambda zz, yy, wrong=slip.from_input: wrong(zz))
        for slip in spec.slips
    ]
    for relative in spec.relatives:
        alternatives.append(
            Alternative(
                "other_variant",
                mistaken(relative, name),
                lambda zz, yy, r=relative: UNARY[r].from_input(zz),
            )
        )
        # Each is known by heart in its form for the output: y (1 - y), and 1 - y².
        from_output = UNARY[relative].from_output
        if {name, relative} == {"sigmoid", "tanh"} and from_output:
            alternatives.append(
                Alternative(
                    "other_variant",
                    mistaken(relative, name),
                    lambda zz, yy, f=from_output: f(yy),
                )
            )
    local = p.emit(
        "local",
        lambda zz, yy: spec.from_input(zz),
        z,
        y,
        alternatives=tuple(alternatives),
        called=f"{name}'",
        from_output=spec.from_output,
    )
    p.call(local, f"{spelled(name)}'", z)
    return mul(p, g, local, "activation_mask" if name == "relu" else "local", called=name)
