"""What the errata page claims, as code that runs.

Each function shows one slip of a source: N rows, D features, M outputs.
"""

# --8<-- [start:imports]
import torch

# --8<-- [end:imports]


# --8<-- [start:sign]
def loss_after_a_step(
    sign: float,
) -> tuple[float, float]:
    """J before and after a step along sign * 2 * (U - Y) / N.

    >>> before, after = loss_after_a_step(sign=+1.0)
    >>> after < before
    True
    >>> before, after = loss_after_a_step(sign=-1.0)
    >>> after < before
    False
    """
    X = torch.tensor(
        [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    )
    Y = torch.tensor([[1.0], [0.0], [2.0]])
    w = torch.tensor([[1.0], [0.5]])

    def loss(w):
        return (torch.relu(X @ w) - Y).square().mean()

    U = torch.relu(X @ w)
    dJ_dU = sign * 2 * (U - Y) / len(X)
    dJ_dw = X.T @ (dJ_dU * (X @ w > 0))
    return loss(w).item(), loss(
        w - 0.001 * dJ_dw
    ).item()


# --8<-- [end:sign]


# --8<-- [start:bias]
def output_with_bias(size: int) -> torch.Size:
    """The shape of X @ w + b for a bias of the given size.

    >>> output_with_bias(1)
    torch.Size([5, 1])
    >>> output_with_bias(3)  # the printed shape, (D,)
    torch.Size([5, 3])
    """
    X, w = torch.ones(5, 3), torch.ones(3, 1)
    return (X @ w + torch.ones(size)).shape


# --8<-- [end:bias]


# --8<-- [start:targets]
def loss_with_targets(*shape: int) -> tuple:
    """The source's mse, for targets of a shape.

    >>> loss_with_targets(4)
    (torch.Size([4]), 0.0)
    >>> loss_with_targets(4, 1)  # the printed shape
    (torch.Size([4, 4]), 2.5)
    """
    output = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    targets = torch.arange(1.0, 5.0).reshape(shape)
    difference = output.squeeze(1) - targets
    return difference.shape, difference.pow(
        2
    ).mean().item()


# --8<-- [end:targets]


# --8<-- [start:squeeze]
def difference_after_squeeze(
    N: int, M: int
) -> torch.Size:
    """The shape of A.squeeze() - Y for Y of shape (N,).

    >>> difference_after_squeeze(5, 1)
    torch.Size([5])
    >>> difference_after_squeeze(1, 2)  # silent, wrong
    torch.Size([2])
    >>> difference_after_squeeze(3, 3)  # silent, wrong
    torch.Size([3, 3])
    >>> difference_after_squeeze(5, 2)
    Traceback (most recent call last):
    ...
    RuntimeError: The size of tensor a (2) must match the size of tensor b (5) at non-singleton dimension 1
    """
    return (
        torch.ones(N, M).squeeze() - torch.ones(N)
    ).shape


# --8<-- [end:squeeze]


# --8<-- [start:row_loop]
def row_loop(M: int) -> torch.Size:
    """The source's row loop, for M outputs.

    >>> row_loop(1)
    torch.Size([3, 1])
    >>> row_loop(2)
    Traceback (most recent call last):
    ...
    RuntimeError: mat1 and mat2 shapes cannot be multiplied (1x2 and 1x3)
    """
    X, dJ_dZ = torch.ones(5, 3), torch.ones(5, M)
    rows = [
        g @ x.unsqueeze(0)
        for x, g in zip(X, dJ_dZ, strict=True)
    ]
    return torch.stack(rows).unsqueeze(-1).sum(0).shape


# --8<-- [end:row_loop]


# --8<-- [start:mse_grad]
def mse_grad(M: int) -> torch.Size:
    """The source's mse_grad, for M outputs.

    >>> mse_grad(1)
    torch.Size([5, 1])
    >>> mse_grad(2)  # silent, wrong
    torch.Size([5, 5, 2])
    """
    U, Y = torch.ones(5, M), torch.ones(5, M)
    if M == 1:
        Y = Y.squeeze(1)
    return (2.0 * (Y.unsqueeze(1) - U) / len(U)).shape


# --8<-- [end:mse_grad]


# --8<-- [start:broadcast]
def bytes_of_broadcast(N: int, D: int, M: int) -> int:
    """Memory of X.unsqueeze(-1) * dJ_dZ.unsqueeze(1), float32.

    >>> bytes_of_broadcast(5, 3, 4) == 4 * 5 * 3 * 4
    True
    >>> 4 * 50_000 * 784 * 50 / 1e9  # GB
    7.84
    """
    X, dJ_dZ = torch.ones(N, D), torch.ones(N, M)
    product = X.unsqueeze(-1) * dJ_dZ.unsqueeze(1)
    return product.numel() * product.element_size()


# --8<-- [end:broadcast]


# --8<-- [start:tie]
def slope_at_zero(function) -> float:
    """What autograd says of a rectifier at z = 0.

    >>> slope_at_zero(torch.relu)
    0.0
    >>> slope_at_zero(lambda z: z.clamp_min(0.0))
    1.0
    >>> slope_at_zero(lambda z: torch.maximum(z, torch.zeros(())))
    0.5
    """
    z = torch.zeros((), requires_grad=True)
    function(z).backward()
    return z.grad.item()


# --8<-- [end:tie]
