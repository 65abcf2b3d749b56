"""The command line: arguments to the API and back; the only place that prints."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console, RenderableType

from onnxcompress.api_errors import as_own
from onnxcompress.channels.inspection import inspect_groups
from onnxcompress.cli_arguments import parse_bits, parse_positive, parse_release, parse_size
from onnxcompress.cli_files import check_files
from onnxcompress.cli_judging import (
    add_budget,
    add_json,
    add_judging,
    add_shapes,
    add_splitting,
    budget_of,
    judging_of,
)
from onnxcompress.cli_limits import add_limits, apply_limits
from onnxcompress.cli_progress import TerminalProgress
from onnxcompress.cli_rounds import add_rounds, iteration_of
from onnxcompress.cli_signals import Received, ended_by_signals
from onnxcompress.cli_streams import print_everywhere
from onnxcompress.demo import run_demo
from onnxcompress.errors import InternalError, OutputError, RecipeError
from onnxcompress.inspection import inspect_model
from onnxcompress.pass_base import Pass
from onnxcompress.recipe import Recipe, parse_pass
from onnxcompress.registry import find_pass, pass_types
from onnxcompress.report.groups import groups_report
from onnxcompress.report.json import Report, read_sensitivity, write_json
from onnxcompress.report.schema import CompressReport
from onnxcompress.report.sensitivity import assignment_report, sensitivity_report
from onnxcompress.report.terminal import (
    bench_report,
    compress_report,
    inspect_report,
    pass_help,
    pass_table,
)
from onnxcompress.search.bench import benchmark
from onnxcompress.search.candidates import Goal
from onnxcompress.search.compress import compress
from onnxcompress.sensitivity.analysis import SAMPLES, analyze_sensitivity
from onnxcompress.sensitivity.assignment import assign
from onnxcompress.sensitivity.precision import weight_precisions
from onnxcompress.target import Target

DONE, ERROR, USAGE, NOTHING_BETTER, INTERRUPTED = 0, 1, 2, 3, 130

_PIPE_WIDTH = 160

_EPILOG = (
    "exit codes: 0 done; 1 error; 2 bad usage; 3 done, but nothing better than the original; "
    "129, 130 or 143 ended by SIGHUP, Ctrl-C or SIGTERM"
)


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: without the program's name; `sys.argv` by default.

    Returns:
        The exit code.
    """
    print_everywhere()
    parsed = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = parsed.run
    with ended_by_signals() as received:
        code = _run(command, parsed, received)
    return received.code or code


