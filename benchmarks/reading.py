"""Measure how long a reader on a slow phone waits for a page, formulas included.

    python -m benchmarks.reading [--rounds 5]

builds the site as it is, and once more with the set-up that Material for MkDocs documents for
MathJax, and opens the linear layer's page of both in turns, in Chromium, with an empty cache,
at 1.6 Mbit/s, 150 ms and a processor slowed four times. Both come from one server, compressed.
That flatters MathJax, which is documented to come from an origin of its own.

A page is ready when every formula on it is set, no font it needs is on its way, and the result
is painted. How long the formulas take in the build is measured as well. Needs npm and Chromium;
writes benchmarks/results/reading.json.
"""

import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright
from tqdm import tqdm

from benchmarks import command
from benchmarks.harness import processor
from benchmarks.server import serve
from extensions import mathml

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks/results/reading.json"
PAGE = "derivations/linear/"
MATHJAX = "mathjax@3.2.2"
FORMULAS = 200
SLOW = {
    "offline": False,
    "latency": 150,
    "downloadThroughput": 1.6e6 / 8,
    "uploadThroughput": 0.75e6 / 8,
}
SLOWER_PROCESSOR = 4
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}

# How formulas are set, and what is loaded with a page; not the prose, and not each rule of style.
MEASURED = (
    "extensions/vendor/temml/temml.min.js",
    "docs/assets/fonts/stix-two-math.woff2",
    "overrides/main.html",
)
WATCH = """
window.ready = new Promise(resolve => {
    const isSet = () => {
        const formulas = [...document.querySelectorAll(".arithmatex")];
        return document.readyState !== "loading" && formulas.length > 0
            && formulas.every(formula => formula.querySelector("math, mjx-container"))
            && formulas[0].getBoundingClientRect().height > 0
            && [...document.fonts].every(face => face.status !== "loading");
    };
    const painted = () => performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? 0;
    let since = null;
    /* The frame in which all was set first; the next one, that no font has been asked for since. */
    const look = () => {
        if (!isSet()) since = null;
        else if (since === null) since = performance.now();
        else return setTimeout(() => resolve(Math.max(since, painted())));
        requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
});
"""
# https://squidfunk.github.io/mkdocs-material/reference/math/
DOCUMENTED = r"""
window.MathJax = {
  tex: {
    inlineMath: [["\\(", "\\)"]],
    displayMath: [["\\[", "\\]"]],
    processEscapes: true,
    processEnvironments: true
  },
  options: {
    ignoreHtmlClass: ".*|",
    processHtmlClass: "arithmatex"
  }
};

document$.subscribe(() => {
  MathJax.startup.output.clearCache()
  MathJax.typesetClear()
  MathJax.texReset()
  MathJax.typesetPromise()
})
"""


def fingerprint() -> str:
    """Return a hash of what the numbers depend on."""
    digest = hashlib.sha256()
    scripts = [p for kind in ("*.css", "*.js") for p in sorted((ROOT / "docs/assets").glob(kind))]
    for path in [*(ROOT / name for name in MEASURED), *scripts]:
        digest.update(path.read_bytes())
    digest.update(repr((SLOW, SLOWER_PROCESSOR, MATHJAX, WATCH, mathml.RENDER)).encode())
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for key in ("extra_css", "extra_javascript", "font", "features"):
        digest.update(re.search(rf"^ *{key}:.*(\n +- .*)*", settings, re.MULTILINE)[0].encode())
    digest.update(importlib.metadata.version("mkdocs-material").encode())
    return digest.hexdigest()


def build(settings: Path, site: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "-q", "-f", settings, "-d", site],
        check=True,
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
    )


