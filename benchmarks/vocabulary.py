"""What cutting words that the calibration data never held does to MiniLM.

``python -m benchmarks.vocabulary`` takes ids from the calibration documents, prunes the table of
word embeddings, and measures bytes, time, load time and accuracy on held-out documents.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.page import page_parser, write_page
from benchmarks.results import command_line, environment_line, find_subject
from onnxcompress.data.dataset import Dataset
from onnxcompress.data.loading import load_dataset
from onnxcompress.ir import io
from onnxcompress.ir.clone import clone
from onnxcompress.ir.model import Model
from onnxcompress.measure.latency import compare_latency
from onnxcompress.pass_base import Pass
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import PruneVocabulary, QuantizeDynamic, QuantizeWeights
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from onnxcompress.search.candidates import CLEAN_UP

SUBJECT = "minilm"
TEST_SAMPLES = 1000
UNKNOWN = 100
"""The id of [UNK]."""

_INT8: tuple[Pass, ...] = (QuantizeDynamic(), QuantizeWeights())

RECIPES: Sequence[tuple[str, int, tuple[Pass, ...]]] = (
    ("none", 0, ()),
    ("nearest remaining row", 400, (PruneVocabulary(),)),
    ("row of [UNK]", 400, (PruneVocabulary(unknown=UNKNOWN),)),
    ("nearest, rows read twice", 400, (PruneVocabulary(least_count=2),)),
    ("nearest remaining row", 100, (PruneVocabulary(),)),
    ("int8 alone", 0, _INT8),
    ("nearest remaining row, int8", 400, (PruneVocabulary(), *_INT8)),
)
"""What a row that went is read as, documents that the ids come from (0 for none), passes."""


def answers(session: Session, test: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the classes, and labels."""
    found, labels = [], []
    for batch in test.batches(8):
        assert batch.labels is not None
        found.append(next(iter(session.run(batch.feeds).values())))
        labels.append(batch.labels)
    return np.concatenate(found), np.concatenate(labels)


def lost_words(calibration: Dataset, test: Dataset, least_count: int) -> float:
    """The share of held-out words, padding left out, whose rows are cut."""
    (ids,) = (batch.feeds for batch in calibration.batches(len(calibration)))
    (new,) = (batch.feeds for batch in test.batches(len(test)))
    counts = np.bincount(ids["input_ids"].reshape(-1), minlength=1 + new["input_ids"].max())
    words = new["input_ids"][new["attention_mask"] > 0]
    return float((counts[words] < least_count).mean())


def rows_of(model: Model) -> int:
    """Rows of the table of words."""
    return max(each.shape[0] for each in model.constants() if len(each.shape) == 2)


def lines(subject: Path) -> Iterator[str]:
    """The lines of the table."""
    path = subject / "model.onnx"
    inputs = Session(path).inputs
    calibration = load_dataset(str(subject / "calibration.npz"), inputs)
    test = load_dataset(str(subject / "test.npz"), inputs).take(range(TEST_SAMPLES))
    cleaned = io.load(path)
    PassManager(CLEAN_UP).run(cleaned, RuntimeContext(calibration))
    original = Session(io.to_bytes(cleaned))
    expected, labels = answers(original, test)
    feed: Mapping[str, np.ndarray] = next(test.batches(1)).feeds
    for name, documents, passes in RECIPES:
        model, lost = clone(cleaned), ""
        data = calibration.take(range(documents or 100))
        PassManager(passes).run(model, RuntimeContext(data))
        if documents:
            cut = next(each for each in passes if isinstance(each, PruneVocabulary))
            lost = f"{lost_words(data, test, cut.least_count):.1%}"
        raw = io.to_bytes(model)
        session = Session(raw)
        found, _ = answers(session, test) if passes else (expected, labels)
        _, time = compare_latency([original, session], feed, rounds=20).latencies
        same = float((found.argmax(1) == expected.argmax(1)).mean())
        yield (
            f"| {name} | {documents or ''} | {rows_of(model)} | {len(raw) / 1e6:.1f} | {lost} | "
            f"{(found.argmax(1) == labels).mean():.1%} | {same:.1%} | {time.speedup:.2f}x "
            f"({time.speedup_low:.2f} to {time.speedup_high:.2f}) | {session.load_seconds:.2f} |"
        )


def markdown(cache: Path, command: str) -> str:
    """The page."""
    page = ["# Words that are never read", "", environment_line(), f"Made by `{command}`.", ""]
    page += [
        f"MiniLM-L6 as a classifier of news, {TEST_SAMPLES} held-out documents of up to 128 words. "
        "Lost words are those of the held-out documents whose rows were cut; speed is that of one "
        "document beside the cleaned-up float model.",
        "",
        "| a row that went is read as | documents | rows | MB | lost words | top-1 | same answer "
        "| speed | loads in s |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for line in lines(find_subject(cache, SUBJECT)):
        print(line, file=sys.stderr, flush=True)
        page.append(line)
    return "\n".join([*page, ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints and writes the page; 1 if the subject was not fetched."""
    parser = page_parser("vocabulary", __doc__)
    options = parser.parse_args(arguments)
    command = command_line("vocabulary", arguments)
    return write_page(options.output, lambda: markdown(options.cache, command))


if __name__ == "__main__":
    sys.exit(main())
