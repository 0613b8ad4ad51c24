"""Embeddings as a Parquet file: the exchange format, one row a clip.

The one file that needs pyarrow (the extra `table`; at 170 MB it is too large to be a core dependency). pandas, DuckDB,
Hugging Face `datasets` and Ray read the file as it is. What holds for all rows is JSON in the file's own metadata,
under the key `kws_imagebind`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kws_imagebind.datasets.base import Dataset, DatasetError, Utterance, select
from kws_imagebind.files import whole
from kws_imagebind.registry import to_install

if TYPE_CHECKING:
    import pyarrow

    from kws_imagebind.embeddings.embed import Embeddings

FORMAT = 1  # of the metadata; a reader refuses a later one
SUFFIX = ".parquet"
MAGIC = b"PAR1"  # at both ends of a Parquet file
METADATA = b"kws_imagebind"
COLUMNS = ("key", "path", "content", "start", "seconds", "label", "speaker", "vector")
REQUIRED = ("key", "label", "vector")
NORM_TOLERANCE = 1e-3  # how far the length of a vector may be from 1; bfloat16 rounding stays within it
ROWS = 65_536  # of a row group, so that readers can stream


class TableError(ValueError):
    """A table of embeddings that cannot be written or read. The message names the file and the remedy."""


class DamagedTableError(TableError):
    """A Parquet file of which a part is missing or wrong, so that nothing is lost when it is written again."""


@dataclass(frozen=True)
class Row:
    """What a table says of one clip, besides its vector.

    Attributes:
        key: the clip's name in every table.
        path: where the file lies, or lay.
        content: SHA-256 (hexadecimal) of what was decoded; "" where unknown.
        start: seconds from the beginning of the file, and
        seconds: how long the clip is; both None where the clip is the whole file.
        label: the word that is spoken; "" where nobody says.
        speaker: who speaks it, None where unknown.
    """

    key: str
    path: str
    content: str = ""
    start: float | None = None
    seconds: float | None = None
    label: str = ""
    speaker: str | None = None


def is_table(path: str | os.PathLike[str]) -> bool:
    """Whether a path names a table of embeddings, by its suffix or its first bytes."""
    path = Path(path)
    if path.suffix.lower() == SUFFIX:
        return True
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def check_writable(path: str | os.PathLike[str]) -> None:
    """Says before any work whether a table can be written there.

    Raises:
        TableError: pyarrow is not installed, the path is a folder, or its name ends as that of another format.
    """
    _pyarrow()
    if Path(path).suffix.lower() not in ("", SUFFIX):
        raise TableError(
            f"'{path}': a table of embeddings is written as Parquet; name it '{Path(path).with_suffix(SUFFIX)}'"
        )
    if Path(path).is_dir():
        raise TableError(f"'{path}' is a folder; expected the name of a file, such as '{Path(path) / 'clips.parquet'}'")
    Path(path).parent.mkdir(parents=True, exist_ok=True)


def save(audio: Embeddings, path: str | os.PathLike[str]) -> None:
    """Writes embeddings as a table. An interrupted call leaves no file, or the old one.

    Raises:
        TableError: pyarrow is not installed.
    """
    contents = audio.contents or [""] * len(audio)
    rows = [row(utterance, content) for utterance, content in zip(audio.utterances, contents, strict=True)]
    write(Path(path), rows, audio.features.numpy(), about(audio))


def about(audio: Embeddings) -> dict[str, Any]:
    """What a table says of all its rows."""
    dataset = audio.dataset
    return {
        "encoder": audio.encoder,
        "fingerprint": audio.fingerprint,
        "precision": audio.precision,
        "padding": audio.padding,
        "card": audio.card.as_dict() if audio.card else None,
        "dataset": dataset.name,
        "split": dataset.split,
        "task": dataset.task,
        "keywords": list(dataset.keywords),
        "note": dataset.note,
        "skipped": [asdict(each) for each in audio.skipped],
        "silent": list(audio.silent),
        "kind": dataset.kind,
    }


def load(path: str | os.PathLike[str]) -> Embeddings:
    """Embeddings from a table. The recordings themselves need not be there.

    Raises:
        TableError: pyarrow is not installed; the file is missing, is not Parquet, is cut short, or lacks columns or
            metadata; vectors are not of unit norm.
    """
    from kws_imagebind.embeddings.embed import Embeddings, Skipped
    from kws_imagebind.encoders.cards import Card

    path = Path(path)
    rows, vectors, metadata = read(path)
    missing = [name for name in ("encoder", "fingerprint", "dataset", "task", "keywords") if name not in metadata]
    if missing:
        raise TableError(
            f"{path} does not say its {', '.join(missing)}; expected a table that 'kws-imagebind embed' wrote"
        )
    utterances = tuple(
        Utterance(
            path=Path(row.path),
            label=row.label,
            speaker=row.speaker,
            key=row.key,
            crop=None if row.start is None or row.seconds is None else (row.start, row.seconds),
        )
        for row in rows
    )
    try:
        dataset = Dataset(
            name=metadata["dataset"],
            utterances=utterances,
            keywords=tuple(metadata["keywords"]),
            task=metadata["task"],
            split=metadata.get("split"),
            note=metadata.get("note", ""),
            kind="image" if metadata.get("kind") == "image" else "audio",
        )
    except DatasetError as error:
        raise TableError(f"{path}: {error}") from error
    card = metadata.get("card")
    if card and card.get("trained_on") is not None:
        card = {**card, "trained_on": tuple(card["trained_on"])}
    contents = tuple(row.content for row in rows)
    return Embeddings(
        features=torch.from_numpy(vectors),
        targets=dataset.targets,
        utterances=utterances,
        dataset=dataset,
        encoder=metadata["encoder"],
        fingerprint=metadata["fingerprint"],
        skipped=tuple(Skipped(**each) for each in metadata.get("skipped", ())),
        precision=metadata.get("precision", "unknown"),
        padding=metadata.get("padding", "unknown"),
        contents=contents if all(contents) else (),
        silent=tuple(metadata.get("silent", ())),
        card=Card(**card) if card else None,
    )


def write(path: Path, rows: Sequence[Row], vectors: np.ndarray | None, metadata: Mapping[str, Any]) -> None:
    """Writes rows, their (n, dim) float32 vectors if there are any, and what holds for all of them.

    Raises:
        TableError: pyarrow is not installed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_all(path, [_columns(rows, vectors)], metadata, ROWS)


