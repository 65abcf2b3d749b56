"""Tokens per second of language models, reading a prompt and writing on from it.

``python -m benchmarks.decoding MODEL [MODEL ...]`` feeds each model a prompt at once (prefill) and
then one token at a time with its key-value cache, always the likeliest (decode). Models take turns
in a new random order each round; the first is the one that the others are compared with.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.results import RESULTS, command_line, environment_line, megabytes
from benchmarks.subjects.__main__ import default_cache
from onnxcompress.cli_arguments import parse_positive
from onnxcompress.errors import DataError, OnnxCompressError
from onnxcompress.measure.environment import environment
from onnxcompress.measure.latency import Latency, summarize
from onnxcompress.measure.size import file_bytes
from onnxcompress.runtime.session import Session, SessionSettings, TensorSignature

Clock = Callable[[], int]

_PAST: Final = "past"
_PRESENT: Final = "present"
# Where a model does not tell how many tokens it knows.
_FEW_TOKENS: Final = 256
_SEED: Final = 0
_NS_PER_MS: Final = 1e6


class Decoder:
    """A language model with its cache, for one sequence.

    It takes ``input_ids``, whatever of ``attention_mask`` and ``position_ids`` it has, and inputs
    whose names begin with "past"; it gives logits first and, in the order of those inputs, outputs
    whose names begin with "present".

    Raises:
        DataError: the model has other inputs, or not an output for each input of its past.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._past = [tensor for tensor in session.inputs if tensor.name.startswith(_PAST)]
        self._logits = session.outputs[0]
        self._present = [
            tensor.name for tensor in session.outputs if tensor.name.startswith(_PRESENT)
        ]
        known = {"input_ids", "attention_mask", "position_ids", *(each.name for each in self._past)}
        if others := [tensor.name for tensor in session.inputs if tensor.name not in known]:
            raise DataError(f"a decoder has no input {others[0]!r}")
        if not self._past or len(self._past) != len(self._present):
            raise DataError(
                f"a decoder with a cache gives a present* for each past*; there are "
                f"{len(self._present)} and {len(self._past)}"
            )
        self.forget()

    @property
    def vocabulary(self) -> int:
        """How many tokens there are, as far as the model tells."""
        classes = self._logits.shape[-1]
        return classes if isinstance(classes, int) else _FEW_TOKENS

    def forget(self) -> None:
        """Empties the cache."""
        self._length = 0
        self._cache = {tensor.name: _empty_past(tensor) for tensor in self._past}

    def read(self, tokens: np.ndarray) -> int:
        """Takes int64 tokens (tokens,) after those it has read, and gives the likeliest next one.

        Raises:
            SessionError: the model does not run.
        """
        begin, end = self._length, self._length + len(tokens)
        fed = {
            "input_ids": tokens[None],
            "attention_mask": np.ones((1, end), np.int64),
            "position_ids": np.arange(begin, end, dtype=np.int64)[None],
            **self._cache,
        }
        found = self._session.run(
            {tensor.name: fed[tensor.name] for tensor in self._session.inputs}
        )
        self._length = end
        for tensor, name in zip(self._past, self._present, strict=True):
            self._cache[tensor.name] = found[name]
        return int(found[self._logits.name][0, -1].argmax())

    def write(self, first: int, count: int) -> list[int]:
        """Takes `first`, then what it gives for it, and so on: the `count` tokens that follow."""
        tokens = [first]
        for _ in range(count):
            tokens.append(self.read(np.array(tokens[-1:], np.int64)))
        return tokens[1:]


def _empty_past(tensor: TensorSignature) -> np.ndarray:
    """No positions of (batch, heads, past, head size), of which the second and last are numbers.

    Raises:
        DataError: the model does not tell them.
    """
    match tensor.shape:
        case (_, int(heads), _, int(size)):
            return np.empty((1, heads, 0, size), tensor.dtype)
    raise DataError(
        f"input {tensor.name!r} should be (batch, heads, past, head size) with numbers for heads "
        f"and head size, not {tensor.shape}"
    )


@dataclass(frozen=True, kw_only=True)
class Speed:
    """How long one model took.

    Attributes:
        prefill: reading the prompt.
        decode: writing all the new tokens.
    """

    prefill: Latency
    decode: Latency


