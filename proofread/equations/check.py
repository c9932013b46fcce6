"""Check all equations of a text or a file: the public entry."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import torch

from .declare import CONVENTIONS, Declarations
from .documents import Document, Found, find, read_document, split_front_matter
from .front_matter import read_declarations
from .parse import normal
from .problem import BadDeclaration, TooLong, Unreadable
from .verdict import RANK, SECONDS, Chain, Equality, Page


@dataclass
class Formula:
    """One equation of a document and the verdicts on its chains.

    Attributes:
        latex: the source, macros expanded.
        line, column: where it starts, from 1; in a notebook, within the cell.
        display: whether it stands on its own line.
        cell: the notebook cell, from 1; 0 elsewhere.
        chains: one or more; a formula of several lines may state several.
        exempt: whether the page marks it to be skipped.
        expected: "fails" where the page marks it as wrong on purpose.
    """

    latex: str
    line: int
    column: int
    display: bool
    cell: int = 0
    chains: list[Chain] = field(default_factory=list)
    exempt: bool = False
    expected: str = ""

    @property
    def verdict(self) -> str:
        """The worst verdict of its chains."""
        return min((chain.verdict for chain in self.chains), key=RANK.__getitem__)

    @property
    def ok(self) -> bool:
        """Whether it holds, or fails as it should."""
        if self.expected:
            return self.verdict == "fails"
        return self.verdict in {"holds", "skipped", "convention"}

    @property
    def reason(self) -> str:
        if self.expected and self.verdict != "fails":
            return f"marked as failing, and its verdict is: {self.verdict}"
        return next((c.reason for c in self.chains if c.verdict == self.verdict), "")

    def line_of(self, chain: Chain) -> int:
        """The line on which a chain, or what went wrong in it, stands."""
        return self.line + normal(self.latex)[: chain.pos or 0].count("\n")

    def caret(self, chain: Chain) -> str:
        """The source line of a chain's problem with a caret under its place, or ""."""
        if chain.pos is None:
            return ""
        text = normal(self.latex)
        start = text.rfind("\n", 0, chain.pos) + 1
        stop = text.find("\n", chain.pos)
        line = text[start : stop if stop >= 0 else len(text)]
        at = chain.pos - start
        cut = max(0, at - 60)
        shown = line[cut : cut + 120].replace("\t", " ")
        return f"{shown}\n{' ' * (at - cut)}^"

    def as_dict(self, path: str) -> list[dict]:
        """Plain data, one mapping for each chain."""
        return [
            {
                "file": path,
                "line": self.line_of(chain),
                "column": self.column,
                "cell": self.cell,
                "display": self.display,
                "exempt": self.exempt,
                "expected": self.expected,
                **chain.as_dict(),
            }
            for chain in self.chains
        ]


@dataclass
class Report:
    """What came of a document. `error` is set where nothing could be checked."""

    path: str
    formulas: list[Formula] = field(default_factory=list)
    error: str = ""

    @property
    def chains(self) -> list[Chain]:
        return [chain for formula in self.formulas for chain in formula.chains]

    @property
    def ok(self) -> bool:
        """Whether nothing fails and all could be read (or fails as marked)."""
        return not self.error and all(formula.ok for formula in self.formulas)

    @property
    def vacuous(self) -> list[Formula]:
        """Formulas of which some check could not have failed."""
        return [f for f in self.formulas if any(c.vacuous for c in f.chains)]

    def counts(self) -> dict[str, int]:
        """How many chains have each verdict, and how much was evaluated."""
        found = dict.fromkeys(RANK, 0)
        for chain in self.chains:
            found[chain.verdict] += 1
        found["formulas"] = len(self.formulas)
        found["exempt"] = sum(formula.exempt for formula in self.formulas)
        found["equalities"] = sum(chain.checked for chain in self.chains)
        found["combinations"] = sum(chain.combinations for chain in self.chains)
        return found

    @property
    def largest_error(self) -> float:
        """The largest relative error among the chains that hold."""
        return max((c.error for c in self.chains if c.verdict == "holds"), default=0.0)

    def as_dicts(self) -> list[dict]:
        """Plain data, one mapping for each chain."""
        return [d for formula in self.formulas for d in formula.as_dict(self.path)]


