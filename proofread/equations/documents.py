r"""Where the equations of a document stand.

Markdown, notebooks (`.ipynb`) and LaTeX files are searched for `$$…$$`, `\[…\]`,
`\(…\)`, `$…$` and the display environments. Code, inline code, comments and `--8<--`
lines are passed over. A comment `<!-- proofread: … -->` (in LaTeX, `% proofread: …`)
before an equation says how it is to be treated.
"""

from __future__ import annotations

import bisect
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from .problem import BadDeclaration, Unreadable

LARGEST_FILE = 5_000_000
DISPLAY_NAMES = (
    "equation|displaymath|align|alignat|flalign|gather|eqnarray|multline|dmath|math|split|aligned"
)
ORDERS = ("skip", "fails", "convention", "use", "where")


@dataclass(frozen=True)
class Order:
    """What a comment asks for the equation after it: its word and the rest of it."""

    word: str
    text: str
    line: int


@dataclass(frozen=True)
class Found:
    """An equation in a document.

    Attributes:
        latex: its source, macros expanded.
        line, column: where it starts, from 1; in a notebook, within the cell.
        display: whether it stands on its own.
        cell: the notebook cell, from 1, or 0.
        using: the set of declarations in force.
        orders: what comments before it ask for.
    """

    latex: str
    line: int
    column: int
    display: bool
    cell: int = 0
    using: str = "page"
    orders: tuple[Order, ...] = ()


@dataclass
class Document:
    """A document's equations and the mapping under `proofread` in its front matter."""

    path: str
    equations: list[Found] = field(default_factory=list)
    declarations: dict = field(default_factory=dict)


def read_document(path: Path) -> Document:
    """Read a file and find its equations.

    Raises:
        Unreadable: if the file can't be read, is too large, or its front matter is broken.
    """
    text = _read_text(path)
    if path.suffix == ".ipynb":
        return _notebook(text, str(path))
    if path.suffix == ".tex":
        return Document(str(path), list(find(text, tex=True)), _tex_declarations(text))
    front, body, offset = split_front_matter(text)
    return Document(str(path), list(find(body, line=offset)), front)


