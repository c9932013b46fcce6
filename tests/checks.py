"""The checks that every gradient function has to pass. Tests of right and wrong code share them."""

import importlib
import importlib.util
import inspect
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from playwright.sync_api import Page

from proofread.signatures import (
    Gradient,
    by_autograd,
    by_hand,
    compare,
    draw,
    gradients_of,
    output,
)

ROOT = Path(__file__).parent.parent
TRITON = importlib.util.find_spec("triton") is not None
OTHERS = {"__init__"} if TRITON else {"__init__", "gpu"}
LAYERS = sorted(p.stem for p in (ROOT / "snippets").glob("*.py") if p.stem not in OTHERS)
# The two ways in which pages are read.
DEVICES = {
    "desk": {"viewport": {"width": 1280, "height": 844}},
    "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
}

# Nothing waits for the screen: far from it, an equation, a figure or a block of code has no text to read
# and no height of its own until the browser comes to lay it out.
ALL_LAID_OUT = "* { content-visibility: visible !important }"

# Where a fork publishes the site, and what its workflow knows; the time stands for its commit's.
HERE = "https://gradients.example/site/"
PUBLISHED = {
    "SITE_URL": HERE,
    "REPO_URL": "https://github.com/someone/gradients",
    "OFFLINE_COPY": "offline.zip",
    "SOURCE_DATE_EPOCH": "1700000000",
}


def build(folder: Path, source: Path = ROOT, **environment: str) -> Path:
    """Build the site with these settings, strictly; return the folder."""
    run = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        check=False,
        cwd=source,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(source)} | environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, f"mkdocs build --strict failed:\n{run.stderr[-4000:]}"
    return folder


def drawn(page: Page) -> None:
    """Wait until the page is drawn as it stands now, and what watches sizes has answered to that."""
    page.evaluate("""async () => {
        await document.fonts.ready;
        for (let frames = 0; frames < 2; frames++) await new Promise(requestAnimationFrame);
    }""")


def opened(page: Page, address: str) -> Page:
    """Go to a page, and have all of it laid out and drawn."""
    page.goto(address, wait_until="load")
    page.add_style_tag(content=ALL_LAID_OUT)
    drawn(page)
    return page


def module_of(layer: str) -> ModuleType:
    return importlib.import_module(f"snippets.{layer}")


def has_compiler() -> bool:
    """Whether the one pass in C++ can be compiled here; in CI it has to be."""
    try:
        module_of("faster").library()
    except RuntimeError:
        if os.environ.get("CI"):
            raise
        return False
    return True


def need_compiler() -> None:
    """Skip the running test where C++ with OpenMP cannot be compiled."""
    if not has_compiler():
        pytest.skip("no C++ compiler with OpenMP on this machine: apt-get install g++")


def all_gradients() -> list[tuple[ModuleType, Gradient]]:
    """Return every gradient function of every snippet that has a forward function."""
    found = []
    for module in map(module_of, LAYERS):
        if any(name.startswith("grad_") for name in vars(module)):
            found += [(module, gradient) for gradient in gradients_of(module)]
    return found


def check_against_autograd(
    gradient: Gradient, forward, sizes=None, dtype=torch.float64, seeds=range(3)
) -> None:
    """Compare on several draws; assert_close also refuses another shape or dtype."""
    for seed in seeds:
        actual, expected = compare(gradient, forward, sizes, seed, dtype)
        torch.testing.assert_close(actual, expected)


def check_against_differences(gradient: Gradient, forward) -> None:
    """Let gradcheck compare with finite differences, for every upstream direction."""
    arguments = draw(forward)

    class ByHand(torch.autograd.Function):
        @staticmethod
        def forward(ctx, value):
            ctx.save_for_backward(value)
            return output(forward, {**arguments, gradient.wrt: value.detach()})

        @staticmethod
        def backward(ctx, upstream):
            (value,) = ctx.saved_tensors
            return by_hand(gradient, forward, {**arguments, gradient.wrt: value}, upstream)

    leaf = arguments[gradient.wrt].clone().requires_grad_()
    assert torch.autograd.gradcheck(ByHand.apply, (leaf,))


def check_tie(gradient: Gradient, forward) -> None:
    """Compare where every entry of the first argument sits on the corner of a ReLU."""
    arguments = draw(forward)
    first = next(iter(inspect.signature(forward).parameters))
    arguments[first] = torch.zeros_like(arguments[first])
    upstream = torch.ones_like(output(forward, arguments))
    actual = by_hand(gradient, forward, arguments, upstream)
    expected = by_autograd(gradient.wrt, forward, arguments, upstream)
    torch.testing.assert_close(actual, expected)


def check_all(gradient: Gradient, forward) -> None:
    """Everything that one gradient function has to pass."""
    check_against_autograd(gradient, forward)
    check_against_autograd(gradient, forward, dtype=torch.float32)
    check_against_autograd(gradient, forward, sizes={"N": 1})
    check_against_differences(gradient, forward)
    check_tie(gradient, forward)


def paths(site: Path) -> list[str]:
    """Return the addresses of all pages of a built site, relative to its root."""
    found = [p.parent.relative_to(site).as_posix() for p in site.rglob("index.html")]
    return sorted("" if path == "." else f"{path}/" for path in found)
