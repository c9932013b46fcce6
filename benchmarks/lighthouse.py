"""Let Lighthouse judge the linear layer's page, as on a phone.

    python -m benchmarks.lighthouse [--rounds 5]

builds the site for the address at which it is then served, compressed, and runs Lighthouse on
it with its own settings for mobile. Needs npx and Chromium; writes
benchmarks/results/lighthouse.json with the medians, and prints what costs points.
"""

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tqdm import tqdm

from benchmarks import command
from benchmarks.harness import processor
from benchmarks.reading import PAGE, ROOT, fingerprint, spread
from benchmarks.server import serve

RESULTS = ROOT / "benchmarks/results/lighthouse.json"
# Lighthouse needs a newer Node.js than some systems have.
PACKAGES = ("node@22.23.3", "lighthouse@13.5.0")
TIMES = {
    "first-contentful-paint": "First contentful paint",
    "largest-contentful-paint": "Largest contentful paint",
    "total-blocking-time": "Total blocking time",
    "speed-index": "Speed index",
}


def judge(address: str, folder: Path) -> dict:
    """Run Lighthouse once; return its report."""
    report = folder / "report.json"
    packages = [part for package in PACKAGES for part in ("-p", package)]
    subprocess.run(
        [
            *("npx", "--yes", *packages, "lighthouse", address, "--quiet"),
            *("--output=json", f"--output-path={report}"),
            "--chrome-flags=--headless --no-sandbox",
        ],
        check=True,
        env=os.environ | {"CHROME_PATH": shutil.which("chromium") or ""},
        stdout=subprocess.DEVNULL,
    )
    return json.loads(report.read_text(encoding="utf-8"))


def faults(report: dict) -> list[str]:
    """Return the audits that cost points, each with its category."""
    audits = report["audits"]
    return [
        f"{category['title']}: {audits[one['id']]['title']} ({audits[one['id']].get('displayValue', '')})"
        for category in report["categories"].values()
        for one in category["auditRefs"]
        if one["weight"] and (audits[one["id"]]["score"] or 0) < 0.9
        if audits[one["id"]]["scoreDisplayMode"] not in ("notApplicable", "manual", "informative")
    ]


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run(
            [sys.executable, "-m", "mkdocs", "build", "-q", "-d", folder / "site"],
            check=True,
            cwd=ROOT,
            env=os.environ | {"SITE_URL": f"http://127.0.0.1:{port}/", "NO_MKDOCS_2_WARNING": "1"},
        )
        with serve(folder / "site", port) as (host, _):
            reports = [judge(f"http://{host}/{PAGE}", folder) for _ in tqdm(range(rounds))]
    for fault in dict.fromkeys(fault for report in reports for fault in faults(report)):
        print(fault)
    result = {
        "code": fingerprint(),
        "page": PAGE,
        "lighthouse": reports[0]["lighthouseVersion"],
        "processor": processor(),
        "rounds": rounds,
        "scores": {
            category["title"]: spread(
                [round(100 * report["categories"][key]["score"]) for report in reports]
            )
            for key, category in reports[0]["categories"].items()
            if key in ("performance", "accessibility", "best-practices", "seo")
        },
        "seconds": {
            title: spread([report["audits"][key]["numericValue"] / 1000 for report in reports])
            for key, title in TIMES.items()
        },
        "shift": statistics.median(
            report["audits"]["cumulative-layout-shift"]["numericValue"] for report in reports
        ),
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
