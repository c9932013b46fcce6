"""Plots as SVG inside the page: real text, colours from the site's style sheet, the same bytes each time.

    plot = Plot(Axis(-3, 3, "Z"), Axis(0, 3, "A"), title="ReLU", description="0, then a line.")
    plot.line([(-3, 0), (0, 0), (3, 3)])
    plot.dot(0, 0)
    parent.append(plot.element())

An axis is linear, or logarithmic with `log=True`. What is drawn is named by a class, and
`docs/assets/site.css` gives it its colour: `first` and `second` for curves, `faint` for what stands behind.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement

from markdown.util import AtomicString

Point = tuple[float, float]

WIDTH, HEIGHT = 360, 256
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 26, 40


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high`; ValueError where that is no range, or has no logarithm."""

    low: float
    high: float
    label: str
    log: bool = False

    def __post_init__(self):
        if not self.low < self.high or (self.log and self.low <= 0):
            kind = "a logarithmic axis above 0" if self.log else "an axis"
            raise ValueError(f"{self.label}: {kind} from {self.low} to {self.high}")

    def share(self, value: float) -> float:
        """Return where a value lies: 0 at `low`, 1 at `high`."""
        scale = math.log if self.log else float
        low, high = scale(self.low), scale(self.high)
        return (scale(value) - low) / (high - low)

    def ticks(self, about: int = 6) -> list[float]:
        """Return round values inside of the axis: powers of ten, or steps of 1, 2 or 5.

        >>> Axis(-1, 1.9, "z").ticks(), Axis(0.5, 2000, "N", log=True).ticks()
        ([-1.0, -0.5, 0.0, 0.5, 1.0, 1.5], [1.0, 10.0, 100.0, 1000.0])
        """
        if self.log:
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            return [10.0**power for power in range(first, last + 1)]
        rough = (self.high - self.low) / about
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(step * number, 10) for number in range(first, last + 1)]


def show(value: float) -> str:
    """Return a value as a tick says it.

    >>> show(-2.0), show(0.25), show(10000.0)
    ('−2', '0.25', '10,000')
    """
    return f"{value:,.10g}".replace("-", "−")


def place(value: float) -> str:
    """Return a coordinate with one digit, and no minus zero.

    >>> place(12.04), place(-0.01)
    ('12', '0')
    """
    return f"{round(value, 1) + 0:g}"


class Plot:
    """One pair of axes and what is drawn between them."""

    def __init__(self, x: Axis, y: Axis, *, title: str, description: str):
        self.x, self.y = x, y
        name = re.sub(r"\W+", "-", f"plot {title.lower()}")
        box = {"viewBox": f"0 0 {WIDTH} {HEIGHT}", "class": "plot", "role": "img"}
        labels = {"aria-labelledby": f"{name} {name}-text", "data-search-exclude": ""}
        self.root = Element("svg", box | labels)
        SubElement(self.root, "title", {"id": name}).text = AtomicString(title)
        SubElement(self.root, "desc", {"id": f"{name}-text"}).text = AtomicString(description)
        self.frame()

    def at(self, x: float, y: float) -> Point:
        """Return where a pair of values lies, in the units of the view box."""
        across = LEFT + self.x.share(x) * (WIDTH - LEFT - RIGHT)
        return across, HEIGHT - BOTTOM - self.y.share(y) * (HEIGHT - TOP - BOTTOM)

    def frame(self) -> None:
        for value in self.x.ticks():
            across, foot = self.at(value, self.y.low)
            self.path([(across, foot), (across, TOP)], "grid")
            self.label(across, foot + 16, show(value), "tick middle")
        for value in self.y.ticks():
            left, height = self.at(self.x.low, value)
            self.path([(left, height), (WIDTH - RIGHT, height)], "grid")
            self.label(left - 6, height + 4, show(value), "tick end")
        self.label((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, self.x.label, "axis middle")
        self.label(4, 12, self.y.label, "axis")

    def path(self, points: Iterable[Point], kind: str) -> None:
        steps = " ".join(f"{place(x)},{place(y)}" for x, y in points)
        SubElement(self.root, "polyline", {"points": steps, "class": kind})

    def label(self, x: float, y: float, text: str, kind: str) -> None:
        where = {"x": place(x), "y": place(y), "class": kind}
        SubElement(self.root, "text", where).text = AtomicString(text)

    def line(self, points: Sequence[Point], kind: str = "first") -> None:
        """Join the points; those between which nothing turns are left out."""
        self.path(straight([self.at(*point) for point in points]), f"line {kind}")

    def dot(self, x: float, y: float, kind: str = "first", *, hollow: bool = False) -> None:
        """Mark a point; a hollow one is where the curve does not reach."""
        across, height = self.at(x, y)
        where = {"cx": place(across), "cy": place(height), "r": "4"}
        SubElement(self.root, "circle", where | {"class": f"dot {kind}{' hollow' * hollow}"})

    def text(
        self, x: float, y: float, text: str, kind: str = "first", shift: Point = (0, 0)
    ) -> None:
        """Write beside a point, moved by `shift` in units of the view box."""
        across, height = self.at(x, y)
        self.label(across + shift[0], height + shift[1], text, f"note {kind}")

    def element(self) -> Element:
        return self.root


def straight(points: list[Point], tolerance: float = 0.05) -> list[Point]:
    """Leave out the points that lie on the line between their neighbours that stay.

    >>> straight([(0, 0), (1, 0), (2, 0), (3, 1)])
    [(0, 0), (2, 0), (3, 1)]
    """
    kept = points[:1]
    for start in range(1, len(points) - 1):
        (ax, ay), (cx, cy) = kept[-1], points[start + 1]
        between = points[points.index(kept[-1]) + 1 : start + 1]
        length = math.hypot(cx - ax, cy - ay) or 1
        if any(
            abs((cx - ax) * (py - ay) - (cy - ay) * (px - ax)) / length > tolerance
            for px, py in between
        ):
            kept.append(points[start])
    return kept + points[-1:]
