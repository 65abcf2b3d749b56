"""The families of compression as a page of tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.family_table import Family
from onnxcompress.report.figures import size_text
from onnxcompress.report.schema import ModelReport


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What was measured of a model.

    Attributes:
        file_bytes: of the file.
        value: of the metric; None where it is infinite.
        speedup: the original's time over this one's, the median of the rounds' ratios.
    """

    file_bytes: int
    value: float | None
    speedup: float

    @classmethod
    def of(cls, model: ModelReport) -> Figures:
        """Those of a report."""
        value = model.score.value
        return cls(
            file_bytes=model.size.file_bytes,
            value=value if math.isfinite(value) else None,
            speedup=model.latency.speedup,
        )


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One family on one subject.

    Attributes:
        family: what was done.
        figures: the measurements; None if it failed.
        failure: why there are none; empty if there are.
    """

    family: Family
    figures: Figures | None = None
    failure: str = ""


@dataclass(frozen=True, kw_only=True)
class Section:
    """All families on one subject, measured in one run.

    Attributes:
        subject: its name.
        metric: what accuracy is told in.
        samples: measured on.
        original: the model as it came.
        entries: the families.
    """

    subject: str
    metric: str
    samples: int
    original: Figures
    entries: tuple[Entry, ...]


def page(sections: Sequence[Section], environment: str, plot: str) -> str:
    """The whole page.

    Args:
        sections: the subjects.
        environment: what it was measured on, in a sentence.
        plot: the picture's file name, beside the page.
    """
    head = f"""# Families of compression

{environment}
Made by `python -m benchmarks.families SUBJECT --samples N`, N as each table says. Each model is
cleaned up first; calibration takes 100 samples at most, accuracy is told on others. Times are of
batch 1, all models of a table interleaved: a speed-up is the median of the rounds' ratios to the
original, which other work on the machine changes least. A sample of a language model is a window
of 256 tokens: its speed is that of reading. Bytes are of the whole file. Rows of one group use the
same bits. `quantize-static` alone leaves tables and recurrent weights float; a `quantize-weights`
after it stores these too.

![Bytes against accuracy]({plot})
"""
    recipes = ["## Recipes", "", "Passes after the clean-up:", "", *_recipes(sections)]
    return "\n".join([head, *map(table, sections), *recipes]) + "\n"


def table(section: Section) -> str:
    """One subject's heading and table."""
    lines = [
        f"## {section.subject}",
        "",
        f"{section.samples} samples; the metric is {section.metric}.",
        "",
        "| group | recipe | bytes | of original | metric | speed-up |",
        "|---|---|---:|---:|---:|---:|",
        _row("float32", "original", section.original, section),
    ]
    group = None
    for entry in section.entries:
        shown = "" if entry.family.group is group else entry.family.group.value
        group = entry.family.group
        if entry.figures is None:
            lines.append(f"| {shown} | {entry.family.name} | {_failed(entry)} | | | |")
        else:
            lines.append(_row(shown, entry.family.name, entry.figures, section))
    return "\n".join([*lines, ""])


def value_text(value: float | None, metric: str) -> str:
    """A metric as its field tells it: shares in percent."""
    if value is None:
        return "broken"
    return f"{value:.2f}" if metric in ("perplexity", "mse", "sqnr") else f"{100 * value:.2f} %"


def _row(group: str, name: str, model: Figures, section: Section) -> str:
    original = section.original.file_bytes
    cells = [
        group,
        name,
        size_text(model.file_bytes),
        f"{model.file_bytes / original:.1%}",
        value_text(model.value, section.metric),
        "" if model is section.original else f"{model.speedup:.2f}x",
    ]
    return f"| {' | '.join(cells)} |"


def _failed(entry: Entry) -> str:
    return f"failed: {entry.failure.replace('|', '/')}"


def _recipes(sections: Sequence[Section]) -> Iterator[str]:
    """The passes of each family that is in a table, once."""
    families = {
        (entry.family.group, entry.family.name, entry.family.passes): entry.family
        for section in sections
        for entry in section.entries
    }
    for family in families.values():
        if family.passes:
            passes = ", ".join(f"`{each}`" for each in family.passes)
            yield f"- {family.group.value}, {family.name}: {passes}"
