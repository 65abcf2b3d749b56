"""What every page of results needs: where it goes, what it was measured on, how it was made."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.subjects.errors import SubjectError
from onnxcompress.measure.environment import Environment, environment

RESULTS = Path(__file__).resolve().parent / "results"
"""Where the pages lie that are part of the repository."""


def find_subject(cache: Path, name: str) -> Path:
    """The folder of a subject.

    Raises:
        SubjectError: it was not fetched.
    """
    folder = cache / name
    if not (folder / "model.onnx").is_file():
        raise SubjectError(
            f"{name} is not in the cache; `python -m benchmarks.subjects fetch {name}` gets it"
        )
    return folder


def environment_line(found: Environment | None = None) -> str:
    """Processor, versions and threads, in a sentence."""
    found = found or environment()
    threads = "1 thread" if found.threads == 1 else f"{found.threads} threads"
    sets = ", ".join(name for name in found.instruction_sets if "vnni" in name or "amx" in name)
    return (
        f"Measured on {found.cpu} ({sets or 'no VNNI'}), {found.logical_cores} cores, {threads}, "
        f"onnxruntime {found.onnxruntime}, onnx {found.onnx}, {found.system}."
    )


def command_line(module: str, arguments: Sequence[str] | None) -> str:
    """The command that made a page, without the paths of this machine.

    Args:
        module: of `benchmarks`.
        arguments: None for those of this process.
    """
    given = sys.argv[1:] if arguments is None else arguments
    shown = [Path(each).name if Path(each).is_absolute() else each for each in given]
    return " ".join(["python", "-m", f"benchmarks.{module}", *shown])


def megabytes(size: float) -> str:
    """Bytes in MB of a million, as file sizes are told."""
    return f"{size / 1e6:,.1f} MB" if abs(size) < 1e8 else f"{size / 1e6:,.0f} MB"
