"""A text file is written whole or not at all."""

import os
from pathlib import Path

import pytest

from onnxcompress.errors import OutputError
from onnxcompress.passes import QuantizeWeights
from onnxcompress.recipe import Recipe
from onnxcompress.text_file import write_text


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
