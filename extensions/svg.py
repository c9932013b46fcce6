"""Plots as SVG inside the page: real text, colours from the site's style sheet, the same bytes each time.

    plot = Plot(Axis(-3, 3, "Z"), Axis(0, 3, "A"), title="ReLU", description="0, then a line.")
    plot.line([(-3, 0), (0, 0), (3, 3)])
    plot.dot(0, 0)
    figure(parent, [plot], "ReLU.")

An axis is linear, or logarithmic with `log=True`. What is drawn has a kind, which is the class that gives it
its colour and stroke in `docs/assets/site.css`: `first`, `second` and `third` for what is compared, `faint` for
what stands behind, `rule` for a line to hold the others against.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from xml.etree.ElementTree import Element, SubElement

from markdown.util import AtomicString

Point = tuple[float, float]
Box = tuple[float, float, float, float]  # left, top, right, bottom

# In units of the view box, which are about pixels on a phone.
WIDTH, HEIGHT = 360, 256
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 26, 40
LINE = 16  # from one line of text to the next
LETTER = 6  # a letter's mean width; the reader's font is not known


def number(value: float) -> str:
    """Write a number as a tick says it.

    >>> [number(value) for value in (-2.0, 0.25, 10000.0)]
    ['−2', '0.25', '10,000']
    """
    return f"{value:,.10g}".replace("-", "−")


def rounded(value: float) -> str:
    """Write two digits of a number, and no more zeros than it has.

    >>> [rounded(value) for value in (0.0123, 0.1, 1.98, 123.4, 12345)]
    ['0.012', '0.1', '2', '120', '12,000']
    """
    return number(float(f"{value:.2g}"))


def seconds(value: float) -> str:
    """Write a time.

    >>> [seconds(value) for value in (1e-6, 0.00012, 0.001, 0.02, 1.5)]
    ['1 µs', '120 µs', '1 ms', '20 ms', '1.5 s']
    """
    units = (("s", 1), ("ms", 1e-3), ("µs", 1e-6))
    unit, size = next((u for u in units if value >= u[1] * 0.999), units[-1])
    return f"{rounded(value / size)} {unit}"


def megabytes(value: float) -> str:
    """Write an amount of memory, given in bytes.

    >>> [megabytes(value) for value in (1e4, 1e6, 2.05e8)]
    ['0.01 MB', '1 MB', '200 MB']
    """
    return f"{rounded(value / 1e6)} MB"


def factor(value: float) -> str:
    """Write how many times more, below 1 as a fraction.

    >>> [factor(value) for value in (1 / 16, 1, 4)]
    ['1/16 ×', '1 ×', '4 ×']
    """
    return f"{rounded(value)} ×" if value >= 1 else f"1/{rounded(1 / value)} ×"


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high`; ValueError where that is no range, or has no logarithm.

    `write` is how a tick is said; `marks` are the ticks, where round values would not do.
    """

    low: float
    high: float
    label: str
    log: bool = False
    write: Callable[[float], str] = number
    marks: Sequence[float] = ()

    def __post_init__(self):
        if not self.low < self.high or (self.log and self.low <= 0):
            kind = "a logarithmic axis above 0" if self.log else "an axis"
            raise ValueError(f"{self.label}: {kind} from {self.low} to {self.high}")

    @classmethod
    def around(cls, values: Sequence[float], label: str, write=number) -> "Axis":
        """Return a logarithmic axis with a little room on both sides of the values."""
        return cls(min(values) / 1.4, max(values) * 1.4, label, log=True, write=write)

    def share(self, value: float) -> float:
        """Return where a value lies: 0 at `low`, 1 at `high`."""
        scale = math.log if self.log else float
        low, high = scale(self.low), scale(self.high)
        return (scale(value) - low) / (high - low)

    def ticks(self, about: int = 6) -> list[float]:
        """Return the marks, or round values inside of the axis: steps of 1, 2 or 5, or powers of ten.

        Between few powers of ten, 2 and 5 times as much are ticks, too.

        >>> Axis(-1, 1.9, "z").ticks(), Axis(0.5, 2000, "N", log=True).ticks()
        ([-1.0, -0.5, 0.0, 0.5, 1.0, 1.5], [1.0, 10.0, 100.0, 1000.0])
        >>> Axis(30, 120, "N", log=True).ticks(), Axis(1, 20, "N", log=True, marks=(4, 16)).ticks()
        ([50.0, 100.0], [4, 16])
        """
        if self.marks:
            return list(self.marks)
        if self.log:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            steps = (1, 2, 5) if self.high / self.low < 50 else (1,)
            ticks = [step * 10.0**power for power in range(first, last + 1) for step in steps]
            return [tick for tick in ticks if self.low <= tick <= self.high]
        rough = (self.high - self.low) / about
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(step * number, 10) for number in range(first, last + 1)]


