"""Measure how the cost of one pass grows with the rows N, the features D and the outputs M.

    python -m benchmarks.growth

Two matrix products, autograd, and the best form, beside a copy of X, which is the floor: X is read and
dJ/dX, as large as X, is written. Writes benchmarks/results/growth.json, from which "Faster" is made.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from functools import partial

from benchmarks import forms, harness
from benchmarks.forms import FORMS, MATMULS, REFERENCE, draw, time_pass

# isort: split
import torch
from tqdm import tqdm

RESULTS = harness.RESULTS / "growth.json"
MEASURED = [
    harness.ROOT / path
    for path in (
        "benchmarks/forms.py",
        "benchmarks/growth.py",
        "benchmarks/harness.py",
        "snippets/faster.py",
        "snippets/linear.py",
        "snippets/mse.py",
        "snippets/relu.py",
    )
]
# What grows, from 1/1000 of the last size to the last, and what stays.
SWEEPS = {
    "N": [(n, 784, 1) for n in (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)],
    "D": [(4096, d, 1) for d in (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)],
    "M": [(8192, 784, m) for m in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)],
}
COPY, BEST = "copy of X", "best form"
LEAST = 2e-3  # seconds: shorter passes are repeated until they take this long


def chosen(outputs: int) -> dict[str, forms.Form]:
    """Return the forms of a sweep at this number of outputs."""
    best = "one pass, C++" if outputs == 1 else "in blocks"
    return {MATMULS: FORMS[MATMULS], REFERENCE: FORMS[REFERENCE], BEST: FORMS[best]}


def repeated(action, clock: harness.Clock):
    """Return an action that repeats this one until its clock can be read well."""
    action()
    begin = clock.now()
    action()
    times = max(1, int(LEAST / max(clock.between(begin, clock.now()), 1e-7)))

    def run() -> dict[str, float]:
        begin = clock.now()
        for _ in range(times):
            action()
        return {"pass": clock.between(begin, clock.now()) / times}

    return run


def measure_point(shape: tuple[int, int, int], rounds: int) -> dict[str, dict]:
    """Return the seconds of each form at one size, and their ratios to autograd."""
    clock = harness.Clock("cpu")
    data = draw(*shape)
    target = torch.empty_like(data.X)
    actions = {
        name: repeated(partial(time_pass, form.make(data), clock), clock)
        for name, form in chosen(shape[2]).items()
    }
    actions[COPY] = repeated(partial(target.copy_, data.X), clock)
    timed = harness.interleave(actions, rounds, quiet=True)
    seconds = {name: [result["pass"] for result in results] for name, results in timed.items()}
    return {
        name: harness.spread(values)
        | {"over_autograd": harness.ratio(values, seconds[REFERENCE])["median"]}
        for name, values in seconds.items()
    }


def print_peaks(name: str, shapes: list) -> None:
    """Print the peak memory of a form at each size, as JSON."""
    peaks = []
    for shape in shapes:
        form = chosen(shape[2])[name]

        def once(d, form=form):
            step = form.make(d)
            step.forward()
            step.backward()

        once(draw(64, *shape[1:]))
        data = draw(*shape)
        peaks.append(harness.peak_bytes(lambda d=data: once(d), "cpu"))
    print(json.dumps(peaks))


def peaks_of(name: str, shapes: list) -> list[int | None]:
    """Return the peak memory of a form at each size, from a process of its own."""
    command = [sys.executable, "-m", "benchmarks.growth", "--memory-of", name]
    # Whatever is given back leaves the process, so that it can be counted again.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    return json.loads(
        subprocess.run(
            [*command, "--shapes", json.dumps(shapes)],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            cwd=harness.ROOT,
            env=environment,
        ).stdout
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--memory-of", choices=chosen(1), help=argparse.SUPPRESS)
    parser.add_argument("--shapes", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        print_peaks(options.memory_of, options.shapes)
        return

    others = harness.Others()
    sweeps = {}
    for axis, shapes in SWEEPS.items():
        points = [
            {"shape": shape, "seconds": measure_point(shape, options.rounds)}
            for shape in tqdm(shapes, desc=axis)
        ]
        for name in chosen(1):
            for point, peak in zip(points, peaks_of(name, shapes), strict=True):
                point.setdefault("peak_bytes", {})[name] = peak
        sweeps[axis] = points
    result = {
        "code": harness.fingerprint(MEASURED),
        "rounds": options.rounds,
        "machine": harness.machine("cpu"),
        "others": others.share(),
        "sweeps": sweeps,
    }
    harness.write(result, RESULTS)


if __name__ == "__main__":
    main()
