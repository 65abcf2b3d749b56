"""The families of compression as a picture: bytes against accuracy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from benchmarks.family_page import Section
from benchmarks.family_table import Group

_MARKERS = dict(zip(Group, "osD^vPX", strict=True))


_COLUMNS = 3


def draw(sections: Sequence[Section], path: Path) -> None:
    """Writes one panel for each subject, as SVG that is the same for the same figures."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams.update({"svg.hashsalt": "families", "svg.fonttype": "none", "font.size": 8})
    rows = -(-len(sections) // _COLUMNS)
    columns = min(len(sections), _COLUMNS)
    figure = Figure(figsize=(4.2 * columns, 3.4 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).reshape(-1)
    for panel in panels[len(sections) :]:
        panel.set_axis_off()
    for panel, section in zip(panels, sections, strict=False):
        original = section.original
        panel.axhline(original.value or 0, color="0.7", linewidth=0.8, zorder=0)
        for group, marker in _MARKERS.items():
            models = [e.figures for e in section.entries if e.figures and e.family.group is group]
            shares = [each.file_bytes / original.file_bytes for each in models]
            values = [math.nan if each.value is None else each.value for each in models]
            panel.plot(shares, values, marker, label=group.value, alpha=0.75, markersize=5)
        panel.set_xscale("log")
        panel.set_xticks(
            [0.03, 0.06, 0.125, 0.25, 0.5, 1], ["3%", "6%", "12%", "25%", "50%", "100%"]
        )
        panel.minorticks_off()
        panel.set_xlabel("bytes, of the original")
        panel.set_ylabel(section.metric.rpartition(":")[2])
        panel.set_title(section.subject)
        if section.metric == "perplexity":
            panel.set_yscale("log")
            panel.invert_yaxis()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
