"""The site, built once for all tests that look at it; one thread for each of two workers."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch
from filelock import FileLock
from playwright.sync_api import sync_playwright

from benchmarks.server import serve

# The tensors are tiny, and the other core has tests of its own.
torch.set_num_threads(1)

ROOT = Path(__file__).parent.parent
# Built with an address of its own: instant navigation falls back to full loads at any other.
ADDRESS = "http://gradients.localhost/"
CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
# A sandbox in a container, and a browser that keeps to itself.
FLAGS = [
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """Return the folder of a strict build. A build that warns fails every test that asks for it."""
    shared = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        shared = shared.parent
    folder, log = shared / "site", shared / "site.log"
    # The first worker that gets here builds; the other waits, and finds it built.
    with FileLock(shared / "site.lock"):
        if not log.exists():
            build = subprocess.run(
                [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
                check=False,
                cwd=ROOT,
                env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "SITE_URL": ADDRESS},
                capture_output=True,
                text=True,
            )
            log.write_text("" if build.returncode == 0 else build.stderr[-4000:])
    if problem := log.read_text():
        pytest.fail(f"mkdocs build --strict failed:\n{problem}", pytrace=False)
    return folder


@pytest.fixture(scope="session")
def server(site):
    """Serve the site; return where, and the list of what has been sent."""
    with serve(site) as server:
        yield server


@pytest.fixture(scope="session")
def address():
    """Return the address at which the browser finds the site."""
    return ADDRESS


@pytest.fixture(scope="session")
def browser(server):
    if CHROMIUM is None:
        missing = "no Chromium on this machine: apt-get install chromium"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    found_at = f"--host-resolver-rules=MAP {urlsplit(ADDRESS).hostname} {server[0]}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, found_at])
        yield browser
        browser.close()
