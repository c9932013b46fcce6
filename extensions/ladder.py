"""The ladder's table, from the file that `python -m benchmarks.ladder` wrote.

/// ladder
///
"""

import json
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement

from pymdownx.blocks import BlocksExtension
from pymdownx.blocks.block import Block

RESULTS = Path("benchmarks/results/ladder.json")
HEADINGS = (
    "Step",
    "One pass, median (min to max)",
    "Faster than the first",
    "Backward alone, against J.backward()",
    "Peak memory on top of the data",
)


def row(name: str, step: dict) -> list[str]:
    """Return one line of the table: milliseconds, ratios, megabytes."""
    median, low, high = (1000 * step[key] for key in ("median_s", "min_s", "max_s"))
    return [
        name,
        f"{median:,.0f} ms ({low:,.0f} to {high:,.0f})",
        f"{step['first_over_this']:.1f} ×",
        f"{step['backward_over_autograd']:.2f} ×",
        f"{step['peak_bytes'] / 1e6:.0f} MB",
    ]


def caption(result: dict) -> str:
    """Say what was measured, how and where."""
    return (
        f"X is {result['rows']:,} × {result['features']}, float32, {result['outputs']} output; "
        f"{result['batch_bytes'] / 1e6:.0f} MB of input. {result['rounds']} rounds, in which all steps "
        f"take turns; ratios are medians of the ratios within a round. {result['processor']}, "
        f"{result['threads']} threads, PyTorch {result['torch'].partition('+')[0]}. Largest relative "
        f"difference of any gradient from autograd's: {result['largest_difference']:.0e}."
    )


class LadderBlock(Block):
    NAME = "ladder"

    def on_create(self, parent: Element) -> Element:
        result = json.loads(RESULTS.read_text(encoding="utf-8"))
        figure = SubElement(parent, "figure", {"class": "ladder"})
        table = SubElement(figure, "table")
        heads = SubElement(SubElement(table, "thead"), "tr")
        for heading in HEADINGS:
            SubElement(heads, "th", {"scope": "col"}).text = heading
        body = SubElement(table, "tbody")
        for name, step in result["steps"].items():
            cells = SubElement(body, "tr")
            for heading, text in zip(HEADINGS, row(name, step), strict=True):
                SubElement(cells, "td", {"data-label": heading}).text = text
        SubElement(figure, "figcaption").text = caption(result)
        return figure


class LadderExtension(BlocksExtension):
    def extendMarkdownBlocks(self, md, blocks) -> None:
        blocks.register(LadderBlock, self.getConfigs())


def makeExtension(**settings) -> LadderExtension:
    return LadderExtension(**settings)
