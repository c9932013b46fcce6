"""Change one thing in a reader's function, to see what comes of it."""

from __future__ import annotations

import ast
import copy
import inspect
import itertools
import textwrap
import warnings
from collections.abc import Callable, Iterator

MOST = 6  # signs of products that are changed in one function


def source_of(function: Callable) -> str:
    try:
        return textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        return ""


def changeable(function: Callable) -> ast.Module | None:
    """Return a function's code; None where a change of it could run for ever, or can't be made."""
    tree = tree_of(function)
    if tree is None or any(isinstance(node, ast.While) for node in ast.walk(tree)):
        return None
    return tree


def tree_of(function: Callable) -> ast.Module | None:
    """Return a function's code with the lines of its file; None where there is none."""
    try:
        tree = ast.parse(source_of(function))
    except SyntaxError:
        return None
    if not tree.body or not isinstance(tree.body[0], ast.FunctionDef):
        return None
    if inspect.unwrap(function).__code__.co_freevars:
        return None
    start = (
        tree.body[0].decorator_list[0].lineno
        if tree.body[0].decorator_list
        else tree.body[0].lineno
    )
    tree.body[0].decorator_list = []
    return ast.increment_lineno(tree, inspect.unwrap(function).__code__.co_firstlineno - start)


def rebuilt(function: Callable, tree: ast.Module, **names: object) -> Callable:
    """Return the function that changed code defines, among its old surroundings and new names."""
    function = inspect.unwrap(function)
    space = {**function.__globals__, **names}
    with warnings.catch_warnings(action="ignore"):  # said when the file itself was read
        code = compile(ast.fix_missing_locations(tree), function.__code__.co_filename, "exec")
    exec(code, space)  # noqa: S102
    return space[function.__name__]


def numbers_of(function: Callable) -> list[tuple[int, int]]:
    """Return the whole numbers above 1 that a function's code has, each with its line."""
    tree = tree_of(function)
    nodes = ast.walk(tree) if tree else ()
    found = [n for n in nodes if isinstance(n, ast.Constant) and type(n.value) is int]
    return sorted((n.lineno, n.value) for n in found if n.value > 1)


def mended(function: Callable) -> Iterator[tuple[Callable, str]]:
    """Yield versions of a function with one slip of the pen mended, and what is said of each."""
    if tree := changeable(function):
        for changed, said in itertools.chain(
            _without_early_return(tree), _other_signs(tree), _with_brackets(tree)
        ):
            yield rebuilt(function, changed), said


def _without_early_return(tree: ast.Module) -> Iterator[tuple[ast.Module, str]]:
    """Put a `return` that ends a loop in its first round behind the outermost loop."""
    for k in range(len(tree.body[0].body)):
        changed = copy.deepcopy(tree)
        body = changed.body[0].body
        if isinstance(body[k], ast.For) and (early := _taken_out(body[k])):
            body.insert(k + 1, early)
            said = f"the `return` in line {early.lineno} ends the loop in its first round"
            yield changed, f"{said}; behind the loop it is right"


def _taken_out(loop: ast.For) -> ast.Return | None:
    """Take the `return` that each round comes to out of a loop."""
    for statement in loop.body:
        if isinstance(statement, ast.Return):
            loop.body[loop.body.index(statement) :] = [ast.Pass()]
            return statement
        if isinstance(statement, ast.For) and (early := _taken_out(statement)):
            return early
    return None


SIGNS = (
    (ast.FloorDiv, ast.Div, "`//` in line {} rounds down; with `/` it is right"),
    (ast.BitXor, ast.Pow, "`^` in line {} is no power; with `**` it is right"),
    (
        ast.MatMult,
        ast.Mult,
        "`@` in line {} is a matrix product; entry by entry, with `*`, it is right",
    ),
    (ast.Mult, ast.MatMult, "`*` in line {} multiplies entry by entry; with `@` it is right"),
)


