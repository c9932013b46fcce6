"""Two builds of one commit are the same, byte for byte."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.checks import HERE, PUBLISHED, ROOT, build


def copy(folder: Path) -> Path:
    """Copy what is, or will be, in the repository; no cache and no earlier site."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_symlink() or (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name, follow_symlinks=False)
    return folder


def files(site: Path) -> dict[str, bytes]:
    return {str(p.relative_to(site)): p.read_bytes() for p in site.rglob("*") if p.is_file()}


@pytest.mark.slow
def test_builds_are_the_same(published, tmp_path):
    """In a folder with another name, with another order of sets, without the verdicts kept."""
    source = copy(tmp_path / "another_folder")
    assert not (source / ".cache").exists()
    first = files(published)
    again = files(build(tmp_path / "again", source, PYTHONHASHSEED="2", **PUBLISHED))
    assert sorted(again) == sorted(first)
    assert [name for name in first if first[name] != again[name]] == []
    assert len(first) > 50
    assert "assets/cards/derivations/linear.png" in first
    assert f"<loc>{HERE}derivations/linear/</loc>".encode() in first["sitemap.xml"]
