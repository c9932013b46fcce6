"""Every `grad_*` function of every snippet, found by its name, against autograd."""

import pytest
import torch

from proofread.signatures import compare, forward_of, gradients_of
from tests import checks

GRADIENTS = [
    pytest.param(forward_of(module), gradient, id=f"{module.__name__}.{gradient.name}")
    for module, gradient in checks.all_gradients()
]
each_gradient = pytest.mark.parametrize(("forward", "gradient"), GRADIENTS)


def test_none_is_missed():
    """One gradient at least for each argument that is learned or passed back."""
    found = {(m.__name__.rpartition(".")[2], g.wrt) for m, g in checks.all_gradients()}
    assert {
        ("mse", "A"),
        ("relu", "Z"),
        ("linear", "W"),
        ("linear", "b"),
        ("linear", "X"),
        ("network", "W"),
    } <= found


@each_gradient
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_equals_autograd(forward, gradient, dtype):
    checks.check_against_autograd(gradient, forward, dtype=dtype)


@each_gradient
@pytest.mark.parametrize("sizes", [{"N": 1}, {"M": 1}, {"D": 1}, {"N": 64, "D": 7}], ids=str)
def test_equals_autograd_at_other_sizes(forward, gradient, sizes):
    checks.check_against_autograd(gradient, forward, sizes=sizes)


@each_gradient
def test_equals_finite_differences(forward, gradient):
    checks.check_against_differences(gradient, forward)


@each_gradient
def test_agrees_with_torch_at_a_tie(forward, gradient):
    checks.check_tie(gradient, forward)


@pytest.mark.parametrize("layer", ["mse", "relu", "linear"])
def test_all_forms_agree(layer):
    """The loop, the row, the broadcast and the product are the same function."""
    module = checks.module_of(layer)
    forms = {}
    for gradient in gradients_of(module):
        forms.setdefault(gradient.wrt, []).append(gradient)
    for wrt, gradients in forms.items():
        assert len(gradients) >= 3, f"dJ_d{wrt}: a derivation goes through three forms or more"
        assert f"grad_{wrt}" in [gradient.name for gradient in gradients]
        for seed in range(10):
            first, *others = (compare(g, forward_of(module), seed=seed)[0] for g in gradients)
            for other in others:
                torch.testing.assert_close(other, first)
