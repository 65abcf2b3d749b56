"""Download a package's archive with pip, check it, unpack it. Nothing in it is installed or run."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.subjects.errors import SubjectError

_READ_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Package:
    """One archive of a Python package.

    Attributes:
        name, version: as pip knows it.
        sha256: of the archive, in hex. Anything else is refused before it is opened.
    """

    name: str
    version: str
    sha256: str

    def __str__(self) -> str:
        """The package as a pip requirement."""
        return f"{self.name}=={self.version}"


def download(package: Package, folder: Path) -> Path:
    """Download the package's wheel into an empty folder and return its path, checked.

    Only wheels: pip would run the build code of a source archive before we could check it.
    """
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(folder), str(package)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise SubjectError(f"pip cannot download {package}: {lines[-1]}")
    archives = list(folder.iterdir())
    if len(archives) != 1:
        raise SubjectError(f"pip downloaded {len(archives)} files for {package}, expected one")
    check_sha256(archives[0], package.sha256)
    return archives[0]


def sha256(path: Path) -> str:
    """The SHA-256 of a file, or of a folder's file names and contents, in hex."""
    if path.is_dir():
        lines = [
            f"{sha256(file)}  {file.relative_to(path).as_posix()}\n"
            for file in sorted(path.rglob("*"))
            if file.is_file()
        ]
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_READ_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def check_sha256(path: Path, expected: str) -> None:
    """Raise SubjectError unless the file's SHA-256 is the expected one."""
    actual = sha256(path)
    if actual != expected:
        raise SubjectError(f"{path.name}: SHA-256 is {actual}, expected {expected}")


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip archive, refusing it whole if any member would land outside the folder."""
    root = folder.resolve()
    with zipfile.ZipFile(archive) as opened:
        for member in opened.namelist():
            # zipfile would rename such a member silently; an honest archive has none.
            if "\\" in member or not (root / member).resolve().is_relative_to(root):
                raise SubjectError(f"{archive.name}: member {member!r} leaves the folder")
        opened.extractall(root)