class Plot:
    """One pair of axes and what is drawn between them.

    `series` are the names of the legend, each with its kind. The title is unique on its page, and
    the description says what there is to see. The legend comes on top of the height.
    """

    def __init__(
        self,
        x: Axis,
        y: Axis,
        *,
        title: str,
        description: str,
        series: Mapping[str, str] | None = None,
        height: int = HEIGHT,
    ):
        self.x, self.y, self.series = x, y, dict(series or {})
        above = LINE * math.ceil(len(self.series) / 2) + 6 * bool(self.series)
        self.top, self.height = TOP + above, height + above
        ticks = [axis.ticks() for axis in (x, y)]
        self.left = max(LEFT, 14 + max(wide(y.write(tick)) for tick in ticks[1]))
        # The last number on the axis below has to fit in, too.
        self.right = WIDTH - max(RIGHT, wide(x.write(ticks[0][-1])) / 2)
        self.drawn: list[Point] = []  # where lines run, about every 4 units

        name = re.sub(r"\W+", "-", f"plot {title.lower()}")
        box = {"viewBox": f"0 0 {WIDTH} {self.height}", "class": "plot", "role": "img"}
        # Two attributes: where many pages become one, each id there gets a name in front.
        labels = {"aria-labelledby": name, "aria-describedby": f"{name}-text"}
        self.root = Element("svg", box | labels | {"data-search-exclude": ""})
        SubElement(self.root, "title", {"id": name}).text = AtomicString(title)
        SubElement(self.root, "desc", {"id": f"{name}-text"}).text = AtomicString(description)
        self._legend()
        self._axes()

    def at(self, x: float, y: float) -> Point:
        """Return where a pair of values lies, in the units of the view box."""
        foot = self.height - BOTTOM
        across = self.left + self.x.share(x) * (self.right - self.left)
        return across, foot - self.y.share(y) * (foot - self.top)

    def _legend(self) -> None:
        for index, (name, kind) in enumerate(self.series.items()):
            left = 4 + index % 2 * WIDTH / 2
            middle = 8 + index // 2 * LINE
            self._path([(left, middle), (left + 26, middle)], f"line {kind}")
            self._label(left + 33, middle + 4, name, "name")

    def _axes(self) -> None:
        for value in self.x.ticks():
            across, foot = self.at(value, self.y.low)
            self._path([(across, foot), (across, self.top)], "grid")
            self._label(across, foot + 16, self.x.write(value), "tick middle")
        for value in self.y.ticks():
            _, height = self.at(self.x.low, value)
            self._path([(self.left, height), (self.right, height)], "grid")
            self._label(self.left - 6, height + 4, self.y.write(value), "tick end")
        middle = (self.left + self.right) / 2
        self._label(middle, self.height - 6, self.x.label, "axis middle")
        self._label(4, self.top - 14, self.y.label, "axis")

    def _path(self, points: Iterable[Point], kind: str) -> None:
        steps = " ".join(f"{place(x)},{place(y)}" for x, y in points)
        SubElement(self.root, "polyline", {"points": steps, "class": kind})

    def _label(self, x: float, y: float, text: str, kind: str) -> None:
        where = {"x": place(x), "y": place(y), "class": kind}
        # Atomic: nothing in it is Markdown.
        SubElement(self.root, "text", where).text = AtomicString(text)

    def line(self, points: Sequence[Point], kind: str = "first") -> None:
        """Join the points; those between which nothing turns are left out."""
        places = straight([self.at(*point) for point in points])
        self._path(places, f"line {kind}")
        self.drawn += along(places)

    def bar(self, x: float, low: float, high: float, kind: str = "first") -> None:
        """Draw how far values spread."""
        self._path([self.at(x, low), self.at(x, high)], f"bar {kind}")

    def dot(
        self, x: float, y: float, kind: str = "first", *, hollow: bool = False, size: float = 4
    ) -> None:
        """Mark a point; a hollow one is where the curve does not reach."""
        across, height = self.at(x, y)
        where = {"cx": place(across), "cy": place(height), "r": place(size)}
        SubElement(self.root, "circle", where | {"class": f"dot {kind}{' hollow' * hollow}"})

    def measured(self, name: str, points: Sequence[Point]) -> None:
        """Draw a series of the legend, with a small dot at each point."""
        kind = self.series[name]
        self.line(points, kind)
        for point in points:
            self.dot(*point, kind, size=1.5)

    def text(
        self, x: float, y: float, text: str, kind: str = "first", shift: Point = (0, 0)
    ) -> None:
        """Write beside a point, moved by `shift` in units of the view box."""
        across, height = self.at(x, y)
        self._label(across + shift[0], height + shift[1], text, f"note {kind}")

    def named(self, points: Sequence[tuple[str, Point, str]]) -> None:
        """Draw dots with their names: (name, point, kind of dot).

        A name stands beside its dot, or at the end of a thin line where there is no room for it. As
        far as the plot has room, it lies on no other name, no dot and no line drawn before.
        """
        # From the right, where there is less room.
        dots = sorted(((self.at(*point), name) for name, point, _ in points), reverse=True)
        names: list[Box] = []
        for dot, name in dots:
            others = [other for other, _ in dots if other != dot]
            choices = list(beside(dot, wide(name)))
            box, lead = next(
                (
                    (box, lead)
                    for box, lead in choices
                    if (self.left < box[0] and box[2] < WIDTH)
                    and (self.top < box[1] and box[3] < self.height - BOTTOM)
                    and not any(overlap(box, other) for other in names)
                    and not any(inside(point, box) for point in self.drawn + others)
                    and not any(inside(point, other) for point in along(lead) for other in names)
                    and not any(math.dist(a, b) < 4 for a in along(lead) for b in others)
                ),
                choices[0],
            )
            names.append(box)
            if math.dist(*lead) > 12:
                self._path(lead, "lead")
                self.drawn += along(lead)
            if lead[1][0] < box[2]:
                self._label(box[0], box[3] - 4, name, "name")
            else:
                self._label(box[2], box[3] - 4, name, "name end")
        for _, point, kind in points:
            self.dot(*point, kind, size=1.5)

    def element(self) -> Element:
        return self.root


