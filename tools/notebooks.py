"""Write each derivation page as a Jupyter notebook that needs nothing of this project.

    python -m tools.notebooks

makes `docs/notebooks/derivations/<layer>.ipynb` of `docs/derivations/<layer>.md`, the code it shows and
its exercise. The files are in the repository because Colab opens them there; a test says when one is
no longer what its page gives. With SITE_URL in the environment, links to other pages lead to that
site; without it, their text alone is kept.

Prose and formulas become Markdown cells. Code becomes code cells, each gradient with a line that
compares it with autograd. What is made when the site is built is left out.
"""

import ast
import hashlib
import os
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

import nbformat
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from extensions.cells import Step, draw

PAGES = Path("docs/derivations")
TARGET = Path("docs/notebooks/derivations")

# Distinct and above 2, so that no wrong axis, lost transpose or factor of 2 can hide.
SIZES = {"N": 5, "D": 3, "M": 4, "C": 6, "T": 7, "H": 8, "h": 9, "V": 10}

INCLUDE = re.compile(r'--8<-- "(?P<path>[\w./]+\.py)(?::(?P<section>\w+))?"')
FENCE = re.compile(r"(?P<mark>```+|~~~+) *(?P<name>\w*)")
BLOCK = re.compile(r"(?P<mark>/{3,}) *(?P<name>[\w-]+)(?: *\| *(?P<argument>.*))?")
NOTE = re.compile(r'(?:!!!|\?\?\?\+?) *[\w-]+(?: "(?P<title>[^"]*)")?')
TAG = re.compile(r"</?[a-z][^>]*>")
LINK = re.compile(r"(?<!!)\[(?P<text>(?:`[^`]*`|[^]`])*)\]\((?P<target>[^)\s]*)\)")

INTRODUCTION = """\
Run the cells in their order. Under each gradient stands a line that compares it with autograd's. It is silent as long as
both agree: change a sign, run the cell again, and it speaks."""
INSTALL = """\
import importlib.util

if importlib.util.find_spec("jaxtyping") is None:
    %pip install --quiet jaxtyping"""
DATA = "Random data, each axis with a size of its own, and what autograd makes of the same forward:"
EXAMPLES = """\
import doctest

examples = doctest.testmod()
assert examples.failed == 0
print(examples.attempted, "examples in docstrings, all as they stand there")"""
DIFFERS = '''\
def differs(actual, expected):
    """Say how a gradient differs from autograd's; raise where it does not."""
    try:
        torch.testing.assert_close(actual, expected)
    except AssertionError as difference:
        print(difference)
    else:
        raise AssertionError("autograd gives the same")'''
TURN = "Write your own in place of each `raise NotImplementedError`:"
ATTEMPT = '''\
def attempt(name, gradient, expected):
    """Say how what you wrote compares with autograd."""
    try:
        torch.testing.assert_close(gradient(), expected)
    except NotImplementedError:
        print(f"{name}: not written yet")
    except Exception as problem:
        print(f"{name}: {type(problem).__name__}: {problem}")
    else:
        print(f"{name}: right")'''
COMPARE = (
    "Run this cell as often as you like. It compares what you wrote with autograd, on new data:"
)

ONLY_THERE = {
    "curve": "On the page, a picture stands here.",
    "shapes": "On the page, a calculator stands here.",
}
POINTING = re.compile(r" ?Point at (an entry|one):$")

Axes = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Part:
    """A stretch of a page: `prose`, a `fence` of a language, or a `block` such as evidence."""

    kind: str
    lines: list[str]
    name: str = ""
    argument: str = ""


def parts_of(body: str) -> Iterator[Part]:
    """Split a page without its front matter."""
    prose: list[str] = []
    lines = iter(body.splitlines())
    for line in lines:
        fence, block = FENCE.match(line), BLOCK.fullmatch(line)
        if not (opening := fence or block):
            prose.append(line)
            continue
        yield Part("prose", prose)
        prose = []
        inside = list(iter(lambda: next(lines).rstrip(), opening["mark"]))
        if fence:
            yield Part("fence", inside, fence["name"])
        else:
            yield Part("block", inside, block["name"], block["argument"] or "")
    yield Part("prose", prose)


def section(path: str, name: str | None) -> str:
    """Return the section of a file that a page names, or all of the file."""
    source = Path(path).read_text(encoding="utf-8")
    if name:
        source = source.split(f"# --8<-- [start:{name}]\n")[1].split(f"# --8<-- [end:{name}]")[0]
    return source.strip()


