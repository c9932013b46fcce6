"""What the symbols of a page mean.

A `Declarations` is read once from the mapping under the key `proofread`; each `World`
is one draw of random data and one run of the page's forward. **The forward is the
author's own code and is run as such**: check only pages whose code you would run.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch

from . import tree
from .drawing import Leaf, World, draw, float64, is_number, say
from .parse import parse_atom
from .problem import BadDeclaration, Unreadable
from .spelling import Key, bare, letters_of, name_key, spellings

CONVENTIONS = {
    "denominator-layout": "the Jacobian of a vector by a vector is transposed",
    "numerator-layout": "the gradient of a scalar by a matrix is transposed",
    "einstein": "an index that a term repeats is summed",
    "direct-partial": "a partial holds the other arguments of the forward's line fixed",
    "stationary": "the equation holds where the gradient is zero",
    "otimes-elementwise": r"\otimes multiplies elementwise",
    "elementwise-derivative": "the derivative of an elementwise function has its shape",
    "elementwise-product": "arrays of one shape side by side multiply elementwise",
}
_IMPORTED: dict[Path, str] = {}


@dataclass(frozen=True)
class Declarations:
    """The meaning of a page's symbols. Build with `read_declarations`."""

    sizes: dict[str, object] = field(default_factory=dict)
    leaves: dict[str, Leaf] = field(default_factory=dict)
    forward: str = ""
    arbitrary: dict[str, tuple[str, ...]] = field(default_factory=dict)
    upstream: dict[str, str] = field(default_factory=dict)
    indices: dict[str, object] = field(default_factory=dict)
    latex: dict[str, str] = field(default_factory=dict)
    functions: dict[str, str] = field(default_factory=dict)
    defines: tuple[str, ...] = ()
    conventions: frozenset[str] = frozenset()
    base: int = 1
    samples: str = "rows"
    vectors: str = "free"
    stationary: dict[str, str] = field(default_factory=dict)
    folder: str = ""

    def digest(self) -> str:
        """A key for all that a verdict depends on: these declarations and the code they run."""
        parts = {
            spot: sorted(value) if isinstance(value, frozenset) else value
            for spot, value in self.__dict__.items()
            if spot in self.__dataclass_fields__
        }
        text = json.dumps(parts, sort_keys=True, default=repr)
        return hashlib.sha256((text + self._code()).encode()).hexdigest()

    def _code(self) -> str:
        found = self._modules()
        return "\n".join(found[file] for file in sorted(found))

    def _modules(self) -> dict[Path, str]:
        """The source of every module beside the page that the forward reaches by imports."""
        found: dict[Path, str] = {}
        waiting = [self._all_code()]
        while waiting:
            for name in re.findall(r"^\s*(?:from|import)\s+([\w.]+)", waiting.pop(), re.MULTILINE):
                for root in self.roots():
                    path = root / Path(*name.split("."))
                    for file in (path.with_suffix(".py"), path / "__init__.py"):
                        if file not in found and file.is_file():
                            found[file] = file.read_text(encoding="utf-8")
                            waiting.append(found[file])
        return found

    def _forget_changed_modules(self) -> None:
        """Make Python import anew what changed since this process imported it."""
        files = {file: text for file, text in self._modules().items()}
        if any(_IMPORTED.get(file, text) != text for file, text in files.items()):
            for name, module in list(sys.modules.items()):
                if getattr(module, "__file__", None) and Path(module.__file__) in files:
                    del sys.modules[name]
        _IMPORTED.update(files)

    def _all_code(self) -> str:
        return "\n".join([self.forward, *self.functions.values()])

    def roots(self) -> list[Path]:
        """Where the forward's imports are looked for: the page's folder and those above."""
        here = Path(self.folder or ".").resolve()
        return [here, *list(here.parents)[:4], Path.cwd()]

    def verify(self) -> None:
        """Draw the data and look every declared name up, so that what is wrong is said at once.

        Raises:
            BadDeclaration: naming what is wrong.
        """
        try:
            _ = self.worlds, self.function_table
            for key, code in self.table.items():
                world = self.first_world
                if not (code in world.data or code in world.sizes or code in world.namespace):
                    raise BadDeclaration(
                        f"latex: `{key[0]}` is `{code}`, which neither `symbols`, `sizes` nor "
                        "`forward` has"
                    )
            for name in self.functions:
                self.callable_of(name)
            for text in self.defines:
                parse_atom(text, self.words)
        except BadDeclaration:
            raise
        except Unreadable as problem:
            raise BadDeclaration(f"declarations: {problem}") from None

    @cached_property
    def words(self) -> frozenset[str]:
        """Declared names of several letters, which the lexer has to join."""
        found = set()
        spelled = [*self.latex, *self.defines, *self.code_names, *self.functions]
        spelled += self.first_world.sizes
        for text in spelled:
            found |= {word for word in re.findall(r"(?<![\\A-Za-z])[A-Za-z]{2,}[0-9]*", text)} - {
                "text",
                "mathrm",
            }
        return frozenset(found)

    @cached_property
    def code_names(self) -> tuple[str, ...]:
        """Every array's name in code: leaves, what the forward assigns, upstream names."""
        names = list(self.leaves)
        names += [
            name
            for name in self.first_world.data
            if name not in self.leaves and not is_number(self.first_world.namespace.get(name))
        ]
        return tuple(names)

    @cached_property
    def first_world(self) -> World:
        self._forget_changed_modules()
        return draw(self, seed=0)

    @cached_property
    def worlds(self) -> tuple[World, ...]:
        """Three draws; the last at other sizes, where the forward allows them."""
        worlds = [self.first_world, draw(self, seed=1)]
        try:
            worlds.append(draw(self, seed=2, grow=1))
        except Unreadable:
            worlds.append(draw(self, seed=2))
        return tuple(worlds)

    @cached_property
    def many_worlds(self) -> tuple[World, ...]:
        """Further draws, at four scales, for formulas whose value hangs on few decisions."""
        further = []
        for seed in range(3, 12):
            try:
                further.append(draw(self, seed, grow=seed % 2))
            except Unreadable:
                further.append(draw(self, seed))
        return (*self.worlds, *further)

    @cached_property
    def fixed_worlds(self) -> tuple[World, ...]:
        """Draws at the declared sizes alone, for formulas that write a size out."""
        return (*self.worlds[:2], draw(self, seed=2))

    @cached_property
    def table(self) -> dict[Key, str]:
        """LaTeX names to code names, by `name_key`."""
        table: dict[Key, str] = {}
        for code in self.code_names:
            for text in spellings(code):
                table.setdefault(name_key(parse_atom(text, letters_of(code))), code)
        for code in self.first_world.sizes:
            for text in spellings(code)[:2]:
                table.setdefault(name_key(parse_atom(text, letters_of(code))), code)
        for text, code in self.latex.items():
            key = name_key(parse_atom(text, self.words))
            if not self._is_entry(text, code):
                table[key] = code
        return table

    @cached_property
    def entries(self) -> dict[tuple[str, int], str]:
        """Arrays declared by an entry, as `L_i` beside `L`: name and number of indices."""
        found = {}
        for text, code in self.latex.items():
            if self._is_entry(text, code):
                node = parse_atom(text, self.words)
                found[bare(node.base), self.first_world.data[code].dim()] = code
        return found

    def _is_entry(self, text: str, code: str) -> bool:
        """Whether a declared name shows index letters that run over the axes of its array."""
        node = parse_atom(text, self.words)
        data = self.first_world.data.get(code)
        if data is None or not isinstance(node, tree.Scripted) or node.sup is not None:
            return False
        if node.sub is None or node.primes or not data.dim():
            return False
        letters = [part.base for part in tree.walk(node.sub) if isinstance(part, tree.Name)]
        spans = [self.first_world.sizes.get(str(self.indices.get(letter))) for letter in letters]
        return spans == list(data.shape)

    @cached_property
    def function_table(self) -> dict[Key, str]:
        """LaTeX names of functions to the names under which `callables` has them."""
        table = {name_key(parse_atom(t, frozenset({t}))): t for t in self.functions}
        for text, code in self.latex.items():
            if callable(self.first_world.namespace.get(code)):
                table[name_key(parse_atom(text, self.words))] = code
        return table

    def callable_of(self, name: str, namespace: Mapping | None = None) -> Callable:
        """The Python function behind a declared LaTeX function name, in one world."""
        namespace = namespace if namespace is not None else self.first_world.namespace
        source = self.functions.get(name, name)
        try:
            with float64():
                found = eval(source, dict(namespace))
        except (Exception, SystemExit) as problem:  # noqa: BLE001 - the author's code may raise anything
            raise BadDeclaration(
                f"functions: `{name}` is `{source}`, which raised {say(problem)}"
            ) from None
        if not callable(found):
            raise BadDeclaration(f"functions: `{name}` is `{source}`, which is no function")
        return found

    def acts_on_rows(self, name: str) -> bool:
        """Whether a declared function mixes the entries of a row, as softmax does."""
        row = torch.tensor([0.3, -1.2, 0.7], dtype=torch.float64)
        try:
            act = self.callable_of(name)
            whole, apart = act(row), torch.stack([act(entry) for entry in row])
            return whole.shape == row.shape and not torch.allclose(whole, apart)
        except (Exception, SystemExit):  # noqa: BLE001 - it takes other arguments, so it is none
            return False

    @cached_property
    def index_keys(self) -> dict[str, object]:
        """The range of each declared index letter."""
        return {str(letter): span for letter, span in self.indices.items()}
