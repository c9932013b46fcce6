"""Tables of what was measured, from the files that the scripts in `benchmarks` wrote.

    /// ladder
    ///

    /// mutations
    ///

    /// uncaught
    ///

    /// speed
    ///

    /// reading
    ///

    /// lighthouse
    ///

Each table becomes a list of cards on a narrow screen, where `data-label` heads each value.
"""

import json
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement

from pymdownx.blocks import BlocksExtension
from pymdownx.blocks.block import Block

RESULTS = Path("benchmarks/results")


def table(parent: Element, headings: list[str], rows: list[list[str]], caption: str) -> Element:
    """Append a figure with a table to the parent and return it."""
    figure = SubElement(parent, "figure", {"class": "measured"})
    body = SubElement(figure, "table")
    heads = SubElement(SubElement(body, "thead"), "tr")
    for heading in headings:
        SubElement(heads, "th", {"scope": "col"}).text = heading
    lines = SubElement(body, "tbody")
    for row in rows:
        line = SubElement(lines, "tr")
        for heading, text in zip(headings, row, strict=True):
            SubElement(line, "td", {"data-label": heading}).text = text
    SubElement(figure, "figcaption").text = caption
    return figure


def read(name: str) -> dict:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def version(torch: str) -> str:
    return f"PyTorch {torch.partition('+')[0]}"


class LadderBlock(Block):
    NAME = "ladder"

    def on_create(self, parent: Element) -> Element:
        result = read("ladder")
        headings = [
            "Step",
            "One pass, median (min to max)",
            "Faster than the first",
            "Backward alone, against J.backward()",
            "Peak memory on top of the data",
        ]
        caption = (
            f"X is {result['rows']:,} × {result['features']}, float32, {result['outputs']} output; "
            f"{result['batch_bytes'] / 1e6:.0f} MB of input. {result['rounds']} rounds, in which all "
            "steps take turns; ratios are medians of the ratios within a round. "
            f"{result['processor']}, {result['threads']} threads, {version(result['torch'])}. Largest "
            f"relative difference of any gradient from autograd's: {result['largest_difference']:.0e}."
        )
        rows = [self.row(name, step) for name, step in result["steps"].items()]
        return table(parent, headings, rows, caption)

    def row(self, name: str, step: dict) -> list[str]:
        """Return one line of the table: milliseconds, ratios, megabytes."""
        median, low, high = (1000 * step[key] for key in ("median_s", "min_s", "max_s"))
        return [
            name,
            f"{median:,.0f} ms ({low:,.0f} to {high:,.0f})",
            f"{step['first_over_this']:.1f} ×",
            f"{step['backward_over_autograd']:.2f} ×",
            f"{step['peak_bytes'] / 1e6:.0f} MB",
        ]


class MutationsBlock(Block):
    NAME = "mutations"
    COUNTS = ("formulas", "caught", "survived", "same")

    def on_create(self, parent: Element) -> Element:
        result = read("mutations")
        pages = result["pages"]
        headings = [
            "Page",
            "Formulas",
            "Edits caught",
            "Edits that survive",
            "Edits that mean the same",
        ]
        rows = [
            [Path(path).stem, *(f"{page[count]:,}" for count in self.COUNTS)]
            for path, page in pages.items()
        ]
        totals = [sum(page[count] for page in pages.values()) for count in self.COUNTS]
        rows.append(["all", *(f"{total:,}" for total in totals)])
        _, caught, survived, _ = totals
        share = caught / (caught + survived)
        caption = f"{share:.1%} of the edits that change the meaning are caught. {version(result['torch'])}."
        return table(parent, headings, rows, caption)


class SpeedBlock(Block):
    NAME = "speed"

    def on_create(self, parent: Element) -> Element:
        result = read("equations")
        rows = [[name, seconds(time)] for name, time in result["seconds"].items()]
        caption = (
            f"{result['rounds']} rounds. {result['processor']}, {result['threads']} threads, "
            f"{version(result['torch'])}."
        )
        return table(parent, ["What is checked", "Median (min to max)"], rows, caption)


class ReadingBlock(Block):
    """How long a reader on a slow phone waits, with MathML and with MathJax."""

    NAME = "reading"

    def on_create(self, parent: Element) -> Element:
        result = read("reading")
        headings = ["Formulas by", "First paint", "Ready, formulas included", "Over the wire"]
        rows = [
            [
                name,
                f"{variant['paint_s']['median']:.1f} s",
                seconds(variant["ready_s"]),
                f"{variant['bytes']['median'] / 1000:.0f} KB",
            ]
            for name, variant in result["variants"].items()
        ]
        sooner, built = result["sooner"], result["formulas_s"]
        caption = (
            f"The page of the linear layer, {result['rounds']} rounds, in which both take turns: median (min to "
            f"max). Ready {sooner['median']:.1f} times sooner ({sooner['min']:.1f} to {sooner['max']:.1f}). In the "
            f"build, {result['formulas']} formulas take {built['median']:.2f} s. {result['browser']}, "
            f"{result['mathjax'].replace('@', ' ')}, {result['processor']}."
        )
        return table(parent, headings, rows, caption)


class LighthouseBlock(Block):
    """What Lighthouse says of a page on a phone."""

    NAME = "lighthouse"

    def on_create(self, parent: Element) -> Element:
        result = read("lighthouse")
        rows = [
            [title, f"{score['median']:.0f} ({score['min']:.0f} to {score['max']:.0f})"]
            for title, score in result["scores"].items()
        ]
        rows += [[title, seconds(time)] for title, time in result["seconds"].items()]
        caption = (
            f"The page of the linear layer, {result['rounds']} rounds: median (min to max). Lighthouse "
            f"{result['lighthouse']} with its own settings for mobile, {result['processor']}."
        )
        return table(parent, ["What is judged", "Median (min to max)"], rows, caption)


def seconds(spread: dict[str, float]) -> str:
    return f"{spread['median']:.2f} s ({spread['min']:.2f} to {spread['max']:.2f})"


class UncaughtBlock(Block):
    """Every edit that was not caught, one by one."""

    NAME = "uncaught"

    def on_create(self, parent: Element) -> Element:
        listing = SubElement(parent, "div", {"class": "uncaught"})
        for path, page in read("mutations")["pages"].items():
            if not page["listed"]:
                continue
            SubElement(listing, "p").text = f"{path}:"
            items = SubElement(listing, "ul")
            for edit in page["listed"]:
                item = SubElement(items, "li")
                item.text = f"line {edit['line']}, {edit['kind']}: "
                SubElement(item, "code").text = edit["before"]
                item[-1].tail = " to "
                SubElement(item, "code").text = edit["after"]
                item[-1].tail = f" ({edit['reason']})"
        return listing


class MeasuredExtension(BlocksExtension):
    def extendMarkdownBlocks(self, md, blocks) -> None:
        for block in (
            LadderBlock,
            MutationsBlock,
            UncaughtBlock,
            SpeedBlock,
            ReadingBlock,
            LighthouseBlock,
        ):
            blocks.register(block, self.getConfigs())


def makeExtension(**settings) -> MeasuredExtension:
    return MeasuredExtension(**settings)
