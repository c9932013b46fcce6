"""Data drawn to what a page declares, and one run of its forward on them."""

from __future__ import annotations

import ast
import contextlib
import importlib
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from .problem import BadDeclaration, Unreadable

if TYPE_CHECKING:
    from .declare import Declarations

DEFAULT_SIZES = (5, 3, 4, 6, 7, 8, 9, 10, 11)
LARGEST = 2_000_000
# Of the draws, three at a time. At one scale alone, xw + J > 0 says the same as xw + b > 0 on
# nearly every draw: J is seldom small.
SCALES = (1.0, 0.1, 0.3, 3.0)
NEWTON_STEPS = 30


@dataclass(frozen=True)
class Leaf:
    """A declared array: its shape as written, its kind, and what the kind needs."""

    shape: tuple[str, ...]
    kind: str = "real"
    below: str = ""
    value: object = None


@dataclass
class World:
    """One draw of the data and one run of the forward, in float64."""

    seed: int
    sizes: dict[str, int]
    data: dict[str, torch.Tensor]
    namespace: dict[str, object]
    declared: Declarations = field(repr=False, default=None)
    memo: dict = field(default_factory=dict, repr=False)

    @cached_property
    def direct(self) -> World:
        """The same draw with the forward cut behind each line: direct partials."""
        return draw(self.declared, self.seed, cut=True, sizes=self.sizes)


@contextlib.contextmanager
def float64():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def say(problem: BaseException) -> str:
    text = str(problem).strip().splitlines()
    return f"{type(problem).__name__}: {text[0][:200]}" if text else type(problem).__name__


