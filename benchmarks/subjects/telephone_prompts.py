"""Prompts of telephone exchanges: four people, each reading about 500 sentences and words.

The G.722 variant is the one with sound up to 7 kHz.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.subjects.archive import DebianPackage

RATE = 16_000
"""Samples a second."""

_VERSION = "1.6.1-1"
PACKAGES = (
    DebianPackage(
        name="asterisk-core-sounds-en-g722",
        version=_VERSION,
        sha256="38c5261820b406dcb0ecb37675720da2b0864850690690352ca52707eb623806",
    ),
    DebianPackage(
        name="asterisk-core-sounds-fr-g722",
        version=_VERSION,
        sha256="7add61d5e42279ecff1bbdf842a5a946ac3644fac9a0fe44384731aa7270c8e0",
    ),
    DebianPackage(
        name="asterisk-core-sounds-it-g722",
        version=_VERSION,
        sha256="46b4cf7afc508a5fcfc051b7ea233251c0d195dd4ef83cc4b7facb4c6429b016",
    ),
    DebianPackage(
        name="asterisk-core-sounds-ru-g722",
        version=_VERSION,
        sha256="673b4238a6b8269960f055d868c6a11083f7a0d00979167cb01554046b48ed9b",
    ),
)
"""One speaker each: Allison Smith, June Wallack, Carlo Flora, Maxim Topal."""

_FOLDER = "usr/share/asterisk/sounds"
_BITS_A_SECOND = 64_000

# In every package alike, and nobody speaks.
_NO_SPEECH = ("silence", "tt-monkeys.g722")


def read(package: Path) -> Iterator[np.ndarray]:
    """The recordings of a package, in the order of their names; float32 within -1 and 1."""
    from G722 import G722

    for path in sorted((package / _FOLDER).rglob("*.g722")):
        if path.parent.name in _NO_SPEECH or path.name in _NO_SPEECH:
            continue
        samples = G722(RATE, _BITS_A_SECOND).decode(path.read_bytes())
        yield np.array(samples, dtype=np.float32) / np.float32(1 << 15)
