"""Measure one training step with one process and with two, and count what they send.

    python -m benchmarks.machines [--rounds 15]

Two processes stay alive for the whole measurement, and all forms take turns in them: one
process with one thread, one with two (the other waits), and two with one thread each. The
bytes are read from the processes' own sockets. Micro-batches are timed in one process; their
peak memory is read in a fresh one for each. Writes benchmarks/results/machines.json, from
which the page "The batch over many machines" is made.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import torch
import torch.distributed as dist
from tqdm import tqdm

from benchmarks import harness  # first: it turns the check of shapes off
from proofread.signatures import relative_error
from snippets.machines import accumulate, all_reduce, mean, part

RESULTS = harness.RESULTS / "machines.json"
MEASURED = [
    harness.ROOT / path
    for path in (
        "benchmarks/harness.py",
        "benchmarks/machines.py",
        "snippets/machines.py",
        "snippets/linear.py",
        "snippets/relu.py",
    )
]
FEATURES, OUTPUTS = 784, 64
ROWS = (16, 64, 256, 1024, 4096, 16384, 65536)
MESSAGES = (1, 4, 16, 64)
MICRO_BATCHES = (16, 256, 4096, 65536)
COUNTED_STEPS = 20


def draw(rows: int) -> tuple[torch.Tensor, ...]:
    """Return X, W, b and Y in float32, the same in every process."""
    torch.manual_seed(0)
    X, Y = torch.randn(rows, FEATURES), torch.randn(rows, OUTPUTS)
    return X, torch.randn(FEATURES, OUTPUTS) / FEATURES**0.5, torch.zeros(OUTPUTS), Y


def gradient_bytes() -> int:
    """Return the size of one step's message: the gradients, S and NM, in float32."""
    return 4 * (FEATURES * OUTPUTS + OUTPUTS + 2)


def one_message_each(*terms: torch.Tensor) -> list[torch.Tensor]:
    """The same sums as `all_reduce`, by one message for each tensor."""
    for term in terms:
        dist.all_reduce(term)
    return list(terms)


def alone(data, threads: int) -> Callable:
    """Return a step on all rows in the first process; the others have nothing to do."""

    def step() -> None:
        torch.set_num_threads(threads)
        if dist.get_rank() == 0:
            mean(*part(*data))

    return step


def in_micro_batches(data, rows: int) -> tuple[torch.Tensor, ...]:
    """Return J and its gradients by the whole batch, that many rows at a time."""
    X, W, b, Y = data
    # One at a time: `split` would hold thousands of small tensors, and they count as memory.
    starts = range(0, len(X), rows)
    return mean(*accumulate(((X[i : i + rows], Y[i : i + rows]) for i in starts), W, b))


def accumulated(data, rows: int) -> Callable:
    """Return a step on all rows in the first process, in micro-batches."""

    def step() -> None:
        torch.set_num_threads(1)
        if dist.get_rank() == 0:
            in_micro_batches(data, rows)

    return step


def together(data, summed: Callable) -> Callable:
    """Return a step on this process's shard, with one thread."""
    X, W, b, Y = data
    rank, processes = dist.get_rank(), dist.get_world_size()
    X, Y = (T.tensor_split(processes)[rank] for T in (X, Y))

    def step() -> None:
        torch.set_num_threads(1)
        mean(*summed(*part(X, W, b, Y)))

    return step


