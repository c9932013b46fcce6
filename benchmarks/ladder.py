"""Measure the forms of one pass, from row loops to one pass over the memory, beside autograd.

    python -m benchmarks.ladder             # writes benchmarks/results/ladder.json
    python -m benchmarks.ladder --compare   # writes nothing: this machine beside the published one

Each form is one forward and one backward pass of the network: J, and its gradients with respect to
W, b and X. All forms take turns in one process, with copies of X and a large matrix product beside
them; peak memory is read in a fresh process for each. The page "Faster" is made from the files.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks import forms, harness
from benchmarks.forms import FIRST, FORMS, REFERENCE, Data, draw, time_pass

# isort: split
import torch
from tqdm import tqdm

MEASURED = [
    harness.ROOT / path
    for path in (
        "benchmarks/forms.py",
        "benchmarks/harness.py",
        "benchmarks/ladder.py",
        "snippets/faster.py",
        "snippets/gpu.py",
        "snippets/linear.py",
        "snippets/mse.py",
        "snippets/relu.py",
    )
]
PUBLISHED_OUTPUTS = (1, 64, 512)
SIDE = 2048  # of the square product that shows how fast the machine can multiply


def path_of(device: str, outputs: int) -> Path:
    """Return the file that a measurement is written to."""
    name = "ladder" + ("" if device == "cpu" else "-cuda")
    return harness.RESULTS / f"{name}{'' if outputs == 1 else f'-{outputs}'}.json"


def probes(data: Data) -> dict:
    """Return what the memory and the multipliers can do, as functions of nothing."""
    target = torch.empty_like(data.X)
    square = torch.randn(SIDE, SIDE, device=data.X.device)
    product, Z = torch.empty_like(square), torch.empty_like(data.Y)
    return {
        "copy X": lambda: target.copy_(data.X),
        "copy X to new memory": data.X.clone,
        "read X": data.X.sum,
        "X @ W": lambda: torch.mm(data.X, data.W, out=Z),
        "write X": lambda: target.fill_(1.0),
        "product": lambda: torch.mm(square, square, out=product),
    }


def time_probe(probe, clock: harness.Clock) -> dict[str, float]:
    begin = clock.now()
    result = probe()
    del result
    return {"pass": clock.between(begin, clock.now())}


def gradients_of(form: forms.Form, data: Data) -> forms.Gradients:
    step = form.make(data)
    step.forward()
    return step.backward()


def errors(chosen: dict[str, forms.Form], data: Data) -> dict[str, list[float | None]]:
    """Return the relative errors of dJ/dW, dJ/db and dJ/dX of each form, against float64."""
    right = gradients_of(FORMS[REFERENCE], data.to(torch.float64))
    found = {}
    for name, form in tqdm(chosen.items(), desc="errors"):
        found[name] = [
            None if actual is None else ((actual - exact).abs().max() / exact.abs().max()).item()
            for actual, exact in zip(gradients_of(form, data), right, strict=True)
        ]
    return found


def available() -> float:
    """Return the memory that is free, in bytes; without limit where nobody tells."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return float("inf")


def print_peak(name: str, data: Data, device: str) -> None:
    form = FORMS[name]

    def once(d: Data) -> None:
        step = form.make(d)
        step.forward()
        step.backward()

    # A small batch first, for the libraries' own buffers; what is compiled, for these sizes.
    once(data if form.make is forms.Compiled else draw(64, *data.W.shape, device))
    print(harness.peak_bytes(lambda: once(data), device))


def peak_of(name: str, arguments: list[str]) -> int | None:
    """Return the peak memory of a form on top of its data, from a process of its own."""
    command = [sys.executable, "-m", "benchmarks.ladder", *arguments, "--memory-of", name]
    # Whatever is given back leaves the process, so that it can be counted again.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    output = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, cwd=harness.ROOT, env=environment
    ).stdout
    return json.loads(output.replace("None", "null"))


