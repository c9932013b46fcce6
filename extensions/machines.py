"""What was measured and recorded of training on several processes.

    /// machines | batches
    ///

shows one of the parts below, from the files that `benchmarks/machines.py` and
`benchmarks/failures.py` wrote.
"""

from collections.abc import Callable
from xml.etree.ElementTree import Element, SubElement

from markdown.util import AtomicString

from extensions.blocks import Block, BlocksExtension
from extensions.measured import read, table, version
from extensions.svg import Axis, Plot, factor, figure


def milliseconds(time: dict) -> str:
    """Return a median and its quartiles, to the digits that mean something."""
    digits = 2 if time["median"] < 0.01 else 0
    median, low, high = (f"{1000 * time[key]:.{digits}f}" for key in ("median", "low", "high"))
    return f"{median} ms ({low} to {high})"


def machine(result: dict) -> str:
    found = result["machine"]
    return (
        f"{found['processor']}, {found['cores']} cores, {version(found['torch'])}. "
        f"Other programs took {result['others']:.0%} of the cores' time."
    )


def batches(parent: Element) -> None:
    result = read("machines")
    headings = [
        "Rows",
        "1 process, 1 thread",
        "1 process, 2 threads",
        "2 processes, 1 thread each",
        "Half of the first, and a message",
        "1 process over 2",
    ]
    rows = []
    for count, batch in result["batches"].items():
        expected = batch["one_thread"]["median"] / 2 + batch["message_alone"]["median"]
        ratio = batch["processes_over_one"]
        rows.append(
            [
                f"{int(count):,}",
                milliseconds(batch["one_thread"]),
                milliseconds(batch["two_threads"]),
                milliseconds(batch["two_processes"]),
                f"{1000 * expected:.{2 if expected < 0.01 else 0}f} ms",
                f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})",
            ]
        )
    caption = (
        f"One step: forward, backward and the sum over the processes. {result['features']} × "
        f"{result['outputs']}, float32, {result['gradient_bytes'] / 1e3:.0f} kB of gradients. "
        f"Medians of {result['rounds']} rounds in which all forms take turns, with the quartiles; the "
        f"last column is the ratio within a round. {machine(result)}"
    )
    table(parent, headings, rows, caption)


def messages(parent: Element) -> None:
    result = read("machines")
    rows = [
        [count, f"{result['gradient_bytes'] / int(count) / 1e3:.1f} kB", milliseconds(time)]
        for count, time in result["messages"].items()
    ]
    caption = (
        f"The same {result['gradient_bytes'] / 1e3:.0f} kB, added over 2 processes in one message "
        f"or cut into many. {result['rounds']} rounds. {machine(result)}"
    )
    table(parent, ["Messages", "Each", "Median (quartiles)"], rows, caption)


def micro_batches(parent: Element) -> None:
    result = read("machines")
    headings = [
        "Rows at a time",
        "Median (quartiles)",
        "Peak memory on top of the data",
        "Error in float64",
        "Error in float32",
    ]
    rows = [
        [
            f"{int(count):,}",
            milliseconds(found),
            f"{found['peak_bytes'] / 1e6:.1f} MB",
            *(f"{error:.0e}" if error else "0" for error in found["errors"].values()),
        ]
        for count, found in result["micro_batches"].items()
    ]
    caption = (
        f"One step on {rows[-1][0]} rows, {result['features']} × {result['outputs']}, 1 thread; "
        f"time and memory in float32, {result['rounds']} rounds. The error is the largest of J "
        f"and its gradients, relative, from the whole batch in float64. {machine(result)}"
    )
    table(parent, headings, rows, caption)


def sent(parent: Element) -> None:
    result = read("machines")
    rows = [
        [processes, f"{step['formula']:,.0f}", f"{step['counted']:,.0f}"]
        for processes, step in result["bytes"].items()
    ]
    caption = (
        "Bytes that one process sends in a step, as the kernel counts them on its sockets (gloo, "
        f"{version(result['machine']['torch'])}). The rest is the headers of the messages."
    )
    table(parent, ["Processes", "By the formula", "Counted"], rows, caption)


def curves(parent: Element) -> None:
    result = read("failures")
    lost = result["killed"]
    rows = [
        [f"{processes} processes", f"{difference:.0e}"]
        for processes, difference in result["differences"].items()
    ]
    rows += [
        ["2, one killed; then 2", f"{lost['difference_2']:.0e}"],
        ["2, one killed; then 1", f"{lost['difference_1']:.0e}"],
        ["2, started again by torchrun", f"{result['restarted']['difference']:.0e}"],
        ["2, one asleep for a while", f"{result['paused']['difference']:.0e}"],
    ]
    caption = (
        f"Largest difference of J from that of 1 process, over all {result['steps']:,} steps, in "
        f"float64. J goes from {result['first_loss']:.4f} to {result['last_loss']:.4f}. "
        f"{version(result['torch'])}, gloo."
    )
    table(parent, ["Run", "Largest difference of J"], rows, caption)


