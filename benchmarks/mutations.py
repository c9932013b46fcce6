"""Measure how strong the check of the equations is, on every page of the site.

    python -m benchmarks.mutations

edits each equation as people err and counts how many edits the check catches. Writes
benchmarks/results/mutations.json, from which the page "How this site is checked" is made.
"""

import hashlib
import json
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks import command
from proofread.equations.documents import read_document
from proofread.equations.mutate import mutate_file

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks/results/mutations.json"


def pages() -> list[Path]:
    """Return the pages that have equations."""
    found = sorted((ROOT / "docs").rglob("*.md"))
    return [page for page in found if read_document(page).equations]


def fingerprint(page: Path) -> str:
    """Return a hash of a page's equations and of what its symbols mean; prose does not count."""
    document = read_document(page)
    meant = [[found.latex, found.using] for found in document.equations]
    text = json.dumps([meant, document.declarations], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def main() -> None:
    command.parser(__doc__).parse_args()
    results = {}
    for page in tqdm(pages(), desc="pages"):
        found = mutate_file(page)
        lines = [equation.line for equation in read_document(page).equations]
        by_outcome = {
            kind: [o for o in found.outcomes if o.outcome == kind]
            for kind in ("caught", "same", "survived")
        }
        results[page.relative_to(ROOT).as_posix()] = {
            "equations": fingerprint(page),
            "formulas": found.formulas,
            **{kind: len(outcomes) for kind, outcomes in by_outcome.items()},
            "listed": [
                # Which equation: its line changes with every sentence above it.
                {"equation": lines.index(o.line), "kind": o.kind}
                | {"before": o.before, "after": o.after}
                | {"outcome": o.outcome, "reason": o.reason}
                for o in by_outcome["same"] + by_outcome["survived"]
            ],
        }
    result = {"torch": torch.__version__, "pages": results}
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
