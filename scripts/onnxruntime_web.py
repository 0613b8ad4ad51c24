"""Fetches onnxruntime-web, which runs an exported file in a browser, into examples/web/vendor/.

    python -m scripts.onnxruntime_web

npm brings the pinned release; it is used only if it is, byte for byte, the one whose SHA-512 stands here.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

VERSION = "1.30.0"
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
# Of 130 MB those for WebAssembly alone; WebGPU and WebGL have their own.
FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
VENDOR = Path(__file__).resolve().parents[1] / "examples" / "web" / "vendor"
PATIENCE = 300  # s


def main() -> None:
    stamp = VENDOR / "version.txt"
    if stamp.is_file() and stamp.read_text() == INTEGRITY and all((VENDOR / name).is_file() for name in FILES):
        print(f"onnxruntime-web {VERSION} is in {VENDOR} already")
        return
    with tempfile.TemporaryDirectory(dir=VENDOR.parent, prefix=".vendor-") as folder:
        new = Path(folder, "vendor")
        new.mkdir()
        unpack(fetched(Path(folder)), new)
        (new / stamp.name).write_text(INTEGRITY)
        shutil.rmtree(VENDOR, ignore_errors=True)
        new.rename(VENDOR)
    print(f"onnxruntime-web {VERSION} is in {VENDOR}")


def fetched(folder: Path) -> Path:
    """The package, as npm packs it.

    Raises:
        SystemExit: npm is missing, could not fetch it, or fetched something else.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise SystemExit("onnxruntime-web comes by npm, which is not installed; Node.js brings it")
    package = f"onnxruntime-web@{VERSION}"
    command = [npm, "pack", package, "--ignore-scripts", "--loglevel=error", "--pack-destination", str(folder)]
    try:
        subprocess.run(command, check=True, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                       timeout=PATIENCE)  # fmt: skip
    except subprocess.TimeoutExpired:
        raise SystemExit(f"npm could not fetch {package} in {PATIENCE} s") from None
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"npm could not fetch {package}: {error.stderr.strip() or error.stdout.strip()}") from None
    package_file = next(folder.glob("*.tgz"))
    found = integrity(package_file)
    if found != INTEGRITY:
        raise SystemExit(f"npm gave another {package} than expected: {found} instead of {INTEGRITY}")
    return package_file


def integrity(path: Path) -> str:
    """As npm writes it."""
    return "sha512-" + base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()


def unpack(package: Path, folder: Path) -> None:
    with tarfile.open(package) as archive:
        for name in FILES:
            member = archive.extractfile(f"package/dist/{name}")
            assert member is not None, name
            with member, (folder / name).open("wb") as out:
                shutil.copyfileobj(member, out)


if __name__ == "__main__":
    main()
