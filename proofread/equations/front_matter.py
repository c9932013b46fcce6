"""Declarations as they stand in the front matter of a page."""

from __future__ import annotations

from collections.abc import Mapping

from .declare import CONVENTIONS, Declarations
from .drawing import Leaf
from .problem import BadDeclaration

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
