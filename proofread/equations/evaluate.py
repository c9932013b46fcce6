"""The value of a meaning in one world: float64 tensors over all free indices at once."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import torch

from . import functions, value
from . import meaning as m
from .drawing import World, float64
from .problem import TooLong, Undefined, Unreadable
from .value import Value, elementwise, lift, multiply, scalar, spread, transpose

MOST_DERIVATIVES = 4096


@dataclass
class Layout:
    """Another reading of derivatives or indices, to try where the page's own fails."""

    denominator: bool = False
    numerator: bool = False
    einstein: bool = False
    direct: bool = False
    otimes_elementwise: bool = False
    elementwise_derivative: bool = False
    elementwise_product: bool = False


class Evaluator:
    """Evaluates the meanings of one chain in one world.

    Args:
        world: the data.
        ranges: the length of each dim, as a meaning.
        defined: values of the symbols that earlier equations define, by name.
        base: what an index counts from.
        layout: conventions that differ from the default.
        deadline: `time.monotonic()` after which the equation is given up.
    """

    def __init__(
        self,
        world: World,
        ranges: dict[str, m.Meaning],
        defined: dict[str, Value] | None = None,
        base: int = 1,
        layout: Layout | None = None,
        deadline: float = math.inf,
        limited: frozenset[str] = frozenset(),
    ):
        self.world = world
        self.ranges = ranges
        self.defined = defined or {}
        self.base = base
        self.layout = layout or Layout()
        self.deadline = deadline
        self.limited = limited
        self.sizes: dict[str, int] = {}
        self.branches: dict[int, set[int]] = {}
        self.branch_totals: dict[int, int] = {}
        self.out_of_range = False
        self._nested = 0
        self._memo: dict[m.Meaning, Value] = {}
        self._data = world.direct.data if self.layout.direct else world.data

    def value(self, node: m.Meaning) -> Value:
        """The value of a node at every value of its free indices.

        Raises:
            Undefined: if shapes do not fit.
            TooLong: past the deadline, or where a part grows too large.
        """
        if time.monotonic() > self.deadline:
            raise TooLong("the equation takes longer than an equation may")
        key = node
        if key in self._memo and not self._nested:
            return self._memo[key]
        found = getattr(self, f"_{type(node).__name__.lower()}")(node)
        if not self._nested:
            self._memo[key] = found
        return found

    # ---- leaves ----

    def _const(self, node: m.Const) -> Value:
        return scalar(node.number)

    def _size(self, node: m.Size) -> Value:
        return scalar(self.world.sizes[node.name])

    def _indexof(self, node: m.IndexOf) -> Value:
        n = self.length(node.dim)
        return Value(torch.arange(self.base, self.base + n, dtype=torch.float64), (node.dim,))

    def length(self, dim: str) -> int:
        """How many values an index has."""
        if dim not in self.sizes:
            span = self.ranges.get(dim)
            if span is None:
                letter = dim.partition("#")[0]
                raise Unreadable(
                    f"the range of the index `{letter}` is not known",
                    None,
                    "declare it under `indices`",
                )
            if isinstance(span, m.AxisOf):
                of = self.value(span.of)
                if not -len(of.shape) <= span.axis < len(of.shape):
                    raise Undefined(f"{value.say_shape(of.shape)} takes no index there")
                found = of.shape[span.axis]
            else:
                number = self.value(span)
                if number.data.numel() != 1:
                    raise Unreadable("a limit of a sum depends on an index in this place")
                found = float(number.data)
                if not found.is_integer() or not 0 <= found <= 10_000:
                    raise Undefined(f"an index can't run to {found:g}")
                found = int(found) - (self.base - 1 if dim in self.limited else 0)
            self.sizes[dim] = found
        return self.sizes[dim]

    def _axisof(self, node: m.AxisOf) -> Value:
        return scalar(self.value(node.of).shape[node.axis])

    def _array(self, node: m.Array) -> Value:
        data = self._data[node.name]
        if not data.is_floating_point():
            data = data.double()
            leaf = self.world.declared.leaves.get(node.name)
            if leaf is not None and leaf.kind == "index":
                data = data + self.base
        return Value(data)

    def _defined(self, node: m.Defined) -> Value:
        if node.name not in self.defined:
            raise Unreadable(f"`{node.name}` is used before the equation that defines it")
        return self.defined[node.name]

    def _like(self, node: m.Like) -> Value:
        if node.size is None:
            return Value(torch.ones((), dtype=torch.float64), like=node.kind)
        n = int(float(self.value(node.size).data))
        made = torch.ones(n) if node.kind == "ones" else torch.eye(n)
        return Value(made.double())

    # ---- entries ----

    def _at(self, node: m.At) -> Value:
        of = self.value(node.of)
        slots = list(node.slots)
        of, slots = self._squeezed(of, slots)
        count = len(slots) + (node.last is not None)
        if count > of.rank:
            raise Undefined(f"{count} indices on {value.say_shape(of.shape)}")
        slots += [None] * (of.rank - len(slots))
        if node.last is not None:
            slots[-1] = node.last
        found = self._gather(of, slots)
        return replace(found, row=True) if self._is_row(slots) else found

    def _is_row(self, slots: list) -> bool:
        """Whether what the slots take is a row of a matrix, on a page where rows stay rows."""
        chosen = [slot is not None for slot in slots]
        return self.world.declared.vectors == "rows" and chosen == [True, False]

    def _squeezed(self, of: Value, slots: list) -> tuple[Value, list]:
        """One index on a column of shape (N, 1) is an entry."""
        if len(slots) == 1 and of.rank == 2 and 1 in of.shape and of.shape != (1, 1):
            kept = of.shape[0] if of.shape[1] == 1 else of.shape[1]
            return Value(
                of.data.reshape(
                    (
                        *of.data.shape[: len(of.idx)],
                        kept,
                    )
                ),
                of.idx,
            ), slots
        return of, slots

    def _gather(self, of: Value, slots: list, offset: int = 0) -> Value:
        """Index the axes after the first `offset` of the shape by `slots`."""
        at = [
            (axis, self._position(slot, of.shape[offset + axis], slot))
            for axis, slot in enumerate(slots)
            if slot is not None
        ]
        if not at:
            return of
        dims = value.union(of, *(position for _, position in at))
        sizes = [self._known(dim, [of, *(p for _, p in at)]) for dim in dims]
        data = spread(of, dims, sizes)
        n = len(dims)
        bad = None
        for done, (axis, position) in enumerate(at):
            where = lift(position, dims).expand(tuple(sizes))
            place = n + offset + axis - done
            length = data.shape[place]
            outside = (where < 0) | (where >= length)
            if bool(outside.any()):
                bad = outside if bad is None else bad | outside
                where = where.clamp(0, length - 1)
            data = data.movedim(place, n)
            index = where.reshape(
                (
                    *where.shape,
                    *(1,) * (data.dim() - n),
                )
            )
            index = index.expand(
                (
                    *where.shape,
                    1,
                    *data.shape[n + 1 :],
                )
            )
            data = data.gather(n, index).squeeze(n)
        if bad is not None:
            self.out_of_range = True
            mask = bad.reshape(
                (
                    *bad.shape,
                    *(1,) * (data.dim() - n),
                )
            )
            data = torch.where(mask, torch.full_like(data, math.nan), data)
        return Value(data, dims)

    def _known(self, dim: str, values: list[Value]) -> int:
        for one in values:
            if dim in one.idx:
                return one.data.shape[one.idx.index(dim)]
        raise AssertionError(dim)

    def _position(self, slot: m.Meaning, length: int, node) -> Value:
        if isinstance(slot, m.IndexOf):
            n = self.length(slot.dim)
            if n != length and slot.dim not in self.limited:
                letter = slot.dim.partition("#")[0]
                raise Undefined(
                    f"the index {letter} runs over {n} values, and the axis that it stands at "
                    f"has {length}"
                )
            if n > length:
                letter = slot.dim.partition("#")[0]
                shown = "an elided index" if letter.startswith("hole") else f"the index {letter}"
                raise Undefined(f"{shown} runs to {n}, and the axis has {length}")
        found = self.value(slot)
        if found.rank:
            raise Undefined("an index has to be a number")
        return Value((found.data.detach() - self.base).round().long(), found.idx)

    # ---- arithmetic ----

    def _plus(self, node: m.Plus) -> Value:
        terms = []
        for sign, term in node.terms:
            one = self.value(term)
            if sign < 0:
                parts = tuple(replace(part, data=-part.data) for part in one.parts)
                one = replace(one, data=-one.data, parts=parts)
            terms.append(one)
        total = value.add(terms)
        return total if len(terms) == 1 else total.plain()

    def _times(self, node: m.Times) -> Value:
        a, b = self.value(node.left), self.value(node.right)
        if node.op == "hadamard":
            return self._hadamard(a, b)
        if node.op == "star":
            return self._star(a, b, node)
        if node.op == "outer":
            return self._outer(a, b)
        if node.op == "inner":
            both = elementwise(a.plain(), b.plain(), torch.mul, strict=True, what="multiplied")
            axes = tuple(range(len(both.idx), both.data.dim()))
            return Value(both.data.sum(axes) if axes else both.data, both.idx)
        if node.op == "dot" and a.rank == 1 and b.rank == 1 and a.row == b.row:
            return multiply(replace(a, row=False), replace(b, row=False))
        if self.layout.elementwise_product and a.rank and a.shape == b.shape and a.row == b.row:
            return elementwise(a, b, torch.mul)
        return multiply(a, b)

    def _hadamard(self, a: Value, b: Value) -> Value:
        if self.layout.elementwise_derivative:
            a, b = _diagonal_of(a, b), _diagonal_of(b, a)
        return elementwise(a.plain(), b.plain(), torch.mul, what="multiplied elementwise")

    def _star(self, a: Value, b: Value, node: m.Times) -> Value:
        if a.rank and b.rank and a.shape == b.shape:
            return elementwise(a, b, torch.mul, what="multiplied elementwise")
        if a.rank == 2 and b.shape == a.shape[1:]:
            raise Unreadable(
                f"`*` between {value.say_shape(a.shape)} and {value.say_shape(b.shape)} can be "
                "read in two ways",
                node.pos,
                r"write \odot for entry by entry, or nothing for the matrix product",
            )
        return multiply(a, b)

    def _outer(self, a: Value, b: Value) -> Value:
        if self.layout.otimes_elementwise:
            return elementwise(a, b, torch.mul, strict=True, what="multiplied elementwise")
        if a.rank == 1 and b.rank == 1:
            return multiply(replace(a, row=False), replace(b, row=True))
        if a.rank == 0 or b.rank == 0:
            return multiply(a, b)
        if a.rank == 2 and b.rank == 2 and not a.idx and not b.idx:
            return Value(torch.kron(a.data, b.data))
        raise Undefined(r"\otimes is read between vectors, or between matrices")

    def _either(self, node: m.Either) -> Value:
        try:
            return self.value(node.first)
        except Undefined as problem:
            try:
                return self.value(node.second)
            except Undefined:
                raise problem from None

    def _quotient(self, node: m.Quotient) -> Value:
        a, b = self.value(node.num), self.value(node.den)
        if a.like and not b.rank and not b.like:
            # I / n is as many entries as I; a plain quotient would make it a number.
            return multiply(Value(1 / b.data, b.idx), a)
        if b.rank and a.rank == 0:
            return elementwise(a, b, torch.div)
        done = elementwise(a, b, torch.div, what="divided")
        if b.rank == 0:
            return replace(done, row=a.row, num=a.num, den=a.den)
        return done

    def _power(self, node: m.Power) -> Value:
        base, exponent = self.value(node.base), self.value(node.exponent)
        if exponent.rank:
            if base.rank:
                raise Undefined("an array can't be raised to an array")
            return elementwise(base, exponent, torch.pow)
        square = base.rank == 2 and base.shape[0] == base.shape[1]
        if base.like == "eye":
            return base
        if square and isinstance(node.exponent, m.Const | m.Plus) and not exponent.idx:
            power = float(exponent.data)
            if power == -1:
                return Value(torch.linalg.inv(base.data), base.idx)
            if power.is_integer() and power > 1:
                raise Unreadable(
                    "a power of a square matrix can be meant in two ways",
                    node.pos,
                    r"write A A or A \odot A",
                )
        elif base.rank == 2 and not square and float(exponent.data.reshape(-1)[0]) == -1:
            raise Undefined(f"{value.say_shape(base.shape)} has no inverse")
        return elementwise(base, exponent, _power)

    def _turned(self, node: m.Turned) -> Value:
        return transpose(self.value(node.of))

    def _normof(self, node: m.NormOf) -> Value:
        of = value.sized(self.value(node.of))
        axes = tuple(range(len(of.idx), of.data.dim()))
        if node.kind in functions.EXTREMES:
            if not axes:
                return of
            return Value((torch.amax if node.kind == "max" else torch.amin)(of.data, axes), of.idx)
        if node.kind == "abs":
            if of.rank > 1:
                raise Undefined("bars around a matrix: write \\det or a norm")
            return Value(of.data.abs() if not axes else of.data.square().sum(axes).sqrt(), of.idx)
        if node.kind == "1":
            if of.rank > 1:
                raise Undefined("the 1-norm of a matrix is not read")
            return Value(of.data.abs().sum(axes) if axes else of.data.abs(), of.idx)
        if node.kind in {"2", "F", "\\mathrm{F}", "fro", "Fro"}:
            if node.kind == "2" and of.rank > 1 and 1 not in of.shape:
                # Without a subscript the norm of a matrix is Frobenius', as in ||Y - XW||^2.
                pass
            return Value(of.data.square().sum(axes).sqrt() if axes else of.data.abs(), of.idx)
        if node.kind in {"\\infty", "max"}:
            return Value(of.data.abs().amax(axes) if axes else of.data.abs(), of.idx)
        raise Undefined(f"the norm with subscript {node.kind} is not read")

    # ---- functions ----

    def _call(self, node: m.Call) -> Value:
        args = [self.value(arg) for arg in node.args]
        for arg in args:
            value.sized(arg)
        if node.function == "pinv":
            return Value(torch.linalg.pinv(args[0].data), args[0].idx)
        if node.function == functions.CHAIN and len(args) == 2:
            return value.chain(*args)
        if node.function in functions.EXTREMES and len(args) > 1:
            total = args[0]
            for arg in args[1:]:
                total = elementwise(total, arg, functions.EXTREMES[node.function])
            return total
        act, whole = self._function(node.function)
        if node.primes:
            return self._prime(act, args, node.primes)
        if whole and any(arg.idx for arg in args):
            return self._over_indices(act, args)
        idx = value.union(*args)
        if len(args) > 1:
            return self._over_indices(act, args)
        with float64():
            data = self._guard(act, node.function, args[0].data)
        return Value(data, idx, row=args[0].row and data.dim() - len(idx) == 1)

    def _function(self, name: str):
        declared = self.world.declared
        if name in declared.functions or callable(self.world.namespace.get(name)):
            return declared.callable_of(name, self.world.namespace), True
        if name in functions.ELEMENTWISE:
            return functions.ELEMENTWISE[name], False
        if name in functions.ROW:
            return functions.ROW[name], False
        if name in functions.WHOLE:
            return functions.WHOLE[name], True
        raise Unreadable(f"the function `{name}` is not known")

    def _guard(self, act, name, *data):
        try:
            found = act(*data)
        except (Undefined, TooLong):
            raise
        except (Exception, SystemExit) as problem:  # noqa: BLE001 - the author's code may raise anything
            raise Undefined(
                f"{name} raised {type(problem).__name__}: {str(problem)[:120]}"
            ) from None
        if not isinstance(found, torch.Tensor):
            raise Undefined(f"{name} returned {type(found).__name__}, and not a tensor")
        return found.double()

    def _over_indices(self, act, args: list[Value]) -> Value:
        """A function of whole arrays, once for every value of the indices."""
        idx = value.union(*args)
        sizes = [self._known(dim, args) for dim in idx]
        full = [spread(arg, idx, sizes) for arg in args]
        flat = [data.reshape(-1, *data.shape[len(idx) :]) for data in full]
        with float64():
            made = [
                self._guard(act, "the function", *(data[at] for data in flat))
                for at in range(math.prod(sizes))
            ]
        data = torch.stack(made)
        return Value(
            data.reshape(
                (
                    *sizes,
                    *data.shape[1:],
                )
            ),
            idx,
        )

    def _prime(self, act, args: list[Value], order: int) -> Value:
        if len(args) != 1:
            raise Undefined("a prime is read on functions of one argument")
        at = args[0].data
        with torch.enable_grad(), float64():
            point = at if at.requires_grad else at.detach().requires_grad_()
            point = point * 1.0
            slope = self._guard(act, "the function", point)
            if slope.shape != point.shape:
                raise Undefined("a prime is read on functions that act entry by entry")
            for _ in range(order):
                if not slope.requires_grad:
                    slope = torch.zeros_like(point)
                    break
                found = torch.autograd.grad(
                    slope.sum(), point, create_graph=True, allow_unused=True
                )[0]
                slope = torch.zeros_like(point) if found is None else found
        return Value(slope, args[0].idx, row=args[0].row)

    # ---- sums ----

    def _over(self, node: m.Over) -> Value:
        sizes = [self.length(dim) for dim in node.dims]
        outside_before, self.out_of_range = self.out_of_range, False
        body = self.value(node.body)
        outside, self.out_of_range = self.out_of_range, outside_before or self.out_of_range
        where = self.value(node.where) if node.where is not None else None
        idx = value.union(body, *([where] if where else []))
        idx = (*[d for d in idx if d not in node.dims], *node.dims)
        known = dict(zip(node.dims, sizes, strict=True))
        full = [known.get(d) or self._known(d, [body, *([where] if where else [])]) for d in idx]
        if 0 in sizes:
            raise Undefined("the sum runs over nothing")
        data = spread(body, idx, full)
        if where is not None:
            if where.rank:
                raise Undefined("the condition under the sum is no number")
            keep = spread(where, idx, full) > 0.5
            keep = keep.reshape((*keep.shape, *(1,) * (data.dim() - len(idx))))
            empty = {"sum": 0.0, "prod": 1.0, "max": -math.inf, "min": math.inf}[node.op]
            data = torch.where(keep, data, torch.full_like(data, empty))
        if outside and bool(torch.isnan(data).any()):
            raise Undefined("an index under the sum leaves the range of its axis")
        axes = tuple(range(len(idx) - len(node.dims), len(idx)))
        rest = idx[: len(idx) - len(node.dims)]
        if node.op == "sum":
            data = data.sum(axes)
        elif node.op == "prod":
            for axis in reversed(axes):
                data = data.prod(axis)
        else:
            data = (torch.amax if node.op == "max" else torch.amin)(data, axes)
        return Value(
            data, rest, row=body.row, num=body.num, den=body.den if node.op == "sum" else -1
        )

    # ---- derivatives ----

    def _partial(self, node: m.Partial) -> Value:
        source, slots = self._source(node.by)
        self._nested += 1
        try:
            of = self.value(node.of)
        finally:
            self._nested -= 1
        jacobian = self._jacobian(of, source)
        rank = of.rank
        found = Value(jacobian, of.idx)
        row = False
        if slots is not None:
            slots = [*slots, *[None] * (source.dim() - len(slots))]
            found = self._gather(found, slots, rank)
            row = rank == 0 and self._is_row(slots)
        den = found.rank - rank
        found, rank, den = _columns_as_vectors(found, rank, den)
        if node.transposed and den == 2:
            found = Value(found.data.mT, found.idx)
        if self.layout.numerator and rank == 0 and den == 2:
            return Value(found.data.mT, found.idx)
        if self.layout.denominator and rank >= 1 and den >= 1:
            n = len(found.idx)
            order = [*range(n), *range(n + rank, n + rank + den), *range(n, n + rank)]
            return Value(found.data.permute(order), found.idx)
        return Value(found.data, found.idx, row=row, num=rank, den=den)

    def _source(self, by: m.Meaning):
        """The tensor that is derived by, and the slots that choose its entries."""
        slots = None
        base = by
        if isinstance(by, m.At):
            base, slots = by.of, list(by.slots)
            if by.last is not None:
                rank = self.value(base).rank
                slots = slots + [None] * (rank - len(slots))
                slots[-1] = by.last
        if isinstance(base, m.Array):
            tensor = self._before_cut(base.name)
            if not tensor.is_floating_point() or not tensor.requires_grad:
                raise Unreadable(
                    f"`{base.name}` is a constant of the forward, nothing to derive by"
                )
            if slots is not None and tensor.dim() == 2 and len(slots) == 1 and 1 in tensor.shape:
                slots = (
                    [*slots, m.Const(self.base)]
                    if tensor.shape[1] == 1
                    else [m.Const(self.base), *slots]
                )
            return tensor, slots
        tensor = self._equal_intermediate(by)
        if tensor is None:
            raise Unreadable(
                "this is nothing that the forward computes, so nothing to derive by",
                by.pos,
                "give it a name in the forward",
            )
        return tensor, None

    def _before_cut(self, name: str) -> torch.Tensor:
        return self._data.get(f"{name} cut", self._data[name])

    def _equal_intermediate(self, by: m.Meaning) -> torch.Tensor | None:
        """What the forward computes with the value of an expression that is derived by."""
        found = self.value(by)
        if found.idx:
            return None
        for name, data in self._data.items():
            same = data.shape == found.data.shape and data.is_floating_point()
            if same and data.requires_grad and torch.allclose(data, found.data, rtol=1e-9):
                return self._before_cut(name)
        return None

    def _jacobian(self, of: Value, source: torch.Tensor) -> torch.Tensor:
        data = of.data
        if data.numel() * max(source.numel(), 1) > value.LARGEST:
            raise TooLong("a Jacobian grows too large; declare smaller sizes")
        if data.numel() > MOST_DERIVATIVES:
            raise TooLong(f"a derivative of {data.numel():,} numbers; declare smaller sizes")
        shape = (*data.shape, *source.shape)
        if not data.requires_grad:
            return torch.zeros(shape, dtype=torch.float64)
        deeper = self._nested > 0
        rows = []
        for one in data.reshape(-1):
            if time.monotonic() > self.deadline:
                raise TooLong("the equation takes longer than an equation may")
            row = torch.autograd.grad(
                one, source, retain_graph=True, create_graph=deeper, allow_unused=True
            )[0]
            rows.append(torch.zeros_like(source) if row is None else row)
        return torch.stack(rows).reshape(shape)

    # ---- matrices, cases, conditions ----

    def _grid(self, node: m.Grid) -> Value:
        cells = [[self.value(cell) for cell in row] for row in node.rows]
        if any(cell.rank for row in cells for cell in row):
            return self._blocks(cells)
        flat = [cell for row in cells for cell in row]
        idx = value.union(*flat)
        sizes = [self._known(dim, flat) for dim in idx]
        data = torch.stack([spread(cell, idx, sizes) for cell in flat], -1)
        return Value(
            data.reshape(
                (
                    *sizes,
                    len(cells),
                    len(cells[0]),
                )
            ),
            idx,
        )

    def _blocks(self, cells: list[list[Value]]) -> Value:
        flat = [cell for row in cells for cell in row]
        idx = value.union(*flat)
        sizes = [self._known(dim, flat) for dim in idx]
        one_column = all(len(row) == 1 for row in cells)

        def block(cell: Value) -> torch.Tensor:
            data = spread(cell, idx, sizes)
            if cell.rank == 2:
                return data
            if cell.rank == 1:
                flat_row = cell.row or one_column
                return data.unsqueeze(-2 if flat_row else -1)
            if cell.rank == 0:
                return data.reshape(
                    (
                        *data.shape,
                        1,
                        1,
                    )
                )
            raise Undefined("a block of a matrix has too many axes")

        try:
            rows = [torch.cat([block(cell) for cell in row], -1) for row in cells]
            return Value(torch.cat(rows, -2), idx)
        except RuntimeError:
            raise Undefined("the blocks of the matrix do not fit together") from None

    def _patterned(self, node: m.Patterned) -> Value:
        n, k = self.length(node.row), self.length(node.column)
        entry = self.value(node.entry)
        if entry.rank == 1 and k == 1:
            rest = tuple(d for d in entry.idx if d != node.row)
            return Value(
                spread(entry, (*rest, node.row), [*[self._known(d, [entry]) for d in rest], n]),
                rest,
            )
        if entry.rank == 1 and n == 1:
            rest = tuple(d for d in entry.idx if d != node.column)
            data = spread(
                entry, (*rest, node.column), [*[self._known(d, [entry]) for d in rest], k]
            )
            return Value(data.mT, rest)
        if entry.rank:
            raise Undefined("the entries of the matrix are no numbers")
        on = self.value(node.diagonal) if node.diagonal is not None else entry
        rest = tuple(d for d in value.union(entry, on) if d not in (node.row, node.column))
        sizes = [self._known(d, [entry, on]) for d in rest]
        data = spread(entry, (*rest, node.row, node.column), [*sizes, n, k])
        if node.diagonal is not None:
            line = spread(on, (*rest, node.row), [*sizes, n])
            eye = torch.eye(n, k, dtype=torch.bool)
            data = torch.where(eye, line.unsqueeze(-1), data)
        return Value(data, rest)

    def _choice(self, node: m.Choice) -> Value:
        key = id(node)
        self.branch_totals[key] = len(node.branches)
        values = [self.value(branch) for branch, _ in node.branches]
        conditions = [self.value(c) if c is not None else None for _, c in node.branches]
        total, taken = None, scalar(0)
        for at, (branch, condition) in enumerate(zip(values, conditions, strict=True)):
            holds = (
                condition
                if condition is not None
                else replace(taken, data=1.0 - (taken.data > 0.5).double())
            )
            both = elementwise(holds, taken, lambda h, t: h * (t < 0.5))
            if bool((both.data > 0.5).any()):
                self.branches.setdefault(key, set()).add(at)
            part = elementwise(both, branch, _masked)
            total = part if total is None else elementwise(total, part, torch.add)
            taken = elementwise(taken, both, torch.maximum)
        if bool((taken.data < 0.5).any()):
            total = elementwise(total, taken, lambda v, t: torch.where(t > 0.5, v, math.nan))
        return total

    def _compare(self, node: m.Compare) -> Value:
        sides = [self.value(side) for side in node.sides]
        total = None
        for op, left, right in zip(node.ops, sides, sides[1:], strict=False):
            one = elementwise(left, right, _COMPARE[op])
            total = one if total is None else elementwise(total, one, torch.mul)
        return replace(total, data=total.data.double())

    def _all(self, node: m.All) -> Value:
        total = None
        for part in node.parts:
            one = self.value(part)
            total = one if total is None else elementwise(total, one, torch.mul)
        return total


