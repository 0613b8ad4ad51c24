"""The notebooks: cells that narrate, outputs that are this code's, and a run in an empty folder from a wheel."""

from __future__ import annotations

import ast
import base64
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

import kws_imagebind as kws
from kws_imagebind.reporting.figures.published import published_figure
from kws_imagebind.reporting.figures.style import drawn_from
from kws_imagebind.reporting.published import PHONEBIND
from scripts import notebook as keeper

ROOT = Path(__file__).parents[2]
MAIN = ROOT / "KWS-ImageBind.ipynb"
EXAMPLE = ROOT / "examples" / "helpers.ipynb"
SUPERVISED = ROOT / "examples" / "supervised.ipynb"
OBJECTS = ROOT / "examples" / "objects_that_sound.ipynb"
LONGEST_CELL, LONGEST_LINE = 12, 92  # lines, and letters that Colab shows without scrolling
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def parsed(cell: NotebookNode) -> ast.Module:
    return ast.parse(TransformerManager().transform_cell(cell.source))


def texts(notebook: NotebookNode) -> list[str]:
    """What the cells print and tabulate; figures go by what they are called."""
    found = []
    for cell in code(notebook):
        for output in cell.outputs:
            shown = output.get("data", {})
            found.append(output.get("text") or shown.get("text/markdown") or shown.get("text/plain", ""))
    return found


