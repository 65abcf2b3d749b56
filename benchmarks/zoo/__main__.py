"""The command line: ``python -m benchmarks.zoo build|run [NAME ...]``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.results import RESULTS
from benchmarks.subjects.__main__ import default_cache


def default_zoo(environment: Mapping[str, str]) -> Path:
    """``ONNXCOMPRESS_ZOO`` if it is set, else ``zoo`` beside the folder of the subjects."""
    return Path(environment.get("ONNXCOMPRESS_ZOO") or default_cache(environment).parent / "zoo")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code: 1 after a run that found faults."""
    options = _parser().parse_args(arguments)
    from benchmarks.zoo.table import SPECIMENS

    unknown = [name for name in options.names if name not in SPECIMENS]
    if unknown:
        print(f"no architecture named {unknown[0]!r}: {', '.join(SPECIMENS)}", file=sys.stderr)
        return 2
    options.names = options.names or list(SPECIMENS)
    return _build(options) if options.command == "build" else _run(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    building = commands.add_parser("build", help="export what is not there yet")
    running = commands.add_parser("run", help="compress what was exported, and write the page")
    for command in (building, running):
        command.add_argument("names", metavar="NAME", nargs="*", help="default: all")
        command.add_argument("--zoo", type=Path, default=default_zoo(os.environ))
    running.add_argument("--json", type=Path, default=RESULTS / "zoo.json")
    running.add_argument("--page", type=Path, default=RESULTS / "zoo.md")
    running.add_argument(
        "--resume",
        action="store_true",
        help="leave out exports of which the --json file holds results",
    )
    return parser


def _build(options: argparse.Namespace) -> int:
    """Exports; one that fails is told and is no error: exporters do not take everything."""
    from benchmarks.zoo.export import Exporter, build

    for name in options.names:
        for exporter in Exporter:
            built = build(options.zoo, name, exporter)
            print(f"{built.name}: {built.failure or 'built'}", flush=True)
    return 0


def _run(options: argparse.Namespace) -> int:
    """Runs, and writes the page and the figures after each architecture."""
    from benchmarks.zoo.outcome import load, save
    from benchmarks.zoo.page import page
    from benchmarks.zoo.run import in_order, rows_of

    rows = load(options.json)
    known = {name for name, row in rows.items() if not row.failure} if options.resume else set()
    found = 0
    for row in rows_of(options.zoo, options.names, known):
        rows[row.name] = row
        faults = [f"{each.step}: {fault}" for each in row.outcomes for fault in each.faults()]
        found += len(faults)
        print("\n  ".join([f"{row.name}: {row.failure or len(faults)}", *faults]), flush=True)
        save(options.json, in_order(rows))
        options.page.write_text(page(in_order(rows)), encoding="utf-8")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
