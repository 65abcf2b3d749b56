"""The page of results."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from benchmarks.results import environment_line
from benchmarks.zoo.outcome import LEAST_CUT, Outcome, Row
from benchmarks.zoo.steps import STEPS

_BYTES: Final = ("clean-up", "dynamic-int8", "static-int8", "weights-int4")
_PRUNE: Final = "prune"


def page(rows: Sequence[Row], environment: str | None = None) -> str:
    """All that was found, faults first."""
    exported = [row for row in rows if not row.failure]
    lines = ["# The zoo", "", environment or environment_line(), ""]
    lines += ["Made by `python -m benchmarks.zoo run`.", "", *_summary(rows, exported), ""]
    lines += ["## Faults", "", *(list(_faults(exported)) or ["None."]), ""]
    lines += [f"## Less than {LEAST_CUT:.0%} of the MACs cut", "", *_uncut(exported), ""]
    for family, found in itertools.groupby(exported, key=lambda row: row.family):
        lines += [f"## {family.capitalize()}", "", *_table(list(found)), ""]
    failed = [row for row in rows if row.failure]
    lines += ["## Not exported", "", "What the exporter said.", ""] if failed else []
    lines += [f"- {row.name}: {row.failure}" for row in failed]
    return "\n".join(lines).rstrip() + "\n"


def _summary(rows: Sequence[Row], exported: Sequence[Row]) -> Iterator[str]:
    names = {row.name.rpartition(".")[0] for row in exported}
    both = Counter(row.name.rpartition(".")[0] for row in exported)
    pairs = sum(count > 1 for count in both.values())
    yield f"{len(names)} architectures, small and with random weights, {pairs} of them by both"
    yield f"exporters; {len(exported)} of {len(rows)} exports succeeded. Each is inspected, cleaned"
    yield "up, and from there compressed by recipes of the search and by"
    yield "`prune-channels:target=macs,amount=0.3` with `strip-pruned`. Told are bytes of the file"
    yield "beside the original's, SQNR in dB of the worst output (random weights tolerate less than"
    yield "trained ones), and the multiply-accumulates that pruning cuts."
    floors = [f"{name} {each.floor:.0f}" for name, each in STEPS.items() if each.floor is not None]
    yield f"Outputs are a fault below so many dB: {', '.join(floors)}. The floors of static int8"
    yield "and of 4 bits were lowered to what EfficientNet and CvT reach, which amplify noise with"
    yield "such weights: below 0 dB an output proves no more than that it is numbers."


def _faults(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        for outcome in row.outcomes:
            for fault in outcome.faults():
                yield f"- {row.name}, {outcome.step}: {fault}"


def _uncut(rows: Sequence[Row]) -> Iterator[str]:
    found = [(row, each) for row in rows if (each := row.of(_PRUNE)) and each.falls_short]
    if not found:
        yield "None."
        return
    yield "| export | cut | the node that keeps most | of all MACs | why |"
    yield "|---|---:|---|---:|---|"
    for row, outcome in found:
        left = outcome.left
        node = (
            f"`{left.node}` ({left.op}) | {left.share:.0%} | {_cell(left.reason)}" if left else ""
        )
        yield f"| {row.name} | {_cut(outcome)} | {node or ' | | '} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _table(rows: Sequence[Row]) -> Iterator[str]:
    yield f"| export | MB | {' | '.join(_BYTES)} | MACs cut |"
    yield "|---|---:|" + "---:|" * (len(_BYTES) + 1)
    for row in rows:
        cells = [_bytes(row.of(step)) for step in _BYTES]
        first = row.outcomes[0]
        size = f"{first.original_bytes / 1e6:.1f}" if first.original_bytes else ""
        name = f"{row.name} (fixed shapes)" if row.fixed else row.name
        yield f"| {name} | {size} | {' | '.join(cells)} | {_cut(row.of(_PRUNE))} |"


def _bytes(outcome: Outcome | None) -> str:
    if outcome is None:
        return ""
    if outcome.failure:
        return "fails"
    mark = "" if outcome.changed else ", unchanged"
    level = "equal" if outcome.sqnr is None else f"{outcome.sqnr:.0f} dB"
    return f"{outcome.ratio:.0%}, {level}{mark}"


def _cut(outcome: Outcome | None) -> str:
    if outcome is None:
        return ""
    return "fails" if outcome.failure or outcome.macs is None else f"{1 - outcome.macs:.0%}"
