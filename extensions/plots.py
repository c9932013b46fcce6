"""Pictures of measurements as SVG: two logarithmic axes, lines and named points.

The colours are classes that the style sheet fills, so that one picture serves light and dark. Text is
text: it scales with the picture and can be searched and read aloud.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement

from markdown.util import AtomicString

WIDTH, HEIGHT = 380, 300
LEFT, RIGHT, BOTTOM, TOP = 66, 18, 44, 12
LINE = 14  # the height of a line of text
SERIES = 4  # as many as the style sheet has colours and dashes for

Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """A logarithmic axis: what it shows, its ends, and how a tick is written."""

    label: str
    low: float
    high: float
    write: object  # a function of the tick's value

    def place(self, value: float) -> float:
        """Return where a value lies, from 0 at the low end to 1.

        >>> Axis("rows", 1, 100, str).place(10)
        0.5
        """
        return math.log(value / self.low) / math.log(self.high / self.low)

    def ticks(self) -> list[float]:
        """Return the powers of ten on the axis; between few of them 2 and 5 times as much, too.

        >>> Axis("rows", 50, 20000, str).ticks()
        [100.0, 1000.0, 10000.0]
        >>> Axis("rows", 30, 120, str).ticks()
        [50.0, 100.0]
        """
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        steps = (1, 2, 5) if self.high / self.low < 50 else (1,)
        ticks = [step * 10.0**n for n in range(first, last + 1) for step in steps]
        return [tick for tick in ticks if self.low <= tick <= self.high]


def around(values: Sequence[float]) -> tuple[float, float]:
    """Return ends for an axis that leave a little room on both sides."""
    return min(values) / 1.4, max(values) * 1.4


def seconds(value: float) -> str:
    """Write a power of ten in seconds.

    >>> [seconds(10.0**n) for n in (-6, -4, -3, -1, 0)]
    ['1 µs', '100 µs', '1 ms', '100 ms', '1 s']
    """
    for unit, size in (("s", 1), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= size * 0.999:
            return f"{value / size:,.0f} {unit}"
    return f"{value:.0e} s"


def megabytes(value: float) -> str:
    """Write a power of ten in bytes.

    >>> [megabytes(10.0**n) for n in (4, 6, 8)]
    ['0.01 MB', '1 MB', '100 MB']
    """
    return f"{value / 1e6:g} MB"


def number(value: float) -> str:
    """Write a power of ten.

    >>> [number(10.0**n) for n in (-1, 0, 4)]
    ['0.1', '1', '10,000']
    """
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


class Plot:
    """One picture. Each method adds to it."""

    def __init__(self, parent: Element, name: str, x: Axis, y: Axis, series: Sequence[str] = ()):
        self.x, self.y, self.legend = x, y, list(series)
        self.top = TOP + LINE * math.ceil(len(series) / 2)
        self.svg = SubElement(
            parent,
            "svg",
            {
                "class": "chart",
                "viewBox": f"0 0 {WIDTH} {HEIGHT}",
                "role": "img",
                "aria-label": name,
            },
        )
        self._axes()
        for index, label in enumerate(self.legend):
            column, row = index % 2, index // 2
            left, middle = LEFT + column * 155, TOP + row * LINE - 4
            self._path([(left, middle), (left + 24, middle)], f"series-{index + 1}")
            self.text(left + 30, middle + 4, label)

    def at(self, point: Point) -> Point:
        """Return the place of a point in the picture."""
        x = LEFT + self.x.place(point[0]) * (WIDTH - LEFT - RIGHT)
        y = HEIGHT - BOTTOM - self.y.place(point[1]) * (HEIGHT - BOTTOM - self.top)
        return x, y

    def text(self, x: float, y: float, text: str, **attributes: str) -> None:
        element = SubElement(self.svg, "text", {"x": f"{x:.1f}", "y": f"{y:.1f}", **attributes})
        # Atomic: nothing in it is Markdown.
        element.text = AtomicString(text)

    def _path(self, places: Sequence[Point], kind: str) -> None:
        steps = " L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        SubElement(self.svg, "path", {"class": kind, "d": f"M{steps}"})

    def _axes(self) -> None:
        right, low = WIDTH - RIGHT, HEIGHT - BOTTOM
        for tick in self.x.ticks():
            x, _ = self.at((tick, self.y.low))
            self._path([(x, low), (x, self.top)], "grid")
            self.text(x, low + 15, self.x.write(tick), **{"text-anchor": "middle"})
        for tick in self.y.ticks():
            _, y = self.at((self.x.low, tick))
            self._path([(LEFT, y), (right, y)], "grid")
            self.text(LEFT - 6, y + 4, self.y.write(tick), **{"text-anchor": "end"})
        self._path([(LEFT, self.top), (LEFT, low), (right, low)], "frame")
        middle = (LEFT + right) / 2
        self.text(middle, HEIGHT - 8, self.x.label, **{"text-anchor": "middle"})
        turned = {"text-anchor": "middle", "transform": "rotate(-90)"}
        self.text(-(self.top + low) / 2, 11, self.y.label, **turned)

    def line(self, points: Sequence[Point], series: int | None = None) -> None:
        """Draw a line; of a series, counted from 0, with a dot at each point."""
        kind = "roof" if series is None else f"series-{series + 1}"
        places = [self.at(point) for point in points]
        self._path(places, kind)
        if series is not None:
            for place in places:
                self._dot(place, kind)

    def _dot(self, place: Point, kind: str) -> None:
        x, y = place
        SubElement(
            self.svg, "circle", {"class": kind, "cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": "2.5"}
        )

    def named(self, points: Sequence[tuple[str, Point, str]]) -> None:
        """Draw dots with their names beside them: (name, point, kind of dot).

        Names that would lie on each other are moved apart, and a thin line leads back.
        """
        placed = sorted(((self.at(point), name, kind) for name, point, kind in points))
        placed.sort(key=lambda item: item[0][1])
        taken: list[tuple[float, float, float]] = []  # left, right, baseline
        for (x, y), name, kind in placed:
            self._dot((x, y), kind)
            wide = 5.6 * len(name)
            fits = x + 9 + wide < WIDTH
            left = x + 9 if fits else x - 9 - wide
            baseline = y + (4 if fits else LINE + 2)
            while any(
                left < end and begin < left + wide and abs(baseline - other) < LINE - 2
                for begin, end, other in taken
            ) or any(
                place != (x, y)
                and left - 3 < place[0] < left + wide + 3
                and baseline - LINE + 1 < place[1] < baseline + 4
                for place, _, _ in placed
            ):
                baseline += 1
            taken.append((left, left + wide, baseline))
            if baseline - y > 8:
                self._path(
                    [(x, y), (left - 2 if left > x else left + wide + 2, baseline - 4)], "lead"
                )
            self.text(left, baseline, name)
