"""Runs int8 models as a processor without VNNI does, by emulation, and compares the answers.

``python -m benchmarks.portable --emulator qemu-x86_64`` needs QEMU's user-mode emulator 7.2 or
later, which translates AVX2. Its `Haswell` has AVX2 and no VNNI: onnxruntime takes the kernels that
add two products in an int16.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnxruntime.quantization import QuantType, quantize_dynamic, quantize_static

from benchmarks.first_outputs import first_outputs
from benchmarks.page import page_parser, write_page
from benchmarks.peers import Reader
from benchmarks.results import command_line, environment_line, find_subject
from benchmarks.subjects.errors import SubjectError
from onnxcompress.data.loading import load_dataset
from onnxcompress.ir import io
from onnxcompress.ir.clone import clone
from onnxcompress.ir.model import Model
from onnxcompress.pass_base import Pass
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import QuantizeDynamic, QuantizeStatic
from onnxcompress.qdq.saturation_risk import integer_products, saturation_risks
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from onnxcompress.search.candidates import CLEAN_UP
from onnxcompress.target import Target

CALIBRATION_SAMPLES = 100

TARGETS = {"int8": Target.X86_VNNI, "int8, `--target portable`": Target.PORTABLE}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a subject is quantized, and on how many samples it is judged here and in emulation."""

    quantize: Pass
    here: int
    emulated: int


PLANS: Mapping[str, Plan] = {
    "efficientnet-lite0": Plan(quantize=QuantizeStatic(), here=400, emulated=40),
    "resnet20": Plan(quantize=QuantizeStatic(), here=5000, emulated=200),
    "minilm": Plan(quantize=QuantizeDynamic(), here=1000, emulated=12),
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model.

    Attributes:
        name: of the variant.
        at_risk: nodes that may saturate, of all int8 products.
        top1: percent on all samples, here.
        top1_part: percent on the samples that were emulated, here; `top1_emulated` in emulation.
        sqnr: dB, the scores here against those in emulation; infinite if they are equal.
    """

    name: str
    at_risk: str
    top1: float
    top1_part: float
    top1_emulated: float
    sqnr: float


def emulated_outputs(emulator: str, model: Path, data: Path, count: int) -> np.ndarray:
    """What `first_outputs` gives on a Haswell.

    Raises:
        SubjectError: the emulator cannot be run, or fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "outputs.npy")
        command = [emulator, "-cpu", "Haswell", str(Path(sys.executable).resolve())]
        command += ["-m", "benchmarks.first_outputs", str(model), str(data), str(count)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        try:
            subprocess.run(
                [*command, str(output)], env=environment, check=True, capture_output=True
            )
        except (OSError, subprocess.CalledProcessError) as fault:
            said = getattr(fault, "stderr", b"") or b""
            raise SubjectError(f"{emulator}: {fault} {said.decode()[-500:]}") from fault
        loaded: np.ndarray = np.load(output, allow_pickle=False)
        return loaded


def variants(subject: Path, plan: Plan, folder: Path) -> dict[str, Path]:
    """The float model, ours for each target, and onnxruntime's own with 7-bit weights."""
    source = subject / "model.onnx"
    calibration = load_dataset(str(subject / "calibration.npz"), Session(source).inputs)
    data = calibration.take(range(CALIBRATION_SAMPLES))
    cleaned = io.load(source)
    PassManager(CLEAN_UP).run(cleaned, RuntimeContext(data))
    found = {"float": source}
    for name, target in TARGETS.items():
        model: Model = clone(cleaned)
        PassManager([plan.quantize]).run(model, RuntimeContext(data, target=target))
        found[name] = folder / f"{target.value}.onnx"
        io.save(model, found[name])
    reduced = folder / "reduced.onnx"
    _reduce_range(plan, source, subject / "calibration.npz", reduced)
    return {**found, "onnxruntime.quantization, `reduce_range`": reduced}


def _reduce_range(plan: Plan, source: Path, calibration: Path, output: Path) -> None:
    shared = {"weight_type": QuantType.QInt8, "per_channel": True, "reduce_range": True}
    if isinstance(plan.quantize, QuantizeDynamic):
        quantize_dynamic(source, output, **shared)
        return
    names = [tensor.name for tensor in Session(source).inputs]
    reader = Reader(calibration, names, CALIBRATION_SAMPLES)
    quantize_static(source, output, reader, activation_type=QuantType.QUInt8, **shared)


def measure(subject: Path, plan: Plan, emulator: str, say: Callable[[str], None]) -> list[Row]:
    """All variants of a subject, here and in emulation."""
    test = subject / "test.npz"
    with np.load(test, allow_pickle=False) as arrays:
        labels = arrays["labels"]
    rows = []
    with tempfile.TemporaryDirectory(prefix="portable-") as folder:
        for name, path in variants(subject, plan, Path(folder)).items():
            here = first_outputs(str(path), str(test), min(plan.here, len(labels)))
            there = emulated_outputs(emulator, path, test, plan.emulated)
            model = io.load(path)
            products = len(integer_products(model))
            rows.append(
                Row(
                    name=name,
                    at_risk=f"{len(saturation_risks(model))} of {products}" if products else "",
                    top1=_top1(here, labels),
                    top1_part=_top1(here[: plan.emulated], labels),
                    top1_emulated=_top1(there, labels),
                    sqnr=_sqnr(here[: plan.emulated], there),
                )
            )
            say(f"{subject.name}: {rows[-1]}")
    return rows


def _top1(scores: np.ndarray, labels: np.ndarray) -> float:
    return 100 * float(np.mean(scores.argmax(axis=1) == labels[: len(scores)]))


def _sqnr(reference: np.ndarray, values: np.ndarray) -> float:
    noise = float(np.square(reference.astype(np.float64) - values).sum())
    signal = float(np.square(reference.astype(np.float64)).sum())
    return 10 * math.log10(signal / noise) if noise else math.inf


def markdown(cache: Path, names: Sequence[str], emulator: str, command: str) -> str:
    """All subjects as a page."""
    lines = ["# int8 on x86 without VNNI", "", environment_line(), f"Made by `{command}`.", ""]
    lines += [
        "Top-1 in percent, here and on an emulated Haswell (AVX2, no VNNI); SQNR in dB compares",
        "the scores of the two. At risk: int8 nodes where two products can add up beyond int16.",
        "",
    ]
    for name in names:
        plan = PLANS[name]
        rows = measure(find_subject(cache, name), plan, emulator, print)
        part = f"{plan.emulated} samples"
        lines += [
            f"| {name} | at risk | here, all samples | here, {part} | emulated, {part} | SQNR |",
            "|---|---:|---:|---:|---:|---:|",
        ]
        for row in rows:
            sqnr = "equal" if math.isinf(row.sqnr) else f"{row.sqnr:.1f}"
            figures = f"{row.top1:.2f} | {row.top1_part:.2f} | {row.top1_emulated:.2f} | {sqnr}"
            lines.append(f"| {row.name} | {row.at_risk} | {figures} |")
        lines += [""]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints and writes the page; 1 if a subject or the emulator is missing."""
    parser = page_parser("portable", __doc__)
    parser.add_argument("subjects", metavar="SUBJECT", nargs="*", default=list(PLANS))
    parser.add_argument("--emulator", required=True, help="QEMU's qemu-x86_64, 7.2 or later")
    options = parser.parse_args(arguments)
    command = command_line("portable", arguments)
    return write_page(
        options.output,
        lambda: markdown(options.cache, options.subjects, options.emulator, command),
    )


if __name__ == "__main__":
    sys.exit(main())