def measure(options: argparse.Namespace) -> dict:
    shape = (options.rows, options.features, options.outputs)
    data = draw(*shape, options.device)
    room = available() / 2
    chosen = {n: f for n, f in FORMS.items() if f.fits(*shape, options.device, room)}
    left_out = [n for n in FORMS if n not in chosen]
    if left_out:
        print(f"not for these sizes, this device or this memory: {', '.join(left_out)}")

    clock, others = harness.Clock(options.device), harness.Others()
    steps = {name: form.make(data) for name, form in chosen.items()}
    timed = harness.interleave(
        {n: lambda s=s: time_pass(s, clock) for n, s in steps.items()}
        | {n: lambda p=p: time_probe(p, clock) for n, p in probes(data).items()},
        options.rounds,
    )
    busy = others.share()
    del steps

    def part(name: str, key: str = "pass") -> list[float]:
        return [result[key] for result in timed[name]]

    arguments = [f"--{key}={getattr(options, key)}" for key in ("rows", "features", "outputs")]
    arguments.append(f"--device={options.device}")
    wrong = errors(chosen, data)
    steps = {}
    for name, form in tqdm(chosen.items(), desc="memory"):
        steps[name] = {
            "seconds": harness.spread(part(name)),
            "backward": harness.spread(part(name, "backward")),
            "over_autograd": harness.ratio(part(name), part(REFERENCE)),
            "backward_over_autograd": harness.ratio(
                part(name, "backward"), part(REFERENCE, "backward")
            ),
            "pass_over_backward": harness.ratio(part(name), part(REFERENCE, "backward")),
            "over_copy": harness.ratio(part(name), part("copy X")),
            "first_over_this": harness.ratio(part(FIRST), part(name)) if FIRST in chosen else None,
            "faults": harness.spread(part(name, "faults"))["median"],
            "peak_bytes": peak_of(name, arguments),
            "bytes": form.bytes(*shape),
            "operations": form.operations(*shape),
            "errors": wrong[name],
        }
    return {
        "code": harness.fingerprint(MEASURED),
        **dict(zip(("rows", "features", "outputs"), shape, strict=True)),
        "rounds": options.rounds,
        "machine": harness.machine(options.device),
        "others": busy,
        "batch_bytes": data.X.numel() * data.X.element_size(),
        "probes": {name: harness.spread(part(name)) for name in probes(data)},
        "product_operations": 2 * SIDE**3,
        "steps": steps,
    }


def table(*results: dict) -> str:
    """Return the medians as text, the results side by side."""
    rows = [["", *["ms", "of copy X", "of autograd"] * len(results)]]
    for name in ["copy X", *results[0]["steps"]]:
        row = [name]
        for result in results:
            step = result["steps"].get(name)
            if name == "copy X":
                row += [f"{1000 * result['probes'][name]['median']:.2f}", "1.00", ""]
            elif step is None:
                row += ["", "", ""]
            else:
                row.append(f"{1000 * step['seconds']['median']:.2f}")
                row += [f"{step[key]['median']:.2f}" for key in ("over_copy", "over_autograd")]
        rows.append(row)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--features", type=int, default=784)
    parser.add_argument("--outputs", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--device", default=harness.default_device(), help="cpu or cuda")
    parser.add_argument(
        "--compare",
        nargs="?",
        const="published",
        metavar="FILE",
        help="write nothing; print beside this file, or beside the published one",
    )
    parser.add_argument("--memory-of", choices=FORMS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    for name in ("rows", "features", "outputs", "rounds"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} needs to be 1 or more: {getattr(options, name)}")
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error(f"--device {options.device}: PyTorch sees no GPU here, use --device cpu")
    if options.memory_of:
        data = draw(options.rows, options.features, options.outputs, options.device)
        print_peak(options.memory_of, data, options.device)
        return

    there = None
    if options.compare:
        published = path_of("cpu", options.outputs)
        file = published if options.compare == "published" else Path(options.compare)
        if not file.exists():
            parser.error(f"--compare: there is no {file}")
        there = json.loads(file.read_text(encoding="utf-8"))
    here = measure(options)
    print(table(here, there) if there else table(here))
    if there:
        for name, result in (("left", here), ("right", there)):
            where = result["machine"]
            on = where.get("gpu") or f"{where['processor']}, {where['threads']} threads"
            print(f"{name}: {on}, torch {where['torch']}")
    else:
        harness.write(here, path_of(options.device, options.outputs))


if __name__ == "__main__":
    main()
