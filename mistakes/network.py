"""Wrong gradients of the whole network."""

# --8<-- [start:imports]
import torch
from jaxtyping import Float
from torch import Tensor

# --8<-- [end:imports]


# --8<-- [start:grad_X_after_step]
def grad_X_after_step(
    X: Float[Tensor, "N D"],
    W: Float[Tensor, "D M"],
    b: Float[Tensor, "M"],
    Y: Float[Tensor, "N M"],
) -> Float[Tensor, "N D"]:
    Z = X @ W + b
    dJ_dA = 2 * (torch.relu(Z) - Y) / Y.numel()
    dJ_dZ = dJ_dA * (Z > 0)
    W = W - 0.1 * X.T @ dJ_dZ  # the step, too early
    return dJ_dZ @ W.T


# --8<-- [end:grad_X_after_step]


# --8<-- [start:grad_W_without_relu]
def grad_W_without_relu(
    X: Float[Tensor, "N D"],
    W: Float[Tensor, "D M"],
    b: Float[Tensor, "M"],
    Y: Float[Tensor, "N M"],
) -> Float[Tensor, "D M"]:
    A = torch.relu(X @ W + b)
    dJ_dA = 2 * (A - Y) / A.numel()
    return X.T @ dJ_dA


# --8<-- [end:grad_W_without_relu]


# --8<-- [start:grad_W_mean_of_means]
def grad_W_mean_of_means(
    X: Float[Tensor, "N D"],
    W: Float[Tensor, "D M"],
    b: Float[Tensor, "M"],
    Y: Float[Tensor, "N M"],
) -> Float[Tensor, "D M"]:
    shards = zip(
        X.tensor_split(2),
        Y.tensor_split(2),
        strict=True,
    )
    means = []
    for x, y in shards:
        z = x @ W + b
        dJ_da = 2 * (torch.relu(z) - y) / y.numel()
        means.append(x.T @ (dJ_da * (z > 0)))
    return sum(means) / 2


# --8<-- [end:grad_W_mean_of_means]


# --8<-- [start:grad_W_sum_of_means]
def grad_W_sum_of_means(
    X: Float[Tensor, "N D"],
    W: Float[Tensor, "D M"],
    b: Float[Tensor, "M"],
    Y: Float[Tensor, "N M"],
) -> Float[Tensor, "D M"]:
    dJ_dW = torch.zeros_like(W)
    shards = zip(
        X.tensor_split(2),
        Y.tensor_split(2),
        strict=True,
    )
    for x, y in shards:
        z = x @ W + b
        dJ_da = 2 * (torch.relu(z) - y) / y.numel()
        dJ_dW += x.T @ (dJ_da * (z > 0))
    return dJ_dW


# --8<-- [end:grad_W_sum_of_means]
