import platform
from pathlib import Path

import pytest

from onnxcompress.target import INT8_TRAITS, Target, detect_target


def _cpuinfo(folder: Path, text: str) -> Path:
    path = folder / "cpuinfo"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("flags", "target"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_vnni", Target.X86_VNNI),
        ("flags\t\t: fpu avx2 avx_vnni", Target.X86_VNNI),
        ("flags\t\t: fpu avx2 avx512f", Target.X86_AVX2),
        ("flags\t\t: fpu sse4_2 avx", Target.PORTABLE),
        ("processor : 0\nmodel name : avx512_vnni in a name only", Target.PORTABLE),
        ("", Target.PORTABLE),
    ],
)
def test_x86_is_told_by_its_flags(
    flags: str, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert detect_target(_cpuinfo(tmp_path, f"processor : 0\n{flags}\nend\n")) is target


@pytest.mark.parametrize("machine", ["arm64", "aarch64", "ARM64"])
def test_arm(machine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert detect_target(tmp_path / "none") is Target.ARM64


def test_a_machine_that_does_not_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "AMD64")
    assert detect_target(tmp_path / "none") is Target.PORTABLE


def test_pairs_of_products_saturate_without_vnni_alone() -> None:
    for target, traits in INT8_TRAITS.items():
        assert traits.pairs_saturate is (target in (Target.X86_AVX2, Target.PORTABLE))
        assert traits.signed_activations is (target is Target.ARM64)
    assert set(INT8_TRAITS) == set(Target)
