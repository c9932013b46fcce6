"""LaTeX text to a tree: lex, lay out, parse.

The lexer and the parser are Lark's (LALR). Between them `lay_out` settles what a
context-free grammar should not have to: which `|` opens, which line goes on with the
one before, which `&` only aligns, which letters form one declared name.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from lark import Lark, Token, Transformer, UnexpectedInput, v_args
from lark.lexer import Lexer

from . import tree
from .problem import Unreadable

MOST_CHARACTERS = 20_000
DEEPEST = 40

# Words that read as prose when they stand in \text, and not as the name of a quantity.
PROSE = frozenset(
    [
        "if",
        "for",
        "when",
        "otherwise",
        "else",
        "and",
        "or",
        "where",
        "with",
        "since",
        "so",
        "thus",
        "then",
        "while",
        "as",
        "by",
        "from",
        "to",
        "in",
        "of",
        "is",
        "are",
        "on",
        "at",
        "because",
        "hence",
        "but",
        "not",
        "any",
        "all",
        "each",
        "every",
        "let",
        "we",
        "get",
        "which",
        "that",
        "the",
        "a",
        "an",
        "using",
        "chain",
        "rule",
        "const",
        "iff",
        "st",
        "such",
        "other",
        "elsewhere",
        "both",
        "case",
        "cases",
        "given",
        "therefore",
        "note",
    ]
)
WORDS = frozenset(
    [
        "log",
        "ln",
        "exp",
        "tanh",
        "sinh",
        "cosh",
        "sin",
        "cos",
        "tan",
        "max",
        "min",
        "det",
        "tr",
        "trace",
        "diag",
        "softmax",
        "sigmoid",
        "relu",
        "sgn",
        "sign",
        "vec",
        "rank",
        "var",
        "mean",
        "sum",
        "std",
        "cov",
        "erf",
        "softplus",
        "logsoftmax",
        "lse",
        "logsumexp",
        "arcsin",
        "arccos",
        "arctan",
        "abs",
        "norm",
        "rowsum",
        "argmax",
        "argmin",
        "onehot",
        "rms",
        "silu",
        "swish",
        "gelu",
        "leakyrelu",
        "elu",
        "ones",
    ]
)
_TEXT_COMMANDS = ("text", "textrm", "textup", "textnormal", "textit", "mbox", "hbox", "textbf")
_TEXT_COMMANDS += ("textsf", "texttt")


class _Given(Lexer):
    """A lexer that hands on tokens it was given."""

    def __init__(self, lexer_conf):
        pass

    def lex(self, data):
        return iter(data)


@lru_cache(maxsize=1)
def _lexer() -> Lark:
    text = Path(__file__).with_name("grammar.lark").read_text(encoding="utf-8")
    # The terminals that only the layout uses are kept by a rule that is never parsed.
    return Lark(
        text + "\nany: (BEGINLINES|ENDLINES|NORMBAR|LEFTNORM|RIGHTNORM|LEFTBAR|RIGHTBAR|BAR"
        "|COMMAND|OTHER)+\n",
        parser="lalr",
        lexer="basic",
        start=["start", "any"],
    )


@lru_cache(maxsize=1)
def _parser() -> Lark:
    text = Path(__file__).with_name("grammar.lark").read_text(encoding="utf-8")
    return Lark(text, parser="lalr", lexer=_Given, transformer=_Builder(), maybe_placeholders=True)


def parse(latex: str, names: frozenset[str] = frozenset()) -> tree.Display:
    r"""Parse the inside of a formula.

    Args:
        latex: the LaTeX, with or without its outer environment.
        names: declared names of several letters, such as `dW` or `MSE`.

    Raises:
        Unreadable: with the offset of what was not understood.
    """
    if len(latex) > MOST_CHARACTERS:
        raise Unreadable(
            f"the formula has {len(latex):,} characters; at most {MOST_CHARACTERS:,} are read"
        )
    latex = normal(latex)
    tokens = lay_out(list(_lexer().lex(latex)), names)
    try:
        return _parser().parse(tokens)
    except UnexpectedInput as problem:
        raise _explain(problem, latex) from None


def parse_atom(latex: str, names: frozenset[str] = frozenset()) -> tree.Node:
    """Parse a declared name: one letter or word with its accents and scripts."""
    display = parse(latex, names)
    node = display.lines[0].only() if len(display.lines) == 1 else None
    if isinstance(node, tree.Product) and len(node.factors) == 1:
        node = node.factors[0].body
    if not isinstance(node, tree.Name | tree.Scripted | tree.Num | tree.Mark):
        raise Unreadable(f"`{latex}` is not one name")
    return node


def normal(latex: str) -> str:
    """The text that positions count in: spelled-out fractions, mathematics out of prose."""
    return _plain_fractions(_over(_math_in_text(latex.translate(_SIGNS))))


_SIGNS = str.maketrans(
    {
        "∂": r"\partial ", "∇": r"\nabla ", "·": r"\cdot ", "⋅": r"\cdot ", "×": r"\times ",
        "⊙": r"\odot ", "∘": r"\circ ", "⊗": r"\otimes ", "≤": r"\le ", "≥": r"\ge ",
        "≠": r"\ne ", "≈": r"\approx ", "∈": r"\in ", "→": r"\to ", "←": r"\leftarrow ",
        "⇒": r"\Rightarrow ", "∑": r"\sum ", "∏": r"\prod ", "∞": r"\infty ", "⊤": r"\top ",
        "∀": r"\forall ", "⋯": r"\cdots ", "⋮": r"\vdots ", "⋱": r"\ddots ", "\u00a0": " ",
        "\u200b": "", "ℓ": r"\ell ", "²": "^2",
    }
)  # fmt: skip


def _over(latex: str) -> str:
    r"""`{a \over b}` as a `\frac`."""
    if not re.search(r"\\over(?![A-Za-z])", latex):
        return latex
    part = r"((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*?)"
    return re.sub(r"\{" + part + r"\\over(?![A-Za-z])" + part + r"\}", r"{\\frac{\1}{\2}}", latex)


def _plain_fractions(latex: str) -> str:
    r"""`\frac12` and `\frac1N` take single digits, which a lexer of numbers would join."""
    return re.sub(
        r"(\\[dtc]?frac)\s*(\d)\s*(\d|[A-Za-z](?![A-Za-z]))",
        r"\1{\2}{\3}",
        re.sub(r"(\\[dtc]?frac)\s*(\d)\s*(?=[{\\])", r"\1{\2}", latex),
    )


def _math_in_text(latex: str) -> str:
    r"""`\text{if $z$ is}` becomes `\text{if } z \text{ is}`."""
    if "$" not in latex:
        return latex
    pattern = r"\\(text|textrm|mbox|textit)\s*\{([^{}]*\$[^{}$]*(?:\{[^{}]*\}[^{}$]*)*\$[^{}]*)\}"

    def open_up(found: re.Match) -> str:
        command, inside = found.groups()
        parts = re.split(r"\$", inside)
        return "".join(
            part if place % 2 else f"\\{command}{{{part}}}" if part.strip() else " "
            for place, part in enumerate(parts)
        )

    return re.sub(pattern, open_up, latex)


def _explain(problem: UnexpectedInput, latex: str) -> Unreadable:
    token = getattr(problem, "token", None)
    if token is None or token.type == "$END":
        return Unreadable("the formula ends too early: something is opened and not closed", None)
    text = str(token)
    if token.type == "COMMAND":
        return Unreadable(f"`{text}` is not known here", token.start_pos, suggestion=_nearest(text))
    if token.type == "OTHER":
        return Unreadable(f"`{text}` is no sign of a formula", token.start_pos)
    if token.type in {"CLOSE", "RBRACE", "ENDMATRIX", "ENDCASES", "ENDLINES"}:
        return Unreadable(f"`{text}` closes what is not open", token.start_pos)
    wanted = {
        "REL": "a term is missing before it",
        "MULOP": "a factor is missing before it",
        "ADDOP": "a term is missing before it",
        "NEWLINE": "something is opened and not closed before the line ends",
        "SUB": "a subscript needs something to stand at, and there is one already",
        "SUP": "a superscript needs something to stand at, and there is one already",
    }
    return Unreadable(
        f"`{text}` was not expected: {wanted.get(token.type, 'the form is not known')}",
        token.start_pos,
    )


def _nearest(command: str) -> str:
    import difflib

    text = Path(__file__).with_name("grammar.lark").read_text(encoding="utf-8")
    known = sorted(set(re.findall(r"(?<=[|(])[A-Za-z]{2,}(?=[|)])", text)))
    close = difflib.get_close_matches(command.lstrip("\\"), known, n=1, cutoff=0.6)
    return f"the nearest known is `\\{close[0]}`" if close else ""


# ---- layout ----

_OPENERS = {"LBRACE", "OPEN", "BEGINMATRIX", "BEGINCASES", "NORMOPEN", "ABSOPEN"}
_CLOSERS = {"RBRACE", "CLOSE", "ENDMATRIX", "ENDCASES", "NORMCLOSE", "ABSCLOSE"}
_OPERATORS = {"REL", "ADDOP", "MULOP"}
_SEPARATORS = {"COMMA", "SEMI", "PERIOD", "QUAD", "COLON"}


def lay_out(tokens: list[Token], names: frozenset[str] = frozenset()) -> list[Token]:
    """Turn lexed tokens into those the grammar reads."""
    tokens = _name_words(_join_names(tokens, names), names)
    tokens = _pair_bars(_open_arrays(tokens))
    _check_depth(tokens)
    return _join_lines(_drop_alignment(tokens))


def _join_names(tokens: list[Token], names: frozenset[str]) -> list[Token]:
    """Join letters that stand side by side and form a declared or well-known word."""
    longest = max((len(name) for name in names | WORDS), default=0)
    out: list[Token] = []
    at = 0
    while at < len(tokens):
        run = at
        while run < len(tokens) and run - at < longest and _is_letter(tokens, run, at):
            run += 1
        word = ""
        for stop in range(run, at + 1, -1):
            joined = "".join(tokens[at:stop])
            alone = (at == 0 or not _touching(tokens, at - 1)) and not _touching(tokens, stop - 1)
            if joined in names or (joined.lower() in WORDS and alone):
                word = joined
                break
        if word:
            out.append(Token.new_borrow_pos("NAME", word, tokens[at]))
            at += len(word)
        else:
            out.append(tokens[at])
            at += 1
    return out


def _is_letter(tokens: list[Token], at: int, start: int) -> bool:
    token = tokens[at]
    plain = token.type in {"LETTER", "NUMBER"} and token.isalnum()
    return plain and (at == start or token.start_pos == tokens[at - 1].end_pos)


def _touching(tokens: list[Token], at: int) -> bool:
    """Whether the token at `at` and the next are letters without a space between."""
    if at + 1 >= len(tokens):
        return False
    one, two = tokens[at], tokens[at + 1]
    letters = one.type == two.type == "LETTER" and one.isalpha() and two.isalpha()
    return letters and one.end_pos == two.start_pos


def _name_words(tokens: list[Token], names: frozenset[str]) -> list[Token]:
    r"""Tell prose from names in `\text{…}`, and open `\mathbf{Wx}` where it is no name."""
    out: list[Token] = []
    depth_of_script: list[bool] = []
    for at, token in enumerate(tokens):
        before = tokens[at - 1].type if at else ""
        if token.type == "LBRACE":
            depth_of_script.append(before in {"SUB", "SUP"})
        elif token.type == "RBRACE" and depth_of_script:
            depth_of_script.pop()
        if token.type != "NAME" or not token.startswith("\\"):
            out.append(token)
            continue
        command, _, word = token[1:].partition("{")
        command, word = command.strip(), word.rstrip("}").strip()
        in_script = before in {"SUB", "SUP"} or any(depth_of_script)
        known = word in names or word.lower() in WORDS
        if command in _TEXT_COMMANDS:
            prose = not re.fullmatch(r"[A-Za-z][A-Za-z0-9_\-]*", word) or word.lower() in PROSE
            if in_script and word.lower() not in {"if", "otherwise", "for", "and"}:
                prose = not word
            kind = "TEXT" if prose and not known else "NAME"
            out.append(Token.new_borrow_pos(kind, str(token), token))
        elif command in {"mathbf"} and len(word) > 1 and not known:
            out.extend(_opened(token, command, word))
        else:
            out.append(token)
    return out


def _opened(token: Token, command: str, word: str) -> list[Token]:
    pieces = [("FONT", "\\" + command), ("LBRACE", "{")]
    pieces += [("LETTER" if c.isalpha() else "NUMBER", c) for c in word if c.isalnum()]
    pieces.append(("RBRACE", "}"))
    return [Token.new_borrow_pos(kind, text, token) for kind, text in pieces]


def _open_arrays(tokens: list[Token]) -> list[Token]:
    r"""An `array` that only aligns `a & = & b` is no matrix: its lines are lines."""
    out = list(tokens)
    for at, token in enumerate(tokens):
        if token.type != "BEGINMATRIX" or "array" not in token:
            continue
        if at and tokens[at - 1].type in {"OPEN", "LEFTBAR", "BAR"}:
            continue
        depth, aligned, stop = 0, False, None
        for place in range(at, len(tokens)):
            kind = tokens[place].type
            depth += (kind in _OPENERS) - (kind in _CLOSERS)
            if depth == 0:
                stop = place
                break
            near = {tokens[place - 1].type, tokens[min(place + 1, len(tokens) - 1)].type}
            aligned = aligned or (depth == 1 and kind == "REL" and "AMP" in near)
        if aligned and stop is not None:
            out[at] = Token.new_borrow_pos("BEGINLINES", str(token), token)
            out[stop] = Token.new_borrow_pos("ENDLINES", str(tokens[stop]), tokens[stop])
    return out


def _pair_bars(tokens: list[Token]) -> list[Token]:
    """Decide of each bar whether it opens or closes, or divides."""
    out = list(tokens)
    for kinds, opened, closed in (
        (("NORMBAR", "LEFTNORM", "RIGHTNORM"), "NORMOPEN", "NORMCLOSE"),
        (("BAR", "LEFTBAR", "RIGHTBAR"), "ABSOPEN", "ABSCLOSE"),
    ):
        inside, waiting = [0], []
        for at, token in enumerate(out):
            if token.type in _OPENERS:
                inside.append(at)
            elif token.type in _CLOSERS and len(inside) > 1:
                inside.pop()
            elif token.type in kinds:
                left, right = token.type.startswith("LEFT"), token.type.startswith("RIGHT")
                match = next((w for w in reversed(waiting) if w[0] == inside[-1]), None)
                if match and not left:
                    waiting.remove(match)
                    out[match[1]] = Token.new_borrow_pos(opened, "|", out[match[1]])
                    out[at] = Token.new_borrow_pos(closed, "|", token)
                elif not right:
                    waiting.append((inside[-1], at))
        for _, at in waiting:
            out[at] = Token.new_borrow_pos("MID", "|" if opened == "ABSOPEN" else "\\|", out[at])
    return out


def _check_depth(tokens: list[Token]) -> None:
    depth = 0
    for token in tokens:
        if token.type in _OPENERS:
            depth += 1
        elif token.type in _CLOSERS:
            depth -= 1
        if depth > DEEPEST:
            raise Unreadable(f"nested more than {DEEPEST} deep; split the formula", token.start_pos)


def _drop_alignment(tokens: list[Token]) -> list[Token]:
    """Drop the `&` of aligned lines, keeping a mark where a line starts with one."""
    out: list[Token] = []
    stack: list[str] = []
    for token in tokens:
        kind = token.type
        if kind in {"BEGINLINES", "ENDLINES"}:
            continue
        if kind in _OPENERS:
            stack.append(kind)
        elif kind in _CLOSERS and stack:
            stack.pop()
        in_grid = any(s in {"BEGINMATRIX", "BEGINCASES"} for s in stack)
        in_brackets = "OPEN" in stack or "LBRACE" in stack
        if kind == "NEWLINE" and in_brackets and not in_grid:
            continue
        out.append(token)
    return out


def _join_lines(tokens: list[Token]) -> list[Token]:
    """Drop the breaks after which the same chain goes on, and spaces that say nothing."""
    out: list[Token] = []
    grid = 0
    at = 0
    while at < len(tokens):
        token = tokens[at]
        kind = token.type
        grid += kind in {"BEGINMATRIX", "BEGINCASES"}
        grid -= kind in {"ENDMATRIX", "ENDCASES"}
        if kind == "NEWLINE" and not grid:
            ahead = at + 1
            aligned = False
            while ahead < len(tokens) and tokens[ahead].type in {"AMP", "QUAD", "NEWLINE"}:
                aligned = aligned or tokens[ahead].type in {"AMP", "QUAD"}
                ahead += 1
            after = tokens[ahead] if ahead < len(tokens) else None
            if _goes_on(out, tokens, ahead, after, aligned):
                if after is not None and after.type in _OPERATORS:
                    while out and out[-1].type in _SEPARATORS:
                        out.pop()
            elif out and after is not None:
                out.append(token)
            at = ahead
            continue
        if kind == "AMP" and not grid:
            # `lhs &=& rhs`, and a line that opens with the sign of its alignment
            at += 1
            continue
        if kind == "QUAD" and _idle_space(out, tokens, at):
            at += 1
            continue
        out.append(token)
        at += 1
    return out


def _goes_on(out, tokens, ahead, after, aligned) -> bool:
    """Whether the line that starts at `ahead` goes on with the one before."""
    if after is None or not out:
        return True
    if after.type == "REL" or out[-1].type in _OPERATORS:
        return True
    if after.type == "MULOP":
        return True
    if after.type == "ADDOP":
        return aligned or not _has_relation(tokens, ahead)
    return False


def _has_relation(tokens: list[Token], at: int) -> bool:
    depth = 0
    for token in tokens[at:]:
        depth += (token.type in _OPENERS) - (token.type in _CLOSERS)
        if token.type == "NEWLINE" and depth == 0:
            return False
        if token.type == "REL" and depth == 0:
            return True
    return False


def _idle_space(out: list[Token], tokens: list[Token], at: int) -> bool:
    """Whether a wide space stands beside a sign that already divides, or at an end."""
    ahead = tokens[at + 1] if at + 1 < len(tokens) else None
    idle = _OPERATORS | {"NEWLINE", "AMP", "QUAD", "IMPLIES", "TEXT", "COMMA", "PERIOD", "SEMI"}
    if not out or ahead is None:
        return True
    return (
        out[-1].type in idle | _OPENERS
        or ahead.type in idle | _CLOSERS
        or (ahead.type in {"SUB", "SUP"})
    )


# ---- tree building ----

_FONT_ONLY = {"\\boldmath"}


def _base(word: str) -> tuple[str, str]:
    r"""`\mathrm{reg}` -> ("reg", "\mathrm"); `dW` -> ("dW", "")."""
    if not word.startswith("\\"):
        return word, ""
    command, _, inside = word.partition("{")
    return inside.rstrip("}").strip(), command.strip()


@v_args(inline=True)
class _Builder(Transformer):
    """Build the nodes while Lark parses."""

    def start(self, *lines):
        return tree.Display(tuple(p for p in lines if isinstance(p, tree.Items)))

    def line(self, *parts):
        return tree.Items(tuple(part for part in parts if part is not None))

    scriptseq = line

    def sep(self, token):
        return tree.Sep(str(token), pos=token.start_pos)

    comma = sep

    def rel(self, *parts):
        if len(parts) == 1 and not isinstance(parts[0], Token):
            return parts[0]
        sides, ops, places = [], [], []
        expect_side = True
        for part in parts:
            if isinstance(part, Token):
                if expect_side:
                    sides.append(None)
                ops.append(_relation(str(part)))
                places.append(part.start_pos)
                expect_side = True
            else:
                if part is not None or expect_side:
                    sides.append(part)
                expect_side = False
        if expect_side:
            sides.append(None)
        first = next((side.pos for side in sides if side is not None), places[0])
        return tree.Rel(tuple(sides), tuple(ops), tuple(places), pos=min(first, places[0]))

    def expr(self, sign, first, *rest):
        terms = [tree.Term(str(sign) if sign else "", first, pos=(sign and sign.start_pos) or 0)]
        for at in range(0, len(rest) - 1, 2):
            terms.append(tree.Term(str(rest[at]), rest[at + 1], pos=rest[at].start_pos))
        if len(rest) % 2:
            terms.append(tree.Term(str(rest[-1]), None, pos=rest[-1].start_pos))
        if len(terms) == 1 and not terms[0].sign:
            return first
        return tree.Add(tuple(terms), pos=sign.start_pos if sign else first.pos)

    expr_open = expr

    def term(self, first, big=None):
        if big is None:
            return first
        if first is None:
            return big
        return tree.Product(_and_big(_factors(first), big), pos=first.pos)

    def product(self, first, *rest):
        if not rest:
            return first
        return tree.Product((tree.Factor("", first, pos=first.pos), *rest), pos=first.pos)

    product_open = product

    def beside(self, factor):
        return tree.Factor("", factor, pos=factor.pos)

    def times(self, op, factor):
        return tree.Factor(str(op), factor, pos=op.start_pos)

    def times_signed(self, op, sign, factor):
        return tree.Factor(str(op), factor, str(sign), pos=op.start_pos)

    def times_nothing(self, op):
        return tree.Factor(str(op), None, pos=op.start_pos)

    def bigterm(self, op, *parts):
        body, sub, sup, sign = parts[-1], None, None, None
        for part in parts[:-1]:
            if isinstance(part, Token):
                sign = part
            elif part[0] == "sub":
                sub = part[1]
            elif part[0] == "sup":
                sup = part[1]
        if sign is not None:
            body = tree.Add((tree.Term(str(sign), body),), pos=sign.start_pos)
        return tree.Big(str(op), sub, sup, body, pos=op.start_pos)

    def factor(self, atom, *scripts):
        if not scripts:
            return atom
        sub = sup = None
        primes = 0
        for kind, what in scripts:
            if kind == "primes":
                primes += what
            elif kind == "sub" and sub is None:
                sub = what
            elif kind == "sup" and sup is None:
                sup, ticks = _without_primes(what)
                primes += ticks
            else:
                raise Unreadable("two scripts of one kind at one base; put braces", atom.pos)
        return tree.Scripted(atom, sub, sup, primes, pos=atom.pos)

    def sub(self, _, arg):
        return "sub", arg

    def sup(self, _, arg):
        marks = [part.text for part in arg.parts if isinstance(part, tree.Mark)]
        if marks and len(marks) == len(arg.parts) and all(_is_prime(text) for text in marks):
            return "primes", sum(1 if text == "\\prime" else len(text) for text in marks)
        return "sup", _beside_label(arg)

    def subdigit(self, token):
        return "sub", tree.Items((tree.Num(token[-1], pos=token.start_pos),))

    def supdigit(self, token):
        return "sup", tree.Items((tree.Num(token[-1], pos=token.start_pos),))

    def primes(self, token):
        return "primes", len(token)

    def scriptarg(self, *parts):
        inside = parts[1] if len(parts) == 3 else parts[0]
        return inside if isinstance(inside, tree.Items) else tree.Items((inside,))

    def lone(self, token):
        return tree.Mark(str(token), pos=token.start_pos)

    def letter(self, token):
        return tree.Name(str(token), pos=token.start_pos)

    def number(self, token):
        return tree.Num(str(token), pos=token.start_pos)

    def name(self, token):
        base, font = _base(str(token))
        return tree.Name(base, font, pos=token.start_pos)

    def func(self, token):
        return tree.Name(str(token)[1:], "\\", pos=token.start_pos)

    def mark(self, token):
        return tree.Mark(str(token), pos=token.start_pos)

    def dots(self, token):
        return tree.Dots(str(token), pos=token.start_pos)

    def frac(self, token, num, den):
        return tree.Frac(_braced(num), _braced(den), pos=token.start_pos)

    def sqrt(self, token, body):
        index = re.search(r"\[(.*)\]", token)
        return tree.Sqrt(_braced(body), index.group(1) if index else "", pos=token.start_pos)

    def accent(self, token, arg):
        return _decorate(str(token), arg, token.start_pos, accent=True)

    def font(self, token, arg):
        return _decorate(str(token), arg, token.start_pos, accent=False)

    def under(self, token, arg):
        return tree.Brace(_braced(arg).inside, str(token), pos=token.start_pos)

    def group(self, opened, inside, closed):
        return tree.Group(str(opened), inside, str(closed), pos=opened.start_pos)

    def brace(self, opened, inside, _):
        return tree.Brace(inside, pos=opened.start_pos)

    def norm(self, opened, body, _):
        return tree.Norm(2 if opened.type == "NORMOPEN" else 1, body, pos=opened.start_pos)

    def matrix(self, opened, rows, _):
        kind = re.search(r"\{(\w+)\*?\}", opened).group(1)
        kind = "matrix" if kind == "array" else kind
        return tree.Matrix(kind, rows, pos=opened.start_pos)

    def cases(self, opened, rows, _):
        return tree.Cases(rows, pos=opened.start_pos)

    def rows(self, *parts):
        rows = [part for part in parts if not isinstance(part, Token)]
        while len(rows) > 1 and all(not cell.parts for cell in rows[-1]):
            rows.pop()
        return tuple(rows)

    def row(self, *cells):
        return tuple(cell for cell in cells if isinstance(cell, tree.Items))


def _is_prime(text: str) -> bool:
    return text == "\\prime" or not text.strip("'′")


def _without_primes(sup: tree.Items) -> tuple[tree.Items, int]:
    r"""`^{[1]\prime}` as `^{[1]}` and one prime."""
    only = sup.only()
    if isinstance(only, tree.Scripted) and isinstance(only.base, tree.Group) and only.primes:
        rest = replace(only, primes=0)
        bare = only.sub is None and only.sup is None
        return _beside_label(tree.Items((only.base if bare else rest,))), only.primes
    if not isinstance(only, tree.Product):
        return sup, 0
    factors = list(only.factors)
    while len(factors) > 1 and factors[-1] == tree.Factor("", tree.Mark("\\prime")):
        factors.pop()
    count = len(only.factors) - len(factors)
    rest = factors[0].body if len(factors) == 1 else tree.Product(tuple(factors), pos=only.pos)
    return (tree.Items((rest,)), count) if count else (sup, 0)


def _beside_label(sup: tree.Items) -> tree.Items:
    r"""`^{[1]^T}` as `^{[1] T}`."""
    only = sup.only()
    if not isinstance(only, tree.Scripted) or not isinstance(only.base, tree.Group):
        return sup
    turn = only.sup.only() if only.sup is not None else None
    if only.sub is not None or only.primes or turn not in _TURNS:
        return sup
    factors = (tree.Factor("", only.base, pos=only.pos), tree.Factor("", turn, pos=turn.pos))
    return tree.Items((tree.Product(factors, pos=only.pos),))


_TURNS = (tree.Name("T"), tree.Mark("\\top"), tree.Mark("\\intercal"))


def _relation(text: str) -> str:
    r"""The relation itself, without what stands above it."""
    if text.startswith(("\\overset", "\\stackrel", "\\underset")):
        return text.rstrip().rstrip("}").rpartition("{")[2].strip()
    return text


def _factors(node: tree.Node) -> tuple[tree.Factor, ...]:
    if isinstance(node, tree.Product):
        return node.factors
    return (tree.Factor("", node, pos=node.pos),)


def _and_big(factors: tuple[tree.Factor, ...], big: tree.Big) -> tuple[tree.Factor, ...]:
    """Append a sum to the factors before it, taking up a sign of multiplication left open."""
    if factors[-1].body is None:
        return (*factors[:-1], tree.Factor(factors[-1].op, big, pos=big.pos))
    return (*factors, tree.Factor("", big, pos=big.pos))


def _braced(node: tree.Node) -> tree.Brace:
    if isinstance(node, tree.Brace) and not node.command:
        return node
    return tree.Brace(tree.Items((node,)), pos=node.pos)


def _decorate(command: str, arg: tree.Node, pos: int, *, accent: bool) -> tree.Node:
    """Put an accent or a font on a name; on anything else, keep it as a marked group."""
    target = arg
    if isinstance(arg, tree.Brace) and not arg.command:
        target = arg.inside.only() or arg
    if isinstance(target, tree.Num):
        target = tree.Name(target.text, pos=target.pos)
    if isinstance(target, tree.Scripted) and isinstance(target.base, tree.Name | tree.Num):
        base = _decorate(command, target.base, pos, accent=accent)
        return tree.Scripted(base, target.sub, target.sup, target.primes, pos=pos)
    if isinstance(target, tree.Name):
        if accent:
            accents = (command, *target.accents)
            return tree.Name(target.base, target.font, accents, pos=pos)
        if not target.font:
            return tree.Name(target.base, command, target.accents, pos=pos)
        return tree.Name(target.base, target.font, target.accents, pos=pos)
    return tree.Brace(_braced(arg).inside, command, pos=pos)
