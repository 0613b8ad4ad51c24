"""ImageBind's tables as commands, each the whole way on a small model of formula weights.

What it scores means nothing, and every report says that these are not the published weights.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from kws_imagebind.cli import main
from kws_imagebind.datasets import DatasetError, load_dataset
from kws_imagebind.datasets.captions import load_captions
from kws_imagebind.embeddings.embed import Embeddings, embed
from kws_imagebind.encoders.imagebind.encoder import ImageBindEncoder
from kws_imagebind.models.imagebind import ImageBindConfig
from tests.models.test_imagebind import SALT, SHAPES, SMALL, formula

pytest.importorskip("pyarrow")
Image = pytest.importorskip("PIL.Image")
NAME = "imagebind (not the published weights)"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    torch.save(formula.state_dict(SALT, SHAPES, ("audio", "text", "vision")), folder / "imagebind_huge.pth")
    return folder


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ImageBindConfig, "huge", staticmethod(lambda: SMALL))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Four pictures each of two words: noise of their own."""
    noise = np.random.default_rng(0)
    for word in ("dog", "wave"):
        for number in range(4):
            path = tmp_path / "pictures" / word / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise.integers(0, 255, (240, 300, 3), dtype=np.uint8)).save(path)
    return tmp_path / "pictures"


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    """Four clips of the sample each of two words."""
    sample = Path(__file__).parents[3] / "sample"
    for word in ("yes", "no"):
        (tmp_path / "sounds" / word).mkdir(parents=True)
        for clip in sorted((sample / word).glob("*.wav"))[:4]:
            (tmp_path / "sounds" / word / clip.name).symlink_to(clip)
    return tmp_path / "sounds"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], checkpoints: Path):
    def command(*asked: str | Path) -> str:
        encoder = ["--encoder", "imagebind", "--checkpoints", str(checkpoints), "--precision", "fp32"]
        code = main([*map(str, asked), *encoder])
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return captured.out

    return command


def encoder(checkpoints: Path) -> ImageBindEncoder:
    return ImageBindEncoder.from_weights(checkpoints, "cpu", "fp32")


def test_zero_shot_over_a_folder_of_sounds(run, sounds: Path) -> None:
    out = run("evaluate", "--data", sounds, "--template", "a sound of {}", "--quiet", "--json")
    found = json.loads(out)
    assert found["n"] == 8 and found["encoder"] == NAME and found["protocol"]["templates"] == ["a sound of {}"]


def test_zero_shot_over_a_folder_of_pictures(run, pictures: Path, checkpoints: Path) -> None:
    out = run("evaluate", "--data", pictures, "--template", "a photo of a {}.", "--output", "report", "--quiet")
    assert "n = 8" in out and NAME in out and "data set pictures" in out.replace("data              ", "data set ")
    audio = embed(encoder(checkpoints), load_dataset("pictures", root=pictures))
    paths = [utterance.path for utterance in audio.utterances]
    assert torch.allclose(audio.features, encoder(checkpoints).encode_image(paths), atol=1e-6)
    assert len(set(audio.contents)) == 8 and audio.dataset.kind == "image" and not audio.silent
    assert (Path("report") / "report.html").is_file()


def test_few_shot_on_pictures_by_the_papers_protocol(run, pictures: Path, tmp_path: Path) -> None:
    for word in ("dog", "wave"):
        (tmp_path / "report" / word).mkdir(parents=True)
        for number in (2, 3):
            (pictures / word / f"{number}.png").rename(tmp_path / "report" / word / f"{number}.png")
    for name, folder in (("learn", pictures), ("report", tmp_path / "report")):
        run("embed", "--dataset", "pictures", "--data", folder, "--output", f"{name}.parquet", "--quiet")
    asked = ("--protocol", "imagebind", "--shots", "1,2", "--json", "--quiet")
    (table,) = json.loads(run("few-shot", "--data", "report.parquet", "--support", "learn.parquet", *asked))
    (folder,) = json.loads(run("few-shot", "--data", "report", "--support", "pictures", *asked))
    assert table["n"] == 4 and {each["readout"] for each in table["points"]} >= {"linear-head", "text-held"}
    assert table["points"] == folder["points"]


def test_sentences_find_sounds_and_pictures(run, sounds: Path, pictures: Path) -> None:
    for folder in (sounds, pictures):
        files = sorted(path.relative_to(folder) for path in folder.glob("*/*"))
        lines = [f'{path},"{path.parent}, number {take}"' for path in files for take in range(5)]
        (folder / "captions.csv").write_text("\n".join(["path,caption", *lines]))
        found = json.loads(run("retrieve", "--captions", folder / "captions.csv", "--quiet", "--json"))
        kind = "audio" if folder == sounds else "image"
        there, back = found["directions"]
        assert (there["direction"], back["direction"]) == (f"text to {kind}", f"{kind} to text")
        assert (there["queries"], there["documents"], back["queries"], back["documents"]) == (40, 8, 8, 40)
        assert there["measures"]["recall@1"]["chance"] == pytest.approx(1 / 8)
        assert "over the 8 " in there["intervals"]


