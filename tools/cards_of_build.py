"""Run by a build, through the plugin `gen-files`: make a card for each page, and say where it is.

`config.extra.cards` has, by page, the path and the words that `overrides/main.html` puts into the
page. A site without an address has no cards, since a card has to be named by its whole address; nor
has the one that `mkdocs serve` shows, which is at home on this machine.
"""

from pathlib import Path, PurePosixPath

import mkdocs_gen_files as build

from extensions import report
from tools import cards


def make(page: Path, src_uri: str) -> None:
    card = cards.read(page, build.config.site_name)
    try:
        picture = cards.draw(card)
    except cards.Misfit as problem:
        place = report.place_of(card.latex, page) if card.latex else str(page)
        return report.warn(card.latex or card.title, f"no card for this page: {problem}", place)
    path = str(PurePosixPath("assets/cards", src_uri).with_suffix(".png"))
    with build.open(path, "wb") as file:
        file.write(picture)
    build.config.extra["cards"][src_uri] = {"path": path, "alt": card.alt}


address = build.config.site_url
build.config.extra["cards"] = {}
if address and not address.startswith(f"http://{build.config.dev_addr}"):
    for file in build.files.documentation_pages():
        make(Path(file.abs_src_path), file.src_uri)
