"""What one command makes of a network and 2000 unlabelled images, and nothing else.

``python -m benchmarks.unlabelled [SUBJECT ...]`` prunes, refits and distils through the command
line with its defaults, on images drawn anew for each seed, and scores what it wrote on labelled
images that it never saw. For comparison the same without the training.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import onnxcompress
from benchmarks.child import ChildError
from benchmarks.compare import thinned
from benchmarks.page import add_subjects, page_parser, write_page
from benchmarks.results import command_line, environment_line, find_subject, megabytes
from benchmarks.subjects.subject import LABELS

SUBJECTS = ("resnet20", "resnet20-cifar10")

IMAGES = 2000

PRUNED = ("prune-channels:criterion=taylor,amount=0.3", "refit-weights", "strip-pruned")

_NOT_WITHIN_BUDGET = 3
"""Exit code: written as asked, but judged beside the original's answers to have lost too much."""


@dataclass(frozen=True)
class Made:
    """What one run of the command line wrote.

    Attributes:
        path: the model.
        minutes: of the whole command.
        told: what training said of itself; empty without training.
    """

    path: Path
    minutes: float
    told: str


def draw(training: Path, seed: int, folder: Path) -> Path:
    """Some of a subject's training images, without their labels, in a new .npz."""
    path = folder / f"images-{seed}.npz"
    with np.load(training, allow_pickle=False) as arrays:
        rows = np.random.default_rng(seed).permutation(len(arrays[LABELS]))[:IMAGES]
        images = {name: arrays[name][rows] for name in arrays.files if name != LABELS}
    np.savez(path, **images)
    return path


def compress(model: Path, images: Path, passes: Sequence[str], seed: int, output: Path) -> Made:
    """Runs the command line as anyone would.

    Raises:
        ChildError: it failed.
    """
    command = [sys.executable, "-m", "onnxcompress", "compress", str(model), "-o", str(output)]
    command += ["--data", str(images), "--seed", str(seed)]
    for each in passes:
        command += ["--pass", each]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, _NOT_WITHIN_BUDGET):
        raise ChildError(done.stderr.strip().splitlines()[-1])
    lines = [line.strip() for line in done.stdout.splitlines()]
    told = next((line for line in lines if "loss on held-out samples" in line), "")
    return Made(output, (time.perf_counter() - began) / 60, told)


def table(subject: Path, epochs: int, seeds: int, samples: int) -> Iterator[str]:
    """The lines of one subject's table."""
    rows: list[tuple[int, Made, Made]] = []
    with tempfile.TemporaryDirectory(prefix="unlabelled-") as name:
        folder = Path(name)
        for seed in range(seeds):
            images = draw(subject / "training.npz", seed, folder)
            made = [
                compress(subject / "model.onnx", images, passes, seed, folder / f"{seed}-{at}.onnx")
                for at, passes in enumerate((PRUNED, (*PRUNED, f"distill:epochs={epochs}")))
            ]
            rows.append((seed, made[0], made[1]))
            print(f"{subject.name}: {rows[-1]}", file=sys.stderr, flush=True)
        paths = [made.path for _, *both in rows for made in both]
        data = thinned(subject / "test.npz", samples, folder)
        report = onnxcompress.benchmark([subject / "model.onnx", *paths], data=str(data))
    original, *models = (100 * model.score.value for model in report.models)
    size = report.models[-1].size.file_bytes
    yield f"## {subject.name}"
    yield ""
    yield (
        f"{original:.2f} % of {report.data.evaluation_samples} images that no run saw; "
        f"{megabytes(report.models[0].size.file_bytes)}, {megabytes(size)} afterwards."
    )
    yield ""
    yield "| seed | original | pruned and refitted | and distilled | lost | minutes |"
    yield "|---:|---:|---:|---:|---:|---:|"
    for (seed, _, whole), refitted, distilled in zip(rows, models[::2], models[1::2], strict=True):
        cells = f"{original:.2f} % | {refitted:.2f} % | {distilled:.2f} %"
        yield f"| {seed} | {cells} | {original - distilled:+.2f} points | {whole.minutes:.1f} |"
    yield ""
    for seed, _, whole in rows:
        yield f"- seed {seed}: {whole.told}"


def markdown(
    cache: Path, names: Sequence[str], command: str, epochs: int, seeds: int, samples: int
) -> str:
    """All subjects as a page."""
    shown = " ".join(f"--pass {each}" for each in (*PRUNED, f"distill:epochs={epochs}"))
    lines = ["# One command and unlabelled images", "", environment_line()]
    lines += [f"Made by `{command}`, which runs, with {IMAGES} images for each seed:", ""]
    lines += ["```sh", f"onnxcompress compress model.onnx -o small.onnx --data images.npz {shown}"]
    lines += ["```", ""]
    for name in names:
        lines += [*table(find_subject(cache, name), epochs, seeds, samples), ""]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints and writes the page; 1 if a subject was not fetched or a run failed."""
    parser = page_parser("unlabelled", __doc__)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3, help="how often images are drawn")
    parser.add_argument("--samples", type=int, default=5000, help="images to score on, at most")
    add_subjects(parser, SUBJECTS)
    options = parser.parse_args(arguments)
    command = command_line("unlabelled", arguments)
    return write_page(
        options.output,
        lambda: markdown(
            options.cache, options.subjects, command, options.epochs, options.seeds, options.samples
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
