"""The network and the classes say the same as the single layers, put together."""

import pytest
import torch

from proofread.signatures import draw
from snippets import layers, linear, mse, network, relu


def chained(X, W, b, Y):
    """J and its gradients with respect to W, b and X, from the layers' own functions."""
    Z = linear.linear(X, W, b)
    A = relu.relu(Z)
    dJ_dZ = relu.grad_Z(Z, mse.grad_A(A, Y))
    return (
        mse.mse(A, Y),
        linear.grad_W(X, dJ_dZ),
        linear.grad_b(dJ_dZ),
        linear.grad_X(dJ_dZ, W),
    )


def by_autograd(X, W, b, Y):
    X, W, b = (t.clone().requires_grad_() for t in (X, W, b))
    J = (torch.relu(X @ W + b) - Y).square().mean()
    return J.detach(), *torch.autograd.grad(J, (W, b, X))


@pytest.fixture(params=[{}, {"M": 1}, {"N": 1}, "ties"], ids=str)
def data(request):
    if request.param != "ties":
        return draw(network.forward, request.param)
    drawn = draw(network.forward)
    # Every z in the first column is exactly 0.
    drawn["W"][:, 0], drawn["b"][0] = 0, 0
    return drawn


def test_layers_chained(data):
    torch.testing.assert_close(chained(**data), by_autograd(**data))


def test_network(data):
    torch.testing.assert_close(network.forward_and_backward(**data), by_autograd(**data))


def test_network_by_row(data):
    expected = network.forward(**data)[-1]
    torch.testing.assert_close(network.forward_by_row(**data), expected)


def test_mse_by_row():
    data = draw(mse.mse)
    torch.testing.assert_close(mse.mse_by_row(**data), mse.mse(**data))


def test_model_of_classes(data):
    first = layers.Linear(data["W"], data["b"])
    model = layers.Model([first, layers.Relu()], layers.Mse())
    J = model(data["X"], data["Y"])
    dJ_dX = model.backward()
    actual = (J, first.dJ_dW, first.dJ_db, dJ_dX)
    torch.testing.assert_close(actual, by_autograd(**data))


def test_two_layers_deep():
    """No layer knows its neighbours, so two linear layers need no new code."""
    torch.manual_seed(0)
    X, Y = torch.randn(5, 3).double(), torch.randn(5, 4).double()
    parameters = [torch.randn(*s).double() for s in ((3, 7), (7,), (7, 4), (4,))]
    W1, b1, W2, b2 = parameters
    first, second = layers.Linear(W1, b1), layers.Linear(W2, b2)
    model = layers.Model([first, layers.Relu(), second], layers.Mse())
    model(X, Y)
    model.backward()
    leaves = [p.clone().requires_grad_() for p in parameters]
    hidden = torch.relu(X @ leaves[0] + leaves[1])
    J = (hidden @ leaves[2] + leaves[3] - Y).square().mean()
    expected = torch.autograd.grad(J, leaves)
    actual = (first.dJ_dW, first.dJ_db, second.dJ_dW, second.dJ_db)
    torch.testing.assert_close(actual, expected)


def test_dot_g(data):
    X, W, b, Y = (data[name].clone() for name in ("X", "W", "b", "Y"))
    Z = X @ W + b
    A = torch.relu(Z)
    layers.mse_g(A, Y)
    layers.relu_g(Z, A)
    layers.linear_g(X, Z, W, b)
    torch.testing.assert_close((W.g, b.g, X.g), by_autograd(**data)[1:])


def test_autograd_function(data):
    X, W, b = (data[name].clone().requires_grad_() for name in ("X", "W", "b"))
    assert torch.autograd.gradcheck(layers.LinearFunction.apply, (X, W, b))
