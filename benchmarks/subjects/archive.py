"""Download a package's archive, check it, unpack it. Nothing in it is installed or run.

pip fetches Python packages, apt-get those of Debian and its kin.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.subjects.errors import MissingFileError, SubjectError

_READ_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Package:
    """One wheel of a Python package.

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


@dataclass(frozen=True, kw_only=True)
class DebianPackage(Package):
    """One ``.deb`` archive; name and version are as apt-get knows them."""

    def __str__(self) -> str:
        """The package as apt-get takes it."""
        return f"{self.name}={self.version}"


def download(package: Package, folder: Path) -> Path:
    """Download the package's archive into an empty folder and return its path, checked.

    Raises:
        SubjectError: the archive cannot be had or is not the one that was asked for.
        MissingFileError: apt-get cannot deliver it, as on systems that are no kin of Debian.
    """
    folder.mkdir(parents=True)
    if isinstance(package, DebianPackage):
        _apt_get(package, folder)
    else:
        _pip(package, folder)
    archives = list(folder.iterdir())
    if len(archives) != 1:
        raise SubjectError(f"{package}: downloaded {len(archives)} files, expected one")
    check_sha256(archives[0], package.sha256)
    return archives[0]


def _pip(package: Package, folder: Path) -> None:
    # Only wheels: pip would run the build code of a source archive before we could check it.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(folder), str(package)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SubjectError(f"pip cannot download {package}: {_last_line(done)}")


def _apt_get(package: DebianPackage, folder: Path) -> None:
    command = ["apt-get", "download", "--quiet", str(package)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    except FileNotFoundError as fault:
        raise MissingFileError(
            f"{package} is a Debian package, and there is no apt-get here to download it"
        ) from fault
    if done.returncode != 0:
        raise MissingFileError(
            f"apt-get cannot download {package}: {_last_line(done)} ('apt-get update' may help)"
        )


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"exit status {done.returncode}"


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
    """Unpack a checked archive, a ``.deb`` or a zip.

    A zip is refused whole if any member would land outside the folder.
    """
    if archive.suffix == ".deb":
        command = ["dpkg-deb", "--extract", str(archive), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SubjectError(f"dpkg-deb cannot unpack {archive.name}: {_last_line(done)}")
        return
    root = folder.resolve()
    with zipfile.ZipFile(archive) as opened:
        for member in opened.namelist():
            # zipfile would rename such a member silently; an honest archive has none.
            if "\\" in member or not (root / member).resolve().is_relative_to(root):
                raise SubjectError(f"{archive.name}: member {member!r} leaves the folder")
        opened.extractall(root)
