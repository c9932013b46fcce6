"""Draw the picture that stands beside a link to the site: docs/assets/card.png, 1200 x 630.

    python -m tools.card

Chromium draws it with the site's own formula and font. The picture lies in the repository, so that a build
needs no browser.
"""

import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

from extensions.mathml import to_mathml

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "docs/assets/card.png"
FORMULA = r"\frac{\partial J}{\partial W} = X^T \frac{\partial J}{\partial Z}"
PAGE = """
<style>
  @font-face { font-family: STIX; src: url("FONT"); }
  body { width: 1200px; height: 630px; margin: 0; display: grid; grid-template-rows: 1fr auto; box-sizing: border-box;
    padding: 0 90px 64px; background: #f4f9f8; color: #1a2424; font-family: "Liberation Sans", Arial, sans-serif;
    border-left: 24px solid #0a6a68; }
  div { display: flex; align-items: center; justify-content: space-between; }
  math { font: 92px STIX; }
  code { white-space: nowrap; font: 34px "DejaVu Sans Mono", monospace; padding: 28px 36px; background: #fff; border: 2px solid #dbe5e3;
    border-radius: 12px; }
  h1 { font-size: 62px; letter-spacing: -0.02em; margin: 0 0 18px; }
  p { font-size: 32px; margin: 0; color: #4a5757; }
</style>
<div>FORMULA<code>dJ_dW = X.T @ dJ_dZ</code></div>
<header><h1>How a gradient becomes code</h1>
<p>Every formula beside PyTorch, every line tested against autograd</p></header>
"""


def main() -> None:
    font = ROOT / "docs/assets/fonts/stix-two-math.woff2"
    page = PAGE.replace("FORMULA", to_mathml(FORMULA, True)).replace("FONT", font.as_uri())
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        view = chromium.new_page(viewport={"width": 1200, "height": 630})
        # From a file, as the font is one.
        source = TARGET.with_suffix(".html")
        source.write_text(page, encoding="utf-8")
        try:
            view.goto(source.as_uri())
            view.evaluate("document.fonts.ready")
            view.screenshot(path=TARGET)
        finally:
            source.unlink()
        chromium.close()
    print(f"{TARGET}: {TARGET.stat().st_size / 1024:.0f} KB")


if __name__ == "__main__":
    main()
