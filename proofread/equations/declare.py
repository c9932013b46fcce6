"""What the symbols of a page mean: the front matter, and data drawn to it.

A `Declarations` is read once from the mapping under the key `proofread`; each `World`
is one draw of random data and one run of the page's forward. **The forward is the
author's own code and is run as such**: check only pages whose code you would run.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import math
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch

from . import tree
from .parse import parse_atom
from .problem import BadDeclaration, Unreadable

KEYS = frozenset(
    [
        "sizes",
        "symbols",
        "forward",
        "arbitrary",
        "upstream",
        "indices",
        "latex",
        "functions",
        "defines",
        "conventions",
        "base",
        "samples",
        "vectors",
        "sets",
        "stationary",
    ]
)
KINDS = frozenset(
    [
        "real",
        "positive",
        "probability",
        "one-hot",
        "index",
        "boolean",
        "integer",
        "ones",
        "zeros",
        "identity",
        "symmetric",
        "unit",
        "unit-interval",
        "constant",
        "negative",
    ]
)
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
GREEK = frozenset(
    [
        "alpha",
        "beta",
        "gamma",
        "delta",
        "epsilon",
        "varepsilon",
        "zeta",
        "eta",
        "theta",
        "vartheta",
        "iota",
        "kappa",
        "lambda",
        "mu",
        "nu",
        "xi",
        "pi",
        "rho",
        "sigma",
        "tau",
        "upsilon",
        "phi",
        "varphi",
        "chi",
        "psi",
        "omega",
        "Gamma",
        "Delta",
        "Theta",
        "Lambda",
        "Xi",
        "Pi",
        "Sigma",
        "Upsilon",
        "Phi",
        "Psi",
        "Omega",
        "ell",
    ]
)
ACCENT_WORDS = {"hat": "\\hat", "bar": "\\bar", "tilde": "\\tilde"}
DEFAULT_SIZES = (5, 3, 4, 6, 7, 8, 9, 10, 11)
LARGEST = 2_000_000


@dataclass(frozen=True)
class Leaf:
    """A declared array: its shape as written, its kind, and what the kind needs."""

    shape: tuple[str, ...]
    kind: str = "real"
    below: str = ""
    value: object = None


_IMPORTED: dict[Path, str] = {}

Key = tuple[str, str, str]  # the name without scripts, its subscript, its superscript


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
            if name not in self.leaves and not _is_number(self.first_world.namespace.get(name))
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
        """Further draws, for formulas whose value hangs on few decisions."""
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
            for text in _spellings(code):
                table.setdefault(name_key(parse_atom(text, _letters_of(code))), code)
        for code in self.first_world.sizes:
            for text in _spellings(code)[:2]:
                table.setdefault(name_key(parse_atom(text, _letters_of(code))), code)
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
            with _float64():
                found = eval(source, dict(namespace))
        except Exception as problem:  # noqa: BLE001 - the author's code may raise anything
            raise BadDeclaration(
                f"functions: `{name}` is `{source}`, which raised {_say(problem)}"
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
        except Exception:  # noqa: BLE001 - it takes other arguments, so it is none
            return False

    @cached_property
    def index_keys(self) -> dict[str, object]:
        """The range of each declared index letter."""
        return {str(letter): span for letter, span in self.indices.items()}


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


def read_declarations(mapping: Mapping | None, folder: str = "") -> dict[str, Declarations]:
    """Read the value of the front matter's key `proofread`.

    Returns:
        The page's declarations under "page", and each of its `sets` under its own name.

    Raises:
        BadDeclaration: naming the key, what was given and what is needed.
    """
    mapping = _mapping(mapping or {}, "proofread")
    unknown = [key for key in mapping if key not in KEYS]
    if unknown:
        raise BadDeclaration(
            f"proofread: `{unknown[0]}` is no key; the keys are {', '.join(sorted(KEYS))}"
        )
    sets = _mapping(mapping.get("sets") or {}, "sets")
    page = {key: value for key, value in mapping.items() if key != "sets"}
    found = {"page": _read_one(page, folder)}
    for name, changes in sets.items():
        merged = dict(page)
        for key, value in _mapping(changes or {}, f"sets: {name}").items():
            if key not in KEYS - {"sets"}:
                raise BadDeclaration(f"sets: {name}: `{key}` is no key")
            both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
            merged[key] = {**merged[key], **value} if both else value
        found[str(name)] = _read_one(merged, folder)
    return found


def _read_one(mapping: Mapping, folder: str) -> Declarations:
    conventions = _words(mapping.get("conventions"), "conventions")
    for name in conventions:
        if name not in CONVENTIONS:
            raise BadDeclaration(
                f"conventions: `{name}` is not known; known are {', '.join(CONVENTIONS)}"
            )
    base = mapping.get("base", 1)
    if base not in (0, 1):
        raise BadDeclaration(f"base: {base!r} was given; an index starts at 0 or at 1")
    samples = mapping.get("samples", "rows")
    if samples not in ("rows", "columns"):
        raise BadDeclaration(f"samples: {samples!r} was given; samples are `rows` or `columns`")
    vectors = mapping.get("vectors", "free")
    if vectors not in ("free", "rows"):
        raise BadDeclaration(
            f"vectors: {vectors!r} was given; a row that is taken out of a matrix has no "
            "orientation (`free`) or stays a row, of shape (1, D) (`rows`)"
        )
    arbitrary = {
        str(k): tuple(_words(v, "arbitrary"))
        for k, v in _mapping(mapping.get("arbitrary") or {}, "arbitrary").items()
    }
    return Declarations(
        sizes={str(k): v for k, v in _mapping(mapping.get("sizes") or {}, "sizes").items()},
        leaves={
            _code_name(k): _leaf(k, v)
            for k, v in _mapping(mapping.get("symbols") or {}, "symbols").items()
        },
        forward=_text(mapping.get("forward"), "forward"),
        arbitrary=arbitrary,
        upstream=_strings(mapping.get("upstream"), "upstream"),
        indices={str(k): v for k, v in _mapping(mapping.get("indices") or {}, "indices").items()},
        latex=_strings(mapping.get("latex"), "latex"),
        functions=_strings(mapping.get("functions"), "functions"),
        defines=tuple(_words(mapping.get("defines"), "defines")),
        conventions=frozenset(conventions),
        base=base,
        samples=samples,
        vectors=vectors,
        stationary=_strings(mapping.get("stationary"), "stationary"),
        folder=folder,
    )


def _mapping(value: object, where: str) -> Mapping:
    if not isinstance(value, Mapping):
        raise BadDeclaration(
            f"{where}: {type(value).__name__} was given; a mapping `name: meaning` is needed"
        )
    return value


def _strings(value: object, where: str) -> dict[str, str]:
    found = {}
    for key, text in _mapping(value or {}, where).items():
        if isinstance(text, bool) or not isinstance(text, str | int):
            raise BadDeclaration(f"{where}: `{key}` is {text!r}; a name is needed")
        found[str(key)] = str(text)
    return found


def _words(value: object, where: str) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str):
        return value.split() if where != "defines" else [value]
    if isinstance(value, list | tuple):
        return [str(part) for part in value]
    raise BadDeclaration(f"{where}: {value!r} was given; a list is needed")


def _text(value: object, where: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadDeclaration(
            f"{where}: {type(value).__name__} was given; lines of torch are needed"
        )
    return value


def _code_name(name: object) -> str:
    text = str(name)
    if not text.isidentifier():
        raise BadDeclaration(
            f"symbols: `{text}` is no name in code; declare a code name here and its LaTeX "
            f"under `latex`, such as latex: {{'{text}': w}}"
        )
    return text


def _leaf(name: object, value: object) -> Leaf:
    where = f"symbols: {name}"
    if isinstance(value, Mapping):
        unknown = set(value) - {"shape", "kind", "below", "value"}
        if unknown:
            raise BadDeclaration(f"{where}: `{unknown.pop()}` is no key; shape, kind, below, value")
        kind = str(value.get("kind", "constant" if "value" in value else "real"))
        if kind not in KINDS:
            raise BadDeclaration(f"{where}: kind `{kind}`; known are {', '.join(sorted(KINDS))}")
        if kind == "index" and "below" not in value:
            raise BadDeclaration(f"{where}: an index needs `below`, the number of its values")
        below = str(value.get("below", ""))
        return Leaf(_shape(value.get("shape", ""), where), kind, below, value.get("value"))
    return Leaf(_shape(value, where))


def _shape(value: object, where: str) -> tuple[str, ...]:
    if value is None or value == "scalar":
        return ()
    if isinstance(value, list | tuple):
        return tuple(str(part) for part in value)
    if isinstance(value, str | int) and not isinstance(value, bool):
        return tuple(str(value).replace(",", " ").replace("(", " ").replace(")", " ").split())
    raise BadDeclaration(f"{where}: shape {value!r}; sizes such as `N D` are needed, or `scalar`")


# ---- names ----


def name_key(node: tree.Node) -> Key:
    """How a name is looked up: bare name with accents, subscript, superscript."""
    if isinstance(node, tree.Scripted):
        return (bare(node.base) + "'" * node.primes, squeeze(node.sub), squeeze(node.sup))
    return (bare(node), "", "")


def bare(node: tree.Node | None) -> str:
    """A name as text: accents kept, fonts kept where they make another letter."""
    if isinstance(node, tree.Name):
        text = node.base
        if node.font and node.font != "\\":
            text = f"{_font(node.font)}{{{text}}}" if _font(node.font) else text
        for accent in node.accents:
            text = f"{_ACCENTS.get(accent, accent)}{{{text}}}" if accent != "\\vec" else text
        return text
    return tree.to_latex(node).replace(" ", "")


_ACCENTS = {"\\widehat": "\\hat", "\\overline": "\\bar", "\\widetilde": "\\tilde"}


def _font(font: str) -> str:
    """Bold is one font under all its names; upright and italic are none."""
    if font in {"\\mathbf", "\\boldsymbol", "\\bm", "\\bf", "\\pmb", "\\textbf", "\\vect"}:
        return "\\mathbf"
    if font in {"\\mathcal", "\\mathscr", "\\mathbb", "\\mathfrak"}:
        return font
    return ""


def squeeze(items: tree.Items | None) -> str:
    """A script as text, without spaces and without fonts."""
    if items is None:
        return ""
    return re.sub(
        r"\\(text|mathrm|operatorname|mathit|textrm)\{(\w+)\}", r"\2", tree.to_latex(items)
    ).replace(" ", "")


def _letters_of(code: str) -> frozenset[str]:
    """The words that a lexer has to keep together to read the spellings of a code name."""
    return frozenset({code, *re.findall(r"[A-Za-z]{2,}", code)})


def _spellings(code: str) -> list[str]:
    """The LaTeX names that a code name has without being declared."""
    found = [f"\\operatorname{{{code}}}"] if len(code) > 1 else [code]
    if len(code) > 1 and code.isalpha():
        found.append(code)
    if code in GREEK:
        found.append("\\" + code)
    word = re.fullmatch(r"([A-Za-z]+)_?(hat|bar|tilde)", code)
    if word:
        found += [f"{ACCENT_WORDS[word[2]]}{{{t}}}" for t in _spellings(word[1])]
    label = re.fullmatch(r"([A-Za-z]+?)_?([0-9]+)", code)
    if label:
        for text in _spellings(label[1]):
            n = label[2]
            found += [
                f"{text}_{{{n}}}",
                f"{text}^{{({n})}}",
                f"{text}^{{[{n}]}}",
                f"{text}^{{{n}}}",
            ]
            if n == "2":
                found.pop()
    under = re.fullmatch(r"([A-Za-z]+)_([A-Za-z]+)", code)
    if under and not word and len(under[1]) <= 7:
        found += [f"{t}_{{{under[2]}}}" for t in _spellings(under[1])]
    return found


# ---- drawing ----


@contextlib.contextmanager
def _float64():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _say(problem: BaseException) -> str:
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
        seed: of the random data.
        grow: what is added to every size that is a plain number.
        cut: detach each result of the forward before the next line uses it.
        sizes: use these sizes.

    Raises:
        BadDeclaration: with what the forward raised.
    """
    sizes = dict(sizes) if sizes is not None else _sizes(declared, grow)
    made = torch.Generator().manual_seed(7919 * seed + 17)
    data = {name: _draw_leaf(name, leaf, sizes, made) for name, leaf in declared.leaves.items()}
    namespace: dict[str, object] = {
        "torch": torch,
        "F": torch.nn.functional,
        "math": math,
        "grad": grad,
        "pi": math.pi,
        **sizes,
        **data,
    }
    with _float64(), torch.random.fork_rng(devices=[]), torch.enable_grad():
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


def _draw_leaf(name: str, leaf: Leaf, sizes: Mapping[str, int], made) -> torch.Tensor:
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
    values = torch.randn(shape, **like)
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
    import ast

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
            except Exception as problem:  # noqa: BLE001 - the author's code may raise anything
                source = lines[statement.lineno - 1].strip() if lines else ""
                raise BadDeclaration(
                    f"forward, line {statement.lineno}, `{source}` raised {_say(problem)}"
                ) from None
            for name, value in list(namespace.items()):
                if name in numbers and _is_number(value) and before.get(name) != id(value):
                    data[name] = torch.tensor(float(value), dtype=torch.float64)
                if isinstance(value, torch.Tensor) and before.get(name) != id(value):
                    value = value.double() if value.is_floating_point() else value
                    data[name] = value
                    namespace[name] = value
                    if cut and value.is_floating_point():
                        data[name] = value
                        namespace[name] = value.detach().requires_grad_()
                        data[f"{name} cut"] = namespace[name]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


NEWTON_STEPS = 30


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
            raise BadDeclaration(f"{where}: {_say(problem)}") from None
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
            raise BadDeclaration(f"upstream: {name}: {_say(problem)}") from None
        data[name] = namespace[name] = found
