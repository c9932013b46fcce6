"""Layers as objects: each keeps what its backward needs.

X is (N, D), W (D, M), b (M,), Z, A, Y and their gradients (N, M).
"""

# --8<-- [start:imports]
import torch
from jaxtyping import Float
from torch import Tensor

# --8<-- [end:imports]


# --8<-- [start:Linear]
class Linear:
    """Z = XW + b.

    >>> W = torch.tensor([[2., 0.], [-1., 3.]])
    >>> layer = Linear(W, torch.tensor([-1., 1.]))
    >>> layer(torch.tensor([[1., 2.], [3., 4.]]))
    tensor([[-1.,  7.],
            [ 1., 13.]])
    >>> layer.backward(torch.tensor([[10., 1.], [2., 0.]]))
    tensor([[20., -7.],
            [ 4., -2.]])
    >>> layer.dJ_dW
    tensor([[16.,  1.],
            [28.,  2.]])
    >>> layer.dJ_db
    tensor([12.,  1.])
    """

    def __init__(
        self,
        W: Float[Tensor, "D M"],
        b: Float[Tensor, "M"],
    ):
        self.W, self.b = W, b

    def __call__(
        self, X: Float[Tensor, "N D"]
    ) -> Float[Tensor, "N M"]:
        self.X = X
        return X @ self.W + self.b

    def backward(
        self, dJ_dZ: Float[Tensor, "N M"]
    ) -> Float[Tensor, "N D"]:
        self.dJ_dW = self.X.T @ dJ_dZ
        self.dJ_db = dJ_dZ.sum(0)
        return dJ_dZ @ self.W.T


# --8<-- [end:Linear]


# --8<-- [start:Relu]
class Relu:
    """A = relu(Z).

    >>> layer = Relu()
    >>> layer(torch.tensor([[-1., 2., 0.]]))
    tensor([[0., 2., 0.]])
    >>> layer.backward(torch.tensor([[10., -3., 5.]]))
    tensor([[ 0., -3.,  0.]])
    """

    def __call__(
        self, Z: Float[Tensor, "N M"]
    ) -> Float[Tensor, "N M"]:
        self.Z = Z
        return torch.relu(Z)

    def backward(
        self, dJ_dA: Float[Tensor, "N M"]
    ) -> Float[Tensor, "N M"]:
        return dJ_dA * (self.Z > 0)


# --8<-- [end:Relu]


# --8<-- [start:Mse]
class Mse:
    """J = mse(A, Y). Backward starts here: no upstream.

    >>> loss = Mse()
    >>> A = torch.tensor([[3., 1.], [5., 2.]])
    >>> loss(A, torch.tensor([[1., 5.], [5., 4.]]))
    tensor(6.)
    >>> loss.backward()
    tensor([[ 1., -2.],
            [ 0., -1.]])
    """

    def __call__(
        self,
        A: Float[Tensor, "N M"],
        Y: Float[Tensor, "N M"],
    ) -> Float[Tensor, ""]:
        if A.numel() == 0:
            raise ValueError(
                f"A needs entries: {A.shape}"
            )
        self.A, self.Y = A, Y
        return (A - Y).square().mean()

    def backward(self) -> Float[Tensor, "N M"]:
        return 2 * (self.A - self.Y) / self.A.numel()


# --8<-- [end:Mse]


# --8<-- [start:Model]
class Model:
    """Layers in a row, then a loss.

    >>> X = torch.arange(1.0, 9.0).reshape(4, 2)
    >>> W = torch.tensor([[2., 1.], [-1., 0.]])
    >>> b = torch.tensor([-1., -3.])
    >>> model = Model([Linear(W, b), Relu()], Mse())
    >>> Y = torch.ones(4, 2)
    >>> Y[:, 0] = torch.tensor([1., 3., 0., 7.])
    >>> model(X, Y)
    tensor(3.7500)
    >>> model.backward()[3]
    tensor([-0.2500,  0.5000])
    >>> model.layers[0].dJ_dW
    tensor([[-1.2500,  6.5000],
            [-1.5000,  7.5000]])
    """

    def __init__(self, layers: list, loss):
        self.layers, self.loss = layers, loss

    def __call__(self, X: Tensor, Y: Tensor) -> Tensor:
        for layer in self.layers:
            X = layer(X)
        return self.loss(X, Y)

    def backward(self) -> Tensor:
        gradient = self.loss.backward()
        for layer in reversed(self.layers):
            gradient = layer.backward(gradient)
        return gradient


