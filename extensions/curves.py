"""Figures of a derivation, drawn while the page is built from a run of the code that the page shows.

    /// curve | relu
    ///

Each figure is a function of this module that runs snippets and returns plots with their caption.
Where a figure has small numbers, they are those of a doctest, taken from its lines and not typed.
"""

import doctest
import sys
from collections.abc import Callable
from xml.etree.ElementTree import Element

import torch
from torch import Tensor

from extensions.blocks import Block, BlocksExtension
from extensions.evidence import load
from extensions.svg import Axis, Plot, Point, figure, number

Figure = tuple[list[Plot], str]


def data_of(function: Callable) -> dict[str, Tensor]:
    """Run a function's doctest and return the tensors that it sets."""
    given = vars(sys.modules[function.__module__])
    (examples,) = doctest.DocTestFinder(recurse=False).find(function, module=False, globs=given)
    doctest.DocTestRunner().run(examples, clear_globs=False)
    return {n: v for n, v in examples.globs.items() if n not in given and isinstance(v, Tensor)}


def moved(tensor: Tensor, value: float) -> Tensor:
    """Return a copy whose first entry has another value."""
    copy = tensor.clone()
    copy[0, 0] = value
    return copy


def sweep(low: float, high: float, function: Callable[[float], float], count=201) -> list[Point]:
    return [(x, function(x)) for x in torch.linspace(low, high, count).tolist()]


def tangent(x: float, y: float, slope: float, reach: float) -> list[Point]:
    return [(x + step, y + slope * step) for step in (-reach, reach)]


def relu() -> Figure:
    """ReLU and its slope; at 0 the dot is where the code puts it."""
    module = load("relu")

    def slope(z: float) -> float:
        return module.grad_Z(torch.tensor([[float(z)]]), torch.ones(1, 1)).item()

    across = Axis(-3, 3, "z")
    graph = Plot(
        across,
        Axis(-0.5, 3, "a"),
        title="ReLU",
        description="a is 0 up to z = 0, where the graph has a corner, and z from there on.",
    )
    graph.line(sweep(-3, 3, lambda z: module.relu(torch.tensor([[z]])).item()))

    slopes = Plot(
        across,
        Axis(-0.25, 1.5, "∂a/∂z"),
        title="The slope of ReLU",
        description=f"The slope is {slope(-3):g} left of 0 and {slope(3):g} right of it. "
        f"At 0 the code has {slope(0):g}.",
    )
    nearly = 1e-6
    slopes.line(sweep(-3, 0, slope), "second")
    slopes.line(sweep(nearly, 3, slope), "second")
    slopes.dot(0, slope(nearly), "second", hollow=True)
    slopes.dot(0, slope(0), "second")
    return [graph, slopes], (
        "ReLU and its slope, from a run of relu and grad_Z. The filled dot is the slope that the code "
        f"uses at 0: {slope(0):g}."
    )


def mse() -> Figure:
    """The loss against one output, with the gradient's entry as a tangent."""
    module = load("mse")
    data = data_of(module.grad_A)
    A, Y = data["A"], data["Y"]
    here, target = A[0, 0].item(), Y[0, 0].item()

    def loss(a: float) -> float:
        return module.mse(moved(A, a), Y).item()

    slope = module.grad_A(A, Y)[0, 0].item()
    plot = Plot(
        Axis(target - 4, target + 4, "A[0, 0]"),
        Axis(loss(target) - 1, loss(target + 4), "J"),
        title="The loss against one output",
        description=f"A parabola with its lowest point at the target, {target:g}. "
        f"At {here:g} its tangent has the slope {slope:g}.",
    )
    plot.line(sweep(target - 4, target + 4, loss))
    plot.line(tangent(here, loss(here), slope, 1.8), "second")
    plot.dot(here, loss(here), "second")
    plot.dot(target, loss(target))
    plot.text(here, loss(here), f"dJ_dA[0, 0] = {number(slope)}", "second end", (-8, -8))
    plot.text(target, loss(target), f"Y[0, 0] = {number(target)}", "first end", (-2, 19))
    return [plot], (
        "The loss of the example in grad_A while one output moves and the others stay. The slope of the "
        "tangent is the entry that grad_A returns."
    )


