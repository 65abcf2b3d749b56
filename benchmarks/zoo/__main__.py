"""The command line: ``python -m benchmarks.zoo build|run [NAME ...]``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.subjects.__main__ import default_cache


def default_zoo(environment: Mapping[str, str]) -> Path:
    """``ONNXCOMPRESS_ZOO`` if it is set, else ``zoo`` beside the folder of the subjects."""
    return Path(environment.get("ONNXCOMPRESS_ZOO") or default_cache(environment).parent / "zoo")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    options = _parser().parse_args(arguments)
    return _build(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    building = commands.add_parser("build", help="export what is not there yet")
    for command in (building,):
        command.add_argument("names", metavar="NAME", nargs="*", help="default: all")
        command.add_argument("--zoo", type=Path, default=default_zoo(os.environ))
    return parser


def _build(options: argparse.Namespace) -> int:
    """Exports; one that fails is told and is no error: exporters do not take everything."""
    from benchmarks.zoo.export import Exporter, build
    from benchmarks.zoo.table import SPECIMENS

    for name in options.names or SPECIMENS:
        for exporter in Exporter:
            built = build(options.zoo, name, exporter)
            print(f"{built.name}: {built.failure or 'built'}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