def figure(parent: Element, plots: Iterable[Plot], caption: str) -> Element:
    """Append a figure with the plots side by side, as far as there is room, and return it."""
    whole = SubElement(parent, "figure", {"class": "plots"})
    whole.extend(plot.element() for plot in plots)
    SubElement(whole, "figcaption").text = caption
    return whole


def place(value: float) -> str:
    """Return a coordinate with one digit, and no minus zero.

    >>> place(12.04), place(-0.01)
    ('12', '0')
    """
    return f"{round(value, 1) + 0:g}"


def wide(text: str) -> float:
    return LETTER * len(text)


def straight(points: list[Point], tolerance: float = 0.05) -> list[Point]:
    """Leave out the points that lie on the line between their neighbours that stay.

    >>> straight([(0, 0), (1, 0), (2, 0), (3, 1)])
    [(0, 0), (2, 0), (3, 1)]
    """
    kept, last = points[:1], 0
    for here in range(1, len(points) - 1):
        (ax, ay), (cx, cy) = points[last], points[here + 1]
        length = math.hypot(cx - ax, cy - ay) or 1
        if any(
            abs((cx - ax) * (py - ay) - (cy - ay) * (px - ax)) / length > tolerance
            for px, py in points[last + 1 : here + 1]
        ):
            kept.append(points[here])
            last = here
    return kept + points[1:][-1:]


def along(points: Sequence[Point], step: float = 4) -> list[Point]:
    """Return places along a line through the points, so near that no name slips between two.

    >>> along([(0, 0), (8, 0)])
    [(0.0, 0.0), (4.0, 0.0), (8.0, 0.0)]
    """
    places = []
    for (ax, ay), (bx, by) in pairwise(points):
        count = max(1, math.ceil(math.dist((ax, ay), (bx, by)) / step))
        shares = [number / count for number in range(count + 1)]
        places += [(ax + share * (bx - ax), ay + share * (by - ay)) for share in shares]
    return places


TURNS = (
    0,
    180,
    30,
    -30,
    150,
    -150,
    60,
    -60,
    120,
    -120,
)  # degrees; where a name is looked for first


def beside(dot: Point, width: float) -> Iterator[tuple[Box, tuple[Point, Point]]]:
    """Yield boxes for a name, the nearest first, each with the line from its dot."""
    for distance in range(8, WIDTH // 2, 4):
        for turn in TURNS:
            x = dot[0] + distance * math.cos(math.radians(turn))
            y = dot[1] + distance * math.sin(math.radians(turn))
            left = x if abs(turn) < 90 else x - width
            # The line ends a little before the name.
            end = (x - 2 if abs(turn) < 90 else x + 2, y)
            yield (left, y - LINE / 2, left + width, y + LINE / 2), (dot, end)


def inside(point: Point, box: Box, room: float = 3) -> bool:
    (x, y), (left, top, right, bottom) = point, box
    return left - room < x < right + room and top - room < y < bottom + room


def overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
