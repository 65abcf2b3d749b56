"""The processors that int8 is tuned for, as data."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from enum import Enum
from pathlib import Path


class Target(Enum):
    """What the compressed model is meant to run on."""

    X86_VNNI = "x86-vnni"
    X86_AVX2 = "x86-avx2"
    ARM64 = "arm64"
    PORTABLE = "portable"


@dataclass(frozen=True, kw_only=True)
class Int8Traits:
    """What onnxruntime's int8 kernels want on a target.

    Attributes:
        signed_activations: int8 activations fuse; elsewhere only uint8 does.
        pairs_saturate: two products of uint8 and int8 can saturate the int16 that they are added
            in (`vpmaddubsw`, used without VNNI); see `quantization.saturation`.
    """

    signed_activations: bool
    pairs_saturate: bool


INT8_TRAITS = {
    Target.X86_VNNI: Int8Traits(signed_activations=False, pairs_saturate=False),
    Target.X86_AVX2: Int8Traits(signed_activations=False, pairs_saturate=True),
    Target.ARM64: Int8Traits(signed_activations=True, pairs_saturate=False),
    Target.PORTABLE: Int8Traits(signed_activations=False, pairs_saturate=True),
}

_VNNI_FLAGS = frozenset({"avx512_vnni", "avx_vnni"})


def detect_target(cpuinfo: Path = Path("/proc/cpuinfo")) -> Target:
    """The target that this machine is; `PORTABLE` when its instruction sets cannot be told."""
    machine = platform.machine().lower()
    if machine in ("arm64", "aarch64"):
        return Target.ARM64
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return Target.PORTABLE
    flags = next((set(line.split()) for line in lines if line.startswith("flags")), set())
    if flags & _VNNI_FLAGS:
        return Target.X86_VNNI
    return Target.X86_AVX2 if "avx2" in flags else Target.PORTABLE
