"""The mutation figures on the page belong to the equations on the pages."""

import json

from benchmarks import mutations

RESULT = json.loads(mutations.RESULTS.read_text())["pages"]


def test_measured_equations_are_those_of_today():
    today = {
        p.relative_to(mutations.ROOT).as_posix(): mutations.fingerprint(p)
        for p in mutations.pages()
    }
    measured = {path: page["equations"] for path, page in RESULT.items()}
    assert measured == today, "an equation has changed: run `python -m benchmarks.mutations` again"


def test_every_edit_that_changes_the_meaning_is_caught():
    assert [
        edit for page in RESULT.values() for edit in page["listed"] if edit["outcome"] != "same"
    ] == []
    assert sum(page["caught"] for page in RESULT.values()) > 1000
