"""Lose, stop and restart processes of a training run, and record what happens.

    python -m benchmarks.failures

Starts examples/digits.py with torchrun, as a reader would, kills or stops one process in the
middle, and compares the curve of the run that goes on with that of a run left alone. Writes
benchmarks/results/failures.json, from which the page "The batch over many machines" is made.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch
from tqdm import tqdm

from benchmarks import command, harness

RESULTS = harness.RESULTS / "failures.json"
SCRIPT = "examples/digits.py"
MEASURED = [
    harness.ROOT / path
    for path in (
        "benchmarks/failures.py",
        SCRIPT,
        "snippets/machines.py",
        "snippets/linear.py",
        "snippets/relu.py",
    )
]
STEPS, EVERY, MIDDLE = 3000, 100, 1000
TIMEOUT = 5
RESTARTS = 8
# Nothing below may take longer; a run that does is ended, and raises.
LIMIT = 180
# Without it a restarted process can be told the address of the one that was killed.
OWN_STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}


@contextmanager
def torchrun(
    processes: int, checkpoint: Path, *launch: str, settings: dict | None = None, **variables: str
):
    """Start the script and give its torchrun; whatever is left of it at the end is killed.

    `launch` are options of torchrun, `settings` those of the script, `variables` the
    environment's.
    """
    chosen = {"checkpoint": checkpoint, "steps": STEPS, "every": EVERY, "timeout": TIMEOUT}
    chosen |= settings or {}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={processes}", *launch, SCRIPT]
    command += [f"--{name}={value}" for name, value in chosen.items()]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "JAXTYPING_DISABLE": "1"} | variables
    environment["PYTHONPATH"] = str(harness.ROOT)
    pipe = subprocess.PIPE
    agent = subprocess.Popen(
        command, cwd=harness.ROOT, env=environment, stdout=pipe, stderr=pipe, text=True
    )
    try:
        yield agent
    finally:
        if agent.poll() is None:
            for process in [*psutil.Process(agent.pid).children(recursive=True), agent]:
                process.kill()
            agent.communicate()


def finish(agent: subprocess.Popen) -> tuple[int, str, str]:
    """Return the exit status and what was printed; TimeoutExpired where it hangs."""
    out, error = agent.communicate(timeout=LIMIT)
    return agent.returncode, out, error


def curve(checkpoint: Path) -> list[float]:
    return torch.load(checkpoint)["curve"] if checkpoint.exists() else []


def worker(agent: subprocess.Popen, rank: int, checkpoint: Path, middle: int) -> psutil.Process:
    """Wait until the checkpoint has come to the middle; return the process of that rank."""
    end = time.monotonic() + LIMIT
    while len(curve(checkpoint)) < middle:
        if agent.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"the run did not come to step {middle}: {agent.communicate()[1]}")
        time.sleep(0.02)
    for process in psutil.Process(agent.pid).children():
        if process.environ().get("RANK") == str(rank):
            return process
    raise RuntimeError(f"there is no rank {rank}")


def run(processes: int, checkpoint: Path, settings: dict | None = None) -> str:
    """Run to the end, and return what was printed."""
    with torchrun(processes, checkpoint, settings=settings) as agent:
        status, out, error = finish(agent)
    if status:
        raise RuntimeError(error)
    return out


def essence(error: str) -> list[str]:
    """Return what torchrun and the processes say, without times, paths and Python frames."""
    kept = []
    for line in error.splitlines():
        line = re.sub(r"^[WE]\d{4} [\d:.]+ \d+ \S+\] ", "torchrun: ", line)
        line = re.sub(r"\[/\S+?/gloo/gloo/\S+?\] ", "", line)
        line = re.sub(r" of binary: \S+", "", line)
        line = re.sub(r"( Check the logs| This is typically).*", "", line)
        if re.match(
            r"torchrun: (?!no error file)|\[rank\d+\]: \w+Error: |Failures:|Root Cause"
            r"|\[\d+\]:|  (rank|exitcode) |  traceback : Signal",
            line,
        ):
            kept.append(line.rstrip())
    return kept


def largest_difference(a: list[float], b: list[float]) -> float:
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


def killed(folder: Path, alone: list[float]) -> dict:
    """Kill one of two processes; go on from the checkpoint, with two and with one."""
    checkpoint = folder / "killed.pt"
    with torchrun(2, checkpoint) as agent:
        worker(agent, 1, checkpoint, MIDDLE).kill()
        begin = time.monotonic()
        status, _, error = finish(agent)
        seconds = time.monotonic() - begin
    found = {"status": status, "seconds": seconds, "said": essence(error)}
    found["saved"] = len(curve(checkpoint))
    kept = checkpoint.read_bytes()
    for processes in (2, 1):
        checkpoint.write_bytes(kept)
        found[f"then_{processes}"] = run(processes, checkpoint).splitlines()
        found[f"difference_{processes}"] = largest_difference(curve(checkpoint), alone)
    return found


def restarted(folder: Path, alone: list[float], **variables: str) -> dict:
    """Kill one of two processes and let torchrun start both again."""
    checkpoint = folder / "restarted.pt"
    checkpoint.unlink(missing_ok=True)
    with torchrun(2, checkpoint, "--max-restarts=1", **variables) as agent:
        worker(agent, 1, checkpoint, MIDDLE).kill()
        status, out, error = finish(agent)
    found = {"status": status, "printed": out.splitlines(), "said": essence(error)}
    if status == 0:
        found["difference"] = largest_difference(curve(checkpoint), alone)
    return found


def stopped(folder: Path) -> dict:
    """Stop one of two processes for good: the other's patience ends."""
    checkpoint = folder / "stopped.pt"
    with torchrun(2, checkpoint) as agent:
        worker(agent, 1, checkpoint, MIDDLE).suspend()
        begin = time.monotonic()
        status, _, error = finish(agent)
        seconds = time.monotonic() - begin
    return {"status": status, "seconds": seconds, "said": essence(error)}


