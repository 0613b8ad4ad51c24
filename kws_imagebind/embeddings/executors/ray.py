"""Parts on the workers of a Ray cluster, or of this machine. The one file that needs Ray (the extra `scale`).

Ray Data hands out the numbers of parts to a pool of actors. An actor reads the paths of its part from the listing, then
decodes, encodes and writes; only numbers travel. The folders of the recordings and of the table must be seen by all
machines under the same names. An actor that dies is started again, and its part is encoded again; writing a part twice
changes nothing, since a part is replaced whole by the same part.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kws_imagebind.audio.signal import AudioError
from kws_imagebind.datasets.base import DatasetError
from kws_imagebind.embeddings.executors.parts import ExecutorError, Parts, Tell
from kws_imagebind.encoders.base import Encoder, EncoderError
from kws_imagebind.registry import to_install

BLOCKS = 10_000  # at most; with more parts, one task encodes several


@dataclass(frozen=True)
class EncoderSpec:
    """How each worker gets its encoder: the arguments of `load_encoder`."""

    name: str
    device: str = "auto"
    precision: str = "auto"
    checkpoints: Path | None = None

    def load(self) -> Encoder:
        from kws_imagebind.encoders.registry import load_encoder

        options: dict[str, Any] = {"weights": self.checkpoints} if self.checkpoints else {}
        return load_encoder(self.name, self.device, self.precision, **options)

    def anywhere(self) -> EncoderSpec:
        """The same for processes that run in other folders."""
        place, colon, name = self.name.rpartition(":")
        own = f"{Path(place).resolve()}:{name}" if colon and place.endswith(".py") else self.name
        return EncoderSpec(own, self.device, self.precision, self.checkpoints.resolve() if self.checkpoints else None)


class Worker:
    """Encodes parts in a process of its own; Ray starts as many as there is room for.

    Args:
        folder: of the parts.
        spec: of the encoder.
    """

    def __init__(self, folder: str, spec: EncoderSpec) -> None:
        self._parts, self._spec = Parts(Path(folder)), spec
        self._encoder: Encoder | None = None

    def __call__(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The numbers of parts -> how many clips each stands for, and what is wrong where one cannot be encoded."""
        clips, problems = [], []
        for number in batch["number"].tolist():
            try:
                clips.append(self._encode(number))
                problems.append("")
            except (AudioError, DatasetError, EncoderError, OSError) as error:
                clips.append(0)
                problems.append(str(error))
        return {"clips": np.array(clips), "problem": np.array(problems, dtype=object)}

    def _encode(self, number: int) -> int:
        if self._parts.is_done(number):  # by a worker that died before it could say so
            return self._parts.listing.size(number)
        if self._encoder is None:
            self._encoder = self._spec.load()
        return self._parts.encode(number, self._encoder)


def check_ray() -> None:
    """Says before any work whether Ray is there.

    Raises:
        ExecutorError: it is not.
    """
    _ray()


def execute(parts: Parts, numbers: Sequence[int], tell: Tell, spec: EncoderSpec, workers: int | None = None) -> None:
    """Encodes some parts.

    Args:
        parts: of the table.
        numbers: of the parts to encode.
        tell: is told of clips done.
        spec: how a worker gets the encoder.
        workers: how many; by default one for each GPU, or each CPU where there is none.

    Raises:
        AudioError: a file cannot be used, or a worker cannot load the encoder.
        ExecutorError: Ray is not installed.
    """
    if not numbers:
        return
    ray = _ray()
    started = not ray.is_initialized()
    if started:
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its notices are not for those who embed
        # An address in RAY_ADDRESS is that of a cluster; without one this machine is the cluster.
        here = {} if os.environ.get("RAY_ADDRESS") else {"include_dashboard": False, "num_cpus": workers}
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **here)
    try:
        _map(ray, parts, numbers, tell, spec.anywhere(), workers)
    finally:
        if started:
            ray.shutdown()


def _map(ray: Any, parts: Parts, numbers: Sequence[int], tell: Tell, spec: EncoderSpec, workers: int | None) -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    there = ray.cluster_resources()
    gpus = 0 if spec.device == "cpu" else int(there.get("GPU", 0))
    size = min(workers or gpus or int(there.get("CPU", 1)), len(numbers))
    rows = ray.data.from_items(
        [{"number": number} for number in numbers], override_num_blocks=min(len(numbers), BLOCKS)
    )
    results = rows.map_batches(
        Worker,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=size),
        fn_constructor_kwargs={"folder": str(parts.folder.resolve()), "spec": spec},
        num_cpus=None if gpus else 1,
        num_gpus=1 if gpus else None,
    )
    done = 0
    for row in results.iter_rows():
        if row["problem"]:
            raise AudioError(row["problem"])
        done += int(row["clips"])
        tell(done, 0)


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise ExecutorError(
            f"--engine ray needs Ray; {to_install('ray[data]', 'scale')}, or take --engine local"
        ) from error
    return ray
