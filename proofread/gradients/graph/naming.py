"""Name a value as the user would write it: `W`, `softmax(X @ W)`, `Q @ K.T`."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

if TYPE_CHECKING:
    from proofread.gradients.graph.program import Program, Ref, Step

LONGEST = 44  # a longer name says less
SHORT = 24  # up to here an expression is better than the textbook name of what it computes
PLAIN = {0, 1, 2, -1, 0.5}  # too common to be told by their value
ROOT = "1/sqrt({})"
DIGITS = 6  # a number of more digits has been computed
KEPT = 4  # ways to write a value that are tried as parts of a larger one

# The operators of Python with how strongly they bind.
INFIX = {
    "gt": (">", 0), "ge": (">=", 0), "lt": ("<", 0), "le": ("<=", 0), "eq": ("==", 0),
    "ne": ("!=", 0), "logical_and": ("&", 1), "add": ("+", 2), "sub": ("-", 2), "mul": ("*", 3),
    "div": ("/", 3), "mm": ("@", 3), "pow": ("**", 5),
}  # fmt: skip
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
PREFIX = {"neg": "-", "bitwise_not": "~", "logical_not": "~"}
SIGN, ATOM = 4, 9
UNCHANGED = {"view", "expand", "cast"}
PARTS = {
    "slice", "select", "index", "gather", "embedding", "index_select", "unfold", "diagonal",
    "narrow", "take_along_dim", "take", "split", "split_with_sizes", "unbind", "chunk", "target",
    "weight",
}  # fmt: skip
FUNCTIONS = {"sum", "mean", "var", "softmax", "log_softmax", "logsumexp", "cat"}
SPELLED = {"gelu_tanh": "gelu", "quick_gelu": "gelu", "half_square": "square", "reciprocal": "1/x"}


class Call(NamedTuple):
    """How a value is written where its steps do not show it; "" is the argument itself."""

    called: str
    arguments: tuple


class _Said(NamedTuple):
    """One way to write a value; the more it leaves out, the higher its cost."""

    cost: int
    text: str
    strength: int = ATOM

    def inside(self, strength: int) -> str:
        return self.text if self.strength >= strength else f"({self.text})"


class Names:
    """The names of the values of one program."""

    def __init__(self, program: Program) -> None:
        self.p = program
        self.ways: dict[int, list[_Said]] = {}
        self.described: dict[int, str] = {}
        self.alike: dict[str, list[int]] = {}
        self.counts: dict[str, int] = {}

    def describe(self, ref: Ref) -> str:
        """Name a value, by its shape where it has no short name."""
        if ref.i not in self.described:
            self.described[ref.i] = self._described(ref)
        return self.described[ref.i]

    def _described(self, ref: Ref) -> str:
        ways = self.of(ref.i)
        if ways and ways[0].text != "...":
            return ways[0].text
        if ref.i == self.p.output.i:
            return "the output"
        shape = self.p.shape(ref)
        if ordinal := self._ordinal(ref.i):
            return ordinal
        return f"a value of shape {shape}" if shape else "a single number"

    def _ordinal(self, i: int) -> str:
        """Tell a step among those of its kind: `the second tanh`."""
        called = self._called(i)
        if not self.alike:
            for j in range(self.p.output.i + 1):
                self.alike.setdefault(self._called(j), []).append(j)
        alike = self.alike.get(called, [])
        if not called or i not in alike or len(alike) > len(ORDINALS):
            return ""
        return f"the {ORDINALS[alike.index(i)] if len(alike) > 1 else ''} {called}".replace(
            "  ", " "
        )

    def _called(self, i: int) -> str:
        step = self.p.steps[i]
        if step.kind == "mm":
            return "matrix product"
        call = self.p.calls.get(i)
        called = call.called if call else step.details.get("called", "")
        known = step.kind in ("unary", "softmax", "log_softmax", "sum", "mean", "var", "conv")
        return spelled(called or step.kind) if known and called not in INFIX else ""

    def of(self, i: int) -> list[_Said]:
        """Return the ways to write a value, the fullest first."""
        if i not in self.ways:
            self.ways[i] = []  # no value is part of itself
            step = self.p.steps[i]
            if step.name:
                found = [_Said(0, step.name)]
            elif step.kind in ("leaf", "captured", "upstream"):
                found = [_constant(self.p.values[i])]
            elif step.kind in UNCHANGED and step.operands():
                found = self.of(step.operands()[0].i)
            else:
                found = self._made(i, step)
                found += self._recognised(i, found)
            self.ways[i] = sorted(found, key=lambda said: said.cost)[:KEPT]
        return self.ways[i]

    def _made(self, i: int, step: Step) -> list[_Said]:
        call = self.p.calls.get(i)
        if call and not call.called:
            return self.of(call.arguments[0].i)
        if call:
            return self._written(call.called, call.arguments, 0)
        found = []
        if step.kind == "permute":
            found = self._permuted(step)
        elif step.kind == "mul" and step.arguments[1] == -1:
            found = self._written("neg", step.arguments[:1], 0)
        elif step.kind == "pick" and (index := sliced(step, self.p.shape(step.operands()[0]))):
            source = self.of(step.operands()[0].i)
            parts = [said for said in source if said.text != "..."]
            found = _short(_Said(a.cost, f"{a.inside(ATOM)}[{index}]") for a in parts)
        elif step.kind in INFIX:
            found = self._spread_out(step) or self._written(step.kind, step.arguments, 0)
        elif called := step.details.get("called", step.kind if step.kind in FUNCTIONS else ""):
            found = self._written(called, step.arguments, 0)
        return found

    def _spread_out(self, step: Step) -> list[_Said]:
        """Write X[:, None] - X[None], where each of two views of one value has an axis more."""
        if not all(hasattr(a, "i") for a in step.arguments):
            return []
        a, b = (self.p.steps[r.i] for r in step.arguments)
        axes = [s.details.get("new_axis") for s in (a, b)]
        if None in axes or a.operands() != b.operands() or axes[0] == axes[1]:
            return []
        sign, strength = INFIX[step.kind]
        views = [f"[{', '.join([*[':'] * axis, 'None'])}]" for axis in axes]
        return _short(
            _Said(x.cost, f" {sign} ".join(x.inside(ATOM) + view for view in views), strength)
            for x in self.of(a.operands()[0].i)
            if x.text != "..."
        )

    def _recognised(self, i: int, found: list[_Said]) -> list[_Said]:
        """Return what a value was recognised as; that goes before a long expression."""
        call = self.p.recognised.get(i)
        if call is None:
            return []
        # The clamp inside of F.normalize is nothing that its user wrote.
        fits = any(
            said.cost == 0 and len(said.text) <= SHORT and "clamp(norm(" not in said.text
            for said in found
        )
        return self._written(call.called, call.arguments, 1 if fits else -1)

    def _permuted(self, step: Step) -> list[_Said]:
        order = tuple(step.details["order"])
        rank = len(order)
        long = [a for a in order if self.p.shape(step.operands()[0])[a] > 1]
        if long == sorted(long):
            suffix = ""  # an axis of size 1 may stand anywhere
        elif len(long) == 2:
            suffix = ".T"
        elif rank > 2 and order == (*range(rank - 2), rank - 1, rank - 2):
            suffix = ".mT"
        else:
            suffix = f".permute{order}"
        source = self.of(step.operands()[0].i)
        return _short(_Said(a.cost, _turned(a.inside(ATOM), suffix)) for a in source)

    def _written(self, called: str, arguments: tuple, cost: int) -> list[_Said]:
        parts = [self._part(a) for a in _flat(arguments)]
        parts = [ways for ways in parts if ways is not None]
        if called in PREFIX and len(parts) == 1:
            return _short(
                _Said(a.cost + cost, PREFIX[called] + a.inside(SIGN), SIGN) for a in parts[0]
            )
        if called == "pow" and arguments[1] == 1:
            return parts[0]
        if called == "reciprocal":
            return self._written("div", (1, *arguments), cost)
        if called == "mul" and (inverse := self._inverse(*arguments)):
            return self._written("div", inverse, cost)
        if called in INFIX and len(parts) == 2:
            sign, strength = INFIX[called]
            if called == "mul" and isinstance(arguments[1], int | float):
                if parts[1][0].text.startswith("1/"):
                    share = _Said(0, parts[1][0].text.removeprefix("1/"))
                    sign, parts = "/", [parts[0], [share]]
                # PyTorch sees 2 * x as x * 2; a longer product may well end in its factor.
                elif parts[0] and parts[0][0].strength > strength:
                    parts = parts[::-1]
            return _short(
                _Said(
                    a.cost + b.cost + cost,
                    f"{a.inside(strength)} {sign} {b.inside(strength + 1)}",
                    strength,
                )
                for a, b in itertools.product(*parts)
                if "..." not in (a.text, b.text)
            )
        # A number among the arguments of a function is an axis or a setting.
        parts = [self._part(a) for a in _flat(arguments) if hasattr(a, "i")]
        if called in PARTS and parts:
            index = parts[1][0].text if len(parts) == 2 and parts[1] else "..."
            return _short(
                _Said(a.cost + cost, f"{a.inside(ATOM)}[{index}]")
                for a in parts[0]
                if a.text != "..."
            )
        if called == "write" or not parts:
            return []
        called = spelled(called)
        found = _short(
            _Said(
                sum(a.cost for a in combo) + cost, f"{called}({', '.join(a.text for a in combo)})"
            )
            for combo in itertools.product(*parts)
        )
        if self._count(called) == 1:
            found.append(_Said(3 + cost, f"{called}(...)"))
        return found

    def _inverse(self, a: Any, b: Any) -> tuple | None:
        """Return 2 and x of `2 / x`, which PyTorch sees as the reciprocal of x times 2."""
        if not isinstance(b, int | float) or not hasattr(a, "i"):
            return None
        step = self.p.steps[a.i]
        return (b, step.operands()[0]) if step.details.get("called") == "reciprocal" else None

    def _part(self, argument: Any) -> list[_Said] | None:
        if isinstance(argument, bool) or argument is None or isinstance(argument, str):
            return None
        if isinstance(argument, int | float):
            return [self.number(argument)]
        return self.of(argument.i) if hasattr(argument, "i") else None

    def number(self, value: float) -> _Said:
        """Write a number of the forward by the user's name for it, or as it is computed."""
        for name, given in self.p.numbers.items():
            if value == given and value not in PLAIN:
                return _Said(0, name)
            if value == 1 - given and value not in PLAIN:
                return _Said(0, f"1 - {name}", INFIX["sub"][1])
        if isinstance(value, float) and len(str(value)) > DIGITS and value > 0:
            for form, whole in (("1/{}", 1 / value), ("sqrt({})", value**2), (ROOT, value**-2)):
                if abs(whole - round(whole)) < 1e-9 and 1 < whole < 1e6:
                    strength = INFIX["div"][1] if form.startswith("1/") else ATOM
                    return _Said(0, form.format(round(whole)), strength)
        return _Said(0, number(value), ATOM if value >= 0 else SIGN)

    def _count(self, called: str) -> int:
        """Count the steps of the forward that are called so."""
        if not self.counts:
            seen = set()
            for i, step in enumerate(self.p.steps[: self.p.output.i + 1]):
                call = self.p.calls.get(i)
                name = call.called if call else step.details.get("called", step.kind)
                seen.add((spelled(name), str(call.arguments) if call else i))
            for name, _ in seen:
                self.counts[name] = self.counts.get(name, 0) + 1
        return self.counts.get(called, 0)


