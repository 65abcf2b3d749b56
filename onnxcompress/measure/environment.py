"""The machine and the versions that figures were measured on, not whose machine it is."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
import onnx

from onnxcompress.runtime.session import ONNXRUNTIME_VERSION

# Flags of /proc/cpuinfo that decide which kernels onnxruntime picks -> the name people know.
_INSTRUCTION_SETS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "avx": "avx",
        "avx2": "avx2",
        "fma": "fma",
        "f16c": "f16c",
        "avx512f": "avx512f",
        "avx512bw": "avx512bw",
        "avx512_vnni": "avx512_vnni",
        "avx512_bf16": "avx512_bf16",
        "avx512_fp16": "avx512_fp16",
        "avx_vnni": "avx_vnni",
        "avx_vnni_int8": "avx_vnni_int8",
        "amx_tile": "amx_tile",
        "amx_int8": "amx_int8",
        "amx_bf16": "amx_bf16",
        "asimd": "neon",
        "asimdhp": "neon_fp16",
        "asimddp": "neon_dotprod",
        "i8mm": "i8mm",
        "bf16": "bf16",
        "sve": "sve",
        "sve2": "sve2",
        "sme": "sme",
    }
)


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What a figure depends on besides the model.

    Attributes:
        onnxcompress: version, `unknown` if the package is not installed.
        onnx: version.
        onnxruntime: version.
        numpy: version.
        python: version.
        system: such as `Linux`.
        machine: such as `x86_64`.
        cpu: the processor's model name, as far as the system tells.
        instruction_sets: those that onnxruntime's kernels make use of; empty where unknown.
        logical_cores: that this process may use.
        threads: within one operator, as measured.
    """

    onnxcompress: str
    onnx: str
    onnxruntime: str
    numpy: str
    python: str
    system: str
    machine: str
    cpu: str
    instruction_sets: tuple[str, ...]
    logical_cores: int
    threads: int


def environment(threads: int = 1, *, cpuinfo: Path = Path("/proc/cpuinfo")) -> Environment:
    """Describes this machine; `cpuinfo` is where Linux tells of the processor."""
    fields = _cpu_fields(cpuinfo)
    flags = f"{fields.get('flags', '')} {fields.get('Features', '')}".split()
    return Environment(
        onnxcompress=_own_version(),
        onnx=onnx.__version__,
        onnxruntime=ONNXRUNTIME_VERSION,
        numpy=np.__version__,
        python=platform.python_version(),
        system=platform.system(),
        machine=platform.machine(),
        cpu=fields.get("model name") or platform.processor() or platform.machine(),
        instruction_sets=tuple(name for flag, name in _INSTRUCTION_SETS.items() if flag in flags),
        logical_cores=_usable_cores(),
        threads=threads,
    )


def _cpu_fields(cpuinfo: Path) -> dict[str, str]:
    """The first processor's entries; all of them are of one kind on what we measure."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    first, _, _ = text.partition("\n\n")
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _own_version() -> str:
    try:
        return metadata.version("onnxcompress")
    except metadata.PackageNotFoundError:
        return "unknown"