def _columns_as_vectors(found: Value, num: int, den: int) -> tuple[Value, int, int]:
    """The Jacobian of a column (N, 1) by a column is N x N, as of vectors."""
    over, under = found.shape[:num], found.shape[num:]
    if num != 2 or den != 2 or 1 not in over or 1 not in under:
        return found, num, den
    shape = (max(over), max(under))
    lead = found.data.shape[: len(found.idx)]
    return Value(found.data.reshape((*lead, *shape)), found.idx), 1, 1


def _diagonal_of(one: Value, other: Value) -> Value:
    """The diagonal of a Jacobian of an array by an array of the same shape."""
    shape = other.shape
    if one.den >= 1 and one.shape == (*shape, *shape):
        n = len(one.idx)
        size = math.prod(shape)
        data = one.data.reshape(
            (
                *one.data.shape[:n],
                size,
                size,
            )
        ).diagonal(dim1=-2, dim2=-1)
        return Value(
            data.reshape(
                (
                    *data.shape[:n],
                    *shape,
                )
            ),
            one.idx,
        )
    return one


def _power(base: torch.Tensor, exponent: torch.Tensor) -> torch.Tensor:
    if exponent.numel() == 1 and not exponent.requires_grad:
        # A plain number keeps the derivative of x^2 at negative x exact.
        return base ** float(exponent)
    return torch.pow(base, exponent)


def _masked(holds: torch.Tensor, branch: torch.Tensor) -> torch.Tensor:
    return torch.where(holds > 0.5, branch, torch.zeros((), dtype=torch.float64))


_COMPARE = {
    "=": lambda a, b: ((a - b).abs() < 1e-12).double(),
    "!=": lambda a, b: ((a - b).abs() >= 1e-12).double(),
    "<": lambda a, b: (a < b).double(),
    ">": lambda a, b: (a > b).double(),
    "<=": lambda a, b: (a <= b).double(),
    ">=": lambda a, b: (a >= b).double(),
}
