"""What today's tools make of a model, as a table; each is run in a process of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from onnxruntime.quantization import (
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from benchmarks.child import first_line
from onnxcompress.runtime.session import Session

Quantize = Callable[[Path, Path, "Reader"], None]
"""Reads the first file, writes the second."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One way to quantize a model with another tool.

    Attributes:
        name: what the table calls it.
        quantize: does it.
        samples: how many calibration samples it gets at most; None for all.
        subjects: the subjects it is tried on; None for all.
    """

    name: str
    quantize: Quantize
    samples: int | None = None
    subjects: frozenset[str] | None = None


class Reader:
    """Samples of an .npz file, one at a time, as onnxruntime asks for them."""

    def __init__(self, path: Path, names: list[str], samples: int | None):
        with np.load(path, allow_pickle=False) as arrays:
            self._arrays = {name: arrays[name][:samples] for name in names}
        self.count = len(next(iter(self._arrays.values())))
        self._next = 0

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next sample, or None after the last."""
        row = slice(self._next, self._next + 1)
        self._next += 1
        return {n: a[row] for n, a in self._arrays.items()} if row.start < self.count else None


def _static(source: Path, output: Path, reader: Reader, *, method: Any, per_channel: bool) -> None:
    quantize_static(
        source,
        output,
        reader,
        quant_format=QuantFormat.QDQ,
        per_channel=per_channel,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=method,
    )


def _dynamic(source: Path, output: Path, reader: Reader, *, op_types: list[str] | None) -> None:
    del reader
    quantize_dynamic(source, output, weight_type=QuantType.QInt8, op_types_to_quantize=op_types)


def _four_bits(source: Path, output: Path, reader: Reader) -> None:
    # It needs onnx-ir, which onnxruntime does not ask for.
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    del reader
    quantizer = MatMulNBitsQuantizer(
        str(source), bits=4, block_size=32, op_types_to_quantize=("MatMul", "Gather")
    )
    quantizer.process()
    quantizer.model.save_model_to_file(str(output), use_external_data_format=False)


PERCENTILE_SAMPLES: Final = 50
"""onnxruntime keeps every activation of every sample while it looks for percentiles."""

_MIN_MAX, _PERCENTILE = CalibrationMethod.MinMax, CalibrationMethod.Percentile

PEERS: tuple[Peer, ...] = (
    Peer(
        name="onnxruntime static, per channel, min-max",
        quantize=partial(_static, method=_MIN_MAX, per_channel=True),
    ),
    Peer(
        name="onnxruntime static, per channel, percentile",
        quantize=partial(_static, method=_PERCENTILE, per_channel=True),
        samples=PERCENTILE_SAMPLES,
    ),
    Peer(
        name="onnxruntime static, per tensor, min-max",
        quantize=partial(_static, method=_MIN_MAX, per_channel=False),
        subjects=frozenset({"efficientnet-lite0", "efficientnet-lite0-imagenet"}),
    ),
    Peer(name="onnxruntime dynamic", quantize=partial(_dynamic, op_types=None)),
    Peer(
        name="onnxruntime dynamic, MatMul only",
        quantize=partial(_dynamic, op_types=["MatMul"]),
        subjects=frozenset(
            {"efficientnet-lite0", "efficientnet-lite0-imagenet", "resnet20", "resnet20-cifar10"}
        ),
    ),
    Peer(name="onnxruntime 4-bit weights, blocks of 32", quantize=_four_bits),
)
"""In the order of the table's rows."""


@dataclass(frozen=True, kw_only=True)
class Built:
    """How a peer's model came about.

    Attributes:
        samples: calibrated on; 0 for dynamic quantization.
        note: what did not go as it should; empty if all did.
    """

    samples: int
    note: str


def build(index: int, source: Path, calibration: Path, output: Path) -> Built:
    """Lets `PEERS[index]` write `output`, and makes sure that onnxruntime loads and runs it.

    Raises:
        Exception: whatever the tool fails with.
    """
    logging.disable()  # advice of the tool's own that nobody reads here
    peer = PEERS[index]
    names = [tensor.name for tensor in Session(source).inputs]
    reader = Reader(calibration, names, peer.samples)
    source, output = source.resolve(), output.resolve()
    # Shape inference leaves files in the current folder.
    with TemporaryDirectory() as folder, chdir(folder), redirect_stdout(StringIO()):
        prepared, note = _prepared(source, Path(folder))
        peer.quantize(prepared, output, reader)
    sample = Reader(calibration, names, 1).get_next()
    assert sample is not None
    Session(output).run(sample)
    calibrated = " static," in peer.name
    return Built(samples=reader.count if calibrated else 0, note=note)


def _prepared(source: Path, folder: Path) -> tuple[Path, str]:
    """The model as onnxruntime wants it before it quantizes, if that works; and what did not."""
    notes: list[str] = []
    for shown, options in _PREPARATIONS:
        prepared = folder / "prepared.onnx"
        try:
            quant_pre_process(source, prepared, **options)
            return prepared, "; ".join([*notes, f"{shown} did"] if notes else notes)
        except Exception as fault:
            notes.append(f"{shown} failed: {first_line(fault)}")
    return source, "; ".join(notes)


_PREPARATIONS: Final[tuple[tuple[str, dict[str, bool]], ...]] = (
    ("quant_pre_process", {}),
    ("quant_pre_process(skip_symbolic_shape=True)", {"skip_symbolic_shape": True}),
)
