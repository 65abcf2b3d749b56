"""2624 photographs of solar cells that glow under current, in which defects are dark.

The ELPV benchmark (Deitsch et al. 2019): of one crystal or of many, working or defective.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.subjects.archive import Package

PACKAGE = Package(
    name="elpv-dataset",
    version="1.0.0.post1",
    sha256="85e31c1126ee9b48e62d3a0232c58f58b2d189b0814a45c13642fa0415af4a4c",
)
CLASSES = (
    "one crystal, working",
    "one crystal, defective",
    "many crystals, working",
    "many crystals, defective",
)
_FOLDER = "elpv_dataset/data"
_KINDS = ("mono", "poly")
_DEFECTIVE = 0.5
"""From this probability on that an expert gave; four are in use: 0, 1/3, 2/3 and 1."""


def read(package: Path) -> tuple[list[Path], np.ndarray]:
    """The pictures, gray and square, and the class of each as int64."""
    folder = package / _FOLDER
    files, classes = [], []
    for line in (folder / "labels.csv").read_text(encoding="utf-8").splitlines():
        name, probability, kind = line.split()
        files.append(folder / name)
        classes.append(2 * _KINDS.index(kind) + (float(probability) >= _DEFECTIVE))
    return files, np.array(classes, dtype=np.int64)
