"""`index`, `search` and `retrieve`: finding recordings, and how well that works."""

from __future__ import annotations

import argparse
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kws_imagebind.cli.options import (
    add_data_options,
    add_encoder_options,
    add_run_options,
    check_table,
    chosen_dataset,
    chosen_encoder,
    chosen_templates,
    embed_clips,
    is_table,
    positive,
    say,
    table_of,
)

if TYPE_CHECKING:
    from torch import Tensor

    from kws_imagebind.embeddings.embed import Embeddings
    from kws_imagebind.embeddings.index import ClipIndex
    from kws_imagebind.encoders import Encoder
    from kws_imagebind.readouts.retrieval import Direction
    from kws_imagebind.spotting.search import Found


def add_index(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "index",
        help="make recordings searchable",
        description="Encodes all recordings of a folder, long ones by window, and writes an index for 'search'. A "
        "table of 'embed' is indexed without any audio.",
    )
    command.set_defaults(run=_index)
    command.add_argument("source", type=Path, metavar="FOLDER", help="a folder, a recording or a table of 'embed'")
    command.add_argument("--output", type=Path, required=True, metavar="INDEX", help="folder to write the index to")
    command.add_argument(
        "--kind", choices=("exact", "hnsw", "ivf"), default="exact", help="hnsw and ivf are faster and miss some"
    )
    command.add_argument(
        "--hop", type=_number, default=0.25, metavar="S", help="seconds between windows (default 0.25)"
    )
    command.add_argument(
        "--window", type=_number, metavar="S", help="seconds of a window; by default all that the encoder hears at once"
    )
    command.add_argument("--on-error", choices=("raise", "skip"), default="raise", help="at an unusable recording")
    command.add_argument("--quiet", action="store_true", help="no progress bar")
    add_encoder_options(command)


def add_search(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "search",
        help="find a word, a sound or a picture in recordings that were indexed",
        description="Finds the clips and the places of recordings that are nearest to a query: a text, or with --like "
        "a recording or a picture. Several queries are added as unit vectors, each with its weight.",
    )
    command.set_defaults(run=_search)
    command.add_argument("index", type=Path, metavar="INDEX", help="of 'index', or a table of 'embed'")
    command.add_argument("text", nargs="?", metavar="TEXT", help="what to look for; ARPAbet as /K EH T AH L/")
    command.add_argument("--like", type=Path, metavar="FILE", help="look for what is like a recording or a picture")
    command.add_argument(
        "--add", action="append", default=[], metavar="Q[:W]", help="add a text or a file, with a weight (default 1), "
        "as in --add dog:0.5 or --add clip.wav:-0.3; may be repeated",
    )  # fmt: skip
    command.add_argument("--top", type=positive, default=10, metavar="N", help="how many hits (default 10)")
    command.add_argument(
        "--not-same-recording", action="store_true", help="leave out the recordings that are part of the query"
    )
    command.add_argument(
        "--no-duplicates", action="store_true", help="leave out clips that sound the same as the query (cosine 0.98)"
    )
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--html", type=Path, metavar="PAGE.html", help="write a page with playable hits")
    add_encoder_options(command)
    command.set_defaults(encoder=None)


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got '{text}'")
    return number