def measure(
    decoders: Sequence[Decoder],
    *,
    prompt: int,
    new: int,
    rounds: int,
    clock: Clock = time.perf_counter_ns,
) -> list[Speed]:
    """Times decoders in turns, after a round that does not count.

    Args:
        decoders: the baseline first; all read the same random prompt.
        prompt: tokens read at once.
        new: tokens written one by one.
        rounds: in each of them every model does both, in a new random order.
        clock: nanoseconds from any start.
    """
    rng = np.random.default_rng(_SEED)
    tokens = rng.integers(0, min(each.vocabulary for each in decoders), prompt)
    times = np.empty((2, rounds + 1, len(decoders)))
    for row in range(rounds + 1):
        for index in rng.permutation(len(decoders)):
            decoder = decoders[index]
            decoder.forget()
            began = clock()
            first = decoder.read(tokens)
            between = clock()
            decoder.write(first, new)
            times[:, row, index] = between - began, clock() - between
            decoder.forget()
    runs = [1] * len(decoders)
    prefill, decode = (summarize(part[1:] / _NS_PER_MS, runs, _SEED) for part in times)
    return [
        Speed(prefill=one, decode=other)
        for one, other in zip(prefill.latencies, decode.latencies, strict=True)
    ]


def markdown(
    models: Sequence[Path], speeds: Sequence[Speed], *, prompt: int, new: int, intro: Sequence[str]
) -> str:
    """The figures as a page: medians and quartiles of tokens per second, and ratios."""
    lines = ["# Tokens per second", "", *intro, ""]
    lines += [
        f"A prompt of {prompt} tokens read at once, then {new} tokens one by one; one sequence. "
        f"Medians of {speeds[0].prefill.rounds} rounds, quartiles in brackets; the ratio is the "
        f"median of the rounds' ratios to the first model, with its 95 % interval.",
        "",
        "| model | size | prefill, tokens/s | ratio | decode, tokens/s | ratio |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for model, speed in zip(models, speeds, strict=True):
        cells = [_label(model), megabytes(file_bytes(model))]
        for latency, tokens in ((speed.prefill, prompt), (speed.decode, new)):
            cells += [_rate(latency, tokens), _ratio(latency)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _label(model: Path) -> str:
    """The file's name, or its folder's where all files have the same name."""
    return model.resolve().parent.name if model.name == "model.onnx" else model.stem


def _rate(latency: Latency, tokens: int) -> str:
    slow, median, fast = (
        1000 * tokens / each for each in (latency.q3_ms, latency.median_ms, latency.q1_ms)
    )
    return f"{median:.1f} ({slow:.1f}-{fast:.1f})"


def _ratio(latency: Latency) -> str:
    return f"{latency.speedup:.2f} ({latency.speedup_low:.2f}-{latency.speedup_high:.2f})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints and writes the page; 1 if a model cannot be decoded with."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decoding", description=__doc__)
    parser.add_argument(
        "models",
        type=Path,
        nargs="*",
        metavar="MODEL",
        default=[default_cache(os.environ) / "smollm2" / "model.onnx"],
        help="the first is the baseline (default: the subject smollm2 alone)",
    )
    parser.add_argument("--prompt", type=parse_positive, default=128, help="tokens, default 128")
    parser.add_argument("--new", type=parse_positive, default=64, help="tokens, default 64")
    parser.add_argument("--rounds", type=parse_positive, default=7, help="default 7")
    parser.add_argument("--threads", type=parse_positive, default=1, help="default 1")
    parser.add_argument("--output", type=Path, default=RESULTS / "decoding.md")
    options = parser.parse_args(arguments)
    settings = SessionSettings(threads=options.threads)
    try:
        decoders = [Decoder(Session(path, settings)) for path in options.models]
        speeds = measure(decoders, prompt=options.prompt, new=options.new, rounds=options.rounds)
    except OnnxCompressError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    page = markdown(
        options.models,
        speeds,
        prompt=options.prompt,
        new=options.new,
        intro=[
            environment_line(environment(options.threads)),
            f"Made by `{command_line('decoding', arguments)}`.",
        ],
    )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(page, encoding="utf-8")
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
