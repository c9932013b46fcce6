"""Linear layer: Z = linear(X, W, b), and dJ/dW, dJ/db, dJ/dX.

X is (N, D), W is (D, M), b is (M,), Z and dJ_dZ are (N, M).
"""

# --8<-- [start:imports]
import torch
from jaxtyping import Float
from torch import Tensor

# --8<-- [end:imports]


# --8<-- [start:linear]
def linear(
    X: Float[Tensor, "N D"],
    W: Float[Tensor, "D M"],
    b: Float[Tensor, "M"],
) -> Float[Tensor, "N M"]:
    """Each row of X, times W, plus b.

    >>> X = torch.tensor([[1., 2.], [3., 4.], [5., 6.]])
    >>> W = torch.tensor([[1., 0.], [-1., 2.]])
    >>> linear(X, W, torch.tensor([10., 20.]))
    tensor([[ 9., 24.],
            [ 9., 28.],
            [ 9., 32.]])
    """
    return X @ W + b


# --8<-- [end:linear]


# --8<-- [start:grad_W_by_entry]
def grad_W_by_entry(
    X: Float[Tensor, "N D"], dJ_dZ: Float[Tensor, "N M"]
) -> Float[Tensor, "D M"]:
    """One weight at a time: a sum over the rows.

    >>> X = torch.tensor([[1., 2.], [3., 4.], [5., 6.]])
    >>> dJ_dZ = torch.tensor([[1., 1.], [0., 2.], [1., 0.]])
    >>> grad_W_by_entry(X, dJ_dZ)
    tensor([[ 6.,  7.],
            [ 8., 10.]])
    """
    N, D = X.shape
    M = dJ_dZ.shape[1]
    dJ_dW = X.new_zeros(D, M)
    for j in range(D):
        for k in range(M):
            for i in range(N):
                dJ_dW[j, k] += X[i, j] * dJ_dZ[i, k]
    return dJ_dW


# --8<-- [end:grad_W_by_entry]


# --8<-- [start:grad_W_by_row]
def outer_products(
    X: Float[Tensor, "N D"], dJ_dZ: Float[Tensor, "N M"]
) -> Float[Tensor, "N D M"]:
    """What each row adds to dJ/dW, stacked.

    >>> X = torch.tensor([[1., 2.], [3., 4.], [5., 6.]])
    >>> dJ_dZ = torch.tensor([[1., 1.], [0., 2.], [1., 0.]])
    >>> outer_products(X, dJ_dZ)[1]  # of row 1
    tensor([[0., 6.],
            [0., 8.]])
    """
    rows = zip(X, dJ_dZ, strict=True)
    outer = [torch.outer(x, g) for x, g in rows]
    return torch.stack(outer)


def grad_W_by_row(
    X: Float[Tensor, "N D"], dJ_dZ: Float[Tensor, "N M"]
) -> Float[Tensor, "D M"]:
    """dJ/dW: the rows' outer products, now summed.

    >>> X = torch.tensor([[1., 2.], [3., 4.], [5., 6.]])
    >>> dJ_dZ = torch.tensor([[1., 1.], [0., 2.], [1., 0.]])
    >>> grad_W_by_row(X, dJ_dZ)
    tensor([[ 6.,  7.],
            [ 8., 10.]])
    """
    return outer_products(X, dJ_dZ).sum(0)


# --8<-- [end:grad_W_by_row]


# --8<-- [start:grad_W_by_broadcast]
def grad_W_by_broadcast(
    X: Float[Tensor, "N D"], dJ_dZ: Float[Tensor, "N M"]
) -> Float[Tensor, "D M"]:
    """All outer products at once, then their sum.

    >>> X = torch.tensor([[1., 2.], [3., 4.], [5., 6.]])
    >>> dJ_dZ = torch.tensor([[1., 1.], [0., 2.], [1., 0.]])
    >>> grad_W_by_broadcast(X, dJ_dZ)
    tensor([[ 6.,  7.],
            [ 8., 10.]])
    """
    # (N, D, 1) * (N, 1, M) is (N, D, M): real memory
    return (X.unsqueeze(-1) * dJ_dZ.unsqueeze(1)).sum(0)


# --8<-- [end:grad_W_by_broadcast]


# --8<-- [start:grad_W]
def grad_W(
    X: Float[Tensor, "N D"], dJ_dZ: Float[Tensor, "N M"]
) -> Float[Tensor, "D M"]:
    """dJ/dW: the product sums over the batch.

    >>> X = torch.tensor([[1., 2.], [3., 4.], [5., 6.]])
    >>> dJ_dZ = torch.tensor([[1., 1.], [0., 2.], [1., 0.]])
    >>> grad_W(X, dJ_dZ)
    tensor([[ 6.,  7.],
            [ 8., 10.]])
    """
    return X.T @ dJ_dZ


# --8<-- [end:grad_W]