def write_all(path: Path, tables: Iterable[pyarrow.Table], metadata: Mapping[str, Any], group: int) -> None:
    """Writes tables one after another into one file, in row groups of at most `group` rows; one is in memory at a time.

    Raises:
        TableError: pyarrow is not installed.
    """
    _, parquet = _pyarrow()
    notes = {METADATA: json.dumps({"format": FORMAT, **metadata}, ensure_ascii=False)}
    writer = None
    with whole(path) as part:
        try:
            for table in tables:
                table = table.replace_schema_metadata(notes)
                # Unit vectors do not compress, and dictionaries of floats cost time for nothing.
                writer = writer or parquet.ParquetWriter(
                    part, table.schema, compression="zstd", use_dictionary=["label", "speaker", "path"]
                )
                writer.write_table(table, row_group_size=group)
        finally:
            if writer:
                writer.close()


def listing_tables(utterances: Iterable[Utterance], group: int) -> Iterator[pyarrow.Table]:
    """Clips that are yet to be encoded as tables of `group` rows each; paths are the system's own bytes."""
    arrow, _ = _pyarrow()
    utterances = iter(utterances)
    while some := list(islice(utterances, group)):
        crops = [utterance.crop or (None, None) for utterance in some]
        yield arrow.table({
            "key": arrow.array([_utf8(utterance.key) for utterance in some], arrow.string()),
            "path": arrow.array([os.fsencode(utterance.path) for utterance in some], arrow.binary()),
            "start": arrow.array([start for start, _ in crops], arrow.float64()),
            "seconds": arrow.array([seconds for _, seconds in crops], arrow.float64()),
            "label": arrow.array([utterance.label for utterance in some], arrow.string()),
            "speaker": arrow.array([utterance.speaker for utterance in some], arrow.string()),
        })  # fmt: skip


class Listing:
    """Clips that `listing_tables` listed; one group at a time is in memory."""

    def __init__(self, path: Path) -> None:
        self._file = _pyarrow()[1].ParquetFile(path)

    def __len__(self) -> int:
        return self._file.num_row_groups

    def size(self, group: int) -> int:
        return self._file.metadata.row_group(group).num_rows

    def __getitem__(self, group: int) -> tuple[Utterance, ...]:
        names = ("key", "path", "start", "seconds", "label", "speaker")
        columns = self._file.read_row_group(group).to_pydict()
        return tuple(
            Utterance(
                path=Path(os.fsdecode(path)),
                label=label,
                speaker=speaker,
                key=key,
                crop=None if start is None or seconds is None else (start, seconds),
            )
            for key, path, start, seconds, label, speaker in zip(*(columns[name] for name in names), strict=True)
        )