def _index(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from kws_imagebind.embeddings.index import ClipIndex, check_place
    from kws_imagebind.embeddings.table import is_table
    from kws_imagebind.spotting.search import check_window, index_recordings

    check_place(arguments.output, arguments.kind)
    skipped: list[str] = []
    if is_table(arguments.source):
        found = ClipIndex.load(arguments.source)
        index = ClipIndex.build(
            found.rows, found.vectors, found.encoder, found.fingerprint, found.card, arguments.kind, found.hop
        )
    else:
        if not arguments.source.exists():
            raise FileNotFoundError(f"'{arguments.source}' does not exist; expected a folder of recordings")
        encoder = chosen_encoder(arguments)
        check_window(encoder, arguments.window)
        with tqdm(unit="recording", disable=arguments.quiet, desc=f"{encoder.name} hears") as bar:

            def progress(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            lenient = skipped if arguments.on_error == "skip" else None
            index = index_recordings(
                arguments.source, encoder, arguments.kind, arguments.hop, lenient, progress, arguments.window
            )
    index.save(arguments.output)
    for reason in skipped:
        say(f"skipped: {reason}")
    files = len({row.path for row in index.rows})
    how = "exact" if index.kind == "exact" else f"{index.kind}, which finds {100 * index.recall:.1f} % of the exact ten"
    say(f"indexed {len(index):,} clips of {files:,} recordings in {arguments.output} ({how})")
    return 0


def _search(arguments: argparse.Namespace) -> int:
    from kws_imagebind.embeddings.index import ClipIndex
    from kws_imagebind.spotting.search import DUPLICATE, find, same_recording

    queries = _queries(arguments)
    index = ClipIndex.load(arguments.index)
    encoder = _encoder_of(arguments, index)
    vectors = _query_vectors(arguments, queries, encoder)
    without: set[str] = set()
    if arguments.not_same_recording:
        for query, _ in queries:
            without |= same_recording(index, query) if isinstance(query, Path) else set()
    hits = find(index, vectors.numpy(), arguments.top, without, DUPLICATE if arguments.no_duplicates else None)
    title = _title(queries)
    if arguments.json:
        print(json.dumps(_answer(title, index, hits), ensure_ascii=False))
    else:
        _print(hits)
    if arguments.html:
        _write_page(arguments.html, title, index, hits, encoder.sample_rate)
        say(f"wrote {arguments.html}")
    return 0


def _queries(arguments: argparse.Namespace) -> list[tuple[str | Path, float]]:
    """What to look for, each with its weight; a path is a recording or a picture."""
    from kws_imagebind.readouts.arithmetic import QueryError

    found: list[tuple[str | Path, float]] = []
    if arguments.text is not None:
        found.append((arguments.text, 1.0))
    if arguments.like is not None:
        found.append((arguments.like, 1.0))
    for added in arguments.add:
        text, colon, weight = added.rpartition(":")
        try:
            number = float(weight) if colon else 1.0
        except ValueError:
            text, number = added, 1.0
        text = text if colon and text else added
        if not math.isfinite(number):
            raise QueryError(f"--add '{added}': expected a finite weight after the colon, as in dog:0.5")
        found.append((Path(text) if Path(text).is_file() else text, number))
    if not found:
        raise QueryError("there is nothing to look for; give a text, --like FILE or --add")
    missing = next((query for query, _ in found if isinstance(query, Path) and not query.is_file()), None)
    if missing:
        raise FileNotFoundError(f"'{missing}' does not exist; expected a recording or a picture")
    return found


def _encoder_of(arguments: argparse.Namespace, index: ClipIndex) -> Encoder:
    from kws_imagebind.encoders import EncoderError

    encoder = chosen_encoder(argparse.Namespace(**{**vars(arguments), "encoder": arguments.encoder or index.encoder}))
    if encoder.fingerprint != index.fingerprint:
        raise EncoderError(
            f"the index is of encoder '{index.encoder}' ({index.fingerprint}), and not of '{encoder.name}' "
            f"({encoder.fingerprint}); index the recordings again, or name the index's encoder and precision"
        )
    return encoder


def _query_vectors(
    arguments: argparse.Namespace, queries: Sequence[tuple[str | Path, float]], encoder: Encoder
) -> Tensor:
    """(q, dim): one vector, or for a single word one for each way to say it."""
    import torch

    from kws_imagebind.readouts.arithmetic import combine

    each = [_encoded(arguments, query, encoder) for query, _ in queries]
    if len(each) == 1 and queries[0][1] > 0:
        return each[0]
    return combine(torch.stack([vectors[0] for vectors in each]), [weight for _, weight in queries])[None]


def _encoded(arguments: argparse.Namespace, query: str | Path, encoder: Encoder) -> Tensor:
    from kws_imagebind import ZeroShotClassifier, load_audio
    from kws_imagebind.datasets.folder import check_picture, is_picture
    from kws_imagebind.encoders import EncoderError

    if isinstance(query, str):
        return ZeroShotClassifier(encoder, [query], chosen_templates(arguments), arguments.average).weights
    if not is_picture(query):
        return encoder.encode_audio([load_audio(query, encoder.sample_rate)])
    if not hasattr(encoder, "encode_image"):
        raise EncoderError(f"encoder '{encoder.name}' takes no pictures such as '{query}'; imagebind does")
    check_picture(query)
    return encoder.encode_image([query])


def _title(queries: Sequence[tuple[str | Path, float]]) -> str:
    parts = []
    for query, weight in queries:
        name = query.name if isinstance(query, Path) else query
        parts.append(name if weight == 1 else f"{weight:g} × {name}")
    return " + ".join(parts)


def _answer(title: str, index: ClipIndex, hits: Sequence[Found]) -> dict[str, Any]:
    return {
        "query": title,
        "encoder": index.encoder,
        "fingerprint": index.fingerprint,
        "index": {"kind": index.kind, "clips": len(index), "recall": index.recall},
        "hits": [
            {
                "path": hit.path,
                "key": hit.key,
                "start": round(hit.start, 3),
                "seconds": None if hit.seconds is None else round(hit.seconds, 3),
                "score": round(hit.score, 6),
                "label": hit.label,
                "speaker": hit.speaker,
            }
            for hit in hits
        ],
    }


def _print(hits: Sequence[Found]) -> None:
    if not hits:
        say("kws-imagebind search: nothing is left of the index after what was to be left out")
        return
    times = [_time(hit) for hit in hits]
    wide = max(4, *(len(time) for time in times))
    print(f"cosine  {'time':>{wide}}  recording")
    for hit, time in zip(hits, times, strict=True):
        print(f"{hit.score:6.3f}  {time:>{wide}}  {hit.path}{f'  ({hit.label})' if hit.label else ''}")


def _time(hit: Found) -> str:
    """Where a hit is in a long recording.

    >>> from kws_imagebind.spotting.search import Found
    >>> _time(Found("a.wav", "a", 75.25, 1.0, 0.5)), _time(Found("a.wav", "a", 0.0, None, 0.5))
    ('1:15.2', '')
    """
    if hit.seconds is None:
        return ""
    minutes, seconds = divmod(hit.start, 60)
    return f"{int(minutes)}:{seconds:04.1f}"


def _write_page(path: Path, title: str, index: ClipIndex, hits: Sequence[Found], rate: int) -> None:
    import soundfile

    from kws_imagebind import AudioError
    from kws_imagebind.reporting.search_page import PageHit, write_search_page
    from kws_imagebind.spotting.search import snippet

    rows = []
    for hit in hits:
        sound: bytes | None
        try:
            wav = io.BytesIO()
            soundfile.write(wav, snippet(hit, rate).clamp(-1, 1).numpy(), rate, format="WAV", subtype="PCM_16")
            sound = wav.getvalue()
        except AudioError:  # the recordings may be elsewhere by now
            sound = None
        rows.append(PageHit(hit.path, _time(hit), hit.score, hit.label, sound))
    about = (
        f"{len(index):,} clips, encoder {index.encoder} ({index.fingerprint}), {index.kind} search; scores are cosines"
    )
    write_search_page(path, title, rows, about)


def add_retrieve(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "retrieve",
        help="measure search: text to audio, audio to text, audio to audio, and images",
        description="Measures how well words find clips, clips find words, and clips find clips of the same word: "
        "recall and hit rate at 1, 5 and 10, mean average precision, nDCG at 30, with intervals and chance levels. "
        "With --captions, sentences find the sounds or pictures that they describe, and are found by them.",
    )
    command.set_defaults(run=_retrieve, on_error="raise")
    add_encoder_options(command)
    command.set_defaults(encoder=None)
    data = add_data_options(command)
    data.add_argument(
        "--images", type=Path, metavar="DIR", help="pictures, word/picture.jpg, for encoders that take them"
    )
    data.add_argument(
        "--captions", type=Path, metavar="FILE.csv", help="path,caption of sounds or pictures; --data is their folder"
    )
    run = command.add_argument_group("run")
    add_run_options(run)
    run.add_argument("--json", action="store_true", help="print JSON")
    run.add_argument("--quiet", action="store_true", help="no progress bar")


def _retrieve(arguments: argparse.Namespace) -> int:
    from kws_imagebind.evaluation.retrieval import measure_directions

    audio, found = (_captioned if arguments.captions else _labelled)(arguments)
    results = measure_directions(found)
    dataset = audio.dataset
    split = f" ({dataset.split})" if dataset.split else ""
    if arguments.json:
        about: dict[str, Any] = {"encoder": audio.encoder, "fingerprint": audio.fingerprint, "dataset": dataset.name}
        about |= {"split": dataset.split, "task": dataset.task, "n": len(audio)}
        print(json.dumps({**about, "directions": [each.as_dict() for each in results]}, ensure_ascii=False))
        return 0
    print(f"{audio.encoder} on {dataset.name}{split}, task {dataset.task}, n = {len(audio):,} clips")
    print("\n".join(str(each) for each in results))
    return 0


def _labelled(arguments: argparse.Namespace) -> tuple[Embeddings, list[Direction]]:
    """Words, clips and perhaps pictures, in every direction."""
    from kws_imagebind import ZeroShotClassifier
    from kws_imagebind.readouts.retrieval import directions

    encoder, audio = _clips(arguments)
    pictures = _pictures(arguments.images, encoder, audio) if arguments.images else None
    text = None
    if getattr(encoder, "words", None) != ():  # an encoder that reads no texts at all
        text = ZeroShotClassifier(encoder, audio.dataset.keywords, chosen_templates(arguments), arguments.average)
    return audio, directions(audio, text, *(pictures or ()))


def _captioned(arguments: argparse.Namespace) -> tuple[Embeddings, list[Direction]]:
    """Captions and what they describe, each way."""
    from kws_imagebind.datasets.captions import load_captions
    from kws_imagebind.embeddings.embed import check_kind
    from kws_imagebind.encoders.base import check_vectors
    from kws_imagebind.readouts.retrieval import caption_directions

    found = load_captions(arguments.captions, arguments.data)
    encoder = chosen_encoder(argparse.Namespace(**{**vars(arguments), "encoder": arguments.encoder or "phonebind"}))
    check_kind(encoder, found.dataset.kind)
    captions = check_vectors(encoder.encode_text(list(found.captions)), len(found.captions), encoder)
    audio = embed_clips(arguments, found.dataset, encoder)
    return audio, caption_directions(audio, captions, found.owners)


def _clips(arguments: argparse.Namespace) -> tuple[Encoder, Embeddings]:
    """The clips of a data set or a table, and the encoder of their vectors."""
    if not is_table(arguments):
        dataset = chosen_dataset(arguments)
        encoder = chosen_encoder(argparse.Namespace(**{**vars(arguments), "encoder": arguments.encoder or "phonebind"}))
        return encoder, embed_clips(arguments, dataset, encoder)
    audio = table_of(arguments)
    encoder = chosen_encoder(argparse.Namespace(**{**vars(arguments), "encoder": arguments.encoder or audio.encoder}))
    check_table(audio, encoder)
    return encoder, audio


def _pictures(folder: Path, encoder: Encoder, audio: Embeddings) -> tuple[Tensor, list[str]]:
    """The vectors of the pictures of the clips' words, and those words."""
    from kws_imagebind.datasets import DatasetError
    from kws_imagebind.datasets.folder import check_picture, is_picture
    from kws_imagebind.encoders import EncoderError

    if not hasattr(encoder, "encode_image"):
        raise EncoderError(f"encoder '{encoder.name}' takes no pictures; imagebind does")
    words = {label.casefold(): label for label in audio.dataset.labels}
    paths = [
        path for path in sorted(folder.glob("*/*"))
        if is_picture(path) and path.parent.name.casefold() in words
    ]  # fmt: skip
    if not paths:
        raise DatasetError(f"'{folder}' has no pictures of the words; expected files such as '{folder}/dog/1.jpg'")
    for path in paths:
        check_picture(path)
    return encoder.encode_image(paths), [words[path.parent.name.casefold()] for path in paths]
