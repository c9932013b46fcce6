"""Measure how long the check of the equations takes.

    python -m benchmarks.equations

checks all pages of the site from cold, again with nothing changed, and pages with 250, 500
and 1,000 different equations. Writes benchmarks/results/equations.json.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable

import torch
from tqdm import tqdm

from benchmarks import command
from benchmarks.harness import processor
from benchmarks.mutations import ROOT, pages
from proofread.equations import check_file, check_text

RESULTS = ROOT / "benchmarks/results/equations.json"
ROUNDS = 3
DECLARED = {
    "symbols": {"X": "N D", "W": "D M", "b": "M"},
    "forward": "Z = X @ W + b",
    "arbitrary": {"J": "Z"},
    "indices": {"i": "N", "j": "D", "k": "M"},
    "latex": {"x": "X", "w": "W", "z": "Z"},
}
FORMS = (
    r"{n} z_{{ik}} = {n} b_k + {n} \sum_{{j=1}}^{{D}} x_{{ij}} w_{{jk}}",
    r"{n} \frac{{\partial J}}{{\partial W}} = {n} X^T \frac{{\partial J}}{{\partial Z}}",
    r"\frac{{\partial J}}{{\partial w_{{jk}}}} = \frac{{1}}{{{n}}} \sum_{{i=1}}^{{N}} {n} x_{{ij}} \frac{{\partial J}}{{\partial z_{{ik}}}}",
    r"\frac{{\partial J}}{{\partial b_k}} + {n} = {n} + \sum_{{i=1}}^{{N}} \frac{{\partial J}}{{\partial z_{{ik}}}}",
)


def many(count: int) -> str:
    """Return a page with that many equations, each another one."""
    numbered = (FORMS[i % len(FORMS)].format(n=i + 2) for i in range(count))
    return "\n".join(f"$$\n{latex}\n$$\n" for latex in numbered)


def seconds(work: Callable[[], None]) -> list[float]:
    times = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return times


def main() -> None:
    command.parser(__doc__).parse_args()

    def all_pages(cache: str | None = None) -> None:
        for page in pages():
            assert check_file(page, cache_dir=cache).ok

    def a_page_of(count: int) -> Callable[[], None]:
        text = many(count)

        def work() -> None:
            report = check_text(text, declarations=DECLARED)
            assert report.ok and len(report.formulas) == count

        return work

    with tempfile.TemporaryDirectory() as cache:
        all_pages(cache)
        jobs = {
            "all pages of this site, from cold": all_pages,
            "all pages, nothing changed": lambda: all_pages(cache),
            **{f"{n:,} equations on a page": a_page_of(n) for n in (250, 500, 1000)},
        }
        times = {name: seconds(job) for name, job in tqdm(jobs.items())}
    result = {
        "torch": torch.__version__,
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "rounds": ROUNDS,
        "seconds": {
            name: {"median": statistics.median(t), "min": min(t), "max": max(t)}
            for name, t in times.items()
        },
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
