"""How a name is written: in LaTeX, in code, and as a key under which both are found."""

from __future__ import annotations

import re

from . import tree

Key = tuple[str, str, str]  # the name without scripts, its subscript, its superscript
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
_ACCENTS = {"\\widehat": "\\hat", "\\overline": "\\bar", "\\widetilde": "\\tilde"}


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


def letters_of(code: str) -> frozenset[str]:
    """The words that a lexer has to keep together to read the spellings of a code name."""
    return frozenset({code, *re.findall(r"[A-Za-z]{2,}", code)})


def spellings(code: str) -> list[str]:
    """The LaTeX names that a code name has without being declared."""
    found = [f"\\operatorname{{{code}}}"] if len(code) > 1 else [code]
    if len(code) > 1 and code.isalpha():
        found.append(code)
    if code in GREEK:
        found.append("\\" + code)
    word = re.fullmatch(r"([A-Za-z]+)_?(hat|bar|tilde)", code)
    if word:
        found += [f"{ACCENT_WORDS[word[2]]}{{{t}}}" for t in spellings(word[1])]
    label = re.fullmatch(r"([A-Za-z]+?)_?([0-9]+)", code)
    if label:
        for text in spellings(label[1]):
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
        found += [f"{t}_{{{under[2]}}}" for t in spellings(under[1])]
    return found
