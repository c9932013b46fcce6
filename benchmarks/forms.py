"""The forms of one forward and backward pass that are measured, and what each has to move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

# Before the snippets: it switches the check of shapes off.
from benchmarks import harness

# isort: split
import torch
from torch import Tensor

from snippets import faster, linear, mse, relu

Gradients = tuple[Tensor, Tensor, Tensor | None]  # dJ/dW, dJ/db, dJ/dX

BLOCK = 1024  # rows


@dataclass(frozen=True)
class Data:
    """One batch and the weights."""

    X: Tensor
    W: Tensor
    b: Tensor
    Y: Tensor

    def to(self, dtype: torch.dtype) -> Data:
        return Data(*(getattr(self, name).to(dtype) for name in ("X", "W", "b", "Y")))


def draw(rows: int, features: int, outputs: int, device: str = "cpu") -> Data:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    drawn = Data(
        X=normal(rows, features),
        W=normal(features, outputs) / features**0.5,
        b=normal(outputs),
        Y=normal(rows, outputs),
    )
    return Data(*(t.to(device) for t in (drawn.X, drawn.W, drawn.b, drawn.Y)))


class Pass:
    """A pass over the data it was made with: forward, then backward. It may keep buffers."""

    def __init__(self, data: Data):
        self.d = data

    def forward(self) -> None:
        """What comes before the gradients. Nothing, where one pass does both."""

    def backward(self) -> Gradients:
        raise NotImplementedError

    def release(self) -> None:
        """Drop what the pass itself holds of it, but for buffers."""


class ByHand(Pass):
    """The gradients of the layers' snippets, with the given forms for W and X."""

    grad_W: Callable = staticmethod(linear.grad_W)
    grad_X: Callable = staticmethod(linear.grad_X)

    def forward(self) -> None:
        d = self.d
        self.Z = linear.linear(d.X, d.W, d.b)
        self.A = relu.relu(self.Z)
        self.J = mse.mse(self.A, d.Y)

    def backward(self) -> Gradients:
        d = self.d
        dJ_dZ = relu.grad_Z(self.Z, mse.grad_A(self.A, d.Y))
        return self.grad_W(d.X, dJ_dZ), linear.grad_b(dJ_dZ), self.grad_X(dJ_dZ, d.W)

    def release(self) -> None:
        del self.Z, self.A, self.J


class RowLoops(ByHand):
    grad_W = staticmethod(linear.grad_W_by_row)
    grad_X = staticmethod(linear.grad_X_by_row)


class OneMatmul(ByHand):
    grad_X = staticmethod(linear.grad_X_by_row)


class Broadcast(ByHand):
    grad_W = staticmethod(linear.grad_W_by_broadcast)


class FirstLayer(ByHand):
    def backward(self) -> Gradients:
        d = self.d
        return *faster.backward_of_first_layer(d.X, self.Z, self.A, d.Y), None


class Autograd(Pass):
    """The same gradients by J.backward()."""

    of_X = True

    def forward(self) -> None:
        d = self.d
        self.W, self.b = (t.detach().requires_grad_() for t in (d.W, d.b))
        self.X = d.X.detach().requires_grad_(self.of_X)
        Z = linear.linear(self.X, self.W, self.b)
        self.J = mse.mse(relu.relu(Z), d.Y)

    def backward(self) -> Gradients:
        self.J.backward()
        return self.W.grad, self.b.grad, self.X.grad

    def release(self) -> None:
        del self.J, self.X, self.W, self.b


class AutogradOfFirstLayer(Autograd):
    of_X = False


class Reused(Pass):
    def __init__(self, data: Data):
        super().__init__(data)
        self.out = faster.buffers(data.X, data.W, rows=len(data.X))

    def backward(self) -> Gradients:
        d = self.d
        self.J = faster.pass_into(self.out, d.X, d.W, d.b, d.Y)
        return self.out.dJ_dW, self.out.dJ_db, self.out.dJ_dX


class Blocks(Pass):
    def __init__(self, data: Data):
        super().__init__(data)
        self.out = faster.buffers(data.X, data.W, rows=min(BLOCK, len(data.X)))

    def backward(self) -> Gradients:
        d = self.d
        self.J = faster.pass_in_blocks(self.out, d.X, d.W, d.b, d.Y)
        return self.out.dJ_dW, self.out.dJ_db, self.out.dJ_dX