def axes_of(function: ast.FunctionDef) -> Axes | None:
    """Return the axes of each argument, such as {"X": ("N", "D")}; None where one has no shape."""
    found = {}
    for argument in function.args.args:
        match argument.annotation:
            case ast.Subscript(
                value=ast.Name(id="Float"), slice=ast.Tuple(elts=[_, ast.Constant(value=axes)])
            ):
                found[argument.arg] = tuple(axes.split())
            case _ if argument.arg != "self":
                return None
    return found


def upstream_of(function: ast.FunctionDef) -> str | None:
    """Return the name of the upstream gradient that a function takes."""
    names = (argument.arg for argument in function.args.args)
    return next((name for name in names if name.startswith("dJ_d")), None)


@dataclass(frozen=True)
class Forward:
    """A call whose gradients autograd knows.

    `outputs = call`, where the last of the outputs is differentiated; `function` is that last
    output as a function of the arguments, in the order of `axes`. Without an upstream, it is J.
    `before` is what the call needs.
    """

    call: str
    outputs: tuple[str, ...]
    axes: Axes
    function: str
    upstream: str | None
    before: str = ""

    @property
    def known(self) -> set[str]:
        """The names that stand ready once the data are drawn."""
        return {*self.axes, *self.outputs, self.upstream or "J"}

    def data(self, seed: int = 0, sizes: dict[str, int] | None = None, zeros: str = "") -> str:
        """Return code that draws the data and asks autograd for every gradient.

        ValueError names an axis for which there is no size.
        """
        chosen = SIZES | (sizes or {})
        used = {axis: None for shape in self.axes.values() for axis in shape}
        if unknown := set(used) - set(chosen):
            raise ValueError(f"{self.call}: no size for {sorted(unknown)}, only for {[*SIZES]}")
        lines = [
            f"torch.manual_seed({seed})",
            f"{', '.join(used)} = {', '.join(str(chosen[axis]) for axis in used)}",
        ]
        for name, shape in self.axes.items():
            lines.append(f"{name} = torch.randn({', '.join(shape) or '()'}).double()")
        if zeros:
            lines.append(f"{zeros}[0] = 0")
        if self.before:
            lines.append(self.before)
        lines.append(f"{', '.join(self.outputs)} = {self.call}")
        if self.upstream:
            lines.append(f"{self.upstream} = torch.randn_like({self.outputs[-1]})")
        gradients = ", ".join(f"dJ_d{name}" for name in self.axes)
        inputs = ", ".join(self.axes)
        if len(self.axes) > 1:
            gradients, inputs = f"({gradients})", f"({inputs})"
        arguments = ", ".join([self.function, inputs, *filter(None, [self.upstream])])
        lines.append(f"_, {gradients} = torch.autograd.functional.vjp(\n    {arguments}\n)")
        return "\n".join(lines)

    def call_of(self, function: ast.FunctionDef) -> str:
        """Return a call of the function on the drawn data; ValueError where some are missing."""
        arguments = [argument.arg for argument in function.args.args]
        if missing := [name for name in arguments if name not in self.known]:
            raise ValueError(f"{function.name} takes {missing}; known are {sorted(self.known)}")
        return f"{function.name}({', '.join(arguments)})"

    def expected(self, function: ast.FunctionDef) -> str | None:
        """Return what autograd says a function must give; None for a helper."""
        forward = self.call.partition("(")[0]
        if function.name.startswith(f"{forward}_by_"):
            return self.outputs[-1]
        if function.name.startswith("grad_"):
            # The longest match: with arguments `x` and `x_hat`, grad_x_hat is of x_hat.
            of = [name for name in self.axes if re.match(rf"grad_{name}(_|$)", function.name)]
            if not of:
                raise ValueError(f"{function.name}: {self.call} has no such argument")
            return f"dJ_d{max(of, key=len)}"
        match function.body[-1]:
            case ast.Return(value=ast.Tuple(elts=values)) if all(
                isinstance(value, ast.Name) and value.id.startswith("dJ_d") for value in values
            ):
                return f"({', '.join(value.id for value in values)})"
        return None


def forward_of(function: ast.FunctionDef, declared: dict) -> Forward:
    """Find in a page's declarations how its forward is called, as in `Z = linear(X, W, b)`."""
    name, axes = function.name, axes_of(function)
    form = re.compile(rf"^([\w, ]+) = ({name}\({', '.join(axes)}\))$", re.MULTILINE)
    for place in (declared, *declared.get("sets", {}).values()):
        if not (found := form.search(place.get("forward", ""))):
            continue
        outputs = tuple(found[1].split(", "))
        last = name if len(outputs) == 1 else f"lambda *inputs: {name}(*inputs)[-1]"
        upstream = None if outputs[-1] == "J" else f"dJ_d{outputs[-1]}"
        return Forward(found[2], outputs, axes, last, upstream)
    raise ValueError(f"{name}: no declaration of the page is `Z = {name}({', '.join(axes)})`")