def check_file(
    path: str | Path,
    *,
    declarations: Mapping | None = None,
    cache_dir: str | Path | None = None,
    seconds: float = SECONDS,
) -> Report:
    """Check the equations of a Markdown, notebook or LaTeX file.

    Args:
        path: the file.
        declarations: the mapping otherwise found under `proofread` in its front matter.
        cache_dir: where results are kept between runs; None keeps none.
        seconds: the time one equation may take.
    """
    path = Path(path)
    try:
        document = read_document(path)
    except Unreadable as problem:
        return Report(str(path), error=str(problem))
    if declarations is not None:
        document.declarations = declarations
    return check_document(document, folder=path.parent, cache_dir=cache_dir, seconds=seconds)


def check_text(
    text: str,
    path: str = "",
    *,
    declarations: Mapping | None = None,
    line: int = 1,
    folder: str | Path | None = None,
    cache_dir: str | Path | None = None,
    seconds: float = SECONDS,
) -> Report:
    """Check the equations of Markdown text.

    Args:
        text: Markdown, with its front matter or, if `declarations` are given, without.
        path: what to call it in the report; its folder is where imports are looked for.
        declarations: the mapping under the front matter's key `proofread`.
        line: the number of the text's first line in its file.
        folder: where the forward's imports are looked for, if not beside `path`.
        cache_dir: where results are kept between runs; None keeps none.
        seconds: the time one equation may take.

    >>> page = '''
    ... $$ z_i = \\\\sum_{j=1}^{D} w_j x_{ij} = \\\\mathbf{w}^T \\\\mathbf{x}_i $$
    ... '''
    >>> given = {'symbols': {'X': 'N D', 'w': 'D'}, 'forward': 'z = X @ w'}
    >>> report = check_text(page, declarations=given)
    >>> report.ok, report.chains[0].verdict, report.counts()["equalities"]
    (True, 'holds', 2)
    """
    try:
        if declarations is None:
            declarations, text, offset = split_front_matter(text)
            line += offset - 1
        document = Document(path, list(find(text, line=line)), declarations)
    except Unreadable as problem:
        return Report(path, error=str(problem))
    folder = folder if folder is not None else Path(path).parent if path else "."
    return check_document(document, folder=folder, cache_dir=cache_dir, seconds=seconds)


def check_document(
    document: Document,
    *,
    folder: str | Path = ".",
    cache_dir: str | Path | None = None,
    seconds: float = SECONDS,
) -> Report:
    """Check the equations of a document that was read."""
    report = Report(document.path)
    try:
        sets = read_declarations(document.declarations, str(folder))
        checker = _Checker(sets, document, seconds, _Cache.open(cache_dir, document.path))
        with one_thread():
            report.formulas = [checker.formula(found) for found in document.equations]
        checker.cache.save()
    except (BadDeclaration, TooLong) as problem:
        report.formulas, report.error = [], str(problem)
    return report


class _Checker:
    """Checks the formulas of one document in order."""

    def __init__(self, sets: dict[str, Declarations], document: Document, seconds, cache):
        self.sets = sets
        self.sums_shown = any("\\sum" in found.latex for found in document.equations)
        self.seconds = seconds
        self.cache = cache
        self.pages: dict[str, Page] = {}
        self.history: dict[str, list[str]] = {}
        self.digests: dict[str, str] = {}
        self.before = ""

    def formula(self, found: Found) -> Formula:
        """Check one formula as the comments before it ask."""
        made = Formula(found.latex, found.line, found.column, found.display, found.cell)
        for order in found.orders:
            if order.word == "skip":
                made.exempt = True
                made.chains = [Chain(found.latex.strip(), "skipped", reason=order.text)]
                return made
            if order.word == "fails":
                made.expected = "fails"
        if found.using not in self.sets:
            raise BadDeclaration(
                f"line {found.line}: the set `{found.using}` is not declared under `sets`"
            )
        made.chains = self._cached(found)
        return made

    def _cached(self, found: Found) -> list[Chain]:
        declared = self.sets[found.using]
        before = self.before if re.match(r"[\s&]*(=|\\begin\{\w+\*?\}[\s&]*=)", found.latex) else ""
        self.before = found.latex
        if found.using not in self.digests:
            self.digests[found.using] = declared.digest() if self.cache else ""
        history = self.history.setdefault(found.using, [])
        orders = [(order.word, order.text) for order in found.orders]
        key = self.cache.key(
            found.latex, self.digests[found.using], history, orders, self.sums_shown, before
        )
        chains = self.cache.get(key)
        if chains is None:
            chains = self._check(found, declared, before)
            if not any(chain.timed_out for chain in chains):
                self.cache.put(key, chains)
        if declared.defines:
            # What this formula may define is part of what later ones depend on.
            history.append(found.latex)
        return chains

    def _check(self, found: Found, declared: Declarations, before: str) -> list[Chain]:
        page = self.pages.get(found.using)
        if page is None:
            with _alarm(self.seconds * 2):
                declared.verify()
            page = Page(declared, sums_shown=self.sums_shown, seconds=self.seconds)
            self.pages[found.using] = page
            for earlier in self.history.get(found.using, []):
                page.check(earlier)
        changed = _with_orders(declared, found)
        if changed is not declared:
            own = Page(changed, sums_shown=self.sums_shown, seconds=self.seconds)
            own.defined = page.defined
            page = own
        with _alarm(self.seconds * 2):
            try:
                return page.check(found.latex, before)
            except TooLong as problem:
                chain = Chain(found.latex.strip(), "unreadable", reason=str(problem))
                chain.timed_out = True
                return [chain]


