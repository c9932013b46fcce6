"""Measure the steps from row loops to matrix products, and autograd, in one run.

    python -m benchmarks.ladder [--rows 50000] [--features 784] [--outputs 1] [--rounds 7]

Each step is one forward and one backward pass of the network: J, and the gradients by X, W
and b. All steps take turns in one process, so that a machine that slows down slows them all;
peak memory is read in a fresh process for each. Writes benchmarks/results/ladder.json, from
which the page "Faster" is made.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# What is measured is the code, not the check of its shapes.
os.environ.setdefault("JAXTYPING_DISABLE", "1")

import torch
from tqdm import tqdm

from snippets import linear, mse, relu

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks/results/ladder.json"
MEASURED = [
    ROOT / path
    for path in (
        "benchmarks/ladder.py",
        "snippets/mse.py",
        "snippets/relu.py",
        "snippets/linear.py",
    )
]


@dataclass(frozen=True)
class Data:
    """One batch and the weights; the leaves are for autograd."""

    X: torch.Tensor
    W: torch.Tensor
    b: torch.Tensor
    Y: torch.Tensor


def draw(rows: int, features: int, outputs: int) -> Data:
    torch.manual_seed(0)
    return Data(
        X=torch.randn(rows, features),
        W=torch.randn(features, outputs) / features**0.5,
        b=torch.zeros(outputs),
        Y=torch.randn(rows, outputs),
    )


class ByHand:
    """The snippets' gradients, with the given forms for W and X."""

    def __init__(self, grad_W: Callable, grad_X: Callable):
        self.grad_W, self.grad_X = grad_W, grad_X

    def forward(self, d: Data) -> torch.Tensor:
        self.d = d
        self.Z = linear.linear(d.X, d.W, d.b)
        self.A = relu.relu(self.Z)
        return mse.mse(self.A, d.Y)

    def backward(self) -> tuple[torch.Tensor, ...]:
        d = self.d
        dJ_dZ = relu.grad_Z(self.Z, mse.grad_A(self.A, d.Y))
        return self.grad_W(d.X, dJ_dZ), linear.grad_b(dJ_dZ), self.grad_X(dJ_dZ, d.W)


class ByAutograd:
    """The same gradients by J.backward()."""

    def forward(self, d: Data) -> torch.Tensor:
        self.leaves = [t.detach().requires_grad_() for t in (d.X, d.W, d.b)]
        self.J = mse.mse(relu.relu(linear.linear(*self.leaves)), d.Y)
        return self.J

    def backward(self) -> tuple[torch.Tensor, ...]:
        self.J.backward()
        X, W, b = self.leaves
        return W.grad, b.grad, X.grad


FIRST, REFERENCE = "row loops", "autograd"
STEPS = {
    FIRST: ByHand(linear.grad_W_by_row, linear.grad_X_by_row),
    "one matmul": ByHand(linear.grad_W, linear.grad_X_by_row),
    "broadcast": ByHand(linear.grad_W_by_broadcast, linear.grad_X),
    "two matmuls": ByHand(linear.grad_W, linear.grad_X),
    REFERENCE: ByAutograd(),
}


def largest_difference(data: Data) -> float:
    """Return the largest relative difference of any step's gradients from autograd's."""
    STEPS[REFERENCE].forward(data)
    expected = STEPS[REFERENCE].backward()
    differences = []
    for step in STEPS.values():
        step.forward(data)
        for actual, right in zip(step.backward(), expected, strict=True):
            differences.append(((actual - right).abs().max() / right.abs().max()).item())
    return max(differences)


def run(step: ByHand | ByAutograd, data: Data) -> dict[str, float]:
    """Return the seconds of one pass, and those of its backward part."""
    begin = time.perf_counter()
    step.forward(data)
    middle = time.perf_counter()
    step.backward()
    end = time.perf_counter()
    return {"pass": end - begin, "backward": end - middle}


def measure_time(data: Data, rounds: int) -> dict[str, list[dict[str, float]]]:
    """Return each step's seconds, round by round; a first round is not counted."""
    times = {name: [] for name in STEPS}
    for counted in tqdm([False] + [True] * rounds, desc="rounds"):
        for name, step in STEPS.items():
            seconds = run(step, data)
            if counted:
                times[name].append(seconds)
    return times


def median_ratio(above: list[dict], below: list[dict], part: str) -> float:
    """Return the median of the ratios within each round: a slow round slows both."""
    return statistics.median(a[part] / b[part] for a, b in zip(above, below, strict=True))


def peak_bytes(name: str, sizes: list[str]) -> int:
    """Return how far one pass raises the peak memory of a process that holds the data."""
    command = [sys.executable, "-m", "benchmarks.ladder", *sizes, "--memory-of", name]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    return int(output.stdout)


def resident(field: str) -> int:
    """Return a memory field of this process in bytes, as Linux tells it."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"{field}:\s+(\d+) kB", status)[1])


def print_peak(name: str, data: Data) -> None:
    # A small batch first, so that the libraries' own buffers are there before.
    run(STEPS[name], draw(64, data.X.shape[1], data.W.shape[1]))
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here on
    before = resident("VmRSS")
    run(STEPS[name], data)
    print(resident("VmHWM") - before)


def fingerprint() -> str:
    """Return a hash of the code that is measured; its comments and docstrings do not count."""
    code = hashlib.sha256()
    for path in MEASURED:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
                node.body = node.body[1:]
        code.update(ast.dump(tree).encode())
    return code.hexdigest()


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = [
        line.partition(":")[2].strip()
        for line in (cpuinfo.read_text().splitlines() if cpuinfo.exists() else [])
        if line.startswith("model name")
    ]
    return names[0] if names else platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--features", type=int, default=784)
    parser.add_argument("--outputs", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory-of", choices=STEPS, help=argparse.SUPPRESS)
    options = parser.parse_args()

    shape = (options.rows, options.features, options.outputs)
    data = draw(*shape)
    if options.memory_of:
        print_peak(options.memory_of, data)
        return

    times = measure_time(data, options.rounds)
    sizes = [f"--{n}={v}" for n, v in zip(("rows", "features", "outputs"), shape, strict=True)]
    steps = {}
    for name in tqdm(STEPS, desc="memory"):
        passes = [seconds["pass"] for seconds in times[name]]
        steps[name] = {
            "median_s": statistics.median(passes),
            "min_s": min(passes),
            "max_s": max(passes),
            "backward_median_s": statistics.median(s["backward"] for s in times[name]),
            "first_over_this": median_ratio(times[FIRST], times[name], "pass"),
            "over_autograd": median_ratio(times[name], times[REFERENCE], "pass"),
            "backward_over_autograd": median_ratio(times[name], times[REFERENCE], "backward"),
            "peak_bytes": peak_bytes(name, sizes),
        }
    result = {
        "code": fingerprint(),
        "rows": options.rows,
        "features": options.features,
        "outputs": options.outputs,
        "rounds": options.rounds,
        "largest_difference": largest_difference(data),
        "batch_bytes": data.X.numel() * data.X.element_size(),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "steps": steps,
    }
    # The page shows one output; other numbers of outputs don't replace it.
    path = RESULTS if options.outputs == 1 else RESULTS.with_stem(f"ladder-{options.outputs}")
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(steps, indent=2))


if __name__ == "__main__":
    main()
