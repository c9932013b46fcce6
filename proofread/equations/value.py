"""Arrays over free indices, and the products and sums of linear algebra on them.

A `Value` is a tensor whose first axes belong to free indices (by name) and whose last
axes are the shape of the quantity itself: `x_{ij}` has two indices and the shape (),
`\\mathbf{x}_i` one index and the shape (D,). One-dimensional quantities have no
orientation until a `^T` gives them one; the product decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from .problem import TooLong, Undefined, Unreadable

LARGEST = 4_000_000


@dataclass(frozen=True)
class Value:
    """A quantity at every value of its free indices.

    Attributes:
        data: axes of `idx` in order, then the shape of the quantity.
        idx: the free indices.
        row: a one-dimensional quantity that was transposed.
        num, den: for a derivative, how many axes stand for what is derived and for what
            it is derived by; `den` is -1 for anything else.
        like: "ones", "eye", "full" (ones in a square) where the shape follows from what
            stands beside it; "parts" for a sum of such, kept in `parts`.
    """

    data: torch.Tensor
    idx: tuple[str, ...] = ()
    row: bool = False
    num: int = 0
    den: int = -1
    like: str = ""
    parts: tuple[Value, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.data.shape[len(self.idx) :])

    @property
    def rank(self) -> int:
        return self.data.dim() - len(self.idx)

    def plain(self) -> Value:
        """The same, no longer a derivative."""
        return replace(self, num=0, den=-1) if self.den >= 0 else self


def scalar(number: float) -> Value:
    """A plain number."""
    return Value(torch.tensor(float(number), dtype=torch.float64))


def say_shape(shape: Sequence[int]) -> str:
    """A shape as a reader writes it."""
    if not shape:
        return "a scalar"
    return "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"


def union(*values: Value) -> tuple[str, ...]:
    """The free indices of several values, in order of appearance."""
    return tuple(dict.fromkeys(name for value in values for name in value.idx))


def lift(value: Value, idx: tuple[str, ...]) -> torch.Tensor:
    """The data with axes for all of `idx`, size 1 where the value does not depend on one."""
    if value.idx == idx:
        return value.data
    n = len(value.idx)
    order = [value.idx.index(name) for name in idx if name in value.idx]
    data = value.data.permute((*order, *range(n, value.data.dim())))
    shape = [value.data.shape[value.idx.index(name)] if name in value.idx else 1 for name in idx]
    return data.reshape(
        (
            *shape,
            *value.shape,
        )
    )


def spread(value: Value, idx: tuple[str, ...], sizes: Sequence[int]) -> torch.Tensor:
    """The data at every value of all of `idx`."""
    return lift(value, idx).expand((*sizes, *value.shape))


def _bounded(data: torch.Tensor) -> torch.Tensor:
    if data.numel() > LARGEST:
        raise TooLong(f"a part has {data.numel():,} numbers; declare smaller sizes")
    return data


def elementwise(
    a: Value, b: Value, act: Callable, *, strict: bool = False, what: str = "added"
) -> Value:
    """Apply `act` entry by entry.

    A scalar goes with any shape, an axis of size 1 with any size; unless `strict`, a
    vector is added to each row of a matrix.

    Raises:
        Undefined: if the shapes do not fit.
    """
    sized(a), sized(b)
    idx = union(a, b)
    one, two = lift(a, idx), lift(b, idx)
    n = len(idx)
    row = a.row or b.row
    if a.rank != b.rank and a.rank and b.rank:
        one, two = _fit(a, b, one, two, n, strict, what)
    elif a.rank != b.rank:
        deep = max(a.rank, b.rank)
        one = one.reshape(
            (
                *one.shape[:n],
                *(1,) * (deep - a.rank),
                *a.shape,
            )
        )
        two = two.reshape(
            (
                *two.shape[:n],
                *(1,) * (deep - b.rank),
                *b.shape,
            )
        )
    elif any(p != q and 1 not in (p, q) for p, q in zip(a.shape, b.shape, strict=True)):
        raise Undefined(f"{say_shape(a.shape)} and {say_shape(b.shape)} can't be {what}")
    _check_blowup(one, two)
    return Value(act(one, two), idx, row=row and max(a.rank, b.rank) == 1)


def sized(value: Value) -> Value:
    """The value itself; Undefined if it is ones or an identity whose size is open."""
    if value.like:
        raise Undefined("the size of the ones or of the identity is not given here")
    return value


def _check_blowup(one: torch.Tensor, two: torch.Tensor) -> None:
    count = 1
    for p, q in zip(one.shape, two.shape, strict=True):
        count *= max(p, q)
    if count > LARGEST:
        raise TooLong(f"a part has {count:,} numbers; declare smaller sizes")


def _fit(a, b, one, two, n, strict, what):
    """Bring a vector to the rank of the array beside it."""
    small, big = (a, b) if a.rank < b.rank else (b, a)
    data = one if small is a else two
    fits = None
    if small.rank == 1:
        length = small.shape[0]
        if big.rank == 2 and big.shape == (length, 1):
            fits = (length, 1)
        elif big.shape[-1] == length and (not strict or big.shape[:-1] == (1,) * (big.rank - 1)):
            fits = (1,) * (big.rank - 1) + (length,)
        elif big.rank == 2 and 1 in big.shape and length == 1:
            fits = (1, 1)
    elif not strict and big.shape[-small.rank :] == small.shape:
        fits = (1,) * (big.rank - small.rank) + small.shape
    if fits is None:
        raise Undefined(f"{say_shape(a.shape)} and {say_shape(b.shape)} can't be {what}")
    data = data.reshape(
        (
            *data.shape[:n],
            *fits,
        )
    )
    return (data, two) if small is a else (one, data)


def multiply(a: Value, b: Value) -> Value:
    """The product of linear algebra: scaling, dot, outer, matrix, chain of Jacobians.

    Raises:
        Undefined: if the shapes do not conform.
    """
    if a.like or b.like:
        return _multiply_like(a, b)
    if a.rank == 0 or b.rank == 0:
        scaled = elementwise(a, b, torch.mul)
        other = b if a.rank == 0 else a
        keep_row = a.row or b.row
        if a.den == 0 and b.den >= 0 and a.num == 0 and b.num == 0 and a.rank == 0:
            return replace(scaled, row=keep_row, num=0, den=b.den)
        return replace(scaled, row=keep_row, num=other.num, den=other.den)
    if _chains(a, b):
        return _contract(a, b)
    idx = union(a, b)
    one, two = lift(a, idx), lift(b, idx)
    if a.rank == 1 and b.rank == 1:
        return _two_vectors(a, b, one, two, idx)
    if a.rank == 1:
        return _vector_matrix(a, b, one, two, idx)
    if b.rank == 1:
        return _matrix_vector(a, b, one, two, idx)
    if a.shape[-1] != b.shape[-2]:
        if a.shape == (1, 1) or b.shape == (1, 1):
            return Value(one * two, idx)
        raise Undefined(_misfit(a, b))
    if a.rank != b.rank:
        one, two = _same_rank(one, two, len(idx), a, b)
    return Value(_bounded(one @ two), idx)


def _same_rank(one, two, n, a, b):
    deep = max(a.rank, b.rank)
    one = one.reshape(
        (
            *one.shape[:n],
            *(1,) * (deep - a.rank),
            *a.shape,
        )
    )
    two = two.reshape(
        (
            *two.shape[:n],
            *(1,) * (deep - b.rank),
            *b.shape,
        )
    )
    return one, two


def _misfit(a: Value, b: Value) -> str:
    hint = "; entry by entry is written \\odot" if a.shape == b.shape and a.rank > 1 else ""
    return f"a product of {_said(a)} with {_said(b)} does not conform{hint}"


def _said(v: Value) -> str:
    if v.rank == 1:
        return f"a row of {v.shape[0]}" if v.row else f"a vector of {v.shape[0]}"
    return say_shape(v.shape)


def _chains(a: Value, b: Value) -> bool:
    """Whether two derivatives meet in the quantity between them, as in the chain rule."""
    if a.den < 1 or b.den < 0 or b.num != a.den:
        return False
    # A column (N, 1) is a matrix with an orientation: its product has to conform.
    meet = a.shape[a.num :] == b.shape[: b.num] and 1 not in b.shape[: b.num]
    return meet and (a.den > 1 or a.rank > 2 or b.rank > 2)


def chain(a: Value, b: Value) -> Value:
    """The product of two derivatives over the quantity between them, whatever its shape.

    Raises:
        Undefined: if the second is not of what the first is by.
    """
    if a.den >= 0 and b.den >= 0 and a.shape[a.num :] == b.shape[: b.num]:
        return _contract(a, b)
    raise Undefined("prod takes two derivatives, the second of what the first is by")


def _contract(a: Value, b: Value) -> Value:
    idx = union(a, b)
    one, two = lift(a, idx), lift(b, idx)
    n = len(idx)
    outer, meet, inner = a.shape[: a.num], b.shape[: b.num], b.shape[b.num :]
    size = torch.Size(meet).numel()
    one = one.reshape(
        (
            *one.shape[:n],
            torch.Size(outer).numel(),
            size,
        )
    )
    two = two.reshape(
        (
            *two.shape[:n],
            size,
            torch.Size(inner).numel(),
        )
    )
    data = one @ two
    return Value(
        _bounded(
            data.reshape(
                (
                    *data.shape[:n],
                    *outer,
                    *inner,
                )
            )
        ),
        idx,
        num=a.num,
        den=b.den,
    )


def _two_vectors(a, b, one, two, idx) -> Value:
    if not a.row and b.row:
        return Value(_bounded(one.unsqueeze(-1) * two.unsqueeze(-2)), idx)
    if a.row and b.row:
        raise Undefined("a product of two rows does not conform; one ^T is too many or missing")
    if a.shape != b.shape:
        raise Undefined(_misfit(a, b) + "; an outer product needs a ^T on the second")
    den = 0 if a.den >= 0 and b.den == 0 else -1
    return Value((one * two).sum(-1), idx, num=0, den=den)


def _vector_matrix(a, b, one, two, idx) -> Value:
    if b.rank == 2 and a.shape[0] == b.shape[0]:
        data = (one.unsqueeze(-2) @ two).squeeze(-2)
        if b.shape[1] == 1 and a.row:
            return Value(data.squeeze(-1), idx)
        keeps = a.den == 1 and b.den == 1
        return Value(data, idx, row=a.row, num=a.num if keeps else 0, den=1 if keeps else -1)
    if b.rank == 2 and b.shape[0] == 1 and not a.row:
        return Value(_bounded(one.unsqueeze(-1) * two), idx)
    raise Undefined(_misfit(a, b))


def _matrix_vector(a, b, one, two, idx) -> Value:
    if a.shape[-1] == b.shape[0] and not b.row:
        data = (one @ two.unsqueeze(-1)).squeeze(-1)
        return Value(data, idx, num=1, den=0) if a.den >= 0 and b.den == 0 else Value(data, idx)
    if a.rank == 2 and a.shape[1] == 1:
        return Value(_bounded(one * two.unsqueeze(-2)), idx)
    raise Undefined(_misfit(a, b))


def _multiply_like(a: Value, b: Value) -> Value:
    """Products with ones or identities whose size follows from the other factor."""
    if "parts" in (a.like, b.like):
        return _multiply_parts(a, b)
    if a.like == "ones" and b.like == "ones":
        if not a.row and b.row:
            return replace(a, data=a.data * b.data, like="full", row=False)
        _no_size()
    for eye, other in ((a, b), (b, a)):
        if eye.like == "eye":
            data = eye.data * other.data
            return replace(other, data=data, like=other.like or ("eye" if not other.rank else ""))
    if a.like and b.like:
        _no_size()
    if "full" in (a.like, b.like):
        return _full_times(a, b)
    if a.like:
        return _ones_times(a, b)
    scale = b.data
    if a.rank == 0:
        return replace(b, data=a.data * scale) if not a.idx else _no_size()
    if a.rank == 1 and b.row:
        return Value(a.data.unsqueeze(-1) * scale, a.idx) if not a.row else _no_size()
    return Value(a.data.sum(-1) * scale, a.idx)


def _multiply_parts(a: Value, b: Value) -> Value:
    if b.like == "parts" and a.like:
        _no_size()
    pieces = a.parts if a.like == "parts" else b.parts
    products = [multiply(p, b) if a.like == "parts" else multiply(a, p) for p in pieces]
    return add(products)


def _full_times(a: Value, b: Value) -> Value:
    """Ones in a square, times an array: its sums along an axis, repeated."""
    full, other = (a, b) if a.like == "full" else (b, a)
    if other.rank == 0:
        return replace(full, data=full.data * other.data) if not other.idx else _no_size()
    axis = len(other.idx) if full is a else -1
    total = other.data.sum(axis, keepdim=other.rank > 1) * full.data
    if other.rank > 1:
        return Value(total, other.idx)
    if other.idx:
        _no_size()
    return Value(total, like="ones", row=other.row)


def add(terms: Sequence[Value]) -> Value:
    """A sum, in which ones and identities take the size of the other terms."""
    plain = [term for term in terms if not term.like]
    pieces = [p for t in terms if t.like for p in (t.parts if t.like == "parts" else (t,))]
    if len(terms) == 1:
        return terms[0]
    if not plain:
        if all(p.like == "ones" for p in pieces) and len({p.row for p in pieces}) == 1:
            return replace(pieces[0], data=sum(p.data for p in pieces))
        return Value(torch.zeros((), dtype=torch.float64), like="parts", parts=tuple(pieces))
    total = plain[0]
    for term in plain[1:]:
        total = elementwise(total, term, torch.add)
    for piece in pieces:
        total = elementwise(total, _as_added(piece, total), torch.add)
    return total


def _as_added(piece: Value, total: Value) -> Value:
    if piece.like == "eye":
        if total.rank != 2 or total.shape[0] != total.shape[1]:
            raise Undefined(f"an identity can't be added to {say_shape(total.shape)}")
        return Value(piece.data * torch.eye(total.shape[0], dtype=torch.float64))
    return replace(piece, like="", row=False)


def _ones_times(a: Value, b: Value) -> Value:
    scale = a.data
    if b.rank == 0:
        return replace(a, data=b.data * scale) if not b.idx else _no_size()
    if b.rank == 1 and not a.row:
        # 1 b^T: rows alike, as many as what it is added to has
        return Value(b.data.unsqueeze(-2) * scale, b.idx) if b.row else _no_size()
    return Value(b.data.sum(len(b.idx)) * scale, b.idx, row=b.rank == 2)


def _no_size():
    raise Unreadable("the size of the ones is not given; write them with a size, as 1_N")


def transpose(value: Value) -> Value:
    """Swap the last two axes; turn a vector into a row and back."""
    if value.like == "parts":
        return replace(value, parts=tuple(transpose(part) for part in value.parts))
    if value.rank == 1 or value.like == "ones":
        return replace(value, row=not value.row)
    if value.rank == 0:
        return value
    return Value(value.data.mT, value.idx)


def check_same(a: Value, b: Value) -> tuple[Value, Value]:
    """Two sides brought to one shape; nothing is broadcast but a lone 0.

    A vector equals a row or a column of its entries.

    Raises:
        Undefined: if the shapes differ.
    """
    if a.like or b.like:
        a, b = _resolve(a, b), _resolve(b, a)
    if a.shape == b.shape:
        return a, b
    slim_a = tuple(n for n in a.shape if n != 1)
    slim_b = tuple(n for n in b.shape if n != 1)
    oriented = a.rank == 2 and b.rank == 2
    if slim_a == slim_b and len(slim_a) <= 1 and not (oriented and a.shape != b.shape):
        return _slim(a, slim_a), _slim(b, slim_b)
    for zero, other in ((a, b), (b, a)):
        if zero.rank == 0 and not zero.idx and bool((zero.data == 0).all()):
            filled = Value(torch.zeros(other.shape, dtype=torch.float64))
            return (filled, other) if zero is a else (other, filled)
    shapes = f"the left side is {say_shape(a.shape)}, the right side {say_shape(b.shape)}"
    raise Undefined(shapes + "; one is the other transposed" * _turned(a, b))


def _turned(a: Value, b: Value) -> bool:
    """Whether two matrices differ by a transpose alone."""
    if a.rank != 2 or a.shape != b.shape[::-1] or a.idx != b.idx:
        return False
    return torch.allclose(a.data, b.data.mT)


def _slim(value: Value, shape: tuple[int, ...]) -> Value:
    n = len(value.idx)
    return Value(
        value.data.reshape(
            (
                *value.data.shape[:n],
                *shape,
            )
        ),
        value.idx,
    )


def _resolve(value: Value, other: Value) -> Value:
    if not value.like:
        return value
    if other.like:
        _no_size()
    if value.like == "parts":
        made = [_resolve(part, other) for part in value.parts]
        return Value(sum(part.data for part in made))
    if value.like == "eye":
        if other.rank != 2 or other.shape[0] != other.shape[1]:
            raise Undefined(f"an identity can't equal {say_shape(other.shape)}")
        return Value(torch.eye(other.shape[0], dtype=torch.float64) * value.data)
    return Value(value.data * torch.ones(other.shape, dtype=torch.float64))
