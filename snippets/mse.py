"""Mean squared error: J = mse(A, Y), and dJ/dA.

A and Y are (N, M): N rows, M outputs each. J is one number.
"""

# --8<-- [start:imports]
import torch
from jaxtyping import Float
from torch import Tensor

# --8<-- [end:imports]


# --8<-- [start:mse_by_row]
def mse_by_row(
    A: Float[Tensor, "N M"], Y: Float[Tensor, "N M"]
) -> Float[Tensor, ""]:
    """One row at a time, in plain Python.

    ValueError where A is empty.

    >>> A = torch.tensor([[3., 1.], [5., 2.]])
    >>> Y = torch.tensor([[1., 5.], [5., 4.]])
    >>> mse_by_row(A, Y)  # (4 + 16 + 0 + 4) / 4
    tensor(6.)
    """
    if A.numel() == 0:
        raise ValueError(f"A needs entries: {A.shape}")
    errors = []
    rows = zip(A.tolist(), Y.tolist(), strict=True)
    for a, y in rows:
        outputs = zip(a, y, strict=True)
        squares = [(p - q) ** 2 for p, q in outputs]
        errors.append(sum(squares) / len(squares))
    return A.new_tensor(sum(errors) / len(errors))


# --8<-- [end:mse_by_row]


# --8<-- [start:mse]
def mse(
    A: Float[Tensor, "N M"], Y: Float[Tensor, "N M"]
) -> Float[Tensor, ""]:
    """The mean of all squared differences.

    ValueError where A is empty.

    >>> A = torch.tensor([[3., 1.], [5., 2.]])
    >>> Y = torch.tensor([[1., 5.], [5., 4.]])
    >>> mse(A, Y)
    tensor(6.)
    """
    if A.numel() == 0:
        raise ValueError(f"A needs entries: {A.shape}")
    return (A - Y).square().mean()


# --8<-- [end:mse]


# --8<-- [start:grad_A_by_entry]
def grad_A_by_entry(
    A: Float[Tensor, "N M"], Y: Float[Tensor, "N M"]
) -> Float[Tensor, "N M"]:
    """One entry at a time.

    >>> A = torch.tensor([[3., 1.], [5., 2.]])
    >>> Y = torch.tensor([[1., 5.], [5., 4.]])
    >>> grad_A_by_entry(A, Y)
    tensor([[ 1., -2.],
            [ 0., -1.]])
    """
    N, M = A.shape
    dJ_dA = torch.empty_like(A)
    for i in range(N):
        for k in range(M):
            error = A[i, k] - Y[i, k]
            dJ_dA[i, k] = 2 / (N * M) * error
    return dJ_dA


# --8<-- [end:grad_A_by_entry]


# --8<-- [start:grad_A_by_row]
def grad_A_by_row(
    A: Float[Tensor, "N M"], Y: Float[Tensor, "N M"]
) -> Float[Tensor, "N M"]:
    """One row at a time, then stacked.

    >>> A = torch.tensor([[3., 1.], [5., 2.]])
    >>> Y = torch.tensor([[1., 5.], [5., 4.]])
    >>> grad_A_by_row(A, Y)
    tensor([[ 1., -2.],
            [ 0., -1.]])
    """
    N, M = A.shape
    rows = [
        2 / (N * M) * (A[i] - Y[i]) for i in range(N)
    ]
    return torch.stack(rows)


# --8<-- [end:grad_A_by_row]


# --8<-- [start:grad_A]
def grad_A(
    A: Float[Tensor, "N M"], Y: Float[Tensor, "N M"]
) -> Float[Tensor, "N M"]:
    """dJ/dA, all entries at once.

    >>> A = torch.tensor([[3., 1.], [5., 2.]])
    >>> Y = torch.tensor([[1., 5.], [5., 4.]])
    >>> grad_A(A, Y)
    tensor([[ 1., -2.],
            [ 0., -1.]])
    """
    return 2 * (A - Y) / A.numel()


# --8<-- [end:grad_A]
