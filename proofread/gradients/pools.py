"""Run planted mistakes, and find those that give one gradient.

A backward is linear in each gradient that it carries. So what an entry of its result becomes
when one of them changes is known from one pass through it, for all changes: only a mistake that
gives a few entries right is run to the end.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from proofread.gradients.compare import same
from proofread.gradients.graph.program import Program, Ref
from proofread.gradients.planted.candidates import Candidate, Change

MOST_ENTRIES = 5000
FEW = 12  # entries that are looked at first
WORTH = 3000  # steps of all mistakes of one program: so many are worth a pass through it
LARGEST = 20_000_000  # numbers that such a pass may hold
AGAIN = 1e-9


@dataclass
class Pool:
    """Planted mistakes whose gradients have one shape; `few` has some entries of each in one row."""

    candidates: list[Candidate]
    shape: tuple[int, ...]
    places: Tensor
    few: Tensor
    right: Tensor
    values: dict[int, Tensor | None] = field(default_factory=dict)

    def matching(self, u: Tensor, tolerance: float) -> list[Candidate]:
        """Return the mistakes that give u."""
        if self.shape != tuple(u.shape) or not u.numel():
            return []
        flat = sampled(u)
        hits = self._near(u, flat, tolerance)
        return [self.candidates[k] for k in hits if self._equal(k, flat, tolerance)]

    def proportional(self, u: Tensor, tolerance: float) -> list[tuple[Candidate, float]]:
        """Return the mistakes that give u up to a constant factor, with that factor."""
        # Of what is the same number everywhere, anything constant is a multiple.
        level = not u.numel() or bool((u == u.reshape(-1)[0]).all())
        if self.shape != tuple(u.shape) or level or u.numel() < 3:
            return []
        flat = sampled(u)
        squares = self.few.square().sum(1)
        factors = self.few @ u.reshape(-1)[self.places].to(torch.float64) / squares
        found = []
        for k in self._near(u, flat, tolerance, factors):
            value = self._value(k)
            if value is None or not value.any():
                continue
            factor = float(value @ flat / value.square().sum())
            if factor and self._equal(k, flat, tolerance, factor):
                found.append((self.candidates[k], factor))
        return found

    def _near(self, u, flat: Tensor, tolerance: float, factors=None) -> list[int]:
        few = self.few if factors is None else self.few * factors[:, None]
        largest = torch.maximum(few.abs().amax(1), flat.abs().amax())
        differences = (few - u.reshape(-1)[self.places].to(torch.float64)).abs().amax(1)
        # A little more than the tolerance: these entries have been computed in another order.
        return (differences <= (tolerance + AGAIN) * largest).nonzero()[:, 0].tolist()

    def _value(self, k: int) -> Tensor | None:
        """Return the gradient of a mistake; None where it is the right one."""
        if k not in self.values:
            value = self.candidates[k].gradient()
            self.values[k] = self._kept(sampled(value)) if isinstance(value, Tensor) else None
        return self.values[k]

    def _kept(self, value: Tensor) -> Tensor | None:
        right = sampled(self.right)
        return None if value.shape == right.shape and _close(value, right, AGAIN) else value

    def _equal(self, k: int, flat: Tensor, tolerance: float, factor: float = 1.0) -> bool:
        value = self._value(k)
        return value is not None and _close(value * factor, flat, tolerance)


def _close(a: Tensor, b: Tensor, tolerance: float) -> bool:
    largest = torch.maximum(a.abs().amax(), b.abs().amax())
    return bool((a - b).abs().amax() <= tolerance * largest)


def sampled(value: Tensor) -> Tensor:
    """Return the entries in one row; of a large tensor some thousands, spread evenly."""
    flat = value.reshape(-1)
    if flat.numel() > MOST_ENTRIES:
        flat = flat[torch.arange(MOST_ENTRIES) * flat.numel() // MOST_ENTRIES]
    return flat.to(torch.float64)


def pools_of(
    planted: list[Candidate], right: Tensor, seconds: float, ways: dict[int, Ways | None]
) -> list[Pool]:
    """Run the mistakes, for so many seconds of processor time at most, and gather them by shape.

    `ways` keeps, for each program, what one pass through it tells.
    """
    stop = time.process_time() + seconds
    few = some_places(right)
    _add_ways(ways, planted, few, right)
    rows: dict[tuple[int, ...], list[tuple[Candidate, Tensor, Tensor | None]]] = {}
    places = {tuple(right.shape): few}
    for candidate in planted:
        way = ways.get(id(candidate.program))
        entries = way.entries_of(candidate) if way else None
        if entries is not None:
            rows.setdefault(tuple(right.shape), []).append((candidate, entries, None))
        else:
            value = candidate.gradient()
            if isinstance(value, Tensor) and value.is_floating_point():
                shape = tuple(value.shape)
                if shape not in places:
                    places[shape] = some_places(value)
                entries = value.reshape(-1)[places[shape]].to(torch.float64)
                rows.setdefault(shape, []).append((candidate, entries, sampled(value)))
        if time.process_time() > stop:
            break
    pools = []
    for shape, found in rows.items():
        candidates, entries, values = zip(*found, strict=True)
        pool = Pool(list(candidates), shape, places[shape], torch.stack(entries), right)
        pool.values = {k: pool._kept(v) for k, v in enumerate(values) if v is not None}
        pools.append(pool)
    return pools


def some_places(value: Tensor) -> Tensor:
    """Choose a few entries: half of them spread evenly, half where the value is largest."""
    count = value.numel()
    if count <= FEW:
        return torch.arange(count)
    spread = torch.arange(FEW // 2) * count // (FEW // 2)
    largest = value.reshape(-1).abs().nan_to_num().topk(FEW // 2).indices
    return torch.cat([spread, largest]).unique()


def _add_ways(
    ways: dict[int, Ways | None], planted: list[Candidate], few: Tensor, right: Tensor
) -> None:
    """Find, for each program with many mistakes, how its gradients move a few entries."""
    found: dict[int, list[Program]] = {}
    for candidate in planted:
        p = candidate.program
        if min(candidate.changes) > p.upstream.i:
            found.setdefault(id(p), []).append(p)
    for key, programs in found.items():
        p = programs[0]
        if key in ways or len(programs) * (p.result.i - p.upstream.i) < WORTH:
            continue
        held = len(few) * sum(p.values[i].numel() for i in _carried(p))
        fits = p.shape(p.result) == tuple(right.shape) and held < LARGEST
        ways[key] = Ways(p, few) if fits else None


def _carried(p: Program) -> list[int]:
    """Return the steps of a backward that carry a gradient."""
    carries = p.dependents(1 << p.upstream.i)
    steps = range(p.upstream.i, p.result.i + 1)
    return [i for i in steps if carries >> i & 1 and p.is_float(Ref(i))]


class Ways:
    """How each gradient that a backward carries moves a few entries of its result."""

    def __init__(self, p: Program, places: Tensor) -> None:
        self.p = p
        self.right = p[p.result].reshape(-1)[places].to(torch.float64)
        self.carries = p.dependents(1 << p.upstream.i)
        self.slopes = self._slopes(places)
        if not self._gives_the_result():
            self.slopes = {}

    def _slopes(self, places: Tensor) -> dict[int, Tensor]:
        p = self.p
        values, moved = list(p.values), {}
        with torch.enable_grad():
            for i in _carried(p):
                step = p.steps[i]
                if i > p.upstream.i:
                    values[i] = step.run(values)
                if not values[i].requires_grad and i > p.upstream.i:
                    continue  # a product that autograd made itself is lost to it
                moved[i] = torch.zeros(values[i].shape, dtype=values[i].dtype, requires_grad=True)
                values[i] = values[i] + moved[i]
            if not values[p.result.i].requires_grad:
                return {}
            entries = values[p.result.i].reshape(-1)[places]
            try:
                slopes = torch.autograd.grad(
                    entries,
                    list(moved.values()),
                    torch.eye(len(places), dtype=entries.dtype),
                    is_grads_batched=True,
                    allow_unused=True,
                )
            except RuntimeError:
                return {}
        return {
            i: slope.reshape(len(places), -1).to(torch.float64)
            for i, slope in zip(moved, slopes, strict=True)
            if slope is not None
        }

    def _gives_the_result(self) -> bool:
        """Tell whether the upstream alone, by these slopes, gives the entries again."""
        i = self.p.upstream.i
        if i not in self.slopes:
            return False
        upstream = self.p.values[i].reshape(-1).to(torch.float64)
        return same(self.slopes[i] @ upstream, self.right, AGAIN)

    def entries_of(self, candidate: Candidate) -> Tensor | None:
        """Return a few entries of the gradient with a mistake; None where it must be run."""
        try:
            return self._entries_of(candidate.changes)
        except (RuntimeError, IndexError, ValueError, TypeError):
            return None

    def _entries_of(self, changes: Mapping[int, Change]) -> Tensor | None:
        p, first = self.p, min(changes)
        if not self.slopes or first <= p.upstream.i:
            return None
        places, saved = self._where_it_enters(changes)
        values, plain = list(p.values), list(p.values)  # plain: only gradients are changed
        entries, dirty = self.right, 0
        for i in range(first, max(places, default=-1) + 1):
            step = p.steps[i]
            if i not in changes and not step.needs & dirty:
                continue
            values[i] = changes[i](values) if i in changes else step.run(values)
            dirty |= 1 << i
            if saved >> i & 1:
                continue
            if i in places:
                before = step.run(plain) if step.needs & dirty & ~saved else p.values[i]
                if i not in self.slopes or values[i].shape != before.shape:
                    return None
                moved = (values[i] - before).reshape(-1).to(torch.float64)
                if not moved.isfinite().all():
                    return None  # 0 times that is not 0, and a later mask may hide it
                entries = entries + self.slopes[i] @ moved
            plain[i] = values[i]
        return entries

    def _where_it_enters(self, changes: Mapping[int, Change]) -> tuple[set[int], int]:
        """Return the gradients that are computed in another way, and, as bits, what else is changed."""
        places, saved = set(), 0
        for i in range(min(changes), self.p.result.i + 1):
            if i in changes or self.p.steps[i].needs & saved:
                if self.carries >> i & 1:
                    places.add(i)
                else:
                    saved |= 1 << i
        return places, saved
