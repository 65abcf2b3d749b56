"""What is done to each export: the recipes that a search tries, and pruning."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from benchmarks.zoo.costs import largest_left, macs_by_node
from benchmarks.zoo.outcome import Outcome, Reason
from onnxcompress.channels.inspection import inspect_groups
from onnxcompress.data.dataset import Dataset
from onnxcompress.data.loading import load_dataset
from onnxcompress.inspection import inspect_model
from onnxcompress.ir import io
from onnxcompress.ir.model import Model, Node, Tensor
from onnxcompress.ir.views import VIEWS, WEIGHTS
from onnxcompress.pass_base import Pass, PassReport
from onnxcompress.pass_manager import OnError, PassManager
from onnxcompress.recipe import parse_pass
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from onnxcompress.search.candidates import CANDIDATES, CLEAN_UP

CALIBRATION: Final = 8
"""Samples to calibrate on; all others judge."""

LEAST_ELEMENTS: Final = 4096
"""A float weight that stays must be explained from here on: below it, packing saves nothing."""

_MOST_REASONS: Final = 3

_CANDIDATES: Final = {each.name: each.recipe.passes for each in CANDIDATES}


@dataclass(frozen=True, kw_only=True)
class Step:
    """A recipe, run on what clean-up leaves.

    Attributes:
        passes: of it.
        floor: dB that outputs must keep; None where they must only be numbers. Four bits make other
            outputs of a deep network of random weights, but none of another size.
        packs: whether it is to store weights in fewer bits.
        prunes: whether it is to cut multiply-accumulates.
    """

    passes: Sequence[Pass]
    floor: float | None
    packs: bool = False
    prunes: bool = False


INSPECT: Final = "inspect"
CLEANED: Final = "clean-up"

STEPS: Final[dict[str, Step]] = {
    CLEANED: Step(passes=CLEAN_UP, floor=80.0),
    "dynamic-int8": Step(passes=_CANDIDATES["dynamic-int8"], floor=10.0, packs=True),
    "static-int8": Step(passes=_CANDIDATES["static-int8"], floor=0.0, packs=True),
    "weights-int4": Step(passes=_CANDIDATES["weights-int4"], floor=-6.0, packs=True),
    "prune": Step(
        passes=(parse_pass("prune-channels:target=macs,amount=0.3"), parse_pass("strip-pruned")),
        floor=None,
        prunes=True,
    ),
}
NAMES: Final = (INSPECT, *STEPS)


def run_step(name: str, source: Path, samples: Path, work: Path) -> Outcome:
    """Runs a step in this process.

    Args:
        name: one of `NAMES`.
        source: the export.
        samples: an .npz file for it.
        work: a folder, in which `CLEANED` leaves what the steps after it start from.

    Raises:
        OnnxCompressError: what would end the command line with 1.
    """
    began = time.perf_counter()
    outcome = _inspected(source) if name == INSPECT else _run(name, source, samples, work)
    return msgspec.structs.replace(outcome, seconds=round(time.perf_counter() - began, 1))


def _inspected(source: Path) -> Outcome:
    report = inspect_model(source)
    groups = inspect_groups(source)
    size = source.stat().st_size
    unknown = [each for each in (*report.notes, *groups.notes) if "shapes are not known" in each]
    problem = "MACs are 0" if not report.macs else "".join(unknown[:1])
    return Outcome(step=INSPECT, bytes=size, original_bytes=size, problem=problem)


def _run(name: str, source: Path, samples: Path, work: Path) -> Outcome:
    step, cleaned, output = STEPS[name], work / f"{CLEANED}.onnx", work / f"{name}.onnx"
    start = source if name == CLEANED else cleaned
    data = load_dataset(str(samples), Session(source).inputs)
    context = RuntimeContext(data.take(range(CALIBRATION)))
    model = io.load(start)
    before = io.load(start)
    on_error = OnError.SKIP if name == CLEANED else OnError.STOP
    reports = PassManager(step.passes, on_error=on_error).run(model, context)
    io.save(model, output)
    sqnr, problem = _compared(source, output, data.take(range(CALIBRATION, len(data))), step.floor)
    costs, remaining = macs_by_node(before, context), macs_by_node(model, context)
    total = sum(costs.values())
    return Outcome(
        step=name,
        changed=any(report.modified for report in reports),
        bytes=output.stat().st_size,
        original_bytes=source.stat().st_size,
        sqnr=sqnr,
        macs=round(sum(remaining.values()) / total, 4) if step.prunes and total else None,
        rolled_back=tuple(f"{each.name}: {each.error}" for each in reports if each.error),
        reasons=tuple(_reasons(reports))[:_MOST_REASONS],
        unexplained=tuple(_unexplained(before, model, reports)) if step.packs else (),
        left=largest_left(before, costs, remaining, reports, context) if step.prunes else None,
        problem=problem,
    )


def _compared(
    source: Path, output: Path, data: Dataset, floor: float | None
) -> tuple[float | None, str]:
    """The SQNR in dB of the worst output, None if there is none; and what is wrong with it."""
    ours, theirs = Session(output), Session(source)
    signal: dict[str, float] = {}
    noise: dict[str, float] = {}
    for batch in data.batches(1):
        actual, expected = ours.run(batch.feeds), theirs.run(batch.feeds)
        for name, reference in expected.items():
            if actual[name].shape != reference.shape:
                return None, f"{name!r} has shape {actual[name].shape}, not {reference.shape}"
            if not np.isfinite(actual[name][np.isfinite(reference)]).all():
                return None, f"{name!r} is not finite"
            known = np.where(np.isfinite(reference), reference, 0).astype(np.float64)
            difference = np.where(np.isfinite(reference), actual[name] - known, 0)
            signal[name] = signal.get(name, 0.0) + float(np.square(known).sum())
            noise[name] = noise.get(name, 0.0) + float(np.square(difference).sum())
    levels = {
        name: round(10 * float(np.log10(signal[name] / noise[name])), 1)
        for name in signal
        if noise[name] and signal[name]
    }
    if not levels:
        return None, ""
    worst = min(levels, key=lambda name: levels[name])
    low = floor is not None and levels[worst] < floor
    return levels[worst], f"{worst!r} keeps {levels[worst]} dB" if low else ""


def _reasons(reports: Iterable[PassReport]) -> Iterator[Reason]:
    """Reasons that differ by more than names and numbers, the commonest first."""
    found: dict[str, Reason] = {}
    for report in reports:
        for skip in report.skips:
            kind = re.sub(r"'[^']*'|\d+", "", skip.reason)
            first = found.get(kind, Reason(node=skip.node, reason=skip.reason, count=0))
            found[kind] = Reason(node=first.node, reason=first.reason, count=first.count + 1)
    yield from sorted(found.values(), key=lambda each: -each.count)


def _unexplained(before: Model, model: Model, reports: Iterable[PassReport]) -> Iterator[str]:
    """Readers of large float weights, through views, that no pass gives a reason for."""
    told = {skip.node for report in reports for skip in report.skips}
    names = {node.name for _, node in before.nodes()}  # scales that a pass adds need no reason
    for constant in model.constants():
        if np.dtype(constant.dtype).kind == "f" and constant.size >= LEAST_ELEMENTS:
            readers = [node.name for node in _readers(constant) if node.name in names]
            if readers and not told.intersection(readers):
                yield readers[0]


def _readers(tensor: Tensor) -> Iterator[Node]:
    """Nodes that read a tensor as a weight."""
    for node in tensor.outputs:
        if node.op in WEIGHTS:
            yield node
        elif node.op in VIEWS:
            yield from _readers(node.outputs[0])