def grad(of: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    """dJ/dby inside a forward, itself differentiable."""
    return torch.autograd.grad(of, by, create_graph=True)[0]


def draw(
    declared: Declarations,
    seed: int,
    *,
    grow: int = 0,
    cut: bool = False,
    sizes: Mapping[str, int] | None = None,
) -> World:
    """Draw the leaves and run the forward once.

    Args:
        declared: the declarations.
        seed: of the random data, and of how large it is.
        grow: what is added to every size that is a plain number.
        cut: detach each result of the forward before the next line uses it.
        sizes: use these sizes.

    Raises:
        BadDeclaration: with what the forward raised.
    """
    sizes = dict(sizes) if sizes is not None else _sizes(declared, grow)
    made = torch.Generator().manual_seed(7919 * seed + 17)
    scale = SCALES[seed // 3 % len(SCALES)]
    data = {
        name: _draw_leaf(name, leaf, sizes, made, scale) for name, leaf in declared.leaves.items()
    }
    namespace: dict[str, object] = {
        "torch": torch,
        "F": torch.nn.functional,
        "math": math,
        "grad": grad,
        "pi": math.pi,
        **sizes,
        **data,
    }
    with float64(), torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        _run(declared, namespace, data, cut)
        _arbitrary(declared, namespace, data, made)
        for scalar, leaf in declared.stationary.items():
            _settle(declared, namespace, data, scalar, leaf, seed)
    for name, leaf in declared.leaves.items():
        if leaf.kind == "constant":
            data[name] = data[name].detach()
    return World(seed, sizes, data, namespace, declared)


def _sizes(declared: Declarations, grow: int) -> dict[str, int]:
    sizes: dict[str, int] = {}
    named: dict[str, None] = {}
    for leaf in declared.leaves.values():
        for part in (*leaf.shape, leaf.below):
            named |= dict.fromkeys(re.findall(r"[A-Za-z_]\w*", part))
    for span in declared.indices.values():
        if isinstance(span, str) and span.isidentifier():
            named[span] = None
    free = [n for n in DEFAULT_SIZES if n not in declared.sizes.values()]
    for name in [*declared.sizes, *(name for name in named if name not in declared.sizes)]:
        given = declared.sizes.get(name)
        if given is None:
            given = free.pop(0) if free else 12
        if isinstance(given, bool) or not isinstance(given, int | str):
            raise BadDeclaration(f"sizes: `{name}` is {given!r}; a whole number is needed")
        if isinstance(given, int):
            if not 1 <= given <= 200:
                raise BadDeclaration(
                    f"sizes: `{name}` is {given}; small sizes are needed, 1 to 200"
                )
            sizes[name] = given + (grow if given > 1 else 0)
    for name, given in declared.sizes.items():
        if isinstance(given, str):
            sizes[name] = _size_of(given, sizes, f"sizes: {name}")
    return sizes


def _size_of(text: str, sizes: Mapping[str, int], where: str) -> int:
    if not re.fullmatch(r"[\w\s+*/()-]+", text):
        raise BadDeclaration(f"{where}: `{text}` is no size")
    try:
        found = eval(text, {"__builtins__": {}}, dict(sizes))
    except Exception:  # noqa: BLE001 - whatever is wrong with it, it is no size
        raise BadDeclaration(
            f"{where}: `{text}` is no size; declared sizes are {', '.join(sizes) or 'none'}"
        ) from None
    if isinstance(found, float) and found.is_integer():
        found = int(found)
    if not isinstance(found, int) or found < 0:
        raise BadDeclaration(f"{where}: `{text}` is {found}; a whole number is needed")
    return found


def _draw_leaf(name: str, leaf: Leaf, sizes: Mapping[str, int], made, scale: float) -> torch.Tensor:
    where = f"symbols: {name}"
    shape = tuple(_size_of(part, sizes, where) for part in leaf.shape)
    if math.prod(shape) > LARGEST:
        raise BadDeclaration(f"{where}: {math.prod(shape):,} numbers; small sizes are needed")
    like = {"dtype": torch.float64, "generator": made}
    kind = leaf.kind
    if kind == "constant":
        value = leaf.value if leaf.value is not None else 1.0
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise BadDeclaration(f"{where}: value {value!r}; a number is needed") from None
        return torch.full(shape, number, dtype=torch.float64).requires_grad_()
    if kind == "index":
        below = _size_of(leaf.below, sizes, where)
        return torch.randint(below, shape, generator=made)
    if kind == "integer":
        return torch.randint(1, 6, shape, generator=made).double()
    if kind == "boolean":
        mask = torch.rand(shape, **like) > 0.4
        if mask.numel() > 1:
            mask.view(-1)[0], mask.view(-1)[-1] = True, False
        return mask.double().requires_grad_()
    if kind == "one-hot":
        if not shape:
            raise BadDeclaration(f"{where}: a one-hot array needs an axis")
        at = torch.randint(shape[-1], shape[:-1], generator=made)
        return torch.nn.functional.one_hot(at, shape[-1]).double().requires_grad_()
    if kind in {"ones", "zeros"}:
        made_of = torch.ones if kind == "ones" else torch.zeros
        return made_of(shape, dtype=torch.float64)
    if kind == "identity":
        return torch.eye(*shape, dtype=torch.float64)
    values = scale * torch.randn(shape, **like)
    if kind == "positive":
        values = values.abs() + 0.3
    elif kind == "negative":
        values = -values.abs() - 0.3
    elif kind == "unit-interval":
        values = torch.rand(shape, **like) * 0.8 + 0.1
    elif kind == "probability":
        values = torch.softmax(values, -1) if shape else torch.rand((), **like) * 0.8 + 0.1
    elif kind == "symmetric":
        values = values + values.mT
    elif kind == "unit":
        values = values / values.norm(dim=-1, keepdim=True)
    return values.requires_grad_()


def _run(declared: Declarations, namespace: dict, data: dict, cut: bool) -> None:
    """Run the forward's lines; keep each tensor that they assign under its name."""
    if not declared.forward.strip():
        return
    try:
        body = ast.parse(declared.forward).body
    except SyntaxError as problem:
        raise BadDeclaration(
            f"forward, line {problem.lineno}: {problem.msg}: `{(problem.text or '').strip()}`"
        ) from None
    lines = declared.forward.splitlines()
    # A number has no names of its own, which a counter of a loop would take from an index.
    numbers = set(declared.latex.values()) - {*declared.leaves, *_sizes(declared, 0)}
    with _importing(declared.roots()):
        for statement in body:
            before = {name: id(value) for name, value in namespace.items()}
            code = compile(ast.Module([statement], []), "<forward>", "exec")
            try:
                exec(code, namespace)  # noqa: S102 - the author's own code, run as such
            except Unreadable:
                raise
            except (Exception, SystemExit) as problem:  # noqa: BLE001 - the author's code may raise anything
                source = lines[statement.lineno - 1].strip() if lines else ""
                raise BadDeclaration(
                    f"forward, line {statement.lineno}, `{source}` raised {say(problem)}"
                ) from None
            for name, value in list(namespace.items()):
                if name in numbers and is_number(value) and before.get(name) != id(value):
                    data[name] = torch.tensor(float(value), dtype=torch.float64)
                if isinstance(value, torch.Tensor) and before.get(name) != id(value):
                    value = value.double() if value.is_floating_point() else value
                    data[name] = value
                    namespace[name] = value
                    if cut and value.is_floating_point():
                        data[name] = value
                        namespace[name] = value.detach().requires_grad_()
                        data[f"{name} cut"] = namespace[name]


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _settle(declared, namespace, data, scalar: str, leaf: str, seed: int) -> None:
    """Move a leaf to where the gradient of a scalar by it is zero, by Newton's method."""
    where = f"stationary: {scalar} by {leaf}"
    if leaf not in declared.leaves or scalar not in data:
        raise BadDeclaration(f"{where}: a scalar of the forward and one of `symbols` are needed")
    for _ in range(NEWTON_STEPS):
        point = data[leaf]
        try:
            slope = grad(data[scalar], point).reshape(-1)
            rows = [
                torch.autograd.grad(one, point, retain_graph=True, allow_unused=True)[0]
                for one in slope
            ]
            bend = torch.stack([torch.zeros_like(point) if r is None else r for r in rows])
            bend = bend.reshape(len(rows), -1)
            if int(torch.linalg.matrix_rank(bend, rtol=1e-9)) < len(rows):
                raise BadDeclaration(f"{where}: the gradient is zero on more than a point")
            step = torch.linalg.solve(bend, slope.detach())
        except RuntimeError as problem:
            raise BadDeclaration(f"{where}: {say(problem)}") from None
        if float(slope.detach().abs().max()) < 1e-11:
            return
        moved = point.detach() - step.reshape(point.shape)
        data[leaf] = namespace[leaf] = moved.requires_grad_()
        torch.manual_seed(seed)
        _run(declared, namespace, data, cut=False)
    raise BadDeclaration(f"{where}: no point with gradient zero was found")


@contextlib.contextmanager
def _importing(roots: list[Path]):
    """Let the forward import modules that lie beside the page."""
    added = [str(root) for root in roots if str(root) not in sys.path]
    sys.path[:0] = added
    importlib.invalidate_caches()
    try:
        yield
    finally:
        for root in added:
            with contextlib.suppress(ValueError):
                sys.path.remove(root)


def _arbitrary(declared: Declarations, namespace: dict, data: dict, made) -> None:
    """Scalars that stand for any function of an output, and named upstream gradients."""
    wanted = dict(declared.arbitrary)
    if declared.upstream and not wanted and "J" not in data:
        wanted["J"] = tuple(dict.fromkeys(declared.upstream.values()))
    for name, outputs in wanted.items():
        total = torch.zeros((), dtype=torch.float64)
        for output in outputs:
            if output not in data:
                raise BadDeclaration(
                    f"arbitrary: {name} is of `{output}`, which neither `symbols` nor `forward` has"
                )
            value = data[output]
            like = {"dtype": torch.float64, "generator": made}
            slope = torch.randn(value.shape, **like)
            bend = torch.randn(value.shape, **like)
            # Curved, so that dJ/dZ is no constant and nothing of it can cancel by chance.
            total = total + (slope * value).sum() + 0.25 * (bend * value * value).sum()
        data[name] = namespace[name] = total
    for name, output in declared.upstream.items():
        scalar = next(iter(wanted), "J" if "J" in data else None)
        if output not in data or scalar is None:
            raise BadDeclaration(
                f"upstream: {name} is the gradient with respect to `{output}`, which neither `symbols` nor "
                "`forward` has"
            )
        try:
            found = grad(data[scalar], data[output])
        except RuntimeError as problem:
            raise BadDeclaration(f"upstream: {name}: {say(problem)}") from None
        data[name] = namespace[name] = found
