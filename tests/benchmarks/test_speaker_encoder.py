"""The speaker encoder's data and metric; none of these tests needs a network."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.subjects import archive
from benchmarks.subjects.archive import DebianPackage
from benchmarks.subjects.errors import MissingFileError, SubjectError
from benchmarks.subjects.speaker_encoder import windows
from benchmarks.subjects.verification import equal_error_rate, verification_accuracy

pytestmark = pytest.mark.slow

PACKAGE = DebianPackage(name="a-voice", version="1.0-1", sha256="0" * 64)


def unit(*degrees: float) -> np.ndarray:
    """Vectors of length 1 in the plane."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_equal_error_rate_counts_pairs() -> None:
    assert equal_error_rate(unit(0, 10, 90, 100), np.array([0, 0, 1, 1])) == 0.0
    assert equal_error_rate(unit(0, 90, 45), np.array([0, 0, 1])) == 1.0
    # Pairs of one speaker lie 0-20, 0-50 and 20-50 degrees apart, pairs of two 30, 10 and 20:
    # refusing 30 and 50 accepts two of three, refusing 50 alone accepts all but none closer.
    assert equal_error_rate(unit(0, 20, 50, 30), np.array([0, 0, 0, 1])) == pytest.approx(2 / 3)


def test_equal_error_rate_of_chance_is_half() -> None:
    random = np.random.default_rng(0)
    embeddings = random.standard_normal((400, 16))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    assert equal_error_rate(embeddings, random.integers(0, 4, 400)) == pytest.approx(0.5, abs=0.01)


def test_a_recording_drawn_twice_is_no_pair() -> None:
    random = np.random.default_rng(0)
    embeddings = random.standard_normal((20, 8))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    speakers = random.integers(0, 2, 20)
    twice = np.concatenate([embeddings, embeddings])
    found = equal_error_rate(twice, np.concatenate([speakers, speakers]))
    # Were the 20 pairs of equals counted, 5 % of the pairs of one speaker would be sure ones.
    assert found == pytest.approx(equal_error_rate(embeddings, speakers), abs=0.01)


def test_pairs_of_one_kind_have_no_rate() -> None:
    with pytest.raises(ValueError, match="pairs of one speaker and pairs of two"):
        equal_error_rate(unit(0, 10), np.array([0, 0]))


def test_verification_accuracy_reads_the_only_output() -> None:
    outputs = {"embedding": unit(0, 10, 90, 100)}
    assert verification_accuracy(outputs, np.array([0, 0, 1, 1])) == 1.0


def test_windows_hold_power_by_frequency_and_no_pause() -> None:
    seconds = np.arange(48_000) / 16_000
    tone = np.sin(2 * np.pi * 1000 * seconds).astype(np.float32)
    tone[16_000:32_000] = 0  # a second of silence
    flat = np.eye(
        201, 40, k=-5, dtype=np.float32
    )  # bands of one frequency each: 200 Hz, 240 Hz, ..
    found = windows(tone, flat)
    assert found.shape == (1, 160, 40)  # two seconds of sound, 1.6 s a window
    assert found.dtype == np.float32
    middle = found[0, 20:80]
    assert (middle.argmax(axis=1) == 20).all()  # (1000 - 200) / 40
    # A sine of amplitude 1 under a Hann window of 400: a quarter of the window, squared.
    np.testing.assert_allclose(middle[:, 20], 100.0**2, rtol=1e-3)


def test_quiet_recordings_are_made_louder() -> None:
    noise = np.random.default_rng(0).normal(0, 1e-3, 32_000).astype(np.float32)
    filters = np.ones((201, 40), np.float32)
    np.testing.assert_allclose(windows(noise, filters), windows(noise / 8, filters), rtol=1e-3)
    loud = noise * 200
    np.testing.assert_allclose(windows(2 * loud, filters), 4 * windows(loud, filters), rtol=1e-3)


def test_a_debian_archive_comes_by_apt_get(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(command: list[str], *, cwd: Path, **_: Any) -> subprocess.CompletedProcess[str]:
        assert command == ["apt-get", "download", "--quiet", "a-voice=1.0-1"]
        (cwd / "a-voice_1.0-1_all.deb").write_bytes(b"not what was recorded")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", fake)
    with pytest.raises(SubjectError, match=r"a-voice_1\.0-1_all\.deb: SHA-256 is "):
        archive.download(PACKAGE, tmp_path / "download")


def test_without_apt_get_the_subject_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingFileError, match=r"a-voice=1\.0-1 is a Debian package, and there is"):
        archive.download(PACKAGE, tmp_path / "download")


def test_what_apt_get_says_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(
            command, 100, "", "E: Unable to locate package a-voice\n"
        )

    monkeypatch.setattr(subprocess, "run", fake)
    with pytest.raises(MissingFileError, match=r"package a-voice \('apt-get update' may help"):
        archive.download(PACKAGE, tmp_path / "download")