def test_captions_are_scored_against_their_own_files(run, sounds: Path, checkpoints: Path) -> None:
    first, second = sorted(sounds.glob("*/*"))[:2]
    Path("captions.csv").write_text(f"path,caption\n{second},a dog\n{first},the sea\n{second},a wave\n")
    found = load_captions(Path("captions.csv"))
    assert found.owners == (0, 1, 0) and [u.path for u in found.dataset.utterances] == [second, first]
    model = encoder(checkpoints)
    scores = model.encode_text(["a dog", "the sea", "a wave"]) @ embed(model, found.dataset).features.T
    expected = (scores.argmax(1) == torch.tensor([0, 1, 0])).float().mean()
    said = json.loads(run("retrieve", "--captions", "captions.csv", "--quiet", "--json"))
    assert said["directions"][0]["measures"]["recall@1"]["estimate"] == pytest.approx(float(expected))


def test_every_direction_with_pictures(run, sounds: Path, pictures: Path) -> None:
    (pictures / "wave").rename(pictures / "yes")
    out = run("retrieve", "--data", sounds, "--images", pictures, "--quiet")
    assert "image to audio: 4 queries, 8 documents" in out and "audio to image" in out
    out = run("retrieve", "--data", pictures, "--quiet")
    assert "text to image" in out and "image to image" in out and "audio" not in out


def test_a_picture_and_a_sound_are_added_to_find_pictures(
    run, sounds: Path, pictures: Path, checkpoints: Path
) -> None:  # fmt: skip
    run("embed", "--dataset", "pictures", "--data", pictures, "--output", "pictures.parquet", "--quiet")
    picture, sound = pictures / "dog" / "0.png", next((sounds / "yes").iterdir())
    out = run(
        "search", "pictures.parquet", "--like", picture, "--add", sound, "--top", "3", "--json", "--html", "p.html"
    )
    hits = json.loads(out)["hits"]
    audio, model = Embeddings.load("pictures.parquet"), encoder(checkpoints)
    from kws_imagebind import load_audio

    query = model.encode_image([picture])[0] + model.encode_audio([load_audio(sound, 16_000)])[0]
    best = (audio.features @ torch.nn.functional.normalize(query, dim=0)).topk(3)
    assert [each["key"] for each in hits] == [audio.utterances[row].key for row in best.indices]
    assert [each["score"] for each in hits] == pytest.approx(best.values.tolist(), abs=1e-5)
    run("index", sounds, "--output", "sounds.index", "--quiet")
    assert len(json.loads(run("search", "sounds.index", "--like", picture, "--top", "2", "--json"))["hits"]) == 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read (No such file or directory)"),
        ("file,caption\na.wav,b\n", "has no column path"),
        ("path,caption\n", "lists no captions"),
        ("path,caption\na.wav,\n", "line 2: expected a path and a caption"),
        ("path,caption\ngone.wav,b\n", "names 'gone.wav', and "),
        ("path,caption\nhere.wav,a\nhere.png,b\n", "names sounds and pictures"),
    ],
)
def test_bad_captions_get_one_sentence(tmp_path: Path, content: str | None, reason: str) -> None:
    for name in ("here.wav", "here.png"):
        (tmp_path / name).touch()
    if content is not None:
        (tmp_path / "captions.csv").write_text(content)
    with pytest.raises(DatasetError) as raised:
        load_captions(tmp_path / "captions.csv")
    assert reason in str(raised.value) and "\n" not in str(raised.value)


def test_bad_pictures_get_one_line(
    capsys: pytest.CaptureFixture[str], pictures: Path, sounds: Path, checkpoints: Path
) -> None:
    def refused(reason: str, *asked: str | Path) -> None:
        assert main(list(map(str, asked))) == 2
        said = capsys.readouterr().err.splitlines()
        assert reason in said[-1] and len([line for line in said if "not Meta's" not in line]) == 1, said

    imagebind = ("--encoder", "imagebind", "--checkpoints", checkpoints, "--quiet")
    refused("encoder 'phonebind' takes no pictures", "evaluate", "--data", pictures, "--quiet")
    refused("holds no picture", "evaluate", "--dataset", "pictures", "--data", sounds, *imagebind)
    refused("needs the path of the folder", "evaluate", "--dataset", "pictures", *imagebind)
    damaged = pictures / "dog" / "0.png"
    damaged.write_bytes(damaged.read_bytes()[:5000])
    refused("0.png: cannot be read as a picture", "evaluate", "--data", pictures, *imagebind)
    refused("0.png: cannot be read as a picture", "retrieve", "--data", sounds, "--images", pictures, "--keywords",
            "dog,yes", *imagebind)  # fmt: skip
    assert main(["evaluate", "--data", str(pictures), "--on-error", "skip", *map(str, imagebind)]) == 0
    assert "n = 7" in capsys.readouterr().out
