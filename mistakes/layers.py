"""Wrong layers."""

# --8<-- [start:imports]
import torch
from torch import Tensor

from snippets.layers import Linear, Model, Mse, Relu

# --8<-- [end:imports]


# --8<-- [start:SwappedFunction]
class SwappedFunction(torch.autograd.Function):
    """dJ/dW first, dJ/dX second: X got W's shape.

    >>> X = torch.randn(5, 3, requires_grad=True)
    >>> W = torch.randn(3, 4, requires_grad=True)
    >>> Z = SwappedFunction.apply(X, W)
    >>> try:
    ...     Z.sum().backward()
    ... except RuntimeError as error:
    ...     print(*str(error).split(" - "), sep="\\n")
    Function SwappedFunctionBackward returned an invalid gradient at index 0
    got [3, 4] but expected shape compatible with [5, 3]
    """

    @staticmethod
    def forward(X: Tensor, W: Tensor) -> Tensor:
        return X @ W

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, dJ_dZ):
        X, W = ctx.saved_tensors
        return X.T @ dJ_dZ, dJ_dZ @ W.T


# --8<-- [end:SwappedFunction]


# --8<-- [start:model_with_one_relu]
def model_with_one_relu() -> Model:
    """The last Z is positive, the first one is not.

    >>> model = model_with_one_relu()
    >>> X, Y = torch.tensor([[-1.]]), torch.tensor([[0.]])
    >>> J = model(X, Y)
    >>> model.backward()  # the first ReLU is off: 0 is right
    tensor([[2.]])
    """
    W, relu = torch.ones(1, 1), Relu()
    first = Linear(W, torch.zeros(1))
    second = Linear(W, torch.ones(1))
    return Model([first, relu, second, relu], Mse())


# --8<-- [end:model_with_one_relu]
