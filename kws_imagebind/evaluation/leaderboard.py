"""Encoders on one data set, each in a process of its own, so that its time and peak memory are its own.

The child is this module: it reads a request, measures, and writes a row. One encoder that fails, is killed or crashes
becomes a reason, and the others go on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kws_imagebind.datasets.base import Dataset, DatasetError
from kws_imagebind.datasets.registry import load_dataset
from kws_imagebind.metrics.classification import MetricError
from kws_imagebind.metrics.intervals import Interval
from kws_imagebind.reporting.leaderboard import Leaderboard, Row, ranked

INTERVALS = ("accuracy", "macro", "pair_eer", "pair_auc", "auroc")
RULE = "best score"  # of the open set


@dataclass(frozen=True)
class Request:
    """What every encoder of a leaderboard is measured on, in words that a process can be given.

    Attributes:
        dataset: its name.
        root, split, task, keywords, version: as `load_dataset`.
        limit: clips of a random subset; None takes all.
        seed: of the subset.
        device, precision: as `load_encoder`.
        checkpoints: folder of ImageBind's downloaded weights.
        batch_size: clips at once.
        on_error: "raise" makes an encoder fail at the first unusable recording, "skip" leaves it out.
    """

    dataset: str
    root: str | None = None
    split: str | None = None
    task: str | None = None
    keywords: str | None = None
    version: str | None = None
    limit: int | None = None
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    checkpoints: str | None = None
    batch_size: int = 64
    on_error: str = "raise"

    def load(self) -> Dataset:
        """The clips.

        Raises:
            DatasetError, KeywordError: as `load_dataset`.
        """
        found = load_dataset(
            self.dataset, root=self.root, split=self.split, task=self.task, keywords=self.keywords,
            version=self.version,
        )  # fmt: skip
        return found.subset(self.limit, self.seed) if self.limit else found


def leaderboard(
    encoders: Sequence[str], request: Request, progress: Callable[[str], object] = lambda message: None
) -> Leaderboard:
    """Measures encoders one after another and ranks them.

    Args:
        encoders: as `load_encoder` takes them.
        request: what they are measured on.
        progress: gets a line for each step.

    Raises:
        DatasetError, KeywordError: there are no such clips.
        MetricError: an encoder is named twice.
    """
    twice = sorted({name for name in encoders if list(encoders).count(name) > 1})
    if twice:
        raise MetricError(f"encoder '{twice[0]}' is named twice; a leaderboard measures each once")
    dataset = request.load()  # says what is wrong with it before any process starts
    if request.limit and request.limit > len(dataset):
        progress(f"{request.limit:,} clips are asked for, and there are {len(dataset):,}; all are measured")
    rows: list[Row] = []
    failed: dict[str, str] = {}
    threads = 0
    for number, encoder in enumerate(encoders, 1):
        progress(f"{number} of {len(encoders)}: {encoder}")
        found = _in_a_process(encoder, request)
        if "error" in found:
            failed[encoder] = str(found["error"])
            if len(encoders) > 1:  # what stops the only one is for the caller to say
                progress(f"{encoder} failed: {found['error']}")
        else:
            threads = found.pop("threads")
            rows.append(_row(found))
    split = f" ({dataset.split})" if dataset.split else ""
    name = f"{dataset.name}{split}"
    return ranked(rows, failed, dataset.task, name, dataset.note, len(dataset.keywords), threads)


def _in_a_process(encoder: str, request: Request) -> dict[str, Any]:
    """What the child found, or why it found nothing."""
    with tempfile.TemporaryDirectory() as folder:
        asked, answer = Path(folder) / "request.json", Path(folder) / "row.json"
        asked.write_text(json.dumps({"encoder": encoder, "request": asdict(request)}), encoding="utf-8")
        paths = [entry for entry in sys.path if entry]  # so that the child finds what this process finds
        child = subprocess.run(
            [sys.executable, "-m", "kws_imagebind.evaluation.leaderboard", str(asked), str(answer)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, errors="replace", check=False,
        )  # fmt: skip
        if answer.is_file():
            return json.loads(answer.read_text(encoding="utf-8"))
    if child.returncode < 0:
        memory = ", as when memory runs out; try a smaller --batch-size" if child.returncode == -9 else ""
        return {"error": f"its process was ended by signal {-child.returncode}{memory}"}
    last = child.stderr.strip().splitlines()[-1:] or ["it said nothing"]
    return {"error": f"its process ended with code {child.returncode}: {last[0][:300]}"}


def _row(found: dict[str, Any]) -> Row:
    """A row from what the child wrote."""
    intervals = {name: found[name] and Interval(**found[name]) for name in INTERVALS}
    trained = found["trained_on"]
    lists = {"trained_on": None if trained is None else tuple(trained), "templates": tuple(found["templates"])}
    return Row(**{**found, **intervals, **lists})


def measure(encoder: str, request: Request) -> dict[str, Any]:
    """One encoder on the clips, in this process: the fields of `Row` for JSON, and the threads used.

    Raises:
        Whatever stops it: the child turns it into a reason.
    """
    import torch

    from kws_imagebind.embeddings.embed import Embeddings, embed
    from kws_imagebind.encoders.base import Encoder
    from kws_imagebind.encoders.registry import load_encoder
    from kws_imagebind.metrics.pairs import pair_metrics

    dataset = request.load()
    options = {"weights": Path(request.checkpoints)} if request.checkpoints and encoder == "imagebind" else {}
    started = time.perf_counter()
    model = load_encoder(encoder, device=request.device, precision=request.precision, **options)
    loaded = time.perf_counter() - started

    busy: dict[str, float] = {}  # s of all threads, by the task of the clips

    def encoded(hears: Encoder, clips: Dataset) -> Embeddings:
        begun = time.process_time()
        found = embed(hears, clips, batch_size=request.batch_size, on_error=request.on_error)  # type: ignore[arg-type]
        busy[clips.task] = time.process_time() - begun
        return found

    result = _prepared(dataset).measure(model, encoded)
    audio, card = result.audio, result.audio.card
    speakers = [utterance.speaker for utterance in audio.utterances]
    targets = [result.scores.labels.index(line.label) for line in result.predictions]
    pairs = pair_metrics(result.scores.values.numpy(), targets, speakers)
    outcome = next((each for each in reversed(result.open_set) if each.rule == RULE), None)
    return {
        "encoder": encoder,
        "kind": result.scores.protocol.kind,
        "saw_words": card.saw_speech_commands if card else None,
        "accuracy": asdict(result.accuracy),
        "macro": asdict(result.macro_accuracy),
        "pair_eer": asdict(pairs.eer),
        "pair_auc": asdict(pairs.auc),
        "auroc": asdict(outcome.auroc) if outcome else None,
        "outside": outcome.detection.negatives if outcome else 0,
        "parameters": card.parameters if card else None,
        "bytes": card.bytes if card else None,
        "licence": card.licence if card else "",
        "trained_on": None if card is None or card.trained_on is None else list(card.trained_on),
        "templates": list(result.scores.protocol.templates),
        "precision": audio.precision,
        "fingerprint": audio.fingerprint,
        "seconds": audio.seconds / max(1, audio.encoded),
        "cpu_seconds": busy[dataset.task] / max(1, audio.encoded),
        "load_seconds": loaded,
        "memory": peak_memory(),
        "hits": {line.path: line.label == line.prediction for line in result.predictions},
        "speakers": {line.path: line.speaker for line in result.predictions},
        "threads": torch.get_num_threads(),
    }


def _prepared(dataset: Dataset) -> Any:
    """The run with an open-set test where the data set has clips for one."""
    from kws_imagebind.evaluation.run import Plan, Run

    try:
        return Run.prepare(dataset, Plan(open_set=True))
    except (DatasetError, MetricError):
        return Run.prepare(dataset, Plan())


def peak_memory() -> int | None:
    """The most memory that this process has held at once, in bytes, and what it held of an accelerator's."""
    torch = sys.modules.get("torch")
    graphics = torch.cuda.max_memory_allocated() if torch and torch.cuda.is_available() else 0
    status = Path("/proc/self/status")
    if status.is_file():  # not getrusage: there Linux counts what the parent held when it started this process
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1]) + graphics
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) + graphics


def _main(asked: Path, answer: Path) -> None:
    """The child: whatever goes wrong becomes an answer, unless the process itself is ended."""
    content = json.loads(asked.read_text(encoding="utf-8"))
    try:
        found = measure(content["encoder"], Request(**content["request"]))
    except Exception as error:  # one encoder's fault must not end the others
        kind = "" if type(error).__module__.startswith("kws_imagebind") else f"{type(error).__name__}: "
        found = {"error": kind + " ".join(str(error).split())[:400]}
    answer.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]))
