"""Shows that percentile calibration of a 224x224 CNN takes the same little memory for any data.

``python -m benchmarks.calibration_memory`` gathers the distribution of every float tensor of
EfficientNet-Lite0 over 200 images in a fresh process, and reports how far its memory rises above
that of the same process after it loaded the model in onnxruntime and ran one image. The images lie
in files of ten, one of which is in memory at a time.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.child import ChildError, run_in_child
from benchmarks.results import RESULTS, command_line, environment_line, find_subject, megabytes
from benchmarks.subjects.__main__ import default_cache
from benchmarks.subjects.errors import SubjectError
from onnxcompress.data.loading import load_dataset
from onnxcompress.ir import io
from onnxcompress.measure.memory_probe import peak_resident_bytes, resident_bytes
from onnxcompress.quantization.observers import Observer
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session

SUBJECT = "efficientnet-lite0"
LIMIT_BYTES = 300_000_000
IMAGES_A_FILE = 10


@dataclass(frozen=True, kw_only=True)
class Rise:
    """Memory of one process before and during calibration.

    Attributes:
        baseline_bytes: held after the model was loaded and ran one sample.
        peak_bytes: the most held from then on, that session still being open.
        samples: calibrated on.
        tensors: whose distributions were gathered.
        watched_bytes: what those tensors take for one sample.
        seconds: that the calibration took.
    """

    baseline_bytes: int
    peak_bytes: int
    samples: int
    tensors: int
    watched_bytes: int
    seconds: float

    @property
    def above_bytes(self) -> int:
        """How far memory rose."""
        return self.peak_bytes - self.baseline_bytes


def write_shards(sources: Sequence[Path], count: int, folder: Path) -> None:
    """Copies the first `count` samples of .npz files to files of `IMAGES_A_FILE` samples each."""
    written = 0
    for source in sources:
        with np.load(source, allow_pickle=False) as arrays:
            samples = {name: arrays[name] for name in arrays.files}
        available = min(len(next(iter(samples.values()))), count - written)
        for start in range(0, available, IMAGES_A_FILE):
            rows = slice(start, min(start + IMAGES_A_FILE, available))
            shard = {name: array[rows] for name, array in samples.items()}
            np.savez(folder / f"{written + start}.npz", **shard)
        written += available
    if written < count:
        raise SubjectError(f"there are {written} samples, fewer than the {count} asked for")


def calibrate(model_path: Path, data: Path) -> Rise:
    """Runs one sample, then calibrates on all; to be called in a fresh process."""
    session = Session(model_path)
    dataset = load_dataset(str(data), session.inputs)
    session.run(next(dataset.batches(1)).feeds)
    baseline = resident_bytes()
    began = time.perf_counter()
    model = io.load(model_path)
    context = RuntimeContext(dataset)
    types = context.types(model)
    watched = {name: kind for name, kind in types.items() if kind.dtype == np.float32}
    context.ranges(model, list(watched), Observer.PERCENTILE)
    return Rise(
        baseline_bytes=baseline,
        peak_bytes=peak_resident_bytes(),
        samples=len(dataset),
        tensors=len(watched),
        watched_bytes=sum(4 * int(np.prod(kind.shape)) for kind in watched.values()),
        seconds=time.perf_counter() - began,
    )


def measure(subject: Path, images: int) -> Rise:
    """Calibrates the subject's model on its own images, in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        write_shards([subject / "calibration.npz", subject / "test.npz"], images, Path(folder))
        return run_in_child(calibrate, subject / "model.onnx", Path(folder)).value


def markdown(few: Rise, rise: Rise, command: str) -> str:
    """The result as a page; `few` is the same on fewer images."""
    verdict = "below" if rise.above_bytes < LIMIT_BYTES else "NOT below"
    return f"""# Memory of percentile calibration

{environment_line()}
Made by `{command}`.

| | |
|---|---:|
| model | {SUBJECT}, 224x224 |
| float tensors watched | {rise.tensors}, {megabytes(rise.watched_bytes)} an image |
| images | {rise.samples} |
| process with the model loaded and run once | {megabytes(rise.baseline_bytes)} |
| peak while calibrating, that session still open | {megabytes(rise.peak_bytes)} |
| **calibration above that** | **{megabytes(rise.above_bytes)}** |
| the same with {few.samples} images | {megabytes(few.above_bytes)} |
| seconds | {rise.seconds:.1f} |

That is {verdict} the limit of {megabytes(LIMIT_BYTES)}. All values that were counted, kept at once
as onnxruntime's own percentile calibration keeps them, would take
{megabytes(rise.watched_bytes * rise.samples)}.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints, writes the page; 1 if memory is over the limit or nothing was measured."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.calibration_memory", description=__doc__
    )
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--cache", type=Path, default=default_cache(os.environ))
    parser.add_argument("--output", type=Path, default=RESULTS / "calibration_memory.md")
    options = parser.parse_args(arguments)
    command = command_line("calibration_memory", arguments)
    try:
        subject = find_subject(options.cache, SUBJECT)
        rise = measure(subject, options.images)
        few = measure(subject, max(1, options.images // 10))
    except (SubjectError, ChildError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    page = markdown(few, rise, command)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(page, encoding="utf-8")
    print(page)
    return 0 if rise.above_bytes < LIMIT_BYTES else 1


if __name__ == "__main__":
    sys.exit(main())