# --8<-- [end:Model]


# --8<-- [start:dot_g]
def mse_g(
    A: Float[Tensor, "N M"], Y: Float[Tensor, "N M"]
) -> None:
    A.g = 2 * (A - Y) / A.numel()


def relu_g(
    Z: Float[Tensor, "N M"], A: Float[Tensor, "N M"]
) -> None:
    Z.g = A.g * (Z > 0)


def linear_g(
    X: Float[Tensor, "N D"],
    Z: Float[Tensor, "N M"],
    W: Float[Tensor, "D M"],
    b: Float[Tensor, "M"],
) -> None:
    """Leave every gradient on the tensor it belongs to.

    >>> X = torch.arange(1.0, 9.0).reshape(4, 2)
    >>> W = torch.tensor([[2., 1.], [-1., 0.]])
    >>> b = torch.tensor([-1., -3.])
    >>> Y = torch.ones(4, 2)
    >>> Y[:, 0] = torch.tensor([1., 3., 0., 7.])
    >>> Z = X @ W + b
    >>> A = torch.relu(Z)
    >>> mse_g(A, Y)
    >>> relu_g(Z, A)
    >>> linear_g(X, Z, W, b)
    >>> W.g
    tensor([[-1.2500,  6.5000],
            [-1.5000,  7.5000]])
    >>> b.g, X.g[3]
    (tensor([-0.2500,  1.0000]), tensor([-0.2500,  0.5000]))
    """
    X.g = Z.g @ W.T
    W.g = X.T @ Z.g
    b.g = Z.g.sum(0)


# --8<-- [end:dot_g]


# --8<-- [start:dot_g_faults]
def shared_weight_g() -> Tensor:
    """Use W twice: the second `W.g =` erases the first.

    J = sum(XW) + sum(XW), so dJ/dW is [[2.], [4.]].

    >>> shared_weight_g()
    tensor([[1.],
            [2.]])
    """
    X, W = torch.tensor([[1.0, 2.0]]), torch.ones(2, 1)
    b = torch.zeros(1)
    for Z in (X @ W + b, X @ W + b):
        Z.g = torch.ones(1, 1)
        linear_g(X, Z, W, b)
    return W.g


def copied_tensor_g() -> tuple[bool, bool]:
    """Copy A: the copy has the numbers, but not the `.g`.

    >>> copied_tensor_g()
    (True, False)
    """
    A, Y = torch.tensor([[3.0]]), torch.tensor([[1.0]])
    mse_g(A, Y)
    return hasattr(A, "g"), hasattr(A.clone(), "g")


# --8<-- [end:dot_g_faults]


# --8<-- [start:LinearFunction]
class LinearFunction(torch.autograd.Function):
    """The same layer, for PyTorch's own backward().

    >>> X, W, b = (
    ...     torch.randn(*shape).double().requires_grad_()
    ...     for shape in ((5, 3), (3, 4), (4,))
    ... )
    >>> layer = LinearFunction.apply
    >>> torch.autograd.gradcheck(layer, (X, W, b))
    True
    """

    @staticmethod
    def forward(
        X: Float[Tensor, "N D"],
        W: Float[Tensor, "D M"],
        b: Float[Tensor, "M"],
    ) -> Float[Tensor, "N M"]:
        return X @ W + b

    @staticmethod
    def setup_context(ctx, inputs, output):
        X, W, _ = inputs
        ctx.save_for_backward(X, W)

    @staticmethod
    def backward(ctx, dJ_dZ):
        X, W = ctx.saved_tensors
        return dJ_dZ @ W.T, X.T @ dJ_dZ, dJ_dZ.sum(0)


# --8<-- [end:LinearFunction]
