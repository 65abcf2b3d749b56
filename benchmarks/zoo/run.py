"""Runs every step on exports, one after another, and keeps what was found for the next time."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.zoo.apart import ApartError, apart
from benchmarks.zoo.export import Exporter, build, model_path
from benchmarks.zoo.outcome import Outcome, Row
from benchmarks.zoo.steps import CALIBRATION, CLEANED, NAMES, run_step
from benchmarks.zoo.table import SPECIMENS

TIMEOUT: Final = 240
"""Seconds for one step."""

_JUDGED: Final = 8


def rows_of(
    zoo: Path, names: Sequence[str], known: Collection[str] = (), *, timeout: float = TIMEOUT
) -> Iterator[Row]:
    """What becomes of each export of the architectures named, as it is found.

    Args:
        zoo: the folder of the exports; what is not there yet is exported.
        names: of the table.
        known: names of rows to leave out.
        timeout: seconds for one step.
    """
    for name in names:
        for exporter in Exporter:
            if f"{name}.{exporter.value}" in known:
                continue
            built = build(zoo, name, exporter)
            outcomes: tuple[Outcome, ...] = ()
            if not built.failure:
                outcomes = tuple(_outcomes(model_path(zoo, name, exporter), name, timeout))
            yield Row(
                name=built.name,
                family=SPECIMENS[name].family,
                failure=built.failure,
                fixed=bool(built.fixed),
                outcomes=outcomes,
            )


def _outcomes(source: Path, specimen: str, timeout: float) -> Iterator[Outcome]:
    with tempfile.TemporaryDirectory(prefix="zoo-") as name:
        work = Path(name)
        samples = work / "data.npz"
        feeds: dict[str, Any] = {**SPECIMENS[specimen].feeds(CALIBRATION + _JUDGED, seed=1)}
        np.savez(samples, **feeds)
        for step in NAMES:
            try:
                yield apart(run_step, step, source, samples, work, timeout=timeout)
            except ApartError as fault:
                told = str(fault).replace(f"{source.parent}/", "").replace(f"{work}/", "")
                yield Outcome(step=step, failure=told)
                if step == CLEANED:  # the others start from what it leaves
                    return


def in_order(rows: dict[str, Row]) -> list[Row]:
    """Rows as the table has them; architectures that left it are dropped."""
    names = [f"{name}.{exporter.value}" for name in SPECIMENS for exporter in Exporter]
    return [rows[name] for name in names if name in rows]
