import torch
from torch.autograd import gradcheck

from snippets.layers import LinearFunction


def test_gradients_of_the_linear_layer():
    X = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    W = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    b = torch.randn(4, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(5, 4, dtype=torch.float64)

    by_autograd = torch.autograd.grad(X @ W + b, (X, W, b), upstream)
    Z = LinearFunction.apply(X, W, b)
    by_hand = torch.autograd.grad(Z, (X, W, b), upstream)

    torch.testing.assert_close(by_hand, by_autograd)
    assert gradcheck(LinearFunction.apply, (X, W, b))