class OneWeight:
    """The example of the network, with all of it fixed but W[0, 0]."""

    def __init__(self):
        self.module = load("network")
        data = data_of(self.module.forward)
        self.X, self.W, self.b, self.Y = (data[name] for name in ("X", "W", "b", "Y"))
        self.here = self.W[0, 0].item()
        Z, _, _ = self.run(self.here)
        # Where z_i1 is 0: its slope with respect to the weight is x_i1.
        self.kinks = (self.here - Z[:, 0] / self.X[:, 0]).tolist()
        self.low, self.high = min(self.kinks) - 0.4, max(self.kinks) + 0.2

    def run(self, w: float) -> tuple[Tensor, Tensor, Tensor]:
        return self.module.forward(self.X, moved(self.W, w), self.b, self.Y)

    def loss(self, w: float) -> float:
        return self.run(w)[2].item()

    def slope(self, w: float) -> float:
        Z, A, _ = self.run(w)
        return self.module.backward(self.X, moved(self.W, w), Z, A, self.Y)[0][0, 0].item()

    def plot(self, title: str, description: str) -> Plot:
        points = sweep(self.low, self.high, self.loss)
        top = max(loss for _, loss in points)
        plot = Plot(
            Axis(self.low, self.high, "W[0, 0]"),
            Axis(0, 1.08 * top, "J"),
            title=title,
            description=description,
        )
        for row, kink in enumerate(self.kinks, 1):
            plot.line([(kink, 0), (kink, top)], "faint")
            plot.text(kink, 1.08 * top, f"{row}", "faint", (-3, 8))
        plot.line(points)
        return plot


def weight() -> Figure:
    """The loss against one weight, its tangent, and steps down the slope."""
    one = OneWeight()
    slope = one.slope(one.here)
    first = one.plot(
        "The loss against one weight",
        "Flat as long as no row is on; then pieces of parabolas that meet in kinks. "
        f"At {one.here:g} the tangent has the slope {slope:g}.",
    )
    first.line(tangent(one.here, one.loss(one.here), slope, 0.5), "second")
    first.dot(one.here, one.loss(one.here), "second")
    first.text(one.here, one.loss(one.here), f"dJ_dW[0, 0] = {number(slope)}", "second", (-40, 26))

    second = one.plot(
        "Steps down the loss",
        "From the right, each step is shorter than the one before, down to the lowest point. "
        "A start on the flat part stays there: the slope is 0.",
    )
    rate, w = 0.015, one.high - 0.1
    walk = []
    for _ in range(7):
        walk.append((w, one.loss(w)))
        w -= rate * one.slope(w)
    for point in walk:
        second.dot(*point, "second")
    dead = min(one.kinks) - 0.2
    assert one.slope(dead) == 0, "no row is on"
    second.dot(dead, one.loss(dead), "second")
    second.text(dead, one.loss(dead), "slope 0", "second", (-20, -12))
    return [first, second], (
        "The first plot is the loss of the example while one weight moves. Its tangent has the slope "
        "that backward returns. At a dotted line, the row with that number switches on. The second plot "
        f"has {len(walk) - 1} steps of W[0, 0] -= {rate} * dJ_dW[0, 0], and one start that leads nowhere."
    )


def digits() -> Figure:
    """Training on the digits with three rates."""
    from sklearn.datasets import load_digits  # most pages do without it

    module = load("network")
    pixels, labels = load_digits(return_X_y=True)
    X = torch.tensor(pixels) / pixels.max()
    Y = torch.nn.functional.one_hot(torch.tensor(labels)).to(X)
    (N, D), M = X.shape, Y.shape[1]
    rate = M / (X.square().sum(1).mean().item() + 1)

    def train(rate: float, steps: int = 100) -> tuple[list[Point], int]:
        """Return the loss before each step, and how many neurons no row switches on at the end."""
        W = 0.01 * torch.randn(D, M, generator=torch.Generator().manual_seed(1)).to(X)
        b = X.new_full((M,), 0.1)
        losses = []
        for step in range(steps + 1):
            Z, A, J = module.forward(X, W, b, Y)
            losses.append((step, J.item()))
            dJ_dW, dJ_db, _ = module.backward(X, W, Z, A, Y)
            W, b = W - rate * dJ_dW, b - rate * dJ_db
        return losses, int((A <= 0).all(0).sum())

    plot = Plot(
        Axis(0, 100, "step"),
        Axis(0, 0.12, "J"),
        title="Training on the digits",
        description="With a tenth of the rate the loss falls slowly, with the rate itself fast. With "
        "three times the rate it jumps up, and then hardly falls.",
    )
    for share, kind in ((0.1, "faint"), (1, "first"), (3, "second")):
        losses, dead = train(share * rate)
        plot.line(losses, kind)
        plot.text(*losses[60], f"{share:g} × the rate", kind, (0, -8))
    return [plot], (
        f"The loss of {N:,} digits, with the forward and backward of this page, and the rate found as in "
        f"the notebook. Three times the rate leaves {dead} of {M} neurons without a row that switches "
        "them on: they no longer learn."
    )


FIGURES = {function.__name__: function for function in (relu, mse, weight, digits)}


class CurveBlock(Block):
    NAME = "curve"
    ARGUMENT = True

    def on_create(self, parent: Element) -> Element:
        if self.argument not in FIGURES:
            raise ValueError(f"there is no figure {self.argument!r}, but {', '.join(FIGURES)}")
        plots, caption = FIGURES[self.argument]()
        return figure(parent, plots, caption)


class CurvesExtension(BlocksExtension):
    def extendMarkdownBlocks(self, md, blocks) -> None:
        blocks.register(CurveBlock, self.getConfigs())


def makeExtension(**settings) -> CurvesExtension:
    return CurvesExtension(**settings)
