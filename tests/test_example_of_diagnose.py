import torch

from proofread import diagnose


def layer_norm(x, gamma):
    deviation = x - x.mean(-1, keepdim=True)
    return gamma * deviation / (x.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()


def grad_x(inputs, upstream):
    x, gamma = inputs["x"], inputs["gamma"]
    rstd = 1 / (x.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
    y = (x - x.mean(-1, keepdim=True)) * rstd
    g = upstream * gamma
    return rstd * (g - g.mean(-1, keepdim=True) - y * (g * y).mean(-1, keepdim=True))


def test_gradient_of_my_layer_norm():
    inputs = {"x": torch.randn(4, 6), "gamma": torch.randn(6)}
    diagnosis = diagnose(grad_x, layer_norm, inputs, wrt="x")
    assert diagnosis.ok, diagnosis
