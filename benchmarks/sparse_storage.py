"""What zeros save in the file, by how they are stored, on real models.

``python -m benchmarks.sparse_storage`` sets the smallest weights of each matrix and kernel to zero,
as a mask would, stores what is left in each form of store-sparse, and measures bytes, load time and
speed beside the dense model. Accuracy is not asked for: all forms give the same outputs.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.page import add_subjects, page_parser, write_page
from benchmarks.results import command_line, environment_line, find_subject
from onnxcompress.data.loading import load_dataset
from onnxcompress.ir import io
from onnxcompress.ir.clone import clone
from onnxcompress.ir.model import Model
from onnxcompress.measure.latency import compare_latency
from onnxcompress.measure.size import load_seconds
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import StoreSparse
from onnxcompress.passes.store_sparse import SparseForm
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from onnxcompress.search.candidates import CLEAN_UP

SUBJECTS = ("resnet20", "efficientnet-lite0", "minilm")
ZEROS = (0.5, 0.7, 0.9, 0.99)


def masked(model: Model, share: float) -> Model:
    """A copy in which the smallest weights of each float tensor of two axes or more are zero."""
    result = clone(model)
    for constant in result.constants():
        if len(constant.shape) >= 2 and constant.dtype == np.float32:
            size = np.abs(constant.values)
            constant.values = constant.values * (size > np.quantile(size, share))
    return result


def lines(subject: Path) -> Iterator[str]:
    """The lines of one subject's table."""
    path = subject / "model.onnx"
    data = load_dataset(str(subject / "calibration.npz"), Session(path).inputs)
    context = RuntimeContext(data)
    cleaned = io.load(path)
    PassManager(CLEAN_UP).run(cleaned, context)
    feed = next(data.batches(1)).feeds
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.onnx")
        for share in ZEROS:
            dense = masked(cleaned, share)
            baseline = Session(io.to_bytes(dense))
            expected = baseline.run(feed)
            for form in (None, *SparseForm):
                model = clone(dense)
                if form is not None:
                    PassManager([StoreSparse(form=form)]).run(model, context)
                io.save(model, file)
                session = Session(file)
                for name, values in session.run(feed).items():
                    np.testing.assert_array_equal(values, expected[name])
                _, time = compare_latency([baseline, session], feed, rounds=20).latencies
                yield (
                    f"| {share:.0%} | {form.value if form else 'dense'} | "
                    f"{file.stat().st_size / 1e6:.3f} | {load_seconds(file, repeats=5):.3f} | "
                    f"{time.speedup:.2f}x ({time.speedup_low:.2f} to {time.speedup_high:.2f}) |"
                )


def markdown(cache: Path, names: Sequence[str], command: str) -> str:
    """All subjects as a page."""
    page = ["# Zeros in the file", "", environment_line(), f"Made by `{command}`.", ""]
    page += ["Outputs were equal bit for bit. Speed is that of one sample beside the dense model."]
    for name in names:
        page += ["", f"| {name}: zeros | stored | MB | loads in s | speed |"]
        page += ["|---:|---|---:|---:|---:|"]
        for line in lines(find_subject(cache, name)):
            print(line, file=sys.stderr, flush=True)
            page.append(line)
    return "\n".join([*page, ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints and writes the page; 1 if a subject was not fetched."""
    parser = page_parser("sparse_storage", __doc__)
    add_subjects(parser, SUBJECTS)
    options = parser.parse_args(arguments)
    command = command_line("sparse_storage", arguments)
    return write_page(options.output, lambda: markdown(options.cache, options.subjects, command))


if __name__ == "__main__":
    sys.exit(main())
