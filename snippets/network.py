"""The whole chain: J = mse(relu(X @ W + b), Y), by hand.

X is (N, D), W (D, M), b (M,), Y (N, M). One neuron is M = 1.
"""

# --8<-- [start:imports]
import torch
from jaxtyping import Float
from torch import Tensor

# --8<-- [end:imports]


# --8<-- [start:forward_by_row]
def forward_by_row(
    X: Float[Tensor, "N D"],
    W: Float[Tensor, "D M"],
    b: Float[Tensor, "M"],
    Y: Float[Tensor, "N M"],
) -> Float[Tensor, ""]:
    """J in plain Python, one row of the batch at a time.

    ValueError where Y is empty.

    >>> X = torch.arange(1.0, 9.0).reshape(4, 2)
    >>> W = torch.tensor([[2., 1.], [-1., 0.]])
    >>> b = torch.tensor([-1., -3.])
    >>> Y = torch.ones(4, 2)
    >>> Y[:, 0] = torch.tensor([1., 3., 0., 7.])
    >>> forward_by_row(X, W, b, Y)
    tensor(3.7500)
    """
    if Y.numel() == 0:
        raise ValueError(f"Y needs entries: {Y.shape}")
    weights, biases = W.T.tolist(), b.tolist()
    errors = []
    rows = zip(X.tolist(), Y.tolist(), strict=True)
    for x, y in rows:
        neurons = zip(weights, biases, y, strict=True)
        for w, bias, target in neurons:
            inputs = zip(w, x, strict=True)
            z = sum(p * q for p, q in inputs) + bias
            a = max(0.0, z)
            errors.append((a - target) ** 2)
    return X.new_tensor(sum(errors) / len(errors))


# --8<-- [end:forward_by_row]


# --8<-- [start:forward]
def forward(
    X: Float[Tensor, "N D"],
    W: Float[Tensor, "D M"],
    b: Float[Tensor, "M"],
    Y: Float[Tensor, "N M"],
) -> tuple[
    Float[Tensor, "N M"],
    Float[Tensor, "N M"],
    Float[Tensor, ""],
]:
    """Z, A and J: one line for each layer.

    ValueError where Y is empty.

    >>> X = torch.arange(1.0, 9.0).reshape(4, 2)
    >>> W = torch.tensor([[2., 1.], [-1., 0.]])
    >>> b = torch.tensor([-1., -3.])
    >>> Y = torch.ones(4, 2)
    >>> Y[:, 0] = torch.tensor([1., 3., 0., 7.])
    >>> Z, A, J = forward(X, W, b, Y)
    >>> A
    tensor([[0., 0.],
            [1., 0.],
            [3., 2.],
            [5., 4.]])
    >>> J  # (1 + 1 + 4 + 1 + 9 + 1 + 4 + 9) / 8
    tensor(3.7500)
    """
    if Y.numel() == 0:
        raise ValueError(f"Y needs entries: {Y.shape}")
    Z = X @ W + b
    A = torch.relu(Z)
    J = (A - Y).square().mean()
    return Z, A, J


# --8<-- [end:forward]


# --8<-- [start:backward]
def backward(
    X: Float[Tensor, "N D"],
    W: Float[Tensor, "D M"],
    Z: Float[Tensor, "N M"],
    A: Float[Tensor, "N M"],
    Y: Float[Tensor, "N M"],
) -> tuple[
    Float[Tensor, "D M"],
    Float[Tensor, "M"],
    Float[Tensor, "N D"],
]:
    """dJ/dW, dJ/db, dJ/dX: the forward's lines, reversed.

    >>> X = torch.arange(1.0, 9.0).reshape(4, 2)
    >>> W = torch.tensor([[2., 1.], [-1., 0.]])
    >>> Z = X @ W + torch.tensor([-1., -3.])
    >>> Y = torch.ones(4, 2)
    >>> Y[:, 0] = torch.tensor([1., 3., 0., 7.])
    >>> gradients = backward(X, W, Z, torch.relu(Z), Y)
    >>> for dJ in gradients:
    ...     print(dJ + 0)  # no minus zeros
    tensor([[-1.2500,  6.5000],
            [-1.5000,  7.5000]])
    tensor([-0.2500,  1.0000])
    tensor([[ 0.0000,  0.0000],
            [-1.0000,  0.5000],
            [ 1.7500, -0.7500],
            [-0.2500,  0.5000]])
    """
    dJ_dA = 2 * (A - Y) / A.numel()
    dJ_dZ = dJ_dA * (Z > 0)
    dJ_dX = dJ_dZ @ W.T
    dJ_dW = X.T @ dJ_dZ
    dJ_db = dJ_dZ.sum(0)
    return dJ_dW, dJ_db, dJ_dX


# --8<-- [end:backward]


# --8<-- [start:forward_and_backward]
def forward_and_backward(
    X: Float[Tensor, "N D"],
    W: Float[Tensor, "D M"],
    b: Float[Tensor, "M"],
    Y: Float[Tensor, "N M"],
) -> tuple[
    Float[Tensor, ""],
    Float[Tensor, "D M"],
    Float[Tensor, "M"],
    Float[Tensor, "N D"],
]:
    """J, dJ/dW, dJ/db and dJ/dX: one step's worth.

    ValueError where Y is empty.

    >>> X = torch.arange(1.0, 9.0).reshape(4, 2)
    >>> W = torch.tensor([[2., 1.], [-1., 0.]])
    >>> b = torch.tensor([-1., -3.])
    >>> Y = torch.ones(4, 2)
    >>> Y[:, 0] = torch.tensor([1., 3., 0., 7.])
    >>> J, dJ_dW, dJ_db, dJ_dX = forward_and_backward(X, W, b, Y)
    >>> J, dJ_db
    (tensor(3.7500), tensor([-0.2500,  1.0000]))
    >>> dJ_dW
    tensor([[-1.2500,  6.5000],
            [-1.5000,  7.5000]])
    >>> dJ_dX[3]
    tensor([-0.2500,  0.5000])
    """
    Z, A, J = forward(X, W, b, Y)
    return J, *backward(X, W, Z, A, Y)


# --8<-- [end:forward_and_backward]


# --8<-- [start:grad_W_in_closed_form]
def grad_W_in_closed_form(
    X: Float[Tensor, "N D"],
    W: Float[Tensor, "D M"],
    b: Float[Tensor, "M"],
    Y: Float[Tensor, "N M"],
) -> Float[Tensor, "D M"]:
    """dJ/dW in one formula, the case inside the sum.

    ValueError where Y is empty.

    >>> X = torch.arange(1.0, 9.0).reshape(4, 2)
    >>> W = torch.tensor([[2., 1.], [-1., 0.]])
    >>> b = torch.tensor([-1., -3.])
    >>> Y = torch.ones(4, 2)
    >>> Y[:, 0] = torch.tensor([1., 3., 0., 7.])
    >>> grad_W_in_closed_form(X, W, b, Y)
    tensor([[-1.2500,  6.5000],
            [-1.5000,  7.5000]])
    """
    if Y.numel() == 0:
        raise ValueError(f"Y needs entries: {Y.shape}")
    dJ_dW = torch.zeros_like(W)
    for x, y in zip(X, Y, strict=True):
        z = x @ W + b
        dJ_dW += torch.outer(x, (z > 0) * (z - y))
    return 2 / Y.numel() * dJ_dW


# --8<-- [end:grad_W_in_closed_form]
