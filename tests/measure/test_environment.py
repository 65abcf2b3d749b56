import getpass
import platform
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from onnxcompress.measure.environment import environment

INTEL = """processor\t: 0
model name\t: Some(R) CPU @ 2.00GHz
flags\t\t: fpu avx avx2 fma avx512f avx512_vnni amx_int8 avx_vnni

processor\t: 1
model name\t: Another
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm bf16\nCPU part\t: 0xd40\n"


def test_versions() -> None:
    found = environment(threads=3)
    assert found.onnx == onnx.__version__
    assert found.onnxruntime == onnxruntime.__version__
    assert found.numpy == np.__version__
    assert found.python == platform.python_version()
    assert found.threads == 3
    assert found.logical_cores >= 1
    assert found.onnxcompress


def test_an_x86_processor(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(INTEL)
    found = environment(cpuinfo=tmp_path / "cpuinfo")
    assert found.cpu == "Some(R) CPU @ 2.00GHz"
    assert found.instruction_sets == (
        "avx",
        "avx2",
        "fma",
        "avx512f",
        "avx512_vnni",
        "avx_vnni",
        "amx_int8",
    )


def test_an_arm_processor(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(ARM)
    found = environment(cpuinfo=tmp_path / "cpuinfo")
    assert found.instruction_sets == ("neon", "neon_dotprod", "i8mm", "bf16")


def test_elsewhere(tmp_path: Path) -> None:
    found = environment(cpuinfo=tmp_path / "none")
    assert found.instruction_sets == ()
    assert found.cpu


def test_nobody_is_named() -> None:
    told = " ".join(str(value) for value in asdict(environment()).values()).split()
    assert platform.node() not in told
    assert getpass.getuser() not in told
