"""Functions of one variable, from the table of `unary`."""

from __future__ import annotations

import torch

from proofread.gradients.program import Alternative, Program, Ref
from proofread.gradients.rules.core import mul, rule
from proofread.gradients.unary import UNARY, Unary


@rule("unary")
def _unary(p, step, out, g):
    z = step.arguments[0]
    name = step.details["called"]
    return [(z, unary_gradient(p, name, z, out, g))]


def unary_gradient(p: Program, name: str, z: Ref, y: Ref, g: Ref, spec: Unary | None = None) -> Ref:
    """The gradient with respect to z of a function of one variable, `spec` or the one of that name."""
    spec = spec or UNARY[name]
    what = f"the derivative of {name}"
    alternatives = [
        Alternative(
            "derivative_at_wrong_point",
            f"{what} in its input form is fed the output",
            lambda zz, yy: spec.from_input(yy),
        ),
    ]
    if spec.from_output:
        alternatives += [
            Alternative(
                "derivative_at_wrong_point",
                f"{what} in its output form is fed the input",
                lambda zz, yy: spec.from_output(zz),
            ),
            Alternative(
                "derivative_at_wrong_point",
                f"{name} is applied once too often",
                lambda zz, yy: spec.from_output(spec.function(yy)),
            ),
        ]
    for k, term in enumerate(spec.terms):
        alternatives.append(
            Alternative(
                "missing_product_term",
                f"{what} has two terms by the product rule",
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
                f"{what} is fed the output",
                lambda zz, yy: spec.terms[0](zz) + spec.terms[1](yy),
            )
        )
        first, second = spec.terms
        alternatives += [
            Alternative(
                "missing_product_term",
                f"{what}: its second term lacks the factor z",
                lambda zz, yy: first(zz) + second(zz) / zz,
            ),
            Alternative(
                "missing_local_derivative",
                f"{what}: the value stands in its place",
                lambda zz, yy: yy,
            ),
        ]
    if name == "relu":
        alternatives += [
            Alternative("wrong_mask", "the mask is inverted", lambda zz, yy: (zz <= 0).to(zz)),
            Alternative(
                "wrong_mask", "the sign stands for the mask", lambda zz, yy: torch.sign(zz)
            ),
            Alternative(
                "wrong_mask", "the mask asks for a value above 1", lambda zz, yy: (zz > 1).to(zz)
            ),
            Alternative("wrong_operand", "the output stands for the mask", lambda zz, yy: yy),
        ]
    else:
        alternatives += [
            Alternative(
                "missing_local_derivative",
                f"the value of {name} stands in for its slope",
                lambda zz, yy: yy,
            ),
            Alternative(
                "wrong_power",
                f"{what} is squared or its root taken",
                lambda zz, yy: spec.from_input(zz).abs().sqrt(),
            ),
        ]
    if name == "leaky_relu":
        slope = float(spec.from_input(torch.tensor(-1.0)))
        alternatives += [
            Alternative(
                "wrong_mask",
                "the two slopes are exchanged",
                lambda zz, yy: torch.where(zz > 0, slope, 1.0).to(zz),
            ),
            *[
                Alternative(
                    "wrong_scale_factor",
                    f"the slope {other:.4g} stands where {slope:.4g} belongs",
                    lambda zz, yy, s=other: torch.where(zz > 0, 1.0, s).to(zz),
                )
                for other in (-slope, 0.01, 0.1, 0.2, 0.3, 1 - slope, 1 / slope)
                if abs(other - slope) > 1e-9
            ],
        ]
    powers = [
        Alternative("wrong_power", f"{what} has another exponent", lambda zz, yy, w=wrong: w(zz))
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
                f"the factor 1/2 of {what} is left out",
                lambda zz, yy: spec.unscaled(zz),
            ),
        )
    if name == "sigmoid":
        alternatives += [
            Alternative(
                "missing_product_term",
                f"{what} is s (1 - s), and one factor is missing",
                lambda zz, yy: 1 - yy,
            ),
            Alternative(
                "sign_error", f"one term of {what} has the wrong sign", lambda zz, yy: yy * (1 + yy)
            ),
        ]
    if name == "tanh":
        alternatives += [
            Alternative("wrong_power", f"{what} needs the square of tanh", lambda zz, yy: 1 - yy),
            Alternative(
                "sign_error", f"one term of {what} has the wrong sign", lambda zz, yy: 1 + yy * yy
            ),
        ]
    for relative in spec.relatives:
        alternatives.append(
            Alternative(
                "other_variant",
                f"this is the derivative of {relative}, not of {name}",
                lambda zz, yy, r=relative: UNARY[r].from_input(zz),
            )
        )
    local = p.emit(
        "local",
        lambda zz, yy: spec.from_input(zz),
        z,
        y,
        alternatives=tuple(alternatives),
        called=f"{name}'",
    )
    return mul(p, g, local, "activation_mask" if name == "relu" else "local", called=name)
