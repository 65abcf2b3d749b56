"""All architectures."""

from __future__ import annotations

from typing import Final

from benchmarks.zoo.decoders import DECODERS
from benchmarks.zoo.dense import DENSE
from benchmarks.zoo.sequences import SEQUENCES
from benchmarks.zoo.specimen import Specimen
from benchmarks.zoo.text import TEXT_ENCODERS
from benchmarks.zoo.vision import VISION
from benchmarks.zoo.written import WRITTEN

SPECIMENS: Final[dict[str, Specimen]] = {
    each.name: each for each in (*TEXT_ENCODERS, *DECODERS, *SEQUENCES, *VISION, *DENSE, *WRITTEN)
}