# --8<-- [start:grad_b_by_entry]
def grad_b_by_entry(
    dJ_dZ: Float[Tensor, "N M"],
) -> Float[Tensor, "M"]:
    """One bias at a time: a sum over the rows.

    >>> dJ_dZ = torch.tensor([[1., 1.], [0., 2.], [1., 0.]])
    >>> grad_b_by_entry(dJ_dZ)
    tensor([2., 3.])
    """
    N, M = dJ_dZ.shape
    dJ_db = dJ_dZ.new_zeros(M)
    for k in range(M):
        for i in range(N):
            dJ_db[k] += dJ_dZ[i, k]
    return dJ_db


# --8<-- [end:grad_b_by_entry]


# --8<-- [start:grad_b_by_ones]
def grad_b_by_ones(
    dJ_dZ: Float[Tensor, "N M"],
) -> Float[Tensor, "M"]:
    """dJ/db as a product: b is the weight of an input 1.

    >>> dJ_dZ = torch.tensor([[1., 1.], [0., 2.], [1., 0.]])
    >>> grad_b_by_ones(dJ_dZ)
    tensor([2., 3.])
    """
    ones = dJ_dZ.new_ones(dJ_dZ.shape[0])
    return ones @ dJ_dZ


# --8<-- [end:grad_b_by_ones]


# --8<-- [start:grad_b]
def grad_b(
    dJ_dZ: Float[Tensor, "N M"],
) -> Float[Tensor, "M"]:
    """dJ/db: all rows share b, so their parts add up.

    >>> dJ_dZ = torch.tensor([[1., 1.], [0., 2.], [1., 0.]])
    >>> grad_b(dJ_dZ)
    tensor([2., 3.])
    """
    return dJ_dZ.sum(0)


# --8<-- [end:grad_b]


# --8<-- [start:grad_X_by_entry]
def grad_X_by_entry(
    dJ_dZ: Float[Tensor, "N M"], W: Float[Tensor, "D M"]
) -> Float[Tensor, "N D"]:
    """One input at a time: a sum over the outputs.

    >>> dJ_dZ = torch.tensor([[1., 1.], [0., 2.], [1., 0.]])
    >>> W = torch.tensor([[1., 0.], [-1., 2.]])
    >>> grad_X_by_entry(dJ_dZ, W)
    tensor([[ 1.,  1.],
            [ 0.,  4.],
            [ 1., -1.]])
    """
    N, M = dJ_dZ.shape
    D = W.shape[0]
    dJ_dX = dJ_dZ.new_zeros(N, D)
    for i in range(N):
        for j in range(D):
            for k in range(M):
                dJ_dX[i, j] += dJ_dZ[i, k] * W[j, k]
    return dJ_dX


# --8<-- [end:grad_X_by_entry]


# --8<-- [start:grad_X_by_row]
def grad_X_by_row(
    dJ_dZ: Float[Tensor, "N M"], W: Float[Tensor, "D M"]
) -> Float[Tensor, "N D"]:
    """One row at a time; stacked, and not summed.

    >>> dJ_dZ = torch.tensor([[1., 1.], [0., 2.], [1., 0.]])
    >>> W = torch.tensor([[1., 0.], [-1., 2.]])
    >>> grad_X_by_row(dJ_dZ, W)
    tensor([[ 1.,  1.],
            [ 0.,  4.],
            [ 1., -1.]])
    """
    rows = [g @ W.T for g in dJ_dZ]
    return torch.stack(rows)


# --8<-- [end:grad_X_by_row]


# --8<-- [start:grad_X_by_outer]
def grad_X_by_outer(
    dJ_dZ: Float[Tensor, "N M"], W: Float[Tensor, "D M"]
) -> Float[Tensor, "N D"]:
    """One outer product for each column of W, summed.

    >>> dJ_dZ = torch.tensor([[1., 1.], [0., 2.], [1., 0.]])
    >>> W = torch.tensor([[1., 0.], [-1., 2.]])
    >>> grad_X_by_outer(dJ_dZ, W)
    tensor([[ 1.,  1.],
            [ 0.,  4.],
            [ 1., -1.]])
    """
    columns = zip(dJ_dZ.T, W.T, strict=True)
    return sum(torch.outer(g, w) for g, w in columns)


# --8<-- [end:grad_X_by_outer]


# --8<-- [start:grad_X]
def grad_X(
    dJ_dZ: Float[Tensor, "N M"], W: Float[Tensor, "D M"]
) -> Float[Tensor, "N D"]:
    """dJ/dX: each row of dJ/dZ, back through W.

    >>> dJ_dZ = torch.tensor([[1., 1.], [0., 2.], [1., 0.]])
    >>> W = torch.tensor([[1., 0.], [-1., 2.]])
    >>> grad_X(dJ_dZ, W)
    tensor([[ 1.,  1.],
            [ 0.,  4.],
            [ 1., -1.]])
    """
    return dJ_dZ @ W.T


# --8<-- [end:grad_X]
