"""Every family of compression on every subject: size, speed and accuracy side by side.

``python -m benchmarks.families [SUBJECT ...]`` runs each recipe of `benchmarks.family_table` on the
cleaned model, lets onnxruntime's own quantizers do theirs with the same bits and the same data, and
measures all of a subject in one run: held-out samples, times interleaved, batch 1, one thread. It
writes docs/families.md and a plot of size against accuracy; figures of subjects that are not named
stay as they were.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

import onnxcompress
from benchmarks import family_page, family_plot
from benchmarks.child import ChildError, run_in_child
from benchmarks.compare import thinned
from benchmarks.family_page import Entry, Figures, Section
from benchmarks.family_table import FAMILIES
from benchmarks.peers import PEERS, build
from benchmarks.results import RESULTS, environment_line, find_subject
from benchmarks.subjects.__main__ import default_cache
from benchmarks.subjects.errors import SubjectError
from benchmarks.subjects.table import SUBJECTS
from onnxcompress.data.loading import load_dataset
from onnxcompress.errors import OnnxCompressError
from onnxcompress.ir import io
from onnxcompress.pass_manager import PassManager
from onnxcompress.recipe import parse_pass
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from onnxcompress.search.candidates import CLEAN_UP

CALIBRATION_SAMPLES = 100
DOCS = RESULTS.parents[1] / "docs"


def compress(source: Path, calibration: Path, passes: Sequence[str], output: Path) -> None:
    """Runs passes on the cleaned model, in a process of its own."""
    data = load_dataset(str(calibration), Session(source).inputs)
    context = RuntimeContext(data.take(range(min(CALIBRATION_SAMPLES, len(data)))))
    model = io.load(source)
    PassManager([*CLEAN_UP, *map(parse_pass, passes)]).run(model, context)
    io.save(model, output)


def measure(folder: Path, samples: int | None) -> Section:
    """Builds and measures every family for one subject; what fails is listed as failed.

    Raises:
        OnnxCompressError: the models could not be measured.
    """
    source, calibration = folder / "model.onnx", folder / "calibration.npz"
    peers = {peer.name: index for index, peer in enumerate(PEERS)}
    with tempfile.TemporaryDirectory(prefix="families-") as work:
        paths, entries = [source], []
        for number, family in enumerate(FAMILIES):
            if not family.suits(folder.name):
                continue
            output = Path(work, f"{number}.onnx")
            try:
                if family.peer is not None:
                    run_in_child(build, peers[family.peer], source, calibration, output)
                else:
                    run_in_child(compress, source, calibration, family.passes, output)
            except ChildError as fault:
                told = str(fault).replace(work + os.sep, "")
                entries.append(Entry(family=family, failure=told))
                continue
            entries.append(Entry(family=family))
            paths.append(output)
        data = thinned(folder / "test.npz", samples, Path(work))
        report = onnxcompress.benchmark(paths, data=str(data), metric=_metric(folder))
    models = iter(report.models)
    return Section(
        subject=folder.name,
        metric=report.metric,
        samples=report.data.evaluation_samples,
        original=Figures.of(next(models)),
        entries=tuple(
            entry if entry.failure else Entry(family=entry.family, figures=Figures.of(next(models)))
            for entry in entries
        ),
    )


def _metric(folder: Path) -> str | None:
    """The metric that a subject was recorded with, where it is not plain top-1."""
    return SUBJECTS[folder.name].metric.judged_by if folder.name in SUBJECTS else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, writes the page, the plot and the figures; 1 if nothing could be measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.families", description=__doc__)
    parser.add_argument("subjects", metavar="SUBJECT", nargs="*", help="default: all in the cache")
    parser.add_argument("--cache", type=Path, default=default_cache(os.environ))
    parser.add_argument("--samples", type=int, default=500, help="test samples, 0 for all")
    parser.add_argument("--json", type=Path, default=RESULTS / "families.json")
    parser.add_argument("--page", type=Path, default=DOCS / "families.md")
    parser.add_argument("--plot", type=Path, default=DOCS / "families.svg")
    options = parser.parse_args(arguments)
    try:
        folders = [find_subject(options.cache, each) for each in options.subjects or SUBJECTS]
        known = _measured_before(options.json)
        for folder in folders:
            known[folder.name] = measure(folder, options.samples or None)
            print(family_page.table(known[folder.name]), flush=True)
            _write([known[name] for name in SUBJECTS if name in known], options)
    except (SubjectError, OnnxCompressError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _measured_before(json: Path) -> dict[str, Section]:
    sections = msgspec.json.decode(json.read_bytes(), type=list[Section]) if json.exists() else []
    return {section.subject: section for section in sections}


def _write(sections: Sequence[Section], options: argparse.Namespace) -> None:
    page = family_page.page(sections, environment_line(), options.plot.name)
    for path, text in (
        (options.page, page),
        (
            options.json,
            msgspec.json.format(msgspec.json.encode(sections), indent=1).decode() + "\n",
        ),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    family_plot.draw(sections, options.plot)


if __name__ == "__main__":
    sys.exit(main())
