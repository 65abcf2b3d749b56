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
from dataclasses import replace
from pathlib import Path

import msgspec

import onnxcompress
from benchmarks import family_page, family_plot
from benchmarks.child import ChildError, run_in_child
from benchmarks.compare import thinned
from benchmarks.family_page import Entry, Figures, Section
from benchmarks.family_table import FAMILIES, LANGUAGE_MODELS
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
TEST_WINDOWS = 8
"""At most of a language model: perplexity counts thousands of tokens in as many."""

DOCS = RESULTS.parents[1] / "docs"


def clean(source: Path, calibration: Path, output: Path) -> None:
    """Cleans a model up, in a process of its own: what every family starts from."""
    data = load_dataset(str(calibration), Session(source).inputs)
    model = io.load(source)
    PassManager(CLEAN_UP).run(model, RuntimeContext(data.take(range(1))))
    io.save(model, output)


def compress(cleaned: Path, calibration: Path, passes: Sequence[str], output: Path) -> None:
    """Runs passes on the cleaned model, in a process of its own."""
    data = load_dataset(str(calibration), Session(cleaned).inputs)
    context = RuntimeContext(data.take(range(min(CALIBRATION_SAMPLES, len(data)))))
    model = io.load(cleaned)
    PassManager([parse_pass(each) for each in passes]).run(model, context)
    io.save(model, output)


def measure(folder: Path, samples: int | None, models: Path) -> Section:
    """Builds and measures every family for one subject; what fails is listed as failed.

    Args:
        folder: of the subject.
        samples: test samples to judge on; None for all.
        models: where models and failures are written; what lies there is not built again.

    Raises:
        OnnxCompressError: the models could not be measured.
        ChildError: the model could not be cleaned up.
    """
    source, calibration = folder / "model.onnx", folder / "calibration.npz"
    peers = {peer.name: index for index, peer in enumerate(PEERS)}
    if folder.name in LANGUAGE_MODELS:
        samples = min(samples or TEST_WINDOWS, TEST_WINDOWS)
    models.mkdir(parents=True, exist_ok=True)
    cleaned = models / "cleaned.onnx"
    if not cleaned.exists():
        run_in_child(clean, source, calibration, cleaned)
    paths, entries = [source], []
    for family in FAMILIES:
        if not family.suits(folder.name):
            continue
        output = models / f"{family.name.replace(', ', '-').replace(' ', '_')}.onnx"
        draft, failed = output.with_suffix(".draft.onnx"), output.with_suffix(".failed.txt")
        if failed.exists():
            entries.append(Entry(family=family, failure=failed.read_text(encoding="utf-8")))
            continue
        try:
            if output.exists():
                pass
            elif family.peer is not None:
                run_in_child(build, peers[family.peer], source, calibration, draft)
                draft.rename(output)
            else:
                run_in_child(compress, cleaned, calibration, family.passes, draft)
                draft.rename(output)
        except ChildError as fault:
            told = str(fault).replace(str(models) + os.sep, "")
            failed.write_text(told, encoding="utf-8")
            entries.append(Entry(family=family, failure=told))
            continue
        print(f"{folder.name}: {family.name}", file=sys.stderr, flush=True)
        entries.append(Entry(family=family))
        paths.append(output)
    data = thinned(folder / "test.npz", samples, models)
    report = onnxcompress.benchmark(paths, data=str(data), metric=_metric(folder))
    measured = iter(report.models)
    return Section(
        subject=folder.name,
        metric=report.metric,
        samples=report.data.evaluation_samples,
        original=Figures.of(next(measured)),
        entries=tuple(
            entry if entry.failure else replace(entry, figures=Figures.of(next(measured)))
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
    parser.add_argument(
        "--models",
        type=Path,
        help="folder to keep models and failures in; what it holds is taken as it is",
    )
    parser.add_argument("--json", type=Path, default=RESULTS / "families.json")
    parser.add_argument("--page", type=Path, default=DOCS / "families.md")
    parser.add_argument("--plot", type=Path, default=DOCS / "families.svg")
    options = parser.parse_args(arguments)
    try:
        folders = [find_subject(options.cache, each) for each in options.subjects or SUBJECTS]
        known = _measured_before(options.json)
        for folder in folders:
            with tempfile.TemporaryDirectory(prefix="families-") as work:
                models = (options.models or Path(work)) / folder.name
                known[folder.name] = measure(folder, options.samples or None, models)
            print(family_page.table(known[folder.name]), flush=True)
            _write([known[name] for name in SUBJECTS if name in known], options)
    except (SubjectError, ChildError, OnnxCompressError) as error:
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