def _other_signs(tree: ast.Module) -> Iterator[tuple[ast.Module, str]]:
    for old, new, said in SIGNS:
        for k in range(min(MOST, len(_operations(tree, old)))):
            changed = copy.deepcopy(tree)
            operation = _operations(changed, old)[k]
            operation.op = new()
            yield changed, said.format(operation.lineno)


def _operations(tree: ast.AST, kind: type) -> list[ast.BinOp | ast.AugAssign]:
    nodes = (n for n in ast.walk(tree) if isinstance(n, ast.BinOp | ast.AugAssign))
    return [n for n in nodes if isinstance(n.op, kind)]


def _with_brackets(tree: ast.Module) -> Iterator[tuple[ast.Module, str]]:
    """Put brackets around a sum in a product, or around all that divides."""
    for k in range(min(MOST, len(_loose(tree)))):
        changed = copy.deepcopy(tree)
        operation = _loose(changed)[k]
        bound = _bound(operation)
        code = ast.unparse(bound)
        said = f"with brackets as in `{code}`, in line {operation.lineno}, it is right"
        yield _Exchanged(operation, bound).visit(changed), said


def _loose(tree: ast.AST) -> list[ast.BinOp]:
    return [n for n in ast.walk(tree) if isinstance(n, ast.BinOp) and _bound(n) is not None]


def _bound(node: ast.BinOp) -> ast.BinOp | None:
    """Return a - b / c as (a - b) / c, c * a - b as c * (a - b), and a / b * c as a / (b * c)."""
    left, right = node.left, node.right
    if isinstance(node.op, ast.Mult) and _is(left, ast.Div):
        return ast.BinOp(left.left, ast.Div(), ast.BinOp(left.right, ast.Mult(), right))
    if not isinstance(node.op, ast.Add | ast.Sub):
        return None
    before, after = _is(left, ast.Mult), _is(right, ast.Div, ast.Mult)
    if not before and not after:
        return None
    inner = ast.BinOp(left.right if before else left, node.op, right.left if after else right)
    outer = ast.BinOp(left.left, ast.Mult(), inner) if before else inner
    return ast.BinOp(outer, right.op, right.right) if after else outer


def _is(node: ast.AST, *kinds: type) -> bool:
    return isinstance(node, ast.BinOp) and isinstance(node.op, kinds)


def other_products(function: Callable) -> Iterator[tuple[Callable, str]]:
    """Yield versions of a function with its one product as a matrix product of some order.

    Each comes with its product as code; a function with several products has none.
    """
    tree = changeable(function)
    if tree is None or len(_products(tree)) != 1:
        return
    for order, *transposed in itertools.product((1, -1), (False, True), (False, True)):
        changed = copy.deepcopy(tree)
        place = _products(changed)[0]
        factors = _operands(place) or [place.left, place.right]
        pair = [_turned(o, t) for o, t in zip(factors[::order], transposed, strict=True)]
        product = ast.BinOp(pair[0], ast.MatMult(), pair[1])
        yield rebuilt(function, _Exchanged(place, product).visit(changed)), ast.unparse(product)


def _products(tree: ast.AST) -> list[ast.BinOp | ast.Call]:
    """Return the matrix products of some code, or, where it has none, its other products."""
    return [n for n in ast.walk(tree) if _operands(n)] or [
        n
        for n in _operations(tree, ast.Mult)
        if not any(isinstance(part, ast.Constant) for part in ast.walk(n))
    ]


def _operands(node: ast.AST) -> list[ast.expr]:
    """Return the two factors of a matrix product, and nothing of what is none."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
        return [node.left, node.right]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        called = node.func
        if called.attr in ("matmul", "mm", "dot") and len(node.args) in (1, 2):
            return [*([called.value] if len(node.args) == 1 else []), *node.args]
    return []


def _turned(operand: ast.expr, transposed: bool) -> ast.expr:
    if isinstance(operand, ast.Attribute) and operand.attr == "T":
        operand = operand.value
    return ast.Attribute(operand, "T", ast.Load()) if transposed else operand


class _Exchanged(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST):
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.old else self.generic_visit(node)