def transcript(parent: Element, lines: list[str], caption: str) -> None:
    """Append what was said on the terminal, and a sentence about it."""
    figure = SubElement(parent, "figure", {"class": "transcript"})
    SubElement(SubElement(figure, "pre"), "code").text = AtomicString("\n".join(lines))
    SubElement(figure, "figcaption").text = caption


def killed(parent: Element) -> None:
    lost = read("failures")["killed"]
    caption = (
        f"The run ended {lost['seconds']:.1f} s after the kill, with exit status {lost['status']}. "
        f"Step {lost['saved']:,} was in its checkpoint."
    )
    transcript(parent, lost["said"], caption)


def resumed(parent: Element) -> None:
    lines = read("failures")["killed"]["then_2"]
    transcript(parent, lines, "The same command, once more.")


def restarted(parent: Element) -> None:
    result = read("failures")
    lines = result["restarted"]["printed"]
    count = {name: f"{s.count(0)} of {len(s)}" for name, s in result["restarts"].items() if s}
    caption = (
        f"Killed after step {result['killed']['saved']:,}, started again by torchrun. With the "
        f"variable set, {count['own_store']} such runs came to their end; without it, "
        f"{count['shared_store']}."
    )
    transcript(parent, lines, caption)


def stopped(parent: Element) -> None:
    result = read("failures")
    asleep = result["stopped"]
    caption = (
        f"One process stopped for good, with --timeout {result['timeout']}: the run ended after "
        f"{asleep['seconds']:.0f} s, with exit status {asleep['status']}."
    )
    transcript(parent, asleep["said"], caption)


def speedup(parent: Element) -> None:
    """Draw how many times faster two threads and two processes are, by rows."""
    result = read("machines")
    batches = {int(rows): batch for rows, batch in result["batches"].items()}
    few, many = min(batches), max(batches)
    spreads = {
        name: {rows: batch[key] for rows, batch in batches.items()}
        for name, key in {
            "2 threads": "threads_over_one",
            "2 processes": "processes_over_one",
        }.items()
    }
    ends = (
        f"{name}: {line[few]['median']:.2f} at {few:,} rows and {line[many]['median']:.2f} at {many:,}"
        for name, line in spreads.items()
    )
    x = Axis(few / 1.3, many * 1.3, "rows of the batch", log=True, marks=tuple(batches))
    lowest = min(spread["low"] for line in spreads.values() for spread in line.values())
    y = Axis(
        min(1 / 16, lowest / 1.2),
        4,
        "times as fast",
        log=True,
        write=factor,
        marks=(1 / 16, 1 / 4, 1, 4),
    )
    plot = Plot(
        x,
        y,
        title="How many times faster than one thread",
        description=f"{'; '.join(ends)}. The table has the other numbers.",
        series={"2 processes": "first", "2 threads": "third"},
    )
    plot.line([(x.low, 1), (x.high, 1)], "rule")
    for name, line in spreads.items():
        for rows, spread in line.items():
            plot.bar(rows, spread["low"], spread["high"], plot.series[name])
        plot.measured(name, [(rows, spread["median"]) for rows, spread in line.items()])
    caption = "How many times faster than 1 process with 1 thread; the bars are quartiles. "
    figure(parent, [plot], caption + machine(result))


PARTS: dict[str, Callable[[Element], None]] = {
    part.__name__: part
    for part in (
        batches,
        messages,
        micro_batches,
        sent,
        curves,
        killed,
        resumed,
        restarted,
        stopped,
        speedup,
    )
}


class MachinesBlock(Block):
    NAME = "machines"
    ARGUMENT = True

    def on_create(self, parent: Element) -> Element:
        if self.argument not in PARTS:
            raise ValueError(f"there is no part {self.argument!r}, but {', '.join(PARTS)}")
        box = SubElement(parent, "div")
        PARTS[self.argument](box)
        return box


class MachinesExtension(BlocksExtension):
    def extendMarkdownBlocks(self, md, blocks) -> None:
        blocks.register(MachinesBlock, self.getConfigs())


def makeExtension(**settings) -> MachinesExtension:
    return MachinesExtension(**settings)
