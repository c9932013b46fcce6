"""ReLU: A = relu(Z), and dJ/dZ from the upstream dJ/dA.

Z, A and both gradients are (N, M).
"""

# --8<-- [start:imports]
import torch
from jaxtyping import Float
from torch import Tensor

# --8<-- [end:imports]


# --8<-- [start:relu]
def relu(
    Z: Float[Tensor, "N M"],
) -> Float[Tensor, "N M"]:
    """Keep what is positive, replace the rest by 0.

    >>> relu(torch.tensor([[-1., 2.], [3., 0.]]))
    tensor([[0., 2.],
            [3., 0.]])
    """
    return torch.relu(Z)


# --8<-- [end:relu]


# --8<-- [start:grad_Z_by_entry]
def grad_Z_by_entry(
    Z: Float[Tensor, "N M"], dJ_dA: Float[Tensor, "N M"]
) -> Float[Tensor, "N M"]:
    """One entry at a time: pass it on, or stop it.

    >>> Z = torch.tensor([[-1., 2.], [3., 0.]])
    >>> dJ_dA = torch.tensor([[5., -6.], [7., 8.]])
    >>> grad_Z_by_entry(Z, dJ_dA)
    tensor([[ 0., -6.],
            [ 7.,  0.]])
    """
    N, M = Z.shape
    dJ_dZ = torch.empty_like(Z)
    for i in range(N):
        for k in range(M):
            slope = 1 if Z[i, k] > 0 else 0
            dJ_dZ[i, k] = dJ_dA[i, k] * slope
    return dJ_dZ


# --8<-- [end:grad_Z_by_entry]


# --8<-- [start:grad_Z_by_row]
def grad_Z_by_row(
    Z: Float[Tensor, "N M"], dJ_dA: Float[Tensor, "N M"]
) -> Float[Tensor, "N M"]:
    """One row at a time, by the row's whole Jacobian.

    >>> Z = torch.tensor([[-1., 2.], [3., 0.]])
    >>> dJ_dA = torch.tensor([[5., -6.], [7., 8.]])
    >>> grad_Z_by_row(Z, dJ_dA)
    tensor([[ 0., -6.],
            [ 7.,  0.]])
    """
    rows = []
    for z, g in zip(Z, dJ_dA, strict=True):
        da_dz = torch.diag((z > 0).to(g))  # (M, M)
        rows.append(g @ da_dz)
    return torch.stack(rows)


# --8<-- [end:grad_Z_by_row]


# --8<-- [start:grad_Z]
def grad_Z(
    Z: Float[Tensor, "N M"], dJ_dA: Float[Tensor, "N M"]
) -> Float[Tensor, "N M"]:
    """dJ/dZ, all entries at once: a mask, elementwise.

    >>> Z = torch.tensor([[-1., 2.], [3., 0.]])
    >>> dJ_dA = torch.tensor([[5., -6.], [7., 8.]])
    >>> grad_Z(Z, dJ_dA)
    tensor([[ 0., -6.],
            [ 7.,  0.]])
    """
    return dJ_dA * (Z > 0)


# --8<-- [end:grad_Z]
