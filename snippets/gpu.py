"""One pass of one neuron on a GPU, as a Triton kernel that reads X once.

X is (N, D), W (D, 1), b (1,), Y (N, 1).
"""

# --8<-- [start:imports]
from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

# --8<-- [end:imports]
# --8<-- [start:imports_of_checks]
from snippets.faster import check_pass

# --8<-- [end:imports_of_checks]


# --8<-- [start:kernel]
@no_type_check
@triton.jit
def kernel(
    X,  # (N, D)
    w,  # (D,)
    b,  # (1,)
    Y,  # (N,)
    losses,  # (programs,)
    dJ_dw_parts,  # (programs, D)
    dJ_db_parts,  # (programs,)
    dJ_dX,  # (N, D)
    N,
    D: tl.constexpr,
    COLUMNS: tl.constexpr,  # D or more, a power of 2
    ROWS: tl.constexpr,  # of a tile, a power of 2
):
    """Take the tiles me, me + programs, me + 2 programs, ...

    What has no shape beside it is a number; the rest are
    addresses.
    """
    me, programs = tl.program_id(0), tl.num_programs(0)
    dtype = X.dtype.element_ty
    j = tl.arange(0, COLUMNS)
    weights = tl.load(w + j, mask=j < D, other=0)
    bias = tl.load(b)
    dw = tl.zeros((COLUMNS,), dtype)
    loss = tl.zeros((ROWS,), dtype)
    db = tl.zeros((ROWS,), dtype)
    for tile in range(me, tl.cdiv(N, ROWS), programs):
        i = tile * ROWS + tl.arange(0, ROWS)
        # In 64 bits: N times D can pass 2 ** 31.
        at = i.to(tl.int64)[:, None] * D + j[None, :]
        inside = (i < N)[:, None] & (j < D)[None, :]
        x = tl.load(X + at, mask=inside, other=0)
        z = tl.sum(x * weights[None, :], 1) + bias
        y = tl.load(Y + i, mask=i < N, other=0)
        error = tl.where(i < N, tl.maximum(z, 0) - y, 0)
        g = tl.where(z > 0, error * 2 / N, 0)
        loss += error * error
        db += g
        # x is still here.
        dw += tl.sum(g[:, None] * x, 0)
        dx = g[:, None] * weights[None, :]
        tl.store(dJ_dX + at, dx, mask=inside)
    tl.store(losses + me, tl.sum(loss, 0))
    tl.store(dJ_db_parts + me, tl.sum(db, 0))
    tl.store(dJ_dw_parts + me * D + j, dw, mask=j < D)


# --8<-- [end:kernel]


# --8<-- [start:one_pass]
def one_pass(
    dJ_dX: Float[Tensor, "N D"],
    X: Float[Tensor, "N D"],
    W: Float[Tensor, "D 1"],
    b: Float[Tensor, "1"],
    Y: Float[Tensor, "N 1"],
    rows: int = 4,
    programs: int = 0,
) -> tuple[
    Float[Tensor, ""],
    Float[Tensor, "D 1"],
    Float[Tensor, "1"],
]:
    """J, dJ/dW and dJ/db; fills dJ_dX.

    rows: of one tile, a power of 2. programs: 0 is four
    for each multiprocessor of the GPU. ValueError where rows
    is no power of 2, Y is empty, shapes, types or devices
    differ, rows have gaps, or X is not float32 or float64.

    >>> device = "cuda" if torch.cuda.is_available() else "cpu"
    >>> X = torch.arange(1.0, 9.0).reshape(4, 2).to(device)
    >>> W = torch.tensor([[2.], [-1.]], device=device)
    >>> b = torch.tensor([-1.], device=device)
    >>> Y = torch.tensor([[1.], [3.], [0.], [7.]]).to(device)
    >>> dJ_dX = torch.empty_like(X)
    >>> J, dJ_dW, dJ_db = one_pass(dJ_dX, X, W, b, Y)
    >>> J.item(), dJ_dW.tolist(), dJ_db.item()
    (4.5, [[-2.5], [-3.0]], -0.5)
    >>> dJ_dX[2:].tolist()
    [[3.0, -1.5], [-2.0, 1.0]]
    """
    check_pass(dJ_dX, X, W, b, Y)
    if rows < 1 or rows & (rows - 1):
        raise ValueError(
            f"rows needs to be a power of 2: {rows}"
        )
    N, D = X.shape
    if programs == 0:
        programs = 8
        if X.is_cuda:
            gpu = torch.cuda.get_device_properties(
                X.device
            )
            programs = 4 * gpu.multi_processor_count
    losses = X.new_empty(programs)
    dJ_dw_parts = X.new_empty(programs, D)
    dJ_db_parts = X.new_empty(programs)
    columns = triton.next_power_of_2(D)
    sums = losses, dJ_dw_parts, dJ_db_parts
    kernel[(programs,)](
        *(X, W, b, Y), *sums, dJ_dX, N, D, columns, rows
    )
    return (
        losses.sum() / N,
        dJ_dw_parts.sum(0).unsqueeze(1),
        dJ_db_parts.sum(0, keepdim=True),
    )


# --8<-- [end:one_pass]
