"""Tables and pictures of what was measured, from the files that the scripts in `benchmarks` wrote.

    /// ladder | 64
    ///

    /// probes
    ///

    /// against-backward
    ///

    /// rounding
    ///

    /// roofline
    ///

    /// growth | N
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

from extensions import svg
from extensions.blocks import Block, BlocksExtension
from extensions.svg import Axis, Plot, figure, megabytes, rounded
from proofread.equations.documents import read_document

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
    """Return what was measured; ValueError where there is no such file."""
    path = RESULTS / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(other.stem for other in RESULTS.glob("*.json")))
        raise ValueError(f"there is no {path}; there are {known}")
    return json.loads(path.read_text(encoding="utf-8"))


def version(torch: str) -> str:
    return f"PyTorch {torch.partition('+')[0]}"


def place(result: dict) -> str:
    """Say what a result was measured on."""
    machine = result["machine"]
    on = machine.get("gpu") or f"{machine['processor']}, {machine['threads']} threads"
    caches = " ".join(f"{level} {size}" for level, size in machine["caches"].items())
    others = result["others"]
    busy = "" if others is None else f" Other programs took {others:.0%} of the cores' time."
    return f"{on}{', caches ' + caches if caches else ''}, {version(machine['torch'])}.{busy}"


def sizes(result: dict) -> str:
    return (
        f"X is {result['rows']:,} × {result['features']}, float32, {result['batch_bytes'] / 1e6:.0f} MB; "
        f"{result['outputs']} output{'s' * (result['outputs'] > 1)}. {result['rounds']} rounds, in which all take turns"
    )


def milliseconds(spread: dict) -> str:
    """Write a median and its quartiles, in as many digits as they carry."""
    values = [1000 * spread[key] for key in ("median", "low", "high")]
    digits = 0 if values[0] >= 100 else 1
    median, low, high = (f"{value:,.{digits}f}" for value in values)
    return f"{median} ms ({low} to {high})"


def times(spread: dict) -> str:
    median, low, high = (spread[key] for key in ("median", "low", "high"))
    return f"{median:.2f} ({low:.2f} to {high:.2f})"


def predicted(result: dict, step: dict) -> float:
    """Return the seconds that the machine needs for the bytes or for the operations, whichever is longer."""
    bandwidth = 2 * result["batch_bytes"] / result["probes"]["copy X"]["median"]
    speed = result["product_operations"] / result["probes"]["product"]["median"]
    return max(step["bytes"] / bandwidth, step["operations"] / speed)


class LadderBlock(Block):
    """The forms of a pass at one number of outputs: `/// ladder`, `/// ladder | 64`."""

    NAME = "ladder"
    ARGUMENT = None

    def on_create(self, parent: Element) -> Element:
        result = read(f"ladder-{self.argument}" if self.argument else "ladder")
        headings = [
            "Form",
            "One pass",
            "× a copy of X",
            "× autograd",
            "Predicted",
            "Fresh pages",
            "Peak memory",
        ]
        rows = [
            [
                name,
                milliseconds(step["seconds"]),
                f"{step['over_copy']['median']:.2f}",
                f"{step['over_autograd']['median']:.2f}",
                f"{1000 * predicted(result, step):.1f} ms",
                f"{step['faults']:,.0f}",
                "unknown" if step["peak_bytes"] is None else f"{step['peak_bytes'] / 1e6:,.0f} MB",
            ]
            for name, step in result["steps"].items()
        ]
        caption = (
            f"{sizes(result)}; medians, with the quartiles; ratios are medians of the ratios within a "
            f"round. {place(result)}"
        )
        return table(parent, headings, rows, caption)


class ProbesBlock(Block):
    """What the machine can do at its best, from the same run."""

    NAME = "probes"

    def on_create(self, parent: Element) -> Element:
        result = read("ladder")
        batch = result["batch_bytes"]
        moved = {"copy X": 2, "copy X to new memory": 2, "read X": 1, "write X": 1, "X @ W": 1}
        rows = [
            [name, milliseconds(spread), f"{times * batch / spread['median'] / 1e9:.0f} GB/s"]
            for name, times in moved.items()
            if (spread := result["probes"][name])
        ]
        product = result["probes"]["product"]
        speed = result["product_operations"] / product["median"] / 1e9
        rows.append(
            ["2,048 × 2,048 product", milliseconds(product), f"{speed:.0f} billion operations/s"]
        )
        caption = f"{sizes(result)}. X is {batch / 1e6:.0f} MB; a copy reads it and writes it."
        return table(parent, ["Probe", "Time", "Rate"], rows, caption)


class AgainstBackwardBlock(Block):
    """The passes beside what `J.backward()` alone takes, without its forward."""

    NAME = "against-backward"

    def on_create(self, parent: Element) -> Element:
        result = read("ladder")
        names = [name for name, step in result["steps"].items() if step["errors"][2] is not None]
        rows = [
            [
                name,
                times(result["steps"][name]["backward_over_autograd"]),
                times(result["steps"][name]["pass_over_backward"]),
            ]
            for name in names
        ]
        backward = milliseconds(result["steps"]["autograd"]["backward"])
        caption = (
            f"J.backward() alone: {backward}. A form that does all in one pass has no backward part of its own: "
            "both columns are its whole pass. Median ratios with their quartiles."
        )
        headings = ["Form", "Backward part ÷ J.backward()", "Whole pass ÷ J.backward()"]
        return table(parent, headings, rows, caption)


class RoundingBlock(Block):
    NAME = "rounding"

    def on_create(self, parent: Element) -> Element:
        result = read("ladder")
        rows = [
            [name, *("none" if error is None else f"{error:.1e}" for error in step["errors"])]
            for name, step in result["steps"].items()
        ]
        caption = (
            "Largest difference from the gradients in float64, over the largest gradient. Half a unit in the "
            f"last place of float32 is 6.0e-08. {sizes(result).partition('.')[0]}."
        )
        return table(parent, ["Form", "dJ/dW", "dJ/db", "dJ/dX"], rows, caption)


# One form for each way to work; the rest would lie on them.
ON_THE_ROOFLINE = {
    "ladder": (
        "row loops",
        "one matmul",
        "broadcast",
        "autograd",
        "buffers reused",
        "in blocks",
        "compiled",
        "one pass, C++",
    ),
    "ladder-64": ("autograd", "in blocks"),
    "ladder-512": ("autograd", "in blocks"),
}


class RooflineBlock(Block):
    """Operations per second over operations per byte, below what the machine allows."""

    NAME = "roofline"

    def on_create(self, parent: Element) -> Element:
        points = []
        for file, names in ON_THE_ROOFLINE.items():
            result = read(file)
            outputs = "" if result["outputs"] == 1 else f", M = {result['outputs']}"
            for name in names:
                step = result["steps"][name]
                intensity = step["operations"] / step["bytes"]
                speed = step["operations"] / step["seconds"]["median"] / 1e9
                points.append((name + outputs, (intensity, speed), STROKES.get(name, "first")))
        result = read("ladder")
        copy, product = (result["probes"][n]["median"] for n in ("copy X", "product"))
        bandwidth = 2 * result["batch_bytes"] / copy / 1e9
        peak = result["product_operations"] / product / 1e9
        lows, highs = zip(*(point for _, point, _ in points), strict=True)
        x = Axis(0.05, max(lows) * 4, "operations for each byte moved", log=True)
        y = Axis(min(highs) / 2, peak * 3, "billion operations a second", log=True)
        slowest, fastest = (end(points, key=lambda p: p[1][1]) for end in (min, max))
        plot = Plot(
            x,
            y,
            title="Roofline of the forms: speed over arithmetic intensity",
            description=f"A roof that rises and then runs flat, and {len(points)} forms below it. The slowest "
            f"is {slowest[0]}, with {rounded(slowest[1][1])} billion operations a second, and the fastest "
            f"{fastest[0]}, with {rounded(fastest[1][1])}.",
            height=300,
        )
        plot.line([(x.low, x.low * bandwidth), (peak / bandwidth, peak), (x.high, peak)], "rule")
        plot.named(points)
        caption = (
            "Each point is a form. The roof is this machine: left of the corner the memory limits, at "
            f"{bandwidth:.0f} GB/s as measured by copying X; right of it the multipliers, at {peak:.0f} billion operations a "
            "second as measured by a product of two 2,048 × 2,048 matrices. Without a note, M = 1."
        )
        return figure(parent, [plot], caption)


AXES = {"N": "rows N", "D": "features D", "M": "outputs M"}
# Each form has one stroke in all plots; what is drawn first lies below.
STROKES = {"best form": "first", "two matmuls": "second", "autograd": "third", "copy of X": "faint"}


class GrowthBlock(Block):
    """Time and memory over one size, the others fixed: `/// growth | N`."""

    NAME = "growth"
    ARGUMENT = True

    def on_create(self, parent: Element) -> Element:
        result = read("growth")
        if self.argument not in AXES:
            raise ValueError(f"growth needs one of {', '.join(AXES)}: {self.argument!r}")
        points = result["sweeps"][self.argument]
        axis = "NDM".index(self.argument)
        along = [point["shape"][axis] for point in points]
        x = Axis.around(along, AXES[self.argument])
        plots = []
        # What is below a few pages cannot be told from nothing.
        for name, key, label, write, least in (
            ("Time", "seconds", "one pass", svg.seconds, 0),
            ("Memory", "peak_bytes", "peak memory", megabytes, 5e4),
        ):
            lines = {
                form: [
                    (size, value)
                    for size, point in zip(along, points, strict=True)
                    if (value := median(point[key][form])) and value > least
                ]
                for form in STROKES
                if form in points[0][key]
            }
            y = Axis.around([v for line in lines.values() for _, v in line], label, write)
            spans = (
                f"{form} from {write(line[0][1])} to {write(line[-1][1])}"
                for form, line in lines.items()
            )
            plot = Plot(
                x,
                y,
                title=f"{name} over {x.label}",
                description=f"From {along[0]:,} to {along[-1]:,}: {'; '.join(spans)}.",
                series={form: STROKES[form] for form in lines},
            )
            for form, line in lines.items():
                plot.measured(form, line)
            plots.append(plot)
        fixed = ", ".join(
            f"{name} = {points[0]['shape'][i]:,}" for i, name in enumerate("NDM") if i != axis
        )
        caption = (
            f"{fixed}. float32. Medians of {result['rounds']} rounds, in which all forms take turns. Memory is the "
            f"peak on top of the data. {place(result)}"
        )
        return figure(parent, plots, caption)


def median(value: dict[str, float] | float | None) -> float | None:
    return value["median"] if isinstance(value, dict) else value


def title(path: str) -> str:
    """Return the first heading of a page."""
    lines = Path(path).read_text().splitlines()
    return next(line.removeprefix("# ") for line in lines if line.startswith("# "))


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
            [title(path), *(f"{page[count]:,}" for count in self.COUNTS)]
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
            lines = dict(enumerate(found.line for found in read_document(Path(path)).equations))
            for edit in page["listed"]:
                item = SubElement(items, "li")
                item.text = f"line {lines.get(edit['equation'], 'unknown')}, {edit['kind']}: "
                SubElement(item, "code").text = edit["before"]
                item[-1].tail = " to "
                SubElement(item, "code").text = edit["after"]
                item[-1].tail = f" ({edit['reason']})"
        return listing


BLOCKS = (
    LadderBlock,
    ProbesBlock,
    AgainstBackwardBlock,
    RoundingBlock,
    RooflineBlock,
    GrowthBlock,
    MutationsBlock,
    UncaughtBlock,
    SpeedBlock,
    ReadingBlock,
    LighthouseBlock,
)


class MeasuredExtension(BlocksExtension):
    def extendMarkdownBlocks(self, md, blocks) -> None:
        for block in BLOCKS:
            blocks.register(block, self.getConfigs())


def makeExtension(**settings) -> MeasuredExtension:
    return MeasuredExtension(**settings)