def message(count: int) -> Callable:
    """Return a step that only sends a gradient's bytes, cut into that many messages."""
    chunks = torch.zeros(gradient_bytes() // 4).tensor_split(count)

    def step() -> None:
        for chunk in chunks:
            dist.all_reduce(chunk)

    return step


def seconds(step: Callable, repeat: int) -> float:
    """Return the seconds of one step, the mean of several; all processes begin together."""
    step()  # threads and caches are as the form leaves them
    dist.barrier()
    begin = time.perf_counter()
    for _ in range(repeat):
        step()
    return (time.perf_counter() - begin) / repeat


def take_turns(forms: dict, repeat: int, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of all forms, which take turns in the same order in all processes."""
    actions = {
        name: lambda step=step: {"seconds": seconds(step, repeat)} for name, step in forms.items()
    }
    measured = harness.interleave(actions, rounds, quiet=True)
    return {name: [turn["seconds"] for turn in turns] for name, turns in measured.items()}


def measure(rounds: int) -> dict:
    """Return what one of two processes measures; both have to call it."""
    first = dist.get_rank() == 0
    batches = {}
    for rows in tqdm(ROWS, desc="batches", disable=not first):
        data = draw(rows)
        forms = {
            "one_thread": alone(data, 1),
            "two_threads": alone(data, 2),
            "two_processes": together(data, all_reduce),
            "message_each": together(data, one_message_each),
            "message_alone": message(1),
        }
        times = take_turns(forms, max(1, 2048 // rows), rounds)
        batches[rows] = {name: harness.spread(values) for name, values in times.items()} | {
            "threads_over_one": harness.ratio(times["one_thread"], times["two_threads"]),
            "processes_over_one": harness.ratio(times["one_thread"], times["two_processes"]),
            "one_message_over_each": harness.ratio(times["message_each"], times["two_processes"]),
        }
    torch.set_num_threads(1)
    messages = take_turns({count: message(count) for count in MESSAGES}, 20, rounds)
    data = draw(max(MICRO_BATCHES))
    micro = take_turns({rows: accumulated(data, rows) for rows in MICRO_BATCHES}, 1, rounds)
    return {
        "micro_batches": {rows: harness.spread(values) for rows, values in micro.items()},
        "batches": batches,
        "messages": {count: harness.spread(values) for count, values in messages.items()},
    }


def print_peak(rows: int) -> None:
    """Print by how many bytes micro-batches of that size raise this process's peak memory."""
    data = draw(max(MICRO_BATCHES))
    in_micro_batches(draw(16), 16)  # the libraries' own buffers are there before
    print(harness.peak_bytes(lambda: in_micro_batches(data, rows), "cpu"))


def peak_bytes(rows: int) -> int:
    """Return what a process of its own prints; what another size left behind is not there."""
    command = [sys.executable, "-m", "benchmarks.machines", f"--peak-of={rows}"]
    output = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, cwd=harness.ROOT
    )
    return int(output.stdout)


def errors(rows: int) -> dict[str, float]:
    """Return how far micro-batches are from the whole batch in float64, relative, by dtype."""
    exact = [T.double() for T in draw(max(MICRO_BATCHES))]
    whole = mean(*part(*exact))
    return {
        str(dtype).removeprefix("torch."): max(
            relative_error(found.double(), right)
            for found, right in zip(
                in_micro_batches([T.to(dtype) for T in exact], rows), whole, strict=True
            )
        )
        for dtype in (torch.float64, torch.float32)
    }


def bytes_sent() -> int:
    """Return what this process has sent over TCP so far, as the kernel counts it."""
    total = 0
    for connection in psutil.Process().net_connections("tcp"):
        if connection.status != psutil.CONN_ESTABLISHED:
            continue
        with socket.socket(fileno=os.dup(connection.fd)) as copy:
            information = copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        total += int.from_bytes(information[200:208], sys.byteorder)  # tcpi_bytes_sent
    return total


def count() -> dict[str, float]:
    """Return the bytes that one process sends in a step: counted, and by the formula."""
    step = together(draw(64), all_reduce)
    step()
    before = bytes_sent()
    for _ in range(COUNTED_STEPS):
        step()
    dist.barrier()
    sent = torch.tensor((bytes_sent() - before) / COUNTED_STEPS, dtype=torch.float64)
    dist.all_reduce(sent)
    processes = dist.get_world_size()
    return {
        "counted": sent.item() / processes,
        "formula": 2 * (processes - 1) / processes * gradient_bytes(),
    }


def launch(processes: int, *arguments: str) -> dict:
    """Run this module in that many processes, and return what the first one wrote."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc-per-node={processes}", "-m", "benchmarks.machines", *arguments]
        command += [f"--write={path}"]
        # As many threads as the largest form asks for: a process can use fewer.
        environment = os.environ | {"OMP_NUM_THREADS": "2"}
        subprocess.run(command, check=True, cwd=harness.ROOT, env=environment, timeout=600)
        return json.loads(path.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--count", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--peak-of", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()

    if options.peak_of:
        print_peak(options.peak_of)
        return
    if options.write:
        dist.init_process_group("gloo")
        found = count() if options.count else measure(options.rounds)
        if dist.get_rank() == 0:
            options.write.write_text(json.dumps(found))
        dist.destroy_process_group()
        return

    others = harness.Others()
    result = {
        "code": harness.fingerprint(MEASURED),
        "features": FEATURES,
        "outputs": OUTPUTS,
        "rounds": options.rounds,
        "gradient_bytes": gradient_bytes(),
        "machine": harness.machine("cpu") | {"cores": psutil.cpu_count()},
        **launch(2, f"--rounds={options.rounds}"),
        "bytes": {processes: launch(processes, "--count") for processes in (2, 4)},
    }
    for rows, found in result["micro_batches"].items():
        found |= {"peak_bytes": peak_bytes(int(rows)), "errors": errors(int(rows))}
    harness.write(result | {"others": others.share()}, RESULTS)


if __name__ == "__main__":
    main()