def _read_text(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise Unreadable(f"{path} has {size:,} bytes; at most {LARGEST_FILE:,} are read")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as problem:
        raise Unreadable(f"{path} is not UTF-8: byte {problem.start} ({problem.reason})") from None
    except OSError as problem:
        raise Unreadable(f"{path} can't be read: {problem.strerror}") from None


def split_front_matter(text: str) -> tuple[dict, str, int]:
    """The value of the key `proofread` in a YAML front matter, the rest, and its first line.

    Raises:
        BadDeclaration: if the front matter is no YAML.
    """
    match = re.match(r"---[ \t]*\r?\n(.*?\r?\n)?(---|\.\.\.)[ \t]*(\r?\n|\Z)", text, re.DOTALL)
    if not match:
        return {}, text, 1
    try:
        front = yaml.safe_load(match.group(1) or "") or {}
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        where = f"line {mark.line + 2}: " if mark else ""
        what = getattr(problem, "problem", None) or "not YAML"
        raise BadDeclaration(f"front matter, {where}{what}") from None
    except RecursionError:
        raise BadDeclaration("front matter: nested too deep") from None
    except (ValueError, TypeError) as problem:
        raise BadDeclaration(f"front matter: {problem}") from None
    body = text[match.end() :]
    found = front.get("proofread") if isinstance(front, dict) else None
    return found or {}, body, text[: match.end()].count("\n") + 1


def _notebook(text: str, path: str) -> Document:
    try:
        cells = json.loads(text)["cells"]
        sources = [(cell.get("cell_type"), "".join(cell.get("source", ""))) for cell in cells]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Unreadable(f"{path} is no notebook: its JSON has no list of cells") from None
    document = Document(path)
    macros: dict[str, tuple[int, str]] = {}
    using = "page"
    for number, (kind, source) in enumerate(sources, 1):
        if kind not in {"markdown", "raw"}:
            continue
        front, body, offset = split_front_matter(source) if number == 1 else ({}, source, 1)
        document.declarations |= front
        found = list(find(body, line=offset, cell=number, using=using, macros=macros))
        using = _last_use(body, using)
        document.equations += found if kind == "markdown" else []
    return document


def _last_use(text: str, using: str) -> str:
    uses = re.findall(r"<!--\s*proofread:\s*use\s+([\w.-]+)\s*-->", text)
    return uses[-1] if uses else using


def _tex_declarations(text: str) -> dict:
    """The declarations of a LaTeX file: YAML in comments from `% proofread:` on."""
    match = re.search(r"^%[ \t]?proofread:[ \t]*\n((?:%.*\n?)+)", text, re.MULTILINE)
    if not match:
        return {}
    lines = [re.sub(r"^% ?", "", line) for line in match.group(0).splitlines()]
    try:
        return (yaml.safe_load("\n".join(lines)) or {}).get("proofread") or {}
    except (yaml.YAMLError, AttributeError):
        raise BadDeclaration("the comment `% proofread:` is no YAML") from None


# ---- finding ----

# What may open something. What closes it is looked up in the sorted places of its closing
# sign, so that a text full of openers that nothing closes still takes one pass.
_OPENERS = re.compile(
    r"(?P<fence>^[ \t>]*(?P<bar>```+|~~~+)[^\n]*$)"
    r"|(?P<include>^[ \t>]*-+8<-+[^\n]*$)"
    r"|(?P<tick>(?<![`$])`+)"
    r"|(?P<note><!--)"
    r"|(?P<tag><(?P<tagname>script|style|pre|code)\b[^>\n]*>)"
    r"|(?P<env>\\begin\s?\{(?P<name>(?:" + DISPLAY_NAMES + r")\*?)\})"
    r"|(?P<code>\\begin\s?\{(?P<codename>verbatim|Verbatim|lstlisting|minted)\*?\})"
    r"|(?P<dollars>\$\$)"
    r"|(?P<square>\\\\?\[(?!\d*\.?\d+\s*(?:pt|em|ex|mm|cm|in)\]))"
    r"|(?P<round>\\\\?\()"
    r"|(?P<dollar>(?<!\w)\$)"
    r"|(?P<escape>\\.)",
    re.MULTILINE | re.DOTALL,
)
_INLINE = re.compile(
    r"\$`(?P<ticked>[^`$]+)`\$"
    r"|\$(?![\s$])(?P<tight>(?:\\.|[^$\\])+?)(?<![\s\\])\$(?![\d$])"
    # With spaces inside its dollars it has to look like a formula.
    r"|\$(?=[^$\n]*[\\_^=])(?P<loose>(?:\\.|[^$\\\n])+)\$(?![\d$])",
    re.DOTALL,
)


@dataclass(frozen=True)
class _Span:
    """A stretch of a text: an order, a formula (display or not), from `start` to `end`."""

    kind: str
    inside: str
    start: int
    end: int


class _Places:
    """Where each closing sign stands in a text, found once for each sign."""

    def __init__(self, text: str):
        self.text = text
        self._found: dict[str, tuple[list[int], list[int]]] = {}

    def after(self, sign: str, start: int) -> tuple[int, int] | None:
        """The first place of a pattern at or after `start`: where it starts and ends."""
        if sign not in self._found:
            places = [m.span() for m in re.finditer(sign, self.text, re.MULTILINE)]
            self._found[sign] = ([a for a, _ in places], [b for _, b in places])
        starts, ends = self._found[sign]
        at = bisect.bisect_left(starts, start)
        return (starts[at], ends[at]) if at < len(starts) else None

    def in_paragraph(self, sign: str, start: int) -> tuple[int, int] | None:
        """The same, before the next blank line."""
        place, blank = self.after(sign, start), self.after(r"\n[ \t]*\n", start)
        return None if place is None or (blank and blank[0] < place[0]) else place


def _spans(text: str) -> Iterator[_Span]:
    """Yield the orders and formulas of a text, passing over its code and comments."""
    places = _Places(text)
    at = 0
    while (match := _OPENERS.search(text, at)) is not None:
        found = _span(text, match, places)
        if found is None:
            at = match.end()
            continue
        if found.kind:
            yield found
        at = max(found.end, match.start() + 1)


def _span(text: str, match: re.Match, places: _Places) -> _Span | None:
    start, stop = match.span()
    kind = match.lastgroup if match.lastgroup not in {"bar", "tagname", "name"} else None
    kind = next(k for k in _KINDS if match[k] is not None) if kind not in _KINDS else kind
    closing = {
        "fence": lambda: places.after(
            rf"^[ \t>]*{re.escape((match['bar'] or '')[:3])}+[ \t]*$", stop
        ),
        "tick": lambda: places.in_paragraph(rf"(?<!`){match['tick']}(?!`)", stop),
        "note": lambda: places.after("-->", stop),
        "tag": lambda: places.after(f"</{match['tagname']}>", stop),
        "env": lambda: places.after(rf"\\end\s?\{{{re.escape(match['name'] or '')}\}}", stop),
        "code": lambda: places.after(rf"\\end\s?\{{{match['codename']}\*?\}}", stop),
        "dollars": lambda: places.after(r"(?<!\\)(?:\\\\)*\$\$", stop),
        "square": lambda: places.after(r"(?<!\\)\\\\?\]", stop),
        "round": lambda: places.in_paragraph(r"(?<!\\)\\\\?\)", stop),
    }
    if kind in {"include", "escape"}:
        return None
    if kind == "dollar":
        inline = _INLINE.match(text, start)
        if inline is None:
            return None
        inside = next(group for group in inline.groups() if group is not None)
        return _Span("inline", inside, start, inline.end())
    close = closing[kind]()
    if close is None:
        # An open fence runs to the end, as Markdown has it.
        return _Span("", "", start, len(text)) if kind == "fence" else None
    inside = text[stop : close[0]]
    if kind == "fence":
        math = re.match(r"[ \t>]*```+[ \t]*math[ \t]*$", match["fence"])
        return _Span("display" if math else "", inside, start, close[1])
    if kind == "note":
        said = re.match(r"\s*proofread:\s*(.*)", inside, re.DOTALL)
        return _Span("order" if said else "", said[1] if said else "", start, close[1])
    if kind == "tag":
        math = re.search(r"math/tex;\s*mode=display", match["tag"])
        return _Span("display" if math else "", inside, start, close[1])
    if kind == "env":
        return _Span("display", text[start : close[1]], start, close[1])
    shown = {"dollars": "display", "square": "display", "round": "inline"}.get(kind, "")
    return _Span(shown, inside, start, close[1])


_KINDS = ("fence", "include", "tick", "note", "tag", "env", "code", "dollars", "square", "round",
          "dollar", "escape")  # fmt: skip


def find(
    text: str,
    *,
    line: int = 1,
    cell: int = 0,
    using: str = "page",
    tex: bool = False,
    macros: dict[str, tuple[int, str]] | None = None,
) -> Iterator[Found]:
    """Yield the equations of a text in order.

    Args:
        text: Markdown without its front matter, or LaTeX.
        line: the number of its first line.
        cell: the notebook cell it is, or 0.
        using: the set of declarations in force at its start.
        tex: whether it is a LaTeX file.
        macros: the author's macros so far; those of this text are added.
    """
    macros = macros if macros is not None else {}
    if tex:
        text = _tex_to_plain(text)
    macros.update(read_macros(text))
    starts = [0, *(found.end() for found in re.finditer("\n", text))]
    orders: list[Order] = []
    for span in _spans(text):
        number, column = _place(starts, span.start)
        if span.kind == "order":
            order = read_order(span.inside, number + line - 1)
            if order.word == "use":
                using = order.text
            else:
                orders.append(order)
            continue
        display = span.kind == "display"
        latex = expand(_unquote(span.inside), macros)
        if re.fullmatch(r"\s*(?:\\(?:re)?newcommand.*|\\def\b.*)?", latex, re.DOTALL):
            continue
        if not display and not orders and not re.search(r"(?<![\\<>:!])=|\\equiv|:=", latex):
            continue
        yield Found(latex, number + line - 1, column, display, cell, using, tuple(orders))
        orders = []


def _blank(text: str) -> str:
    """Spaces of the same extent, so that lines and columns stay."""
    return re.sub(r"[^\n]", " ", text)


def _unquote(latex: str) -> str:
    """Drop the signs of a block quote before each line."""
    return (
        re.sub(r"^[ \t]*>[ \t]?(?=\S)", " ", latex, flags=re.MULTILINE) if "\n" in latex else latex
    )


def _place(starts: list[int], offset: int) -> tuple[int, int]:
    row = bisect.bisect_right(starts, offset)
    return row, offset - starts[row - 1] + 1


def _tex_to_plain(text: str) -> str:
    """Turn orders into the form they have in Markdown, and drop comments and verbatim."""
    text = re.sub(
        r"^%[ \t]*proofread:[ \t]*(\S.*)$", r"<!-- proofread: \1 -->", text, flags=re.MULTILINE
    )
    return re.sub(r"(?<!\\)%[^\n]*", lambda found: _blank(found.group()), text)


def read_order(said: str, line: int) -> Order:
    """Read the inside of `<!-- proofread: … -->`.

    Raises:
        BadDeclaration: if it is none of the known orders, or lacks what it needs.
    """
    word, _, text = said.strip().partition(" ")
    word, text = word.strip(" ,:"), text.strip(" ,:")
    if word not in ORDERS:
        raise BadDeclaration(
            f"line {line}: `proofread: {said.strip()[:60]}`; an order is one of {', '.join(ORDERS)}"
        )
    if word == "skip" and not text:
        raise BadDeclaration(f"line {line}: `proofread: skip` needs a reason")
    if word in {"use", "convention", "where"} and not text:
        raise BadDeclaration(f"line {line}: `proofread: {word}` needs a name")
    return Order(word, text, line)


# ---- macros ----

_MACRO = re.compile(
    r"\\(?:re|provide)?newcommand\*?\s*\{?\s*\\(?P<name>[A-Za-z]+)\s*\}?\s*(?:\[(?P<n>\d)\])?"
    r"(?:\[[^\]]*\])?\s*(?P<open>\{)"
    r"|\\def\s*\\(?P<dname>[A-Za-z]+)\s*(?P<params>(?:#\d)*)\s*(?P<dopen>\{)"
    r"|\\DeclareMathOperator\*?\s*\{?\s*\\(?P<oname>[A-Za-z]+)\s*\}?\s*(?P<oopen>\{)"
)
MOST_EXPANSIONS = 2000


def read_macros(text: str) -> dict[str, tuple[int, str]]:
    """The author's macros: name to number of arguments and body."""
    found = {}
    for match in _MACRO.finditer(text):
        start = match.end() - 1
        body = _braced(text, start)
        if body is None:
            continue
        if match["name"]:
            found[match["name"]] = (int(match["n"] or 0), body)
        elif match["dname"]:
            found[match["dname"]] = (match["params"].count("#"), body)
        else:
            found[match["oname"]] = (0, f"\\operatorname{{{body}}}")
    return found


def _braced(text: str, start: int) -> str | None:
    """The inside of the braces that open at `start`."""
    depth = 0
    for found in re.finditer(r"\\.|[{}]", text[start : start + 5000]):
        depth += {"{": 1, "}": -1}.get(found.group(), 0)
        if depth == 0:
            return text[start + 1 : start + found.start()]
    return None


def expand(latex: str, macros: dict[str, tuple[int, str]]) -> str:
    """Replace the author's macros by what they stand for.

    Raises:
        Unreadable: if they expand without end.
    """
    if not macros:
        return latex
    pattern = re.compile(r"\\(" + "|".join(map(re.escape, macros)) + r")(?![A-Za-z])")
    for _ in range(MOST_EXPANSIONS):
        match = pattern.search(latex)
        if match is None:
            return latex
        count, body = macros[match.group(1)]
        arguments, stop = [], match.end()
        for _ in range(count):
            argument, stop = _argument(latex, stop)
            arguments.append(argument)
        filled = re.sub(r"#(\d)", lambda f, a=arguments: _nth(a, int(f.group(1))), body)
        if re.fullmatch(r"\\[A-Za-z]+", filled) and latex[stop : stop + 1].isalpha():
            filled += " "
        latex = latex[: match.start()] + filled + latex[stop:]
        if len(latex) > 50_000:
            break
    raise Unreadable("the author's macros expand without end")


def _nth(arguments: list[str], number: int) -> str:
    return arguments[number - 1] if number <= len(arguments) else ""


def _argument(latex: str, start: int) -> tuple[str, int]:
    match = re.compile(r"\s*").match(latex, start)
    start = match.end()
    if latex[start : start + 1] == "{":
        inside = _braced(latex, start)
        if inside is not None:
            return inside, start + len(inside) + 2
    single = re.compile(r"\\[A-Za-z]+|\\.|.", re.DOTALL).match(latex, start)
    return (single.group(), single.end()) if single else ("", start)
