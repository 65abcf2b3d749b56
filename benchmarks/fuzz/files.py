"""Data, recipes, checkpoints and reports with something wrong."""

from __future__ import annotations

import io
import random
import zipfile
from typing import Final

import numpy as np

from benchmarks.fuzz.models import changed_bytes

_VALUES: Final = (
    *("1", "0", "-1", "1e300", "nan", "inf", "true", '"x"', '""', '"../up"', '"/dev/zero"', "[]"),
    *("[1, 2]", "{}", "99999999999999999999", '"\\u0000"', '"*"', "1979-05-27", "'a'"),
)
_KEYS: Final = (
    *("name", "amount", "target", "criterion", "bits", "granularity", "observer", "keep", "nodes"),
    *("op_types", "exclude", "override", "importances", "checkpoint", "scales", "seed", "nothing"),
)


def data(rng: random.Random) -> bytes:
    """An .npz file, for a model of one float input of 28 by 28, or nearly."""
    arrays: dict[str, np.ndarray] = {}
    if rng.random() < 0.6:
        count = rng.choice((1, 5))
        arrays = {"image": np.ones((count, 1, 28, 28), rng.choice(("f4", "f8", "u1")))}
        arrays["labels"] = np.arange(count)
    for _ in range(rng.choice((0, 0, 1, 3))):
        shape = [rng.choice((0, 1, 3, 8)), *rng.choice(([1, 28, 28], [4], [], [3, 4]))]
        kind = rng.choice(("f4", "f8", "i8", "u1", "S3", "U2", "?", "c8", "M8[s]"))
        name = rng.choice(("image", "x", "labels", "labels.y", "y", "", "i", "a/b", "ü"))
        arrays[name] = np.zeros(shape, kind)
    if rng.random() < 0.3:
        for array in arrays.values():
            if array.dtype.kind == "f":
                array[...] = rng.choice((np.nan, np.inf, 1e30))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", rng.choice((0, 8))) as archive:
        for name, array in arrays.items():
            raw = io.BytesIO()
            np.lib.format.write_array(raw, array, allow_pickle=False)
            stored = raw.getvalue()
            if rng.random() < 0.2:
                stored = changed_bytes(rng, stored)
            archive.writestr(f"{name}.npy", stored)
    whole = stream.getvalue()
    return changed_bytes(rng, whole) if rng.random() < 0.3 else whole


def recipe(rng: random.Random, passes: list[str]) -> bytes:
    """A TOML file of passes with options that they may not have."""
    lines = ["runtime = " + rng.choice(_VALUES)] if rng.random() < 0.2 else []
    for _ in range(rng.randint(0, 3)):
        lines += ["[[pass]]", f'name = "{rng.choice(passes)}"']
        for _ in range(rng.randint(0, 2)):
            lines.append(f"{rng.choice(_KEYS)} = {rng.choice(_VALUES)}")
        if rng.random() < 0.2:
            lines += ["[[pass.override]]", f"{rng.choice(_KEYS)} = {rng.choice(_VALUES)}"]
    text = "\n".join(lines).encode()
    return changed_bytes(rng, text) if rng.random() < 0.2 and text else text


def json_text(rng: random.Random, whole: bytes) -> bytes:
    """A report or state, with numbers and words put elsewhere, or its bytes changed."""
    text = whole.decode()
    for _ in range(rng.choice((0, 1, 1, 4))):
        pieces = text.split(",")
        at = rng.randrange(len(pieces))
        kind = rng.random()
        if kind < 0.4:
            key, colon, _ = pieces[at].partition(":")
            pieces[at] = key + colon + rng.choice((*_VALUES, "NaN", "null", "1e999"))
        elif kind < 0.7:
            del pieces[at]
        else:
            pieces[at] = rng.choice(pieces)
        text = ",".join(pieces) or "{}"
    return changed_bytes(rng, text.encode()) if rng.random() < 0.2 else text.encode()