def _with_orders(declared: Declarations, found: Found) -> Declarations:
    """The declarations as a comment changes them for one formula."""
    changes: dict = {}
    for order in found.orders:
        if order.word == "convention":
            for name in order.text.replace(",", " ").split():
                if name not in CONVENTIONS:
                    raise BadDeclaration(
                        f"line {order.line}: the convention `{name}` is not known; known are "
                        + ", ".join(CONVENTIONS)
                    )
                changes["conventions"] = changes.get("conventions", declared.conventions) | {name}
        if order.word == "where":
            spans = dict(changes.get("indices", declared.indices))
            for part in order.text.split(","):
                letter, colon, span = part.partition(":")
                if not colon or not letter.strip() or not span.strip():
                    raise BadDeclaration(
                        f"line {order.line}: `proofread: where {order.text}`; the form is "
                        "`where n: N, m: M`"
                    )
                spans[letter.strip()] = span.strip()
            changes["indices"] = spans
    return replace(declared, **changes) if changes else declared


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread: the arrays are small, and idle threads would spin."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Stop code that runs past its time, a forward without end included.

    Signals reach the main thread alone; elsewhere the deadline between steps has to do.
    """
    usable = threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGALRM")
    if not usable or signal.getitimer(signal.ITIMER_REAL)[0]:
        yield
        return

    def ring(*_):
        raise TooLong(f"stopped after {seconds:g} s, the time an equation may take")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# ---- results between runs ----


@lru_cache(maxsize=1)
def _own_sources() -> str:
    """A digest of this package's own code: a verdict depends on it too."""
    made = hashlib.sha256(torch.__version__.encode())
    folder = Path(__file__).parent
    for file in sorted([*folder.glob("*.py"), *folder.glob("*.lark")]):
        made.update(file.read_bytes())
    return made.hexdigest()


class _Cache:
    """Results of one document, by the content of everything that they depend on."""

    def __init__(self, file: Path | None):
        self.file = file
        self.old: dict[str, list] = {}
        self.new: dict[str, list] = {}
        if file is not None:
            with contextlib.suppress(OSError, ValueError):
                self.old = json.loads(file.read_text(encoding="utf-8"))

    @classmethod
    def open(cls, folder: str | Path | None, path: str) -> _Cache:
        if folder is None:
            return cls(None)
        name = hashlib.sha256(str(path).encode()).hexdigest()[:24]
        return cls(Path(folder) / f"{name}.json")

    def __bool__(self) -> bool:
        return self.file is not None

    def key(self, *parts: object) -> str:
        if self.file is None:
            return ""
        text = json.dumps([_own_sources(), *parts], default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def get(self, key: str) -> list[Chain] | None:
        if self.file is None or key not in self.old:
            return None
        try:
            chains = [_chain_from(plain) for plain in self.old[key]]
        except (TypeError, KeyError):
            return None
        self.new[key] = self.old[key]
        return chains

    def put(self, key: str, chains: list[Chain]) -> None:
        if self.file is not None:
            self.new[key] = [_chain_to(chain) for chain in chains]

    def save(self) -> None:
        if self.file is None or self.new == self.old:
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.file.parent, suffix=".part")
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            json.dump(self.new, out)
        Path(name).replace(self.file)


def _chain_to(chain: Chain) -> dict:
    plain = dict(chain.__dict__)
    plain["equalities"] = [dict(e.__dict__) for e in chain.equalities]
    return plain


def _chain_from(plain: dict) -> Chain:
    return Chain(**{**plain, "equalities": [Equality(**e) for e in plain["equalities"]]})
