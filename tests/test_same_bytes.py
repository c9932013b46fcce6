"""Two builds of one commit are the same, byte for byte."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checks import ROOT

# What a published build knows; the time stands for that of the commit.
PUBLISHED = {"SITE_URL": "https://example.org/gradients/", "SOURCE_DATE_EPOCH": "1700000000"}


def copy(folder: Path) -> Path:
    """Copy what is, or will be, in the repository; no cache and no earlier site."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_symlink() or (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name, follow_symlinks=False)
    return folder


def build(source: Path, site: Path, order: int) -> dict[str, bytes]:
    """Build the site with that order of sets and names; return the bytes of its files."""
    given = {"PYTHONPATH": str(source), "PYTHONHASHSEED": str(order), "NO_MKDOCS_2_WARNING": "1"}
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", site],
        check=True,
        cwd=source,
        env=os.environ | PUBLISHED | given,
        capture_output=True,
    )
    return {str(p.relative_to(site)): p.read_bytes() for p in site.rglob("*") if p.is_file()}


@pytest.mark.slow
def test_builds_are_the_same(tmp_path):
    """In folders with other names, with another order of sets, with the verdicts kept and not."""
    here, there = copy(tmp_path / "here"), copy(tmp_path / "another_folder")
    first = build(here, tmp_path / "first", order=1)
    for again in (build(there, tmp_path / "second", 2), build(here, tmp_path / "third", 3)):
        assert sorted(again) == sorted(first)
        assert [name for name in first if first[name] != again[name]] == []
    assert len(first) > 50
    assert "assets/cards/derivations/linear.png" in first
    assert b"<loc>https://example.org/gradients/derivations/linear/</loc>" in first["sitemap.xml"]