@dataclass(frozen=True)
class Layer:
    """A class with `__call__` and `backward`, or a torch.autograd.Function.

    `gradients` calls its backward; `expected` names what autograd gives.
    """

    forward: Forward
    gradients: str
    expected: str


def layer_of(node: ast.ClassDef, kept: list[str] | None = None) -> Layer | None:
    """Read a class that computes gradients; None for one of another kind, or without shapes.

    `kept` are the gradients it leaves on itself, by default those that its `backward` assigns.
    """
    methods = {part.name: part for part in node.body if isinstance(part, ast.FunctionDef)}
    call = methods.get("__call__") or methods.get("forward")
    if call is None or "backward" not in methods:
        return None
    given = axes_of(call)
    own = axes_of(methods["__init__"]) if "__init__" in methods else {}
    if given is None or own is None:
        return None
    upstream = upstream_of(methods["backward"])
    output = upstream.removeprefix("dJ_d") if upstream else "J"
    arguments = f"({', '.join(given)})"
    if "forward" in methods:
        function = f"{node.name}.forward"
        forward = Forward(f"{function}{arguments}", (output,), given, function, upstream)
        gradients = f"torch.autograd.functional.vjp({node.name}.apply, {arguments}, {upstream})[1]"
        return Layer(forward, gradients, names_of(given))
    made = f"{node.name}({', '.join(own)})"
    axes = given | own
    function = f"lambda {', '.join(axes)}: {made}{arguments}"
    forward = Forward(f"layer{arguments}", (output,), axes, function, upstream, f"layer = {made}")
    if kept is None:
        kept = re.findall(r"self\.(dJ_d\w+) = ", ast.unparse(methods["backward"]))
    parts = [f"layer.backward({upstream or ''})", *(f"layer.{name}" for name in kept)]
    first = f"dJ_d{next(iter(given))}"
    if not kept:
        return Layer(forward, parts[0], first)
    return Layer(forward, f"({', '.join(parts)})", f"({', '.join([first, *kept])})")


def names_of(axes: Axes) -> str:
    return f"({', '.join(f'dJ_d{name}' for name in axes)})"


def close(actual: str, expected: str) -> str:
    """Return the line that compares, within 88 columns."""
    line = f"torch.testing.assert_close({actual}, {expected})"
    if len(line) <= 88:
        return line
    return f"torch.testing.assert_close(\n    {actual},\n    {expected},\n)"


def definitions(source: str, kind: type) -> list:
    """Return what a piece of code defines on its top level, in its order."""
    return [node for node in ast.parse(source).body if isinstance(node, kind)]