class Fused(Pass):
    """One call does it all, into a dJ/dX that is kept."""

    def __init__(self, data: Data):
        super().__init__(data)
        self.dJ_dX = torch.empty_like(data.X)
        self.function = self.find()

    def find(self) -> Callable:
        raise NotImplementedError

    def backward(self) -> Gradients:
        d = self.d
        self.J, dJ_dW, dJ_db = self.function(self.dJ_dX, d.X, d.W, d.b, d.Y)
        return dJ_dW, dJ_db, self.dJ_dX


class Compiled(Fused):
    def find(self) -> Callable:
        return faster.compiled_pass()


class OnePass(Fused):
    def find(self) -> Callable:
        return faster.one_pass


class Triton(Fused):
    def find(self) -> Callable:
        from snippets import gpu

        return gpu.one_pass


def time_pass(step: Pass, clock: harness.Clock) -> dict[str, float]:
    """Return the seconds of one pass, and of its backward part, and the pages it was given.

    Memory that a pass takes, it also gives back: that belongs to the pass, not to its backward part.
    """
    faults = harness.page_faults()
    begin = clock.now()
    step.forward()
    middle = clock.now()
    gradients = step.backward()
    end = clock.now()
    del gradients
    step.release()
    released = clock.now()
    return {
        "pass": clock.between(begin, released),
        "backward": clock.between(middle, end),
        "faults": 0 if faults is None else harness.page_faults() - faults,
    }


@dataclass(frozen=True)
class Form:
    """A form and what it costs, counted by hand.

    X_moves: how often as many bytes as X has go to or from memory; Z_moves: the same for Z.
    products: how often it moves as much as all outer products, N * D * M numbers.
    """

    make: type[Pass]
    X_moves: float
    Z_moves: float
    products: int = 0
    devices: tuple[str, ...] = ("cpu", "cuda")
    one_neuron: bool = False
    first_layer: bool = False
    reuses: bool = False

    def fits(self, rows: int, features: int, outputs: int, device: str, room: float) -> bool:
        """Whether it is made for these sizes and this device, and has the memory, in bytes."""
        if device.partition(":")[0] not in self.devices or (self.one_neuron and outputs > 1):
            return False
        return 2 * bool(self.products) * 4 * rows * features * outputs < room

    def bytes(self, rows: int, features: int, outputs: int) -> float:
        """What it has to move, in float32; the weights are left out."""
        X, Z = 4 * rows * features, 4 * rows * outputs
        return self.X_moves * X + self.Z_moves * Z + self.products * X * outputs

    def operations(self, rows: int, features: int, outputs: int) -> float:
        """Multiplications and additions of the matrix products: two or three of them."""
        return (2 if self.first_layer else 3) * 2 * rows * features * outputs


FIRST, REFERENCE, MATMULS = "row loops", "autograd", "two matmuls"
FORMS = {
    # Z reads X, dJ/dW reads X; dJ/dX is written in rows, and the rows are read and stacked.
    FIRST: Form(RowLoops, 2 + 3, 24, products=4),
    "one matmul": Form(OneMatmul, 2 + 3, 24),
    "broadcast": Form(Broadcast, 2 + 1, 24, products=2),
    # Z reads X, dJ/dW reads X, dJ/dX is written.
    MATMULS: Form(ByHand, 3, 24),
    REFERENCE: Form(Autograd, 3, 24),
    "first layer, by hand": Form(FirstLayer, 2, 24, first_layer=True),
    "first layer, autograd": Form(AutogradOfFirstLayer, 2, 24, first_layer=True),
    "buffers reused": Form(Reused, 3, 14, reuses=True),
    # dJ/dW finds X in the cache; of the rest, Y alone comes from memory.
    "in blocks": Form(Blocks, 2, 1, reuses=True),
    # The compiler's loops read X for Z, and again for dJ/dW.
    "compiled": Form(Compiled, 3, 4, one_neuron=True, reuses=True),
    "one pass, C++": Form(OnePass, 2, 1, devices=("cpu",), one_neuron=True, reuses=True),
    "one pass, Triton": Form(Triton, 2, 1, devices=("cuda",), one_neuron=True, reuses=True),
}
