"""Files are written whole or not at all, and never over what is read."""

import errno
import itertools
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnxcompress
from onnxcompress import cli, files
from onnxcompress.errors import OutputError
from onnxcompress.files import check_outputs, write_text, written_whole
from onnxcompress.ir.model import Constant
from onnxcompress.passes import QuantizeWeights
from onnxcompress.recipe import Recipe
from tests.test_cli import MODEL


def test_text_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "one")
    write_text(path, "zwölf")
    assert path.read_bytes() == "zwölf".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"a\.txt: cannot be written: No such file"):
        write_text(tmp_path / "none" / "a.txt", "one")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="folder: is a folder; name a file"):
        write_text(tmp_path / "folder", "one")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_saved_recipe_is_loaded_again(tmp_path: Path) -> None:
    recipe = Recipe.of([QuantizeWeights(min_elements=7)])
    recipe.save(tmp_path / "r.toml")
    assert Recipe.load(tmp_path / "r.toml") == recipe


def test_nothing_but_a_file_is_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OutputError, match="is a device or a pipe, not a file"):
        write_text(pipe, "text")
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_link_where_a_draft_would_be_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secrets.token_hex", lambda size: "0" * size)
    outside = tmp_path / "outside"
    outside.write_text("mine")
    (tmp_path / ".onnxcompress-00000000.part").symlink_to(outside)
    with pytest.raises(OutputError, match=r"a\.txt: cannot be written: File exists"):
        write_text(tmp_path / "a.txt", "text")
    assert outside.read_text() == "mine"
    assert not (tmp_path / "a.txt").exists()


def test_two_writers_leave_one_of_their_texts_whole(tmp_path: Path) -> None:
    path, texts = tmp_path / "a.txt", ["a" * 100_000, "b" * 90_000]
    path.write_text(texts[0])
    seen = set()

    def write(text: str) -> None:
        for _ in range(30):
            write_text(path, text)

    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        seen.add(path.read_text())
    assert seen <= set(texts)
    assert list(tmp_path.iterdir()) == [path]


def test_the_longest_name_that_a_file_can_have(tmp_path: Path) -> None:
    write_text(tmp_path / ("n" * 255), "text")
    assert (tmp_path / ("n" * 255)).read_text() == "text"
    with pytest.raises(OutputError, match="cannot be written: File name too long"):
        write_text(tmp_path / ("n" * 256), "text")
    with pytest.raises(OutputError, match="cannot be written: File name too long"):
        check_outputs([tmp_path / ("n" * 256)], [])


def test_text_that_stands_for_bytes_of_a_path(tmp_path: Path) -> None:
    write_text(tmp_path / "a.json", '"' + os.fsdecode(b"\xff.onnx") + '"')
    assert (tmp_path / "a.json").read_bytes() == b'"\\udcff.onnx"'