def join(parts: Sequence[Path], path: Path, metadata: Mapping[str, Any]) -> None:
    """Writes tables one after another into one, with other metadata; one is in memory at a time."""
    _, parquet = _pyarrow()
    write_all(path, (parquet.read_table(part) for part in parts), metadata, ROWS)


def footer(path: Path) -> tuple[int, dict[str, Any]]:
    """How many rows a table has, and what it says of all of them, without reading any.

    Raises:
        TableError: as `read`.
    """
    arrow, parquet = _pyarrow()
    _check_ends(path)
    try:
        found = parquet.read_metadata(path)
    except (arrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DamagedTableError(f"{path} cannot be read as Parquet ({reason}); write it again") from error
    return found.num_rows, _metadata(path, found.metadata or {})


def rows_of(path: Path) -> Iterator[Row]:
    """What a table says of each clip, a few thousand in memory at a time.

    Raises:
        TableError: it does not name its clips.
        DamagedTableError: it cannot be read.
    """
    arrow, parquet = _pyarrow()
    try:
        with parquet.ParquetFile(path) as file:
            names = [name for name in COLUMNS if name in file.schema_arrow.names and name != "vector"]
            if "key" not in names:
                raise TableError(f"{path} has no column key; expected a table that 'kws-imagebind embed' wrote")
            for batch in file.iter_batches(batch_size=4096, columns=names):
                for values in batch.to_pylist():
                    yield Row(**{**values, "path": values.get("path") or values["key"]})
    except (arrow.ArrowException, OSError) as error:
        raise DamagedTableError(f"{path} cannot be read as Parquet ({error}); write it again") from error


def _columns(rows: Sequence[Row], vectors: np.ndarray | None) -> pyarrow.Table:
    arrow, _ = _pyarrow()
    columns: dict[str, Any] = {
        "key": arrow.array([_utf8(row.key) for row in rows], arrow.string()),
        "path": arrow.array([_utf8(row.path) for row in rows], arrow.string()),
        "content": arrow.array([row.content for row in rows], arrow.string()),
        "start": arrow.array([row.start for row in rows], arrow.float64()),
        "seconds": arrow.array([row.seconds for row in rows], arrow.float64()),
        "label": arrow.array([row.label for row in rows], arrow.string()),
        "speaker": arrow.array([row.speaker for row in rows], arrow.string()),
    }
    if vectors is not None:
        flat = arrow.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1))
        columns["vector"] = arrow.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    return arrow.table(columns)