def figures(notebook: NotebookNode) -> list[str]:
    """What each figure was drawn from."""
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    kept = [output.metadata["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    return [each["drawn_from"] for each in kept]


@pytest.fixture(
    scope="module", params=[MAIN, EXAMPLE, SUPERVISED, OBJECTS], ids=["main", "example", "supervised", "objects"]
)
def kept(request: pytest.FixtureRequest) -> NotebookNode:
    return read(request.param)


def test_it_is_a_valid_notebook_that_says_nothing_of_where_it_ran(kept: NotebookNode) -> None:
    nbformat.validate(kept)
    keeper.check(kept)
    for cell in kept.cells:
        assert set(cell.metadata) <= {"tags", "cellView"}
    assert "version" not in kept.metadata.language_info
    again = keeper.normalise(nbformat.from_dict(json.loads(json.dumps(kept))))
    assert nbformat.writes(again) == nbformat.writes(kept)


def test_cells_narrate_and_define_nothing(kept: NotebookNode) -> None:
    assert kept.cells[0].cell_type == "markdown" and kept.cells[0].source.startswith("# ")
    for cell in code(kept):
        lines = cell.source.splitlines()
        assert 1 <= len(lines) <= LONGEST_CELL
        assert max(map(len, lines)) <= LONGEST_LINE, lines
        assert not any(isinstance(node, DEFINITIONS) for node in ast.walk(parsed(cell)))


def test_it_is_kept_executed_in_order_without_errors(kept: NotebookNode) -> None:
    assert [cell.execution_count for cell in code(kept)] == list(range(1, len(code(kept)) + 1))
    outputs = [output for cell in code(kept) for output in cell.outputs]
    assert outputs and not any(output.output_type == "error" for output in outputs)
    assert not any(output.get("name") == "stderr" for output in outputs)
    assert len(json.dumps(outputs)) < 1_000_000


def test_the_main_notebook_has_about_twenty_cells_and_tells_the_whole_story() -> None:
    kept = read(MAIN)
    assert 17 <= len(code(kept)) <= 24
    story = "\n".join(cell.source for cell in kept.cells)
    for part in ("mel_figure", "listen", "similarity_figure", "Progress", "summarise", "per_class_figure",
                 "confusion_matrix_figure", "map_figure", "by_template", "studies.rejection", "kws.spot",
                 "few_examples", "search(", "published_figure", "torchmetrics"):  # fmt: skip
        assert part in story, part
    pictures = [output for cell in code(kept) for output in cell.outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 10
    for picture in pictures:
        shown = picture.metadata["image/png"]
        assert shown["width"] <= 700 and len(shown["alt"]) > 10
        assert base64.b64decode(picture.data["image/png"]).startswith(b"\x89PNG")


def test_one_cell_holds_the_settings_as_a_form() -> None:
    (settings,) = [cell for cell in code(read(MAIN)) if "parameters" in cell.metadata.get("tags", [])]
    names = {}
    for statement in parsed(settings).body:
        assert isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
        names[statement.targets[0].id] = ast.literal_eval(statement.value)
    assert names == {
        "ENCODER": "auto", "DATA": "auto", "TASK": "v2-35", "SPLIT": "testing", "TEMPLATES": "auto", "CLIPS": 0,
        "SEED": 0, "DEVICE": "auto",
    }  # fmt: skip
    assert all("# @param" in line for line in settings.source.splitlines())


def test_the_form_offers_only_what_exists() -> None:
    from kws_imagebind.notebook.automatic import settle

    (settings,) = [cell for cell in code(read(MAIN)) if "parameters" in cell.metadata.get("tags", [])]
    offered = dict(re.findall(r"^(\w+) = .*# @param (\[.*?\])", settings.source, re.MULTILINE))
    names = {"ENCODER": "encoder", "DATA": "data", "TASK": "task", "TEMPLATES": "templates", "SPLIT": "split"}
    for name, argument in names.items():
        for value in ast.literal_eval(offered[name]):
            if (name, value) not in (("ENCODER", "imagebind"), ("DATA", "speech-commands")):
                settle(**{"device": "cpu", argument: value})


def test_the_set_up_installs_only_where_the_package_is_missing_and_keeps_torch() -> None:
    set_up = code(read(MAIN))[0]
    (condition,) = [node for node in parsed(set_up).body if isinstance(node, ast.If)]
    assert ast.unparse(condition.test) == "find_spec('kws_imagebind') is None"
    assert set_up.source.count("%pip") == 1 and "--constraint" in set_up.source
    for package in ("torch", "torchaudio", "numpy"):
        assert f'"{package}"' in set_up.source
    assert set_up.source.count("https://") == 1 and set_up.outputs == []


def test_the_set_up_asks_for_the_repository_before_it_installs(tmp_path: Path) -> None:
    source = code(read(MAIN))[0].source.replace("is None", "is not None").replace("%pip", "raise ValueError #")
    done = subprocess.run([sys.executable, "-c", source], cwd=tmp_path, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
    assert "Put the address of the repository into REPOSITORY" in done.stderr and not list(tmp_path.iterdir())


def test_the_set_up_takes_an_installed_torch_as_it_is(tmp_path: Path) -> None:
    """The constraints that the cell writes are what pip calls an exact version, local part included."""
    source = code(read(MAIN))[0].source.replace("is None", "is not None").replace("com/OWNER", "com/somebody")
    source = "\n".join(line for line in source.splitlines() if "%pip" not in line)
    subprocess.run(
        [sys.executable, "-c", source], cwd=tmp_path, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    from importlib.metadata import version

    from packaging.requirements import Requirement

    kept = [Requirement(line) for line in (tmp_path / "keep.txt").read_text().splitlines()]
    assert [each.name for each in kept] == ["torch", "torchaudio", "numpy"]
    assert all(each.specifier.contains(version(each.name)) for each in kept)


def test_numbers_that_it_quotes_are_those_of_the_library_and_the_readme() -> None:
    story = "\n".join(cell.source for cell in read(MAIN).cells)
    assert "**2.76 %** right" in story and "[2.47, 3.09]" in story and "2.70 %" in story and "59.4 %" in story
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for each in PHONEBIND:
        low, high = (100 * limit for limit in each.limits or ())
        row = f"{each.n:,} | **{100 * each.accuracy:.1f} %** [{low:.1f}, {high:.1f}]"
        assert row in readme, f"published.PHONEBIND and the README differ: {row}"


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ({"output_type": "stream", "name": "stderr", "text": "UserWarning: no"}, "an error or a warning: UserWarning"),
        ({"output_type": "error", "ename": "E", "evalue": "broken", "traceback": []}, "a warning: broken"),
        ({"output_type": "stream", "name": "stdout", "text": "in /home/someone/KWS"}, "machine: /home/someone"),
        ({"output_type": "stream", "name": "stdout", "text": "x" * 1_000_001}, "the outputs take 1,000,"),
    ],
)
def test_outputs_that_no_reader_should_see_are_refused(output: dict[str, object], said: str) -> None:
    cell = nbformat.v4.new_code_cell("1", outputs=[nbformat.from_dict(output)])
    with pytest.raises(keeper.NotebookError, match=said):
        keeper.check(nbformat.v4.new_notebook(cells=[cell]))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as its wheel installs it, in a folder of its own."""
    builder = pytest.importorskip("hatchling.builders.wheel")
    folder = tmp_path_factory.mktemp("wheel")
    wheel = next(builder.WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"]))
    site = folder / "site"
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(site)
    return site


def test_the_wheel_holds_all_that_runs_offline(installed: Path) -> None:
    package = installed / "kws_imagebind"
    assert len(list((package / "sample").glob("*/*.wav"))) == len(list((ROOT / "sample").glob("*/*.wav"))) > 300
    for name in ("bpe/bpe_simple_vocab_16e6.txt.gz", "weights/phonebind.safetensors",
                 "text/lexicon/cmudict.txt.gz",
                 "weights/letter_to_sound.safetensors", "reporting/templates/report.html.jinja",
                 "encoders/imagebind/helpers.py"):  # fmt: skip
        assert (package / name).is_file(), name
    assert not (installed / "data.py").exists()  # it would stand in for a user's own module
    assert sum(path.stat().st_size for path in installed.rglob("*") if path.is_file()) < 20e6


@pytest.fixture(scope="module")
def run_alone(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[NotebookNode, Path]]:
    """The main notebook, run in an empty folder with the wheel's package."""
    folder = tmp_path_factory.mktemp("alone")
    notebook = keeper.normalise(keeper.execute(read(MAIN), folder, installed))
    yield notebook, folder


def test_it_runs_alone_in_an_empty_folder_offline(
    run_alone: tuple[NotebookNode, Path],
) -> None:
    notebook, folder = run_alone
    keeper.check(notebook)
    assert sorted(path.name for path in folder.iterdir()) == [".cache", "notebook-report"]
    assert "in the folder notebook-report" in texts(notebook)[-2]


def test_what_is_kept_is_what_this_code_says(run_alone: tuple[NotebookNode, Path]) -> None:
    assert texts(run_alone[0]) == texts(read(MAIN)), "run `make notebook`"


def test_the_figures_that_are_kept_are_drawn_from_this_codes_numbers(
    run_alone: tuple[NotebookNode, Path],
) -> None:
    drawn, held = figures(run_alone[0]), figures(read(MAIN))
    assert len(held) == 10 and drawn == held, "run `make notebook`"


def test_a_figure_of_other_numbers_is_another_figure() -> None:
    one, other = ([PHONEBIND[0], replace(PHONEBIND[0], task="v2-35", accuracy=share)] for share in (0.884, 0.879))
    chances = {"v2-10": 0.1, "v2-35": 1 / 35}
    digests = [drawn_from(published_figure(rows, chances, "this project", "t")) for rows in (one, one, other)]
    assert digests[0] == digests[1] != digests[2]


def test_the_example_runs_from_its_folder(installed: Path) -> None:
    found = keeper.execute(read(EXAMPLE), EXAMPLE.parent)
    assert texts(found) == texts(read(EXAMPLE)), "run `make notebook`"


def test_training_runs_from_its_folder_to_a_number_above_chance(installed: Path) -> None:
    pytest.importorskip("lightning", reason="training needs the extra 'supervised'")
    for notebook in (read(SUPERVISED), keeper.execute(read(SUPERVISED), SUPERVISED.parent)):
        (line,) = [line for line in "".join(texts(notebook)).splitlines() if line.startswith("supervised ")]
        assert float(line.split()[1]) >= 30 and "n = 20" in line  # chance is 10 %


def test_objects_that_sound_keeps_numbers_above_chance_with_their_n_and_interval() -> None:
    """It takes more than a minute, so that it is not run here; tests/training/correspondence runs what it calls."""
    kept = "".join(texts(read(OBJECTS)))
    apart = re.search(r"other labels only: ([\d.]+) % \[[\d.]+, [\d.]+\], n = 12; chance 50 %", kept)
    assert apart and float(apart[1]) > 60
    across = re.findall(r"(?:image to audio|audio to image) +nDCG@30 ([\d.]+) % \[.*?n = 12; chance ([\d.]+) %", kept)
    assert len(across) == 2 and all(float(value) > float(chance) + 5 for value, chance in across)
    assert re.search(r"the spoken word of 6 in [\d.]+ % \[[\d.]+, [\d.]+\], n = 12; chance", kept)


def test_other_settings_run_too_and_without_scikit_learn_the_map_is_one_plain_sentence(tmp_path: Path) -> None:
    notebook = read(MAIN)
    (settings,) = [cell for cell in code(notebook) if "parameters" in cell.metadata.get("tags", [])]
    for old, new in (
        ('TASK = "v2-35"', 'TASK = "digits"'),
        ('TEMPLATES = "auto"', 'TEMPLATES = "bare"'),
        ("CLIPS = 0", "CLIPS = 40"),
        ("SEED = 0", "SEED = 5"),
    ):
        assert old in settings.source
        settings.source = settings.source.replace(old, new)
    notebook.cells.insert(0, nbformat.v4.new_code_cell("import sys\nsys.modules['sklearn.manifold'] = None"))
    found = keeper.execute(notebook, tmp_path)
    keeper.check(keeper.normalise(found))
    assert "40 recordings" in "\n".join(texts(found))
    (output,) = next(cell for cell in code(found) if "draw_map" in cell.source).outputs
    assert output.data["text/html"].startswith("<p>a map of the embeddings needs scikit-learn; install scikit-learn")


class Screen:
    """Stands for the page: what was displayed, and what that was changed to."""

    def __init__(self) -> None:
        self.shown: list[dict[str, str]] = []

    def __call__(self, content: Any, raw: bool = False, **_: Any) -> Screen:
        self.shown.append(content if raw else {"text/html": content.data})
        return self

    def update(self, content: dict[str, str], raw: bool) -> None:
        self.shown[-1] = content


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    found = Screen()
    monkeypatch.setattr("kws_imagebind.notebook.display.display", found)
    return found


def test_what_a_notebook_shows_has_words_for_those_who_cannot_see_it(screen: Screen) -> None:
    from kws_imagebind.notebook import display as page
    from kws_imagebind.reporting.figures.similarity import ranking_figure

    page.show(ranking_figure([("yes", 0.5)], "One recording"), "One recording")
    page.listen(kws.load_dataset("sample").utterances[:2])
    page.tell("a < b")
    picture, players, sentence = screen.shown
    assert picture["text/plain"] == "One recording"
    assert players["text/html"].count("<audio controls") == 2
    assert players["text/plain"] == "players of the recordings backward, backward"
    assert "a &lt; b" in sentence["text/html"]


def test_a_player_plays_the_recording(tmp_path: Path, screen: Screen) -> None:
    import soundfile

    from kws_imagebind.notebook import display as page

    clip = kws.load_dataset("sample").utterances[0]
    page.listen([clip])
    kind, content = re.findall(r'src="data:audio/(\w+);base64,([^"]+)"', screen.shown[0]["text/html"])[0]
    heard = tmp_path / f"heard.{'mp3' if kind == 'mpeg' else 'wav'}"
    heard.write_bytes(base64.b64decode(content))
    original, found = soundfile.info(clip.path), soundfile.info(heard)
    assert found.samplerate == 16_000 and abs(found.duration - original.duration) < 0.15


def test_pictures_stand_in_a_row_with_their_captions(tmp_path: Path, screen: Screen) -> None:
    from kws_imagebind.notebook import display as page

    (tmp_path / "one.png").write_bytes(b"one")
    page.look([tmp_path / "one.png"], ["go < up"])
    (shown,) = screen.shown
    assert shown["text/plain"] == "pictures: go < up" and shown["text/html"].count("go &lt; up") == 2
    assert f"base64,{base64.b64encode(b'one').decode()}" in shown["text/html"]
    with pytest.raises(ValueError, match="shorter"):
        page.look([tmp_path / "one.png"], [])


def test_a_saved_figure_is_shown_smaller_at_the_width_of_the_page(tmp_path: Path, screen: Screen) -> None:
    from PIL import Image

    from kws_imagebind.notebook import display as page

    Image.effect_noise((1400, 200), 90).save(tmp_path / "figure.png")
    page.show_saved(tmp_path / "figure.png", "Noise")
    (shown,) = screen.shown
    data = base64.b64decode(shown["image/png"])
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.size == (page.WIDTH, 100) and shown["text/plain"] == "Noise"
    assert len(data) < (tmp_path / "figure.png").stat().st_size / 2


def test_one_recording_of_each_word_is_drawn_by_the_seed() -> None:
    from kws_imagebind.notebook.display import one_each

    dataset = kws.load_dataset("sample")
    drawn = one_each(dataset, 6, seed=1)
    assert len({clip.label for clip in drawn}) == 6
    assert [clip.label for clip in drawn] == [word for word in dataset.labels if word in {c.label for c in drawn}]
    assert drawn == one_each(dataset, 6, seed=1) != one_each(dataset, 6, seed=2)
    assert len(one_each(kws.load_dataset("sample", task="v2-10"), 99)) == 10


def test_the_bar_is_drawn_once_and_then_moved(screen: Screen) -> None:
    from kws_imagebind.notebook.display import Progress

    bar = Progress("it hears")
    for done in (0, 10, 24):
        bar(done, 24)
        assert [each["text/plain"] for each in screen.shown] == [f"it hears: {done} of 24 clips"]
    assert 'value="24" max="24"' in screen.shown[0]["text/html"]


def test_the_summary_is_a_table_with_n_interval_chance_and_protocol(screen: Screen) -> None:
    from kws_imagebind.notebook.display import summarise

    encoder, dataset = kws.load_encoder("phonebind", device="cpu"), kws.load_dataset("sample", task="v2-10")
    audio = kws.embed(encoder, dataset)
    result = kws.evaluate(kws.ZeroShotClassifier(encoder, dataset.keywords)(audio), audio)
    summarise(result)
    table = screen.shown[0]["text/html"]
    low, high = f"{100 * result.accuracy.low:.1f}", f"{100 * result.accuracy.high:.1f}"
    assert f"**{100 * result.accuracy.estimate:.1f} %**, 95 % interval [{low}, {high}]" in table
    for part in ("n = 90", "10.0 % (10 words to choose from)", "bundled sample", "phonebind, zero-shot", "9 speakers"):
        assert part in table
    assert len({line.count("|") for line in table.splitlines()}) == 1
