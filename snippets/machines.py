"""The batch cut anywhere: micro-batches in time, shards over machines.

X is (N, D), W (D, M), b (M,), Y (N, M), for the rows at hand: all, a few, or none.
"""

# --8<-- [start:imports]
from collections.abc import Iterable

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from snippets import linear, relu

# --8<-- [end:imports]


# --8<-- [start:part]
def part(
    X: Float[Tensor, "N D"],
    W: Float[Tensor, "D M"],
    b: Float[Tensor, "M"],
    Y: Float[Tensor, "N M"],
) -> tuple[
    Float[Tensor, ""],
    Float[Tensor, ""],
    Float[Tensor, "D M"],
    Float[Tensor, "M"],
]:
    """What these rows add: NM, S, dS/dW and dS/db.

    ValueError in half precision, where NM and S overflow.

    >>> X = torch.arange(1.0, 9.0).reshape(4, 2)
    >>> W = torch.tensor([[2., 1.], [-1., 0.]])
    >>> b = torch.tensor([-1., -3.])
    >>> Y = torch.ones(4, 2)
    >>> Y[:, 0] = torch.tensor([1., 3., 0., 7.])
    >>> for term in part(X[:3], W, b, Y[:3]):
    ...     print(term)
    tensor(6.)
    tensor(17.)
    tensor([[18., 10.],
            [20., 12.]])
    tensor([2., 2.])
    >>> for term in part(X[3:], W, b, Y[3:]):
    ...     print(term)
    tensor(2.)
    tensor(13.)
    tensor([[-28.,  42.],
            [-32.,  48.]])
    tensor([-4.,  6.])
    """
    if W.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"W is {W.dtype}, needed is one of"
            " torch.float32 and torch.float64"
        )
    Z = linear.linear(X, W, b)
    A = relu.relu(Z)
    S = (A - Y).square().sum()
    dS_dZ = relu.grad_Z(Z, 2 * (A - Y))
    dS_dW = linear.grad_W(X, dS_dZ)
    dS_db = linear.grad_b(dS_dZ)
    return W.new_tensor(Y.numel()), S, dS_dW, dS_db


# --8<-- [end:part]


# --8<-- [start:mean]
def mean(
    NM: Float[Tensor, ""],
    S: Float[Tensor, ""],
    dS_dW: Float[Tensor, "D M"],
    dS_db: Float[Tensor, "M"],
) -> tuple[
    Float[Tensor, ""],
    Float[Tensor, "D M"],
    Float[Tensor, "M"],
]:
    """J, dJ/dW, dJ/db: divide once, when all is added.

    ValueError where NM is 0.

    >>> NM, S = torch.tensor(8.), torch.tensor(30.)
    >>> dS_dW = torch.tensor([[-10., 52.], [-12., 60.]])
    >>> dS_db = torch.tensor([-2., 8.])
    >>> J, dJ_dW, dJ_db = mean(NM, S, dS_dW, dS_db)
    >>> J, dJ_db
    (tensor(3.7500), tensor([-0.2500,  1.0000]))
    >>> dJ_dW
    tensor([[-1.2500,  6.5000],
            [-1.5000,  7.5000]])
    """
    if NM == 0:
        raise ValueError("no shard has a row: NM is 0")
    return S / NM, dS_dW / NM, dS_db / NM


# --8<-- [end:mean]


# --8<-- [start:accumulate]
def accumulate(
    batches: Iterable[tuple[Tensor, Tensor]],
    W: Float[Tensor, "D M"],
    b: Float[Tensor, "M"],
) -> tuple[Tensor, ...]:
    """Add up micro-batches (X, Y); one in memory at a time.

    ValueError as in part.

    >>> X = torch.arange(1.0, 9.0).reshape(4, 2)
    >>> W = torch.tensor([[2., 1.], [-1., 0.]])
    >>> b = torch.tensor([-1., -3.])
    >>> Y = torch.ones(4, 2)
    >>> Y[:, 0] = torch.tensor([1., 3., 0., 7.])
    >>> batches = [(X[:3], Y[:3]), (X[3:], Y[3:])]
    >>> NM, S, dS_dW, dS_db = accumulate(batches, W, b)
    >>> NM, S, dS_db
    (tensor(8.), tensor(30.), tensor([-2.,  8.]))
    >>> dS_dW
    tensor([[-10.,  52.],
            [-12.,  60.]])
    """
    D, M = W.shape
    no_X, no_Y = W.new_empty(0, D), W.new_empty(0, M)
    sums = part(no_X, W, b, no_Y)  # zeros
    for X, Y in batches:
        terms = part(X, W, b, Y)
        for total, term in zip(
            sums, terms, strict=True
        ):
            total += term
    return sums


# --8<-- [end:accumulate]


# --8<-- [start:all_reduce]
def all_reduce(*terms: Tensor) -> list[Tensor]:
    """The sums over all processes, by one message.

    >>> store = dist.HashStore()
    >>> dist.init_process_group(
    ...     "gloo", store=store, rank=0, world_size=1
    ... )
    >>> all_reduce(torch.tensor(3.), torch.ones(2))
    [tensor(3.), tensor([1., 1.])]
    >>> dist.destroy_process_group()
    """
    bucket = torch.cat([t.flatten() for t in terms])
    dist.all_reduce(bucket, op=dist.ReduceOp.SUM)
    flat = bucket.split([t.numel() for t in terms])
    pairs = zip(flat, terms, strict=True)
    return [sums.view_as(t) for sums, t in pairs]


# --8<-- [end:all_reduce]