class Page:
    """A derivation page on its way to a notebook."""

    def __init__(self, path: Path, site_url: str = ""):
        self.name, self.site_url = path.stem, site_url.rstrip("/")
        _, front, self.body = path.read_text(encoding="utf-8").split("---\n", 2)
        self.front = yaml.safe_load(front)
        self.cells: list[nbformat.NotebookNode] = []
        self.prose: list[str] = []
        self.imported: set[str] = set()
        self.heading = ""
        self.forward: Forward | None = None
        # What is shown before the forward is checked after it.
        self.early: list[ast.FunctionDef] = []
        self.data = ""
        # What each shown function must give, by which an exercise of that name is judged.
        self.expected: dict[str, str] = {}
        # What each shown layer leaves on itself, which one in an exercise has to do as well.
        self.kept: dict[str, list[str]] = {}

    def notebook(self) -> nbformat.NotebookNode:
        """Return the whole page as a notebook."""
        parts = [part for part in parts_of(self.body) if "".join(part.lines) or part.name]
        for part, following in zip(parts, [*parts[1:], None], strict=True):
            if part.name == "python":
                self.take_python(part, following)
            elif part.kind == "fence":
                self.take_fence(part)
            elif part.kind == "prose":
                self.take_prose(part)
            elif part.name == "cells":
                self.take_cells(part)
            elif part.name in ONLY_THERE:
                self.take_prose(Part("prose", ["", f"*{ONLY_THERE[part.name]}*"]))
        self.end_cell()
        kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
        return new_notebook(
            cells=self.cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}}
        )

    # Cells

    def take_cells(self, part: Part) -> None:
        """Write the figure of a step as its sentences: there is nothing to point at here."""
        layer, _, name = part.argument.partition(".")
        drawn = draw(Step(layer, name), Element("div"))
        # What stands before the figure ends with an invitation to point at it.
        while self.prose and not self.prose[-1]:
            self.prose.pop()
        self.prose[-1] = POINTING.sub("", self.prose[-1])
        self.prose.append("")
        for item in drawn.find("details")[-1]:
            self.prose.append(f"- `{item[0].text}`{''.join(item.itertext())[len(item[0].text) :]}")
        self.prose.append("")

    def identity(self, source: str) -> str:
        """Return an id that does not change when other cells do."""
        taken = {cell.id for cell in self.cells}
        digest = hashlib.sha256(source.encode()).hexdigest()
        return next(part for i in range(56) if (part := digest[i : i + 8]) not in taken)

    def end_cell(self) -> None:
        text = re.sub(r"\n{3,}", "\n\n", "\n".join(self.prose)).strip()
        if text:
            self.cells.append(new_markdown_cell(text, id=self.identity(text)))
        self.prose = []

    def code(self, *pieces: str) -> None:
        self.end_cell()
        source = "\n\n\n".join(filter(None, pieces))
        self.cells.append(new_code_cell(source, id=self.identity(source)))

    def say(self, *paragraphs: str) -> None:
        for paragraph in paragraphs:
            self.prose += [paragraph, ""]

    # Prose

    def take_prose(self, part: Part) -> None:
        text = re.sub(r"<!--.*?-->", "", "\n".join(part.lines), flags=re.DOTALL)
        # What is indented belongs to the note or the list item above it.
        for paragraph in re.split(r"\n\s*\n(?! {4})", text):
            lines = [line for line in paragraph.splitlines() if not TAG.fullmatch(line.strip())]
            paragraph = "\n".join(lines).strip("\n")
            if paragraph.strip() and not self.is_of_the_clone(paragraph):
                self.take_paragraph(paragraph)

    def is_of_the_clone(self, paragraph: str) -> bool:
        """Tell whether a paragraph is about files and commands that a notebook does not have."""
        if paragraph.startswith("The whole module: "):
            return True
        of_exercise = re.match(r"[a-z]", paragraph) or re.search(r"exercises/|-m proof", paragraph)
        return self.heading == "Your turn" and bool(of_exercise)

    def take_paragraph(self, text: str) -> None:
        first, *rest = LINK.sub(self.link, text).splitlines()
        if heading := re.match(r"#+ (.*)", first):
            self.start_section(heading[1], "\n".join([first, *rest]))
        elif note := NOTE.fullmatch(first):
            quoted = textwrap.dedent("\n".join(rest)).splitlines()
            self.say("\n".join(f"> {line}" for line in [f"**{note['title']}.**", *quoted]))
        else:
            self.say("\n".join([first, *rest]))

    def link(self, found: re.Match) -> str:
        """Make a link to another page absolute, or take its text where no site is known."""
        text, target = found["text"], found["target"]
        if re.match(r"[a-z]+:", target):
            return found[0]
        if not self.site_url:
            return text
        path, hash_, anchor = target.partition("#")
        address = os.path.normpath(f"derivations/{path or f'{self.name}.md'}").replace("\\", "/")
        if re.search(r"\.md$|^notebooks/.*\.py$", address):
            # As MkDocs does: linear.md becomes linear/, and index.md its folder.
            address = f"{address.rpartition('.')[0]}/".removesuffix("index/")
        return f"[{text}]({self.site_url}/{address}{hash_}{anchor})"

    def start_section(self, heading: str, text: str) -> None:
        self.end_cell()
        if heading == "Your turn":
            self.say("Every example in the docstrings above, run:")
            self.code(EXAMPLES)
        self.say(text)
        if not self.heading:
            source = LINK.sub(self.link, f"[*How a gradient becomes code*]({self.name}.md)")
            self.say(f"From {source}, as a notebook. {INTRODUCTION}")
            self.code(INSTALL)
        self.heading = heading

    # Code

    def take_fence(self, part: Part) -> None:
        """Show what is no Python as it is, but for the commands of an exercise."""
        if self.heading != "Your turn":
            self.say("\n".join([f"```{part.name}", *part.lines, "```"]))

    def take_python(self, part: Part, following: Part | None) -> None:
        found = [INCLUDE.fullmatch(line.strip()) for line in part.lines if line.strip()]
        pieces = []
        for line in found:
            piece = section(line["path"], line["section"])
            pieces.append(self.new_imports(piece) if line["section"] == "imports" else piece)
        source = "\n\n\n".join(filter(None, pieces))
        room = found[-1]["path"].partition("/")[0]
        if room == "exercises":
            self.take_exercise(Path(found[-1]["path"]))
        elif following and following.name == "diagnosis":
            self.take_mistake(source, following)
        elif room == "mistakes":
            self.code(source)
        else:
            self.code(source, *self.checks(source))
            self.take_forward(source)

    def take_mistake(self, source: str, diagnosis: Part) -> None:
        """Show wrong code, and how it differs from autograd on the data of its diagnosis."""
        options = yaml.safe_load("\n".join(diagnosis.lines)) or {}
        sizes = {k: int(v) for k, v in (p.split("=") for p in options.get("sizes", "").split())}
        data = self.forward.data(sizes=sizes, zeros=options.get("zeros", ""))
        pieces = [source, *(self.differences(f) for f in definitions(source, ast.FunctionDef))]
        if data != self.data:
            pieces.insert(1, data)
            self.data = data
        if not any("def differs" in cell.source for cell in self.cells):
            self.code(DIFFERS)
        self.code(*pieces)

    def differences(self, function: ast.FunctionDef) -> str:
        return f"differs({self.forward.call_of(function)}, {self.forward.expected(function)})"

    def new_imports(self, lines: str) -> str:
        """Return the imports that no cell above has. The site's own modules are in the cells."""
        new = [
            line
            for line in lines.splitlines()
            if line not in self.imported and not line.startswith("from snippets")
        ]
        self.imported |= set(new)
        return "\n".join(new).strip()

    def checks(self, source: str) -> list[str]:
        """Return the lines that compare what a cell defines with autograd."""
        layers = [self.check_of(node) for node in definitions(source, ast.ClassDef)]
        functions = definitions(source, ast.FunctionDef)
        if self.forward is None:
            self.early += functions
            return layers
        return [self.comparisons(functions), *layers]

    def check_of(self, node: ast.ClassDef) -> str:
        """Return code that compares an object's gradients with autograd; empty for no layer."""
        layer = layer_of(node)
        if layer is None:
            return ""
        self.kept[node.name] = re.findall(r"layer\.(dJ_d\w+)", layer.gradients)
        return f"{layer.forward.data()}\n{close(layer.gradients, layer.expected)}"

    def comparisons(self, functions: list[ast.FunctionDef]) -> str:
        lines = []
        for function in functions:
            if expected := self.forward.expected(function):
                self.expected[function.name] = expected
                lines.append(close(self.forward.call_of(function), expected))
        return "\n".join(lines)

    def take_forward(self, source: str) -> None:
        """Where a cell defines the forward, draw the data and check what stood before it."""
        for function in definitions(source, ast.FunctionDef):
            if self.forward is None and function.name in (self.name, "forward"):
                self.forward = forward_of(function, self.front["proofread"])
                self.data = self.forward.data()
                self.say(DATA)
                self.code(self.data, self.comparisons(self.early))

    def take_exercise(self, path: Path) -> None:
        """Show the stubs of an exercise, and a cell that judges what the reader made of them."""
        source = path.read_text(encoding="utf-8")
        self.say(TURN)
        stubs = definitions(source, (ast.FunctionDef, ast.ClassDef))
        self.code(*(ast.get_source_segment(source, stub) for stub in stubs))
        self.say(COMPARE)
        lines, layers = [], []
        for stub in stubs:
            if isinstance(stub, ast.ClassDef):
                layer = layer_of(stub, self.kept.get(stub.name, []))
                line = f'attempt("{stub.name}", lambda: {layer.gradients}, {layer.expected})'
                layers.append(f"{layer.forward.data(seed=1)}\n{line}")
            elif expected := self.expected.get(stub.name) or self.forward.expected(stub):
                call = self.forward.call_of(stub)
                lines.append(f'attempt("{stub.name}", lambda: {call}, {expected})')
        data = self.forward.data(seed=1) if self.forward else ""
        self.code(ATTEMPT, data, "\n".join(lines), *layers)


def text_of(page: Path, site_url: str = "") -> str:
    """Return the notebook file of a derivation page; ValueError names the page and what is wrong."""
    try:
        notebook = Page(page, site_url).notebook()
    except ValueError as problem:
        raise ValueError(f"{page}: {problem}") from None
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def main() -> None:
    TARGET.mkdir(parents=True, exist_ok=True)
    for page in sorted(PAGES.glob("*.md")):
        target = TARGET / f"{page.stem}.ipynb"
        target.write_text(text_of(page, os.environ.get("SITE_URL", "")), encoding="utf-8")
        print(target)


if __name__ == "__main__":
    main()