def _run(
    command: Callable[[argparse.Namespace], int], parsed: argparse.Namespace, received: Received
) -> int:
    try:
        apply_limits(parsed)
        check_files(parsed)
        return command(parsed)
    except KeyboardInterrupt:
        how = f"ended by {received.name}" if received.number else "interrupted"
        print(f"onnxcompress: {how}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return ERROR
    except Exception as fault:
        what = as_own(fault)
        hint = " (--traceback shows where; please report it)"
        return _failed(f"{what}{hint if isinstance(what, InternalError) else ''}", parsed)


def _failed(message: str, parsed: argparse.Namespace) -> int:
    if parsed.traceback:
        raise
    print(f"onnxcompress: error: {message}", file=sys.stderr)
    return ERROR


def _compress(arguments: argparse.Namespace) -> int:
    with TerminalProgress() as progress:
        report = compress(
            arguments.model,
            arguments.output,
            **judging_of(arguments),
            **budget_of(arguments),
            training=arguments.training,
            split=arguments.split,
            group_by=arguments.group_by,
            recipe=_recipe(arguments),
            iteration=iteration_of(arguments),
            goal=arguments.goal,
            target=arguments.target,
            runtime=arguments.runtime,
            calibration_table=arguments.calibration,
            progress=progress,
        )
    return _finish(report, compress_report(report), arguments.json)


def _recipe(arguments: argparse.Namespace) -> Recipe | None:
    """The passes that were asked for by file or one by one; None to search."""
    if arguments.recipe and arguments.passes:
        raise RecipeError("give --recipe or --pass, not both")
    if arguments.recipe:
        return Recipe.load(arguments.recipe)
    return Recipe.of(map(parse_pass, arguments.passes)) if arguments.passes else None


def _bench(arguments: argparse.Namespace) -> int:
    with TerminalProgress() as progress:
        report = benchmark(arguments.models, **judging_of(arguments), progress=progress)
    return _finish(report, bench_report(report), arguments.json)


def _inspect(arguments: argparse.Namespace) -> int:
    if arguments.sensitivity and arguments.groups:
        raise RecipeError("give --sensitivity or --groups, not both")
    if arguments.sensitivity:
        return _inspect_sensitivity(arguments)
    for option in (
        *("data", "metric", "bits", "passes", "recipe", "exact", "alone"),
        *("split", "group_by"),
    ):
        if getattr(arguments, option) and not (arguments.groups and option == "data"):
            name = option.removesuffix("es").replace("_", "-")
            raise RecipeError(f"--{name} goes with --sensitivity")
    if arguments.groups:
        if arguments.profile:
            raise RecipeError("give --groups or --profile, not both")
        found = inspect_groups(arguments.model, data=arguments.data, shapes=arguments.shapes)
        return _finish(found, groups_report(found), arguments.json)
    report = inspect_model(arguments.model, timed=arguments.profile, shapes=arguments.shapes)
    return _finish(report, inspect_report(report), arguments.json)


def _inspect_sensitivity(arguments: argparse.Namespace) -> int:
    prepare, precisions = _question(arguments)
    with TerminalProgress() as progress:
        report = analyze_sensitivity(
            arguments.model,
            precisions,
            prepare=prepare,
            data=arguments.data,
            metric=arguments.metric,
            samples=None if arguments.exact else arguments.samples,
            alone_only=arguments.alone,
            target=arguments.target,
            split=arguments.split,
            group_by=arguments.group_by,
            shapes=arguments.shapes,
            batch_size=arguments.batch_size,
            seed=arguments.seed,
            progress=progress,
        )
    return _finish(report, sensitivity_report(report), arguments.json)


_Passes = Sequence[Pass] | None


def _question(arguments: argparse.Namespace) -> tuple[_Passes, _Passes]:
    """What runs first and what sensitivity is asked about; None for what suits the model."""
    ways = {"--bits": arguments.bits, "--pass": arguments.passes, "--recipe": arguments.recipe}
    given = [option for option, value in ways.items() if value]
    if len(given) > 1:
        raise RecipeError(f"give one of {' and '.join(given)}")
    if arguments.bits:
        return None, weight_precisions(arguments.bits)
    if arguments.recipe:
        *prepare, asked = Recipe.load(arguments.recipe).passes
        return prepare, [asked]
    return None, [parse_pass(each) for each in arguments.passes] if arguments.passes else None


def _assign(arguments: argparse.Namespace) -> int:
    report = read_sensitivity(arguments.report)
    size = arguments.size
    assignment = assign(
        report,
        max_bytes=size.of(report.file_bytes) if size else None,
        min_sqnr=arguments.min_sqnr,
    )
    assignment.recipe.save(arguments.output)
    _show(assignment_report(report, assignment, arguments.output))
    return DONE


def _passes(arguments: argparse.Namespace) -> int:
    if arguments.name:
        _show(pass_help(find_pass(arguments.name)))
    else:
        _show(pass_table(pass_types().values()))
    return DONE


def _demo(arguments: argparse.Namespace) -> int:
    with TerminalProgress() as progress:
        report = run_demo(arguments.folder, progress)
    return _finish(report, compress_report(report), None)


def _finish(report: Report, shown: RenderableType, json: Path | None) -> int:
    if json is not None:
        write_json(report, json)
    _show(shown)
    improved = not isinstance(report, CompressReport) or report.improved
    return DONE if improved else NOTHING_BETTER


def _show(what: RenderableType) -> None:
    # A file or a pipe has no width; tables must not be folded to a guess of it.
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    try:
        Console(highlight=False, width=width).print(what)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as fault:
        raise OutputError(f"standard output: cannot be written: {fault.strerror}") from fault


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="onnxcompress",
        description="Make an exported ONNX model faster or smaller, within an accuracy budget.",
        epilog=_EPILOG,
    )
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("compress", help="write the best model that holds the budget")
    command.set_defaults(run=_compress)
    command.add_argument("model", type=Path, help="the .onnx file; it is never changed")
    command.add_argument("-o", "--output", type=Path, required=True, help="where to write")
    add_judging(command)
    add_json(command)
    add_budget(command)
    add_splitting(command)
    command.add_argument("--recipe", type=Path, help="a TOML file: run just these passes")
    command.add_argument(
        "--pass",
        dest="passes",
        action="append",
        metavar="NAME[:OPTION=VALUE,...]",
        help="run just this pass; repeat for more, in order",
    )
    command.add_argument(
        "--goal", type=Goal, choices=list(Goal), default=Goal.SPEED, metavar="{speed,size}"
    )
    command.add_argument(
        "--target",
        type=_target,
        default=None,
        metavar="{auto," + ",".join(target.value for target in Target) + "}",
        help="the processor to quantize for (default auto: this one)",
    )
    command.add_argument(
        "--runtime",
        type=parse_release,
        metavar="1.16",
        help="the oldest onnxruntime that must load the result (default: the installed one alone)",
    )
    command.add_argument(
        "--training",
        metavar="DATA",
        help="samples to train and calibrate on; --data chooses and judges",
    )
    command.add_argument(
        "--calibration", type=Path, metavar="TABLE.npz", help="keep the calibration in this file"
    )
    add_rounds(command)
    add_limits(command)

    command = commands.add_parser("bench", help="measure models beside the first of them")
    command.set_defaults(run=_bench)
    command.add_argument("models", type=Path, nargs="+", metavar="MODEL")
    add_judging(command)
    add_json(command)
    add_limits(command)

    command = commands.add_parser("inspect", help="what a model holds and costs")
    command.set_defaults(run=_inspect)
    command.add_argument("model", type=Path)
    command.add_argument("--profile", action="store_true", help="also time each operator")
    command.add_argument(
        "--groups", action="store_true", help="list the channels, heads and units that can be cut"
    )
    add_shapes(command)
    _add_sensitivity(command)
    add_json(command)
    add_limits(command)

    command = commands.add_parser("assign", help="give each node the bits it needs, as a recipe")
    command.set_defaults(run=_assign)
    command.add_argument(
        "report", type=Path, metavar="SENSITIVITY.json", help="from inspect --sensitivity --json"
    )
    budget = command.add_mutually_exclusive_group(required=True)
    budget.add_argument(
        "--size",
        type=parse_size,
        help="the least error in a file of this size: 25%% of the original, or 4.5MB",
    )
    budget.add_argument(
        "--min-sqnr",
        type=float,
        metavar="DB",
        help="the smallest file whose output keeps this signal-to-noise ratio",
    )
    command.add_argument("-o", "--output", type=Path, required=True, help="the recipe to write")

    command = commands.add_parser("passes", help="what passes there are, with their options")
    command.set_defaults(run=_passes)
    command.add_argument("name", nargs="?", help="a pass, to see its options")

    command = commands.add_parser("demo", help="compress a small digit classifier")
    command.set_defaults(run=_demo)
    command.add_argument(
        "-o",
        "--output",
        dest="folder",
        type=Path,
        default=Path("onnxcompress-demo"),
        help="folder to write to",
    )
    return parser


