"""What the measuring scripts share: clocks, rounds, spreads, memory, the machine, the code's hash."""

from __future__ import annotations

import ast
import gc
import hashlib
import json
import os
import platform
import random
import re
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

# What is measured is the code, not the check of its shapes.
os.environ.setdefault("JAXTYPING_DISABLE", "1")

import torch
from tqdm import tqdm

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks/results"
WARM_UP = 2  # rounds that are not counted
BUSY = 0.1  # more than this share of the cores' time for other programs, and the numbers are theirs too


class Clock:
    """Moments on a device, and the seconds between them."""

    def __init__(self, device: str):
        self.cuda = device.startswith("cuda")

    def now(self) -> float | torch.cuda.Event:
        """Return this moment; on a GPU, that of its queue."""
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def between(self, begin, end) -> float:
        if not self.cuda:
            return end - begin
        end.synchronize()
        return begin.elapsed_time(end) / 1000


def interleave(
    actions: Mapping[str, Callable[[], Mapping[str, float]]], rounds: int, quiet: bool = False
) -> dict[str, list[Mapping[str, float]]]:
    """Return what each action measured, round by round.

    All take turns in one process, each round in another order, so that a machine that slows down slows
    all, and none always runs in the wake of the same neighbour.
    """
    order, shuffle = list(actions), random.Random(0).shuffle
    measured = {name: [] for name in actions}
    gc.collect()
    gc.disable()
    try:
        for number in tqdm(range(WARM_UP + rounds), desc="rounds", disable=quiet):
            shuffle(order)
            for name in order:
                result = actions[name]()
                if number >= WARM_UP:
                    measured[name].append(result)
    finally:
        gc.enable()
    return measured


def spread(values: Iterable[float]) -> dict[str, float]:
    """Return the median and the quartiles.

    >>> spread([4.0, 1.0, 3.0, 2.0, 5.0])
    {'median': 3.0, 'low': 2.0, 'high': 4.0}
    """
    values = list(values)
    if len(values) == 1:
        return {"median": values[0], "low": values[0], "high": values[0]}
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "low": low, "high": high}


def ratio(above: Iterable[float], below: Iterable[float]) -> dict[str, float]:
    """Return the spread of the ratios within each round: a slow round slows both."""
    return spread(a / b for a, b in zip(above, below, strict=True))


def memory_field(field: str) -> int:
    """Return a memory field of this process in bytes, as Linux tells it."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"{field}:\s+(\d+) kB", status)[1])


def peak_bytes(action: Callable[[], object], device: str) -> int | None:
    """Return how far the action raises the peak memory; None where nobody tells."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        action()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    reset = Path("/proc/self/clear_refs")
    if not reset.exists():
        return None
    reset.write_text("5")  # the peak counts from here on
    before = memory_field("VmRSS")
    action()
    return memory_field("VmHWM") - before


def page_faults() -> int | None:
    """Return how many pages this process has been given so far; None outside of Unix."""
    try:
        import resource
    except ModuleNotFoundError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


class Others:
    """How busy everything else kept the processor while this process measured."""

    def __init__(self):
        self.begin = self._read()

    @staticmethod
    def _read() -> tuple[float, float, float] | None:
        """Return the seconds that all cores worked, that they had, and that this process worked."""
        stat = Path("/proc/stat")
        if not stat.exists():
            return None
        ticks = [int(n) for n in stat.read_text().splitlines()[0].split()[1:9]]
        total, idle = sum(ticks), ticks[3] + ticks[4]
        hertz = os.sysconf("SC_CLK_TCK")
        return (total - idle) / hertz, total / hertz, sum(os.times()[:4])

    def share(self) -> float | None:
        """Return the share of the cores' time that others took; None outside of Linux."""
        if self.begin is None:
            return None
        busy, total, own = (
            end - begin for end, begin in zip(self._read(), self.begin, strict=True)
        )
        return max(0.0, busy - own) / total if total else 0.0


def write(result: dict, path: Path) -> None:
    """Write what was measured, and warn where the machine was busy with other things."""
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"written to {path.relative_to(ROOT)}")
    if (result["others"] or 0) > BUSY:
        busy = f"{result['others']:.0%} of the cores' time"
        print(f"other programs took {busy}: measure again when the machine is quiet")


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = [
        line.partition(":")[2].strip()
        for line in (cpuinfo.read_text().splitlines() if cpuinfo.exists() else [])
        if line.startswith("model name")
    ]
    return names[0] if names else platform.processor() or platform.machine()


def caches() -> dict[str, str]:
    """Return the sizes of the first core's caches, such as {"L1": "32K"}; empty where untold."""
    sizes = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        kind, level, size = (
            (folder / name).read_text().strip() for name in ("type", "level", "size")
        )
        if kind != "Instruction":
            sizes[f"L{level}"] = size
    return sizes


def machine(device: str) -> dict:
    """Describe what the numbers were measured on."""
    found = {
        "device": device,
        "processor": processor(),
        "caches": caches(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    if device.startswith("cuda"):
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def fingerprint(paths: Iterable[Path]) -> str:
    """Return a hash of the code that is measured; its comments and docstrings do not count."""
    code = hashlib.sha256()
    for path in paths:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and ast.get_docstring(
                node
            ):
                node.body = node.body[1:]
        code.update(ast.dump(tree).encode())
    return code.hexdigest()


def default_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
