"""Files that recipes name lie below the current folder, whatever the pass and the option."""

from __future__ import annotations

import dataclasses
import os
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest

from onnxcompress.data.loading import dataset_of
from onnxcompress.data.recipe_paths import RecipePath, inside_current_folder
from onnxcompress.errors import DataError, OnnxCompressError
from onnxcompress.ir import io
from onnxcompress.pass_base import Pass
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import PruneChannels, PruneVocabulary, RegrowChannels
from onnxcompress.registry import pass_types, read_options
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from tests.passes.support import model_of, normal

SECRET = "secret 1234"

# What else an option needs to be read at all.
BESIDE = {
    "prune-weights": {"criterion": "given"},
    "prune-channels": {"criterion": "given"},
    "regrow-channels": {"criterion": "given"},
    "fine-tune": {"steps": 1},
    "distill": {"steps": 1},
    "swap-subgraph": {"inputs": ["x"], "outputs": ["h"]},
}


def _holds_path(kind: object) -> bool:
    if typing.get_origin(kind) is Annotated:
        return kind == RecipePath
    return any(map(_holds_path, typing.get_args(kind)))


def _path_options() -> list[tuple[type[Pass], str]]:
    return [
        (each, name)
        for each in pass_types().values()
        for name, kind in typing.get_type_hints(each, include_extras=True).items()
        if _holds_path(kind)
    ]


def test_every_option_that_is_a_path_says_so() -> None:
    """Words in an option's documentation that only a file has."""
    known = {(each.name, option) for each, option in _path_options()}
    assert ("prune-vocabulary", "keep") in known
    for each in pass_types().values():
        for field in dataclasses.fields(each):
            told = _documented(each, field.name)
            if ".onnx file" in told or ".npz" in told or "text file" in told:
                assert (each.name, field.name) in known


def _documented(pass_type: type[Pass], option: str) -> str:
    for each in pass_type.__mro__:
        _, found, rest = (each.__doc__ or "").partition(f"        {option}: ")
        if found:
            return " ".join(rest.partition("\n        ")[0::2]).split(": ")[0]
    return ""


OUTSIDE: dict[str, Callable[[Path], str]] = {
    "absolute": lambda folder: str(folder / "outside.onnx"),
    "above": lambda _: "../outside.onnx",
    "link": lambda folder: _linked(folder, folder / "outside.onnx"),
    "device": lambda folder: _linked(folder, Path("/dev/zero")),
    "process": lambda folder: _linked(folder, Path("/proc/self/environ")),
    "pipe": lambda folder: _pipe(folder),
    "folder": lambda folder: _folder(folder),
    "circle": lambda folder: _circle(folder),
    "long": lambda _: "n" * 300 + ".onnx",
    "null": lambda _: "a\0.onnx",
}


def _linked(folder: Path, target: Path) -> str:
    (folder / "here" / "link.onnx").symlink_to(target)
    return "link.onnx"


def _pipe(folder: Path) -> str:
    os.mkfifo(folder / "here" / "pipe.onnx")
    return "pipe.onnx"


def _folder(folder: Path) -> str:
    (folder / "here" / "folder.onnx").mkdir()
    return "folder.onnx"


def _circle(folder: Path) -> str:
    (folder / "here" / "circle.onnx").symlink_to("circle.onnx")
    return "circle.onnx"


@pytest.mark.parametrize("where", OUTSIDE)
@pytest.mark.parametrize(
    ("pass_type", "option"),
    [pytest.param(*each, id=f"{each[0].name} {each[1]}") for each in _path_options()],
)
def test_no_pass_reads_what_is_not_a_file_here(
    where: str,
    pass_type: type[Pass],
    option: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "outside.onnx").write_text(SECRET)
    monkeypatch.chdir(tmp_path / "here")
    given = {**BESIDE.get(pass_type.name, {}), option: OUTSIDE[where](tmp_path)}
    with pytest.raises(OnnxCompressError) as caught:
        _run(pass_type, given)
    assert SECRET not in str(caught.value)
    told = ("lies outside", "is no plain file", "is no path of a file")
    assert any(each in str(caught.value) for each in told), str(caught.value)
    assert (tmp_path / "outside.onnx").read_text() == SECRET


def _run(pass_type: type[Pass], given: dict[str, object]) -> None:
    model = model_of(
        """g (int64[N] ids, float[N,4] x) => (float[N,4] y) {
          t = Gather(T, ids)  q = Add(x, t)  h = MatMul(q, W)  r = Relu(h)  y = MatMul(r, V)
        }""",
        T=normal(400, 4),
        W=normal(4, 32),
        V=normal(32, 4),
    )
    feeds = {"ids": np.random.default_rng(0).integers(0, 3, 16), "x": normal(16, 4)}
    samples = dataset_of(feeds, Session(io.to_bytes(model)).inputs)
    before = [PruneChannels(amount=0.5)] if pass_type is RegrowChannels else []
    passes = [*before, pass_type(**read_options(pass_type, given))]
    PassManager(passes).run(model, RuntimeContext(samples, training=samples))


def test_a_file_below_the_current_folder_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_text("12")
    assert inside_current_folder("sub/../sub/a", "ids") == Path("sub/../sub/a")
    assert inside_current_folder("none", "a checkpoint") == Path("none")
    with pytest.raises(DataError, match=r"sub/a: is larger than 0 MiB \(ids\)"):
        inside_current_folder("sub/a", "ids", most_bytes=1)


def test_lines_of_a_file_are_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ids.txt").write_text(f"1\n{SECRET}\n")
    with pytest.raises(OnnxCompressError, match="line 2 is no id") as caught:
        _run(PruneVocabulary, {"keep": "ids.txt"})
    assert SECRET not in str(caught.value)
