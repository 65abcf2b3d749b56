"""What int8 does to an LSTM: size, equal-error rate and speed of a speaker encoder.

``python -m benchmarks.recurrent`` quantizes the subject ``speaker-encoder`` with onnxruntime's own
quantizer and with the passes here. Embeddings are computed one sample at a time: dynamic ranges are
those of a batch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from onnxruntime.quantization import quantize_dynamic

from benchmarks.page import page_parser, write_page
from benchmarks.results import command_line, environment_line, find_subject
from benchmarks.subjects.verification import equal_error_rate
from onnxcompress.ir import io, query
from onnxcompress.measure.latency import compare_latency
from onnxcompress.pass_base import Pass
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import QuantizeDynamic, QuantizeWeights
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from onnxcompress.search.candidates import CLEAN_UP

SUBJECT = "speaker-encoder"
BATCHES = (1, 8)
SECONDS = 8.0
"""Time given to each model at each batch size."""

Quantize = Callable[[Path, Path], None]
"""Reads the first file, writes the second."""


def _onnxruntime(
    source: Path, output: Path, *, per_channel: bool, lstms: slice = slice(None)
) -> None:
    names = [node.name for node in query.nodes(io.load(source), {"LSTM"})][lstms]
    quantize_dynamic(source, output, per_channel=per_channel, nodes_to_quantize=names)


def _ours(source: Path, output: Path, *, last: Pass) -> None:
    model = io.load(source)
    PassManager([*CLEAN_UP, last]).run(model, RuntimeContext())
    io.save(model, output)


ROWS: Mapping[str, Quantize] = {
    "onnxruntime dynamic, LSTMs": partial(_onnxruntime, per_channel=False),
    "onnxruntime dynamic, LSTMs, per channel": partial(_onnxruntime, per_channel=True),
    "the first LSTM alone": partial(_onnxruntime, per_channel=True, lstms=slice(1)),
    "all but the first LSTM": partial(_onnxruntime, per_channel=True, lstms=slice(1, None)),
    "quantize-weights": partial(_ours, last=QuantizeWeights()),
    "quantize-dynamic": partial(_ours, last=QuantizeDynamic()),
}
"""What is compared, by the name of its row."""


def error_rate(model: Path, mels: np.ndarray, speakers: np.ndarray) -> float:
    """In percent."""
    session = Session(model)
    (output,) = session.run({"mels": mels[:1]})
    embeddings = [session.run({"mels": each[None]})[output] for each in mels]
    return 100 * equal_error_rate(np.concatenate(embeddings), speakers)


def markdown(cache: Path, command: str) -> str:
    """The comparison as a page."""
    folder = find_subject(cache, SUBJECT)
    with np.load(folder / "test.npz", allow_pickle=False) as arrays:
        mels, speakers = arrays["mels"], arrays["labels"]
    lines = ["# int8 LSTMs", "", environment_line(), f"Made by `{command}`.", ""]
    lines += [
        f"Equal-error rate over all pairs of {len(mels)} test samples; a sample lasts 1.6 s.",
        "",
    ]
    with TemporaryDirectory() as name:
        models = {"float32": folder / "model.onnx"}
        for index, (row, quantize) in enumerate(ROWS.items()):
            models[row] = Path(name) / f"{index}.onnx"
            quantize(folder / "model.onnx", models[row])
        rates = {}
        for row, path in models.items():
            rates[row] = error_rate(path, mels, speakers)
            print(f"{row}: {rates[row]:.2f} %", flush=True)
        sessions = [Session(path) for path in models.values()]
        latencies = [
            compare_latency(
                sessions, {"mels": mels[:batch]}, budget_seconds=SECONDS * len(sessions)
            ).latencies
            for batch in BATCHES
        ]
        batches = " | ".join(f"speed-up, batch {batch}" for batch in BATCHES)
        lines += [
            f"| | MB | error rate, % | {batches} |",
            "|---|---:|---:|" + "---:|" * len(BATCHES),
        ]
        for index, (row, path) in enumerate(models.items()):
            speed = " | ".join(f"{latency[index].speedup:.2f}" for latency in latencies)
            size = path.stat().st_size / 1e6
            lines += [f"| {row} | {size:.2f} | {rates[row]:.2f} | {speed} |"]
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints and writes the page; 1 if a subject was not fetched."""
    parser = page_parser("recurrent", __doc__)
    options = parser.parse_args(arguments)
    command = command_line("recurrent", arguments)
    return write_page(options.output, lambda: markdown(options.cache, command))


if __name__ == "__main__":
    sys.exit(main())