def test_of_two_files_both_are_replaced_or_none(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    with pytest.raises(ZeroDivisionError), written_whole(one, two) as (first, _):
        first.write(b"1")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def _named(folder: Path, way: str) -> Path:
    """Another name of model.onnx.data."""
    if way == "link":
        (folder / "other").symlink_to(folder / "model.onnx.data")
    elif way == "second name":
        os.link(folder / "model.onnx.data", folder / "other")
    else:
        return folder / "." / "sub" / ".." / "model.onnx.data"
    return folder / "other"


@pytest.mark.parametrize("way", ["link", "second name", "detour"])
def test_an_input_by_another_name_is_no_output(way: str, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "model.onnx.data").write_text("weights")
    output = _named(tmp_path, way)
    with pytest.raises(OutputError, match="is the input itself; choose another output"):
        check_outputs([output], [tmp_path / "model.onnx.data"])


COMPRESS = {
    "model": "model.onnx",
    "-o": "out.onnx",
    "--json": "report.json",
    "--calibration": "table.npz",
    "--data": "data.npz",
    "--training": "folder",
    "--recipe": "recipe.toml",
}
OUTPUTS = ("-o", "--json", "--calibration")
INPUTS = ("model.onnx", "weights.bin", "data.npz", "folder/part.npz", "recipe.toml")


@pytest.mark.parametrize(("option", "name"), list(itertools.product(OUTPUTS, INPUTS)))
def test_no_output_of_a_command_is_one_of_its_inputs(
    option: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = _laid_out(tmp_path)
    assert cli.run(_arguments(tmp_path, {**COMPRESS, option: name})) == cli.ERROR
    assert f"{name}: is the input itself; choose another output" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("pair", list(itertools.combinations(OUTPUTS, 2)))
def test_no_two_outputs_of_a_command_are_one_file(
    pair: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _laid_out(tmp_path)
    assert cli.run(_arguments(tmp_path, COMPRESS | dict.fromkeys(pair, "x"))) == cli.ERROR
    assert "x: would be written twice; choose another name for one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "inputs"),
    [
        (["bench", "model.onnx", "--data", "data.npz"], ("model.onnx", "weights.bin", "data.npz")),
        (["inspect", "model.onnx"], ("model.onnx", "weights.bin")),
    ],
)
def test_the_report_of_no_command_overwrites_its_inputs(
    command: list[str], inputs: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _laid_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert [cli.run([*command, "--json", name]) for name in inputs] == [cli.ERROR] * len(inputs)
    assert {path: path.read_bytes() for path in before} == before


def test_a_recipe_does_not_overwrite_the_report_it_comes_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "s.json"
    report.write_text("{}")
    assert cli.run(["assign", str(report), "--size", "50%", "-o", str(report)]) == cli.ERROR
    assert "is the input itself" in capsys.readouterr().err


def _arguments(folder: Path, options: dict[str, str]) -> list[str]:
    paths = {option: str(folder / name) for option, name in options.items()}
    model = paths.pop("model")
    return ["compress", model, *itertools.chain.from_iterable(paths.items())]


def _laid_out(folder: Path) -> dict[Path, bytes]:
    """A model with its weights beside it, data and a recipe; what is in each file."""
    weights = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [4, 4], np.eye(4).ravel())
    weights.raw_data = np.eye(4, dtype=np.float32).tobytes()
    weights.ClearField("float_data")
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[N,4] x) => (float[N,4] y)'
        "{ y = MatMul(x, w) }"
    )
    model.graph.initializer.append(weights)
    onnx.save(
        model, folder / "model.onnx", save_as_external_data=True, location="weights.bin",
        size_threshold=0,
    )  # fmt: skip
    (folder / "folder").mkdir()
    for path in (folder / "data.npz", folder / "folder" / "part.npz"):
        np.savez(path, x=np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32))
    (folder / "recipe.toml").write_text('[[pass]]\nname = "remove-unused"\n')
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Faulty:
    """Makes the calls of the system by which files are written fail, at one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails_at: int) -> None:
        self.calls = 0
        self.fails_at = fails_at
        for owner, name in (
            (Path, "open"),
            (Path, "replace"),
            (os, "fsync"),
            (files, "hold"),
        ):
            monkeypatch.setattr(owner, name, self.counted(getattr(owner, name)))

    def counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.count()
            made = real(*args, **kwargs)
            return FaultyFile(made, self) if hasattr(made, "flush") else made

        return call

    def count(self) -> None:
        self.calls += 1
        if self.calls == self.fails_at:
            raise OSError(errno.EIO, "Input/output error")


class FaultyFile:
    """A file whose every call counts."""

    def __init__(self, real: Any, faults: Faulty) -> None:
        self._real, self._faults = real, faults

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        return self._faults.counted(real) if name in ("write", "flush", "close") else real


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("external", [True, False])
def test_a_fault_at_any_call_of_the_system_leaves_what_was_there(
    external: bool, there: bool, tmp_path: Path
) -> None:
    """Opening, holding, writing, flushing, closing and moving, each of them in turn."""
    old, new = onnxcompress.load(MODEL), onnxcompress.load(MODEL)
    weight = new.graph.initializers[0]
    new.graph.initializers[0] = Constant(weight.name, weight.values + 1)
    path = tmp_path / "out.onnx"
    failed = 0
    for fails_at in range(1, 200):
        if there:
            onnxcompress.save(old, path, external=external)
        before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
        with pytest.MonkeyPatch.context() as patch:
            faults = Faulty(patch, fails_at)
            try:
                onnxcompress.save(new, path, external=external)
            except OutputError as fault:
                assert "Input/output error" in str(fault)
            else:
                # What comes after the move, syncing the folder, may fail unseen.
                if faults.calls < fails_at:
                    break
                continue
        failed += 1
        assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before
    assert failed >= (9 if external else 6)
    names = {"out.onnx", "out.onnx.data"} if external else {"out.onnx"}
    assert {each.name for each in tmp_path.iterdir()} == names