def build_with_mathjax(folder: Path) -> Path:
    """Build the same pages with MathJax in the place of MathML; return the site's folder."""
    overrides, site = folder / "overrides", folder / "with_mathjax"
    shutil.copytree(ROOT / "overrides", overrides)
    template = (overrides / "main.html").read_text(encoding="utf-8")
    without_font = re.sub(r"\n.*rel=\"preload\".*", "", template)
    (overrides / "main.html").write_text(without_font, encoding="utf-8")
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    changed = (
        re.sub(r"\nwatch: .*|\n  - extensions.mathml(?=\n)", "", text)
        .replace("custom_dir: overrides", f"custom_dir: {overrides}")
        .replace("[tools/", f"[{ROOT}/tools/")
        .replace(
            "extra_javascript:\n",
            "extra_javascript:\n  - mathjax.js\n  - es5/tex-mml-chtml.js\n",
        )
    )
    settings = folder / "mkdocs.yml"
    settings.write_text(f"docs_dir: {ROOT / 'docs'}\n{changed}", encoding="utf-8")
    build(settings, site)
    (site / "mathjax.js").write_text(DOCUMENTED, encoding="utf-8")
    subprocess.run(["npm", "install", "--silent", "--prefix", folder, MATHJAX], check=True)
    shutil.copytree(folder / "node_modules/mathjax/es5", site / "es5")
    return site


def visit(browser: Browser, address: str) -> dict[str, float]:
    """Open the page with an empty cache; return the seconds to first paint, to ready, to load."""
    context = browser.new_context(**PHONE)
    page = context.new_page()
    page.add_init_script(WATCH)
    wire = context.new_cdp_session(page)
    wire.send("Network.enable")
    wire.send("Network.emulateNetworkConditions", SLOW)
    wire.send("Emulation.setCPUThrottlingRate", {"rate": SLOWER_PROCESSOR})
    page.goto(address, wait_until="load", timeout=120_000)
    times = page.evaluate(
        """async () => ({
            ready_s: await window.ready,
            paint_s: performance.getEntriesByName("first-contentful-paint")[0].startTime,
            load_s: performance.getEntriesByType("navigation")[0].loadEventStart,
        })"""
    )
    context.close()
    return {name: value / 1000 for name, value in times.items()}


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def seconds_in_the_build() -> float:
    """Return how long 200 different formulas take, Temml's start included."""
    source = "\n".join(p.read_text(encoding="utf-8") for p in sorted((ROOT / "docs").rglob("*.md")))
    found = dict.fromkeys(re.findall(r"\$\$\n(.+?)\n\$\$", source, re.DOTALL))
    found |= dict.fromkeys(re.findall(r"(?<![$\\`])\$([^$\n`]+)\$(?!\$)", source))
    # More than the site has: each once more, under another name.
    chosen = [*found, *(f"{latex} \\quad {n}" for n, latex in enumerate(found))][:FORMULAS]
    mathml._render.cache_clear()
    mathml.to_mathml.cache_clear()
    begin = time.perf_counter()
    for latex in chosen:
        mathml.to_mathml(latex, display=True)
    assert mathml.to_mathml.cache_info().misses == FORMULAS
    return time.perf_counter() - begin


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    in_the_build = [seconds_in_the_build() for _ in range(rounds)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(ROOT / "mkdocs.yml", folder / "site")
        sites = {"MathML, as on this site": folder / "site", "MathJax": build_with_mathjax(folder)}
        visits: dict[str, list] = {name: [] for name in sites}
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            for _ in tqdm(range(rounds)):
                for name, site in sites.items():
                    with serve(site) as (host, sent):
                        visits[name].append(visit(browser, f"http://{host}/{PAGE}"))
                        visits[name][-1]["bytes"] = sum(size for _, size in sent)
            version = browser.version
            browser.close()
    ours, theirs = ([v["ready_s"] for v in visits[name]] for name in sites)
    result = {
        "code": fingerprint(),
        "page": PAGE,
        "mathjax": MATHJAX,
        "browser": f"Chromium {version}",
        "processor": processor(),
        "rounds": rounds,
        "variants": {
            name: {key: spread([v[key] for v in seen]) for key in seen[0]}
            for name, seen in visits.items()
        },
        "sooner": spread([b / a for a, b in zip(ours, theirs, strict=True)]),
        "formulas": FORMULAS,
        "formulas_s": spread(in_the_build),
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