def paused(folder: Path, alone: list[float], seconds: float = 2) -> dict:
    """Stop one of two processes for a while: the other waits, and nothing else changes."""
    checkpoint = folder / "paused.pt"
    with torchrun(2, checkpoint) as agent:
        slow = worker(agent, 1, checkpoint, MIDDLE)
        slow.suspend()
        time.sleep(seconds)
        before = len(curve(checkpoint))
        slow.resume()
        status, _, _ = finish(agent)
    difference = largest_difference(curve(checkpoint), alone)
    return {"status": status, "seconds": seconds, "waited_at": before, "difference": difference}


def main() -> None:
    command.parser(__doc__).parse_args()
    result = {
        "code": harness.fingerprint(MEASURED),
        "processor": harness.processor(),
        "torch": torch.__version__,
        "steps": STEPS,
        "every": EVERY,
        "timeout": TIMEOUT,
    }
    with tempfile.TemporaryDirectory() as name, tqdm(total=6 + 2 * RESTARTS, desc="runs") as bar:
        folder = Path(name)

        def done(value):
            bar.update()
            return value

        curves = {}
        for processes in (1, 2, 4):
            checkpoint = folder / f"{processes}.pt"
            run(processes, checkpoint)
            curves[processes] = done(curve(checkpoint))
        alone = curves[1]
        result["first_loss"], result["last_loss"] = alone[0], alone[-1]
        result["differences"] = {p: largest_difference(curves[p], alone) for p in (2, 4)}
        result["killed"] = done(killed(folder, alone))
        own, shared = (
            [done(restarted(folder, alone, **variables)) for _ in range(RESTARTS)]
            for variables in (OWN_STORE, {})
        )
        result["restarted"] = own[0]
        result["restarts"] = {
            "own_store": [r["status"] for r in own],
            "shared_store": [r["status"] for r in shared],
        }
        failed = next((r for r in shared if r["status"]), None)
        result["restarts"]["shared_store_said"] = failed["said"] if failed else []
        result["paused"] = done(paused(folder, alone))
        result["stopped"] = done(stopped(folder))
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
