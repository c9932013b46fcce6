"""Measure how long a diagnosis takes, for each wrong and right gradient of the tests and for large data.

    python -m benchmarks.diagnose             # writes nothing: median, 95th percentile, worst
    python -m benchmarks.diagnose --slowest 9 # and which those are

Large is a linear layer of 64 x 784 x 50, a network of MNIST's size and a transformer block. Their
wrong gradients are those of wrong forwards, so each is a mistake in the whole of the layer.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from benchmarks import command
from proofread import diagnose
from tests.gradients import eighth, fifth, fourth, held_out, right, seventh, sixth, third, wrong
from tests.gradients.layers import inputs_of
from tests.gradients.tables import backward_of, upstream_for

AIM = 0.5  # seconds: at most so long shall one diagnosis of a layer of textbook size take
TABLES = {
    "wrong": wrong.WRONG,
    "held_out": held_out.WRONG,
    "third": third.WRONG,
    "fourth": fourth.WRONG,
    "fifth": fifth.WRONG,
    "sixth": sixth.WRONG,
    "seventh": seventh.WRONG,
    "eighth": eighth.WRONG,
}


class Case(NamedTuple):
    """One gradient to judge: the arguments of `diagnose`, and the name it is known by."""

    table: str
    name: str
    backward: Callable | Tensor
    forward: Callable
    inputs: dict[str, Any]
    wrt: str
    upstream: Tensor


def linear(X, W, b):
    return X @ W + b


def network(X, W1, b1, W2, b2, y):
    return F.cross_entropy(torch.relu(X @ W1 + b1) @ W2 + b2, y)


def normalised(x, gamma, beta):
    mean, var = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
    return gamma * (x - mean) / torch.sqrt(var + 1e-5) + beta


def block(x, gamma, beta, Wq, Wk, Wv, Wo, W1, W2, *, masked=True, scaled=True, skip=True):
    """A transformer block with one head: attention, then two layers, each beside a skip."""
    T, C = x.shape[1:]
    h = normalised(x, gamma, beta)
    scores = (h @ Wq) @ (h @ Wk).transpose(-2, -1)
    if scaled:
        scores = scores / C**0.5
    if masked:
        causal = torch.ones(T, T, dtype=torch.bool).tril()
        scores = scores.masked_fill(~causal, -torch.inf)
    x = x + torch.softmax(scores, -1) @ (h @ Wv) @ Wo
    through = F.gelu(normalised(x, gamma, beta) @ W1) @ W2
    return x + through if skip else through


def gradient_of(forward: Callable, wrt: str, **settings) -> Callable:
    """Return a backward: the gradient of the forward with other settings."""

    def backward(inputs, upstream):
        with torch.enable_grad():
            leaf = inputs[wrt].clone().requires_grad_()
            return torch.autograd.grad(
                forward(**{**inputs, wrt: leaf}, **settings), leaf, upstream
            )[0]

    return backward


def noisy(backward: Callable) -> Callable:
    """Return a backward with a mistake that has no name: the longest search of all."""

    def wrong_everywhere(inputs, upstream):
        gradient = backward(inputs, upstream)
        return gradient * (1.5 + torch.sin(torch.arange(gradient.numel()).reshape(gradient.shape)))

    return wrong_everywhere


def large() -> Iterator[Case]:
    """Yield gradients of data of training size, float32 as there."""
    draw = torch.Generator().manual_seed(5)

    def normal(*shape):
        return torch.randn(*shape, generator=draw) / shape[0] ** 0.5

    def case(name, backward, forward, inputs, wrt, upstream):
        return Case(
            "large", f"{forward.__name__}-{wrt}-{name}", backward, forward, inputs, wrt, upstream
        )

    inputs = {"X": normal(64, 784), "W": normal(784, 50), "b": normal(50)}
    g = normal(64, 50)
    yield case("right", lambda i, g: i["X"].T @ g, linear, inputs, "W", g)
    yield case("extra_mean", lambda i, g: i["X"].T @ g / 64, linear, inputs, "W", g)
    yield case("noise", noisy(lambda i, g: i["X"].T @ g), linear, inputs, "W", g)
    yield case("extra_mean", lambda i, g: g.mean(0), linear, inputs, "b", g)

    inputs = {
        "X": normal(64, 784),
        "W1": normal(784, 100),
        "b1": normal(100),
        "W2": normal(100, 10),
    }
    inputs |= {"b2": normal(10), "y": torch.randint(10, (64,), generator=draw)}
    one = torch.ones(())

    def without_mask(i, g):
        h = torch.relu(i["X"] @ i["W1"] + i["b1"])
        p = torch.softmax(h @ i["W2"] + i["b2"], 1)
        return i["X"].T @ ((p - F.one_hot(i["y"], 10)) / 64 @ i["W2"].T)

    right_one = gradient_of(network, "W1")
    yield case("right", right_one, network, inputs, "W1", one)
    yield case("no_mask", without_mask, network, inputs, "W1", one)
    yield case("noise", noisy(right_one), network, inputs, "W1", one)

    inputs = {"x": normal(2, 32, 48), "gamma": 1 + normal(48), "beta": normal(48)}
    inputs |= {name: normal(48, 48) for name in ("Wq", "Wk", "Wv", "Wo")}
    inputs |= {"W1": normal(48, 192), "W2": normal(192, 48)}
    g = normal(2, 32, 48)
    for wrt in ("x", "Wq", "gamma"):
        yield case("right", gradient_of(block, wrt), block, inputs, wrt, g)
        for setting in ("masked", "scaled", "skip"):
            wrong_one = gradient_of(block, wrt, **{setting: False})
            yield case(f"not_{setting}", wrong_one, block, inputs, wrt, g)
        yield case("noise", noisy(gradient_of(block, wrt)), block, inputs, wrt, g)


def cases() -> Iterator[Case]:
    """Yield the rows of the tables, each as a function and as the tensor that it returns; then the large."""
    rows = [(table, row) for table, found in TABLES.items() for row in found]
    rows += [("right", ("right", *row)) for row in right.RIGHT]
    for table, row in rows:
        label, forward, wrt = row[:3]
        inputs = inputs_of(forward)
        upstream = upstream_for(forward, inputs)
        name = f"{forward.__name__}-{wrt}-{label}"
        yield Case(table, name, backward_of(row), forward, inputs, wrt, upstream)
        tensor = backward_of(row)(inputs, upstream)
        yield Case(f"{table}, tensors", name, tensor, forward, inputs, wrt, upstream)
    yield from large()


def seconds(case: Case) -> float:
    """Return the processor time of one diagnosis: it runs in one thread, and nobody else counts."""
    begin = time.process_time()
    diagnose(case.backward, case.forward, case.inputs, wrt=case.wrt, upstream=case.upstream)
    return time.process_time() - begin


def summary(measured: list[float]) -> str:
    """Put times into words.

    >>> summary([0.01, 0.02, 0.04])
    '   3  median   20 ms  95 % within   38 ms  worst   40 ms'
    """
    ordered = sorted(measured)
    within = statistics.quantiles(ordered, n=20, method="inclusive")[-1]
    return (
        f"{len(ordered):4d}  median {1e3 * statistics.median(ordered):4.0f} ms"
        f"  95 % within {1e3 * within:4.0f} ms  worst {1e3 * ordered[-1]:4.0f} ms"
    )


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--slowest", type=int, default=3, metavar="N", help="how many to name (3)")
    options = parser.parse_args()
    todo = list(cases())
    seconds(todo[0])  # what is loaded at first use is not part of a diagnosis
    measured = [(seconds(case), case) for case in tqdm(todo, desc="diagnoses")]
    tables = dict.fromkeys(case.table for case in todo)
    for table in tables:
        print(f"{table:18}", summary([t for t, case in measured if case.table == table]))
    print(f"{'all':18}", summary([t for t, _ in measured]))
    beyond = sum(t > AIM for t, _ in measured)
    print(f"{beyond} of {len(measured)} took longer than {AIM} s; the slowest:")
    for t, case in sorted(measured, key=lambda pair: -pair[0])[: options.slowest]:
        print(f"{1e3 * t:6.0f} ms  {case.table}: {case.name}")


if __name__ == "__main__":
    main()