def read(path: Path, with_vectors: bool = True) -> tuple[list[Row], np.ndarray, dict[str, Any]]:
    """The rows of a table, their (n, dim) float32 vectors (empty if not wanted), and what holds for all of them.

    Raises:
        TableError: as `load`.
    """
    arrow, parquet = _pyarrow()
    _check_ends(path)
    wanted = [name for name in COLUMNS if with_vectors or name != "vector"]
    try:
        schema = parquet.read_schema(path)
        missing = [name for name in REQUIRED if name in wanted and name not in schema.names]
        if missing:
            raise TableError(
                f"{path} has no column {', '.join(missing)}; its columns are {', '.join(schema.names) or 'none'}; "
                "expected a table that 'kws-imagebind embed' wrote"
            )
        table = parquet.read_table(path, columns=[name for name in wanted if name in schema.names])
    except (arrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise TableError(f"{path} cannot be read as Parquet ({reason}); write or copy it again") from error
    metadata = _metadata(path, schema.metadata or {})
    if not table.num_rows:
        raise TableError(f"{path} has no rows; expected one a clip")
    vectors = _vectors(path, table) if with_vectors else np.zeros((0, 0), np.float32)
    texts = {name: table[name].to_pylist() for name in table.column_names if name != "vector"}
    known = [name for name in ("key", "path", "content", "start", "seconds", "label", "speaker") if name in texts]
    rows = [Row(**{"path": values[0], **dict(zip(known, values, strict=True))}) for values in _each(texts, known)]
    return rows, vectors, metadata


def _each(texts: Mapping[str, list[Any]], known: Sequence[str]) -> list[tuple[Any, ...]]:
    return list(zip(*(texts[name] for name in known), strict=True))


def row(utterance: Utterance, content: str) -> Row:
    """The row of a clip with a content key."""
    start, seconds = utterance.crop or (None, None)
    return Row(utterance.key, str(utterance.path), content, start, seconds, utterance.label, utterance.speaker)


def _check_ends(path: Path) -> None:
    """Says what is wrong with a file better than a Parquet reader does."""
    try:
        with path.open("rb") as file:
            first = file.read(4)
            file.seek(max(0, path.stat().st_size - 4))
            last = file.read(4)
    except OSError as error:
        raise TableError(f"{path} cannot be read ({error.strerror}); expected a table of embeddings") from error
    if first != MAGIC:
        raise TableError(f"{path} is not a Parquet file; expected a table that 'kws-imagebind embed' wrote")
    if last != MAGIC:
        raise DamagedTableError(f"{path} is cut short: it does not end as a Parquet file does; copy or write it again")


def _metadata(path: Path, found: Mapping[bytes, bytes]) -> dict[str, Any]:
    try:
        metadata = json.loads(found[METADATA])
        version = metadata["format"]
    except (KeyError, TypeError, ValueError) as error:
        raise TableError(
            f"{path} does not say which encoder made its vectors; expected a table that 'kws-imagebind embed' wrote"
        ) from error
    if not isinstance(version, int) or version > FORMAT:
        raise TableError(f"{path} has format {version}; this release reads {FORMAT}, so install a newer one")
    return metadata


def _vectors(path: Path, table: pyarrow.Table) -> np.ndarray:
    column = table["vector"].combine_chunks()
    lengths = {len(vector) for vector in column.slice(0, 1).to_pylist()}
    flat = column.flatten().to_numpy(zero_copy_only=False)
    dim = lengths.pop() if lengths else 0
    if column.null_count or not dim or flat.size != dim * table.num_rows or flat.dtype.kind != "f":
        raise TableError(f"{path}: the column 'vector' does not hold one list of numbers of the same length a row")
    vectors = np.array(flat, dtype=np.float32).reshape(table.num_rows, dim)  # a copy, which torch may write to
    norms = np.linalg.norm(vectors, axis=1)
    wrong = np.flatnonzero(~(np.abs(norms - 1) <= NORM_TOLERANCE))
    if len(wrong):
        key = table["key"][int(wrong[0])].as_py()
        raise TableError(
            f"{path}: the vector of '{key}' has length {norms[wrong[0]]:.4g} ({len(wrong):,} such rows); expected 1, "
            "so divide each by its norm"
        )
    return vectors


def is_same_clip(one: Row, other: Row) -> bool:
    """Whether two rows are of the same part of the same file, wherever that is named from."""
    if (_utf8(one.key), one.start, one.seconds) != (_utf8(other.key), other.start, other.seconds):
        return False
    first, second = _utf8(one.path), _utf8(other.path)
    return first == second or Path(first).resolve() == Path(second).resolve()


def _utf8(text: str) -> str:
    """A file name that is not UTF-8 is written as its escape."""
    return text.encode("utf-8", errors="backslashreplace").decode()


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise TableError(f"a table of embeddings needs pyarrow; {to_install('pyarrow', 'table')}") from error
    return pyarrow, parquet


def restricted(audio: Embeddings, keywords: Sequence[str], task: str = "custom") -> Embeddings:
    """The clips that say one of some keywords; those are the candidates then. Contents and vectors stay as they are.

    Raises:
        DatasetError: no clip says any of them.
    """
    chosen = select(audio.utterances, keywords, f"data set '{audio.dataset.name}'")
    return only(audio, replace(audio.dataset, utterances=chosen, keywords=tuple(keywords), task=task))


def only(audio: Embeddings, dataset: Dataset) -> Embeddings:
    """The clips of a part of the data set that some embeddings are of; contents and vectors stay as they are."""
    kept = {utterance.key for utterance in dataset.utterances}
    rows = [row for row, utterance in enumerate(audio.utterances) if utterance.key in kept]
    return replace(
        audio,
        features=audio.features[rows],
        targets=dataset.targets,
        utterances=dataset.utterances,
        dataset=dataset,
        contents=tuple(audio.contents[row] for row in rows) if audio.contents else (),
        silent=tuple(key for key in audio.silent if key in kept),
    )
