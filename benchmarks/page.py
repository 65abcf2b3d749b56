"""The command line that benchmarks of real subjects share: a cache to read, a page to write."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Collection
from pathlib import Path

from benchmarks.child import ChildError
from benchmarks.results import RESULTS
from benchmarks.subjects.__main__ import default_cache
from benchmarks.subjects.errors import SubjectError
from onnxcompress.errors import OnnxCompressError


def page_parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """A parser with `--cache`, where subjects are, and `--output`, the page.

    Args:
        module: of `benchmarks`; the page is called like it.
        description: the module's own.
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{module}", description=description)
    parser.add_argument("--cache", type=Path, default=default_cache(os.environ))
    parser.add_argument("--output", type=Path, default=RESULTS / f"{module}.md")
    return parser


def add_subjects(parser: argparse.ArgumentParser, known: Collection[str]) -> None:
    """Adds `subjects`: names out of `known`, all of them by default."""

    def one_of(name: str) -> str:
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return name

    parser.add_argument(
        "subjects",
        nargs="*",
        metavar="SUBJECT",
        type=one_of,
        default=[*known],
        help=f"of {', '.join(known)}; all by default",
    )


def write_page(output: Path, make: Callable[[], str]) -> int:
    """Makes a page, writes and prints it; returns the exit code: 1 if it cannot be measured."""
    try:
        page = make()
    except (SubjectError, ChildError, OnnxCompressError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(page, encoding="utf-8")
    print(page)
    return 0