def _add_sensitivity(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("sensitivity")
    group.add_argument(
        "--sensitivity",
        action="store_true",
        help="rank nodes by the damage that quantizing them does",
    )
    group.add_argument("--data", help="as for compress")
    group.add_argument("--metric", help="also measure the drop of this metric, for the worst nodes")
    group.add_argument(
        "--bits", type=parse_bits, metavar="8,4,2", help="ask about weights of these widths"
    )
    group.add_argument(
        "--pass",
        dest="passes",
        action="append",
        metavar="NAME[:OPTION=VALUE,...]",
        help="ask about this pass; repeat to compare (default: what suits the model)",
    )
    group.add_argument(
        "--recipe",
        type=Path,
        help="ask about the last pass of this file; those before it run first, instead of clean-up",
    )
    group.add_argument(
        "--samples",
        type=parse_positive,
        default=SAMPLES,
        help=f"samples to measure damage on (default {SAMPLES})",
    )
    group.add_argument("--exact", action="store_true", help="measure it on all samples")
    group.add_argument(
        "--alone", action="store_true", help="quantize nodes alone only, which takes half the time"
    )
    group.add_argument("--target", type=_target, default=None, help="as for compress")
    group.add_argument("--batch-size", type=parse_positive, default=1, help="default 1")
    group.add_argument("--seed", type=int, default=0, help="of the split (default 0)")
    add_splitting(group)


def _target(text: str) -> Target | None:
    return None if text == "auto" else Target(text)