def _turned(said: str, suffix: str) -> str:
    """Append a transposition, which undoes the same one before it."""
    twice = suffix in (".T", ".mT") and said.endswith(suffix)
    return said.removesuffix(suffix) if twice else said + suffix


def _flat(arguments: Any) -> list:
    """Return the arguments, those in lists among them."""
    found = []
    for argument in arguments:
        found += _flat(argument) if isinstance(argument, list | tuple) else [argument]
    return found


def _short(found) -> list[_Said]:
    kept = [said for said in found if len(said.text) <= LONGEST]
    return sorted(kept, key=lambda said: said.cost)[:KEPT]


def _constant(value: Any) -> _Said:
    """A tensor that the forward makes itself: a number, or something without a name."""
    if isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex():
        return _Said(0, number(value.item()))
    return _Said(2, "...")


def spelled(called: str) -> str:
    """Write the name of a function as PyTorch does."""
    return SPELLED.get(called, called.strip("_"))


def number(value: float) -> str:
    """Write a number in few digits.

    >>> number(3), number(1 / 3), number(1e-5), number(2.0)
    ('3', '0.3333', '1e-05', '2')
    """
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def sliced(step: Step, shape: tuple[int, ...]) -> str:
    """Write the part that a step takes of a tensor, such as `:, 3:`; '' where it is another one."""
    called, settings = step.details.get("called"), step.arguments[1:]
    if any(not isinstance(a, int | list | None) for a in settings):
        return ""
    k = step.details.get("part", 0)
    place = {"slice": 0, "select": 0, "unbind": 0, "split": 1, "split_with_sizes": 1}.get(called)
    if place is None:
        return ""
    axis = (settings[place] if len(settings) > place else 0) % len(shape)
    first, last, stride = 0, shape[axis], 1
    if called == "slice":
        given = [*settings[1:], *(None,) * 3]
        first, last, stride = given[0] or 0, given[1], given[2] or 1
        last = shape[axis] if last is None else last
    elif called == "split":
        first, last = k * settings[0], (k + 1) * settings[0]
    elif called == "split_with_sizes":
        first = sum(settings[0][:k])
        last = first + settings[0][k]
    if called in ("select", "unbind"):
        part = str(settings[1] if called == "select" else k)
    else:
        part = f"{first or ''}:{last if last < shape[axis] else ''}"
        part += f":{stride}" if stride != 1 else ""
    if axis == len(shape) - 1 > 1:
        return f"..., {part}"
    return ":, " * axis + part


def is_named(said: str) -> bool:
    """Tell a name from what only tells the shape of a value."""
    return not said.startswith(("a value of", "a single number"))


def factor_said(named: str, site: str, place: str = "of", kind: str = "factor") -> str:
    """Say which factor, or divisor, and where.

    >>> factor_said("gamma", "gamma * x"), factor_said("a value of shape (8,)", "the output")
    ('the factor gamma of gamma * x', 'a factor of shape (8,) of the output')
    """
    said = named if named.startswith("the ") else f"the {kind} {named}"
    if not is_named(named):
        said = named.replace("value", kind, 1).replace("single number", kind)
    return f"{said} {place} {site}" if is_named(site) else said


def axes_said(axes: tuple[int, ...]) -> str:
    """Name axes in a sentence.

    >>> axes_said((0,)), axes_said((0, 2)), axes_said((0, 2, 3))
    ('axis 0', 'axes 0 and 2', 'axes 0, 2 and 3')
    """
    if len(axes) == 1:
        return f"axis {axes[0]}"
    return f"axes {', '.join(map(str, axes[:-1]))} and {axes[-1]}"
