"""The site, built once for all tests that look at it; one thread for each of two workers."""

import logging
import os
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import markdown
import pytest
import torch
from filelock import FileLock
from playwright.sync_api import sync_playwright

from benchmarks.server import serve
from extensions import proofs, report
from tests.checks import PUBLISHED, build

# The tensors are tiny, and the other core has tests of its own.
torch.set_num_threads(1)

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


def pytest_collection_modifyitems(items):
    """Try once more what a busy machine can upset: a browser, and processes that wait for each other.

    The summary lists what was tried twice. What fails twice fails.
    """
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()) or item.path.name == "test_machines.py":
            item.add_marker(pytest.mark.flaky(reruns=1))


def built(factory: pytest.TempPathFactory, name: str, **environment: str) -> Path:
    """Return the folder of a build; the first worker that gets here makes it for both."""
    shared = factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        shared = shared.parent
    folder, log = shared / name, shared / f"{name}.log"
    with FileLock(shared / f"{name}.lock"):
        if not log.exists():
            try:
                build(folder, **environment)
            except AssertionError as problem:
                log.write_text(str(problem))
            else:
                log.touch()
    if problem := log.read_text():
        pytest.fail(problem, pytrace=False)
    return folder


@pytest.fixture
def convert(request, tmp_path, monkeypatch, caplog):
    """Return a function that writes a page and converts it, and gives HTML and warnings.

    The extensions, their settings and the front matter are the test module's own.
    """
    monkeypatch.setattr(report, "PAGES", tmp_path)
    monkeypatch.setattr(proofs, "CACHE", tmp_path / "cache")
    given = vars(request.module)
    declared, page = given.get("FRONT", ""), tmp_path / "page.md"

    def run(body, front=declared, extensions=given["EXTENSIONS"], path=page):
        path.parent.mkdir(exist_ok=True)
        path.write_text(front + body)
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="mkdocs"):
            html = markdown.markdown(
                body,
                extensions=extensions,
                extension_configs=given.get("SETTINGS", {}),
            )
        return html, [record.getMessage() for record in caplog.records]

    return run


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """Return the folder of a strict build. A build that warns fails every test that asks for it."""
    return built(tmp_path_factory, "site", SITE_URL=ADDRESS)


@pytest.fixture(scope="session")
def published(tmp_path_factory, site) -> Path:
    """Return the site as a fork publishes it, built with the verdicts that `site` has kept."""
    return built(tmp_path_factory, "published", PYTHONHASHSEED="1", **PUBLISHED)


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
