"""What is installed is what is in the tree, under the names that were promised."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import onnxcompress

ROOT = Path(__file__).parents[1]
PUBLIC = [
    "Assignment",
    "BenchReport",
    "CompressReport",
    "Context",
    "Goal",
    "Iteration",
    "Model",
    "OnError",
    "OnnxCompressError",
    "Pass",
    "PassManager",
    "PassReport",
    "Recipe",
    "RuntimeContext",
    "Schedule",
    "SensitivityReport",
    "Target",
    "analyze_sensitivity",
    "assign",
    "benchmark",
    "compress",
    "inspect_model",
    "load",
    "save",
]


def test_public_names_are_pinned() -> None:
    assert onnxcompress.__all__ == PUBLIC
    for name in PUBLIC:
        assert getattr(onnxcompress, name).__doc__, name


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'squash'"):
        _ = onnxcompress.squash


def test_import_is_light() -> None:
    code = (
        "import sys, onnxcompress; "
        "heavy = {'numpy', 'onnx', 'onnxruntime', 'torch', 'rich'} & sys.modules.keys(); "
        "print(sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_core_needs_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; import onnxcompress.cli, onnxcompress.passes; "
        "print('fine')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "fine"


def test_passes_cannot_be_imported_by_their_folder_name() -> None:
    spec = importlib.util.spec_from_file_location("passes", ROOT / "passes" / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(ImportError, match=r"onnxcompress\.passes"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_the_wheel_holds_every_module_of_the_tree(tmp_path: Path) -> None:
    source = tmp_path / "source"
    hidden = shutil.ignore_patterns(".*", "__pycache__")
    for folder in ("onnxcompress", "passes"):
        shutil.copytree(ROOT / folder, source / folder, ignore=hidden)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", str(tmp_path), str(source)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    shutil.rmtree(source / "build")  # pip builds in place
    tree = {f"onnxcompress/passes/{path.name}" for path in (source / "passes").glob("*.py")}
    files = [path for path in (source / "onnxcompress").rglob("*") if path.is_file()]
    tree |= {path.relative_to(source).as_posix() for path in files}
    assert packed == tree
