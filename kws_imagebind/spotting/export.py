"""One file that spots a list of words without this package: ONNX, from a window's waveform to scores.

It holds the front end, the audio tower, the words' vectors and spellings, the fillers and the fitted numbers; the
phoneme tower stays behind. Weights that 16 bits hold without loss, as the bundled ones, are stored in 16 and computed
in 32.
"""

from __future__ import annotations

import io
import json
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kws_imagebind.audio.mel import MelConfig, mel_filterbank
from kws_imagebind.encoders.base import Encoder, EncoderError
from kws_imagebind.encoders.confidence import NEAREST, SpeechConfidence, speech_remedy
from kws_imagebind.encoders.phonebind import PhoneBindEncoder
from kws_imagebind.files import whole
from kws_imagebind.models.phonebind import SAMPLES, at_full_scale
from kws_imagebind.readouts.enrolment import Enrolment, Words, word_scorer
from kws_imagebind.readouts.fillers import filler_vectors
from kws_imagebind.readouts.zero_shot import ZeroShotClassifier
from kws_imagebind.registry import to_install
from kws_imagebind.spotting.hits import APART, Threshold, thresholds
from kws_imagebind.spotting.spelling import Speller
from kws_imagebind.spotting.windows import FAINTEST, HOP, SMOOTHED, standing_out

OPSET = 17  # of 2022, which every runtime in use reads
SMALL = 256  # numbers; a smaller tensor stays in 32 bits
ROUNDING = 1e-3  # steps that numbers in float32 which were 8 bits may be off by


class FrontEnd(nn.Module):
    """(n, samples) -> (n, mels, frames): `audio.mel.mel_power` in operations that ONNX has.

    The Fourier transform is a product with cosines and sines, looked up in one table of a whole turn.
    """

    cosines: Tensor
    sines: Tensor
    bins: Tensor
    times: Tensor
    window: Tensor
    filters: Tensor
    starts: Tensor

    def __init__(self, config: MelConfig) -> None:
        super().__init__()
        self._config = config
        turn = torch.arange(config.fft, dtype=torch.float64) * (2 * torch.pi / config.fft)
        self.register_buffer("cosines", turn.cos().float())
        self.register_buffer("sines", turn.sin().float())
        self.register_buffer("bins", torch.arange(config.fft // 2 + 1)[None])
        self.register_buffer("times", torch.arange(config.window)[:, None])
        self.register_buffer("window", torch.hann_window(config.window, periodic=False))
        self.register_buffer("filters", mel_filterbank(config).T.contiguous())
        starts = torch.arange(config.frames(SAMPLES)) * config.hop
        self.register_buffer("starts", starts[:, None])

    def forward(self, waveforms: Tensor) -> Tensor:
        frames = waveforms[:, self.starts + self.times.T]  # (n, frames, window)
        frames = frames - frames.mean(-1, keepdim=True)
        previous = torch.cat([frames[..., :1], frames[..., :-1]], -1)  # Kaldi repeats the first sample
        frames = (frames - self._config.preemphasis * previous) * self.window
        places = torch.remainder(self.times * self.bins, self._config.fft)
        power = (frames @ self.cosines[places]).square() + (frames @ self.sines[places]).square()
        return (power @ self.filters).transpose(1, 2)


class Spotter(nn.Module):
    """(n, 16000) waveforms at 16 kHz -> (n, words) cosines and (n, words) scores from 0 to 1, of each window alone."""

    weights: Tensor
    bias: Tensor
    fillers: Tensor
    phonemes: Tensor
    variants: Tensor
    readings: Tensor

    def __init__(
        self, encoder: PhoneBindEncoder, readout: ZeroShotClassifier | Enrolment, numbers: SpeechConfidence
    ) -> None:
        super().__init__()
        self.front_ends = nn.ModuleList(FrontEnd(each) for each in encoder.model.front_ends)
        self.model = encoder.model
        self._numbers = numbers
        self._speller = Speller([encoder.pronunciations(text) for text in readout.spoken])
        self.register_buffer("weights", readout.weights.T.contiguous())
        self.register_buffer("bias", getattr(readout, "bias", torch.zeros(len(readout.weights))))
        self.register_buffer("fillers", filler_vectors(encoder, readout).T.contiguous())
        self.register_buffer("phonemes", self._speller.phonemes)
        self.register_buffer("variants", _padded(readout.owners.tolist(), len(readout.labels)))
        self.register_buffer("readings", _padded(self._speller.owners.tolist(), len(readout.labels)))

    def forward(self, waveforms: Tensor) -> tuple[Tensor, Tensor]:
        full = at_full_scale(waveforms)
        mel = torch.cat([front_end(full) for front_end in self.front_ends], 1)
        vectors, spelling = self.model.hear(mel)
        cosines = (vectors @ self.weights + self.bias)[:, self.variants].amax(2)
        others = vectors @ self.fillers
        nearest = others.topk(min(NEAREST, self.fillers.shape[1]), dim=1).values.mean(1, keepdim=True)
        middle = others - others.mean(1, keepdim=True)
        spread = middle.square().mean(1, keepdim=True).sqrt()
        matches = self._speller.paths(spelling.log_softmax(-1))[:, self.readings].amax(2)
        apart = apart_in_window(self._levels(waveforms))[:, None]
        return cosines, self._numbers(cosines, nearest, spread, matches, self.phonemes, apart)

    def _levels(self, waveforms: Tensor) -> Tensor:
        """`spotting.windows.tenths` in operations that ONNX has."""
        parts = waveforms.unflatten(1, (-1, SAMPLES // 10))
        parts = parts - parts.mean(2, keepdim=True)
        return 10 / math.log(10) * (parts.square().sum(2) / (parts.shape[2] - 1)).clamp_min(1e-20).log()


def apart_in_window(levels: Tensor) -> Tensor:
    """(n, 10) dB of the tenths of single windows -> (n,): `spotting.windows.apart` of what each hears by itself."""
    return standing_out(levels[:, :4], levels[:, 3:7], levels[:, 6:])


def _padded(owners: Sequence[int], words: int) -> Tensor:
    """(words, most): the places of each word's own, the first repeated."""
    own = [[place for place, owner in enumerate(owners) if owner == word] for word in range(words)]
    most = max(map(len, own))
    return torch.tensor([places + places[:1] * (most - len(places)) for places in own])


@dataclass(frozen=True)
class Exported:
    """A written file: its name, its bytes, and how far its cosines are from PyTorch's on noise."""

    path: Path
    bytes: int
    error: float


def export(
    encoder: Encoder,
    words: Words | ZeroShotClassifier | Enrolment | os.PathLike[str],
    path: str | os.PathLike[str],
    threshold: Threshold | None = None,
    int8: bool = False,
) -> Exported:
    """Writes a spotter of some words.

    The file takes `waveforms` (n, 16000) in float32 at 16 kHz and gives `cosines` and `scores` (n, words). Its metadata
    say the words, their thresholds, how windows follow each other and are smoothed, what they are read as, and where
    the weights are from.

    Args:
        encoder: `phonebind` or `phonebind-large` in float32.
        words: labels, or 'label=/ARPAbet/'.
        path: a file that ends in .onnx.
        threshold: the least score of a hit, or one for each word.
        int8: multiply the large layers in 8 bits.

    Raises:
        EncoderError: onnx is not installed, the encoder is another or not in float32, or a number is out of range.
        KeywordError, PronunciationError: a word cannot be used.
    """
    onnx = _onnx()
    path = Path(path)
    if path.suffix != ".onnx":
        raise EncoderError(f"'{path}' does not end in .onnx; runtimes expect that")
    if not isinstance(encoder, PhoneBindEncoder) or encoder.precision != "fp32":
        raise EncoderError("only phonebind and phonebind-large in float32 can be exported; leave --precision away")
    numbers = encoder.speech_confidence()
    if numbers is None:
        raise EncoderError(
            f"what the scores of {encoder.name} are worth in running speech was not fitted for its weights; "
            f"{speech_remedy(encoder.confidence_file)}"
        )
    readout = words if isinstance(words, ZeroShotClassifier) else word_scorer(encoder, words)
    spotter = Spotter(encoder, readout, numbers).eval()
    model = onnx.load_model_from_string(_traced(spotter))
    if int8:
        model = _in_8_bits(model)
    _pack(onnx, model)
    for key, value in _metadata(encoder, readout, threshold, int8).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.checker.check_model(model)
    with whole(path) as part:
        part.write_bytes(model.SerializeToString())
    return Exported(path, path.stat().st_size, _error(path, spotter))


def _onnx() -> Any:
    try:
        import onnx
        import onnxruntime  # noqa: F401, checked now, before long work
    except ImportError as error:
        raise EncoderError(
            f"exporting needs onnx and onnxruntime ({error}); {to_install('onnx and onnxruntime', 'export')}"
        ) from error
    return onnx


def _traced(spotter: Spotter) -> bytes:
    """The network's operations, as they run for one window; the number of windows stays open."""
    buffer = io.BytesIO()
    example = torch.randn(2, SAMPLES, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # shapes that are constants here
        torch.onnx.export(
            spotter,
            (example,),
            cast(Any, buffer),
            input_names=["waveforms"],
            output_names=["cosines", "scores"],
            dynamic_axes={name: {0: "windows"} for name in ("waveforms", "cosines", "scores")},
            opset_version=OPSET,
            do_constant_folding=False,  # which would store the Fourier transform instead of its table
            dynamo=False,
        )
    return buffer.getvalue()


def _in_8_bits(model: Any) -> Any:
    """Large products with weights in 8 bits, each row of what they multiply scaled as it comes."""
    import tempfile

    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    _fold_transposes(onnx, model)
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, "before.onnx"), Path(folder, "after.onnx")
        onnx.save(model, before)
        quantize_dynamic(
            before,
            after,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=_large(model),
            per_channel=True,
        )
        return onnx.load(after)


def _large(model: Any) -> list[str]:
    """Names of the products that `PhoneBindEncoder` computes in 8 bits, too; the others need their precision."""
    stored = {tensor.name for tensor in model.graph.initializer}
    own = ("/enter/", "/expand/", "/contract/")
    return [
        node.name
        for node in model.graph.node
        if node.op_type == "MatMul" and any(name in node.name for name in own) and node.input[1] in stored
    ]


def _fold_transposes(onnx: Any, model: Any) -> None:
    """Stores weights as they are multiplied."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in list(model.graph.node):
        if node.op_type == "Transpose" and node.input[0] in stored:
            tensor = stored[node.input[0]]
            order = next((list(each.ints) for each in node.attribute if each.name == "perm"), None)
            values = onnx.numpy_helper.to_array(tensor).transpose(order)
            used = sum(tensor.name in other.input for other in model.graph.node)
            folded = onnx.numpy_helper.from_array(np.ascontiguousarray(values), node.output[0])
            model.graph.initializer.append(folded)
            model.graph.node.remove(node)
            if used == 1:
                model.graph.initializer.remove(tensor)


def _pack(onnx: Any, model: Any) -> None:
    """Stores in 16 or 8 bits what they hold exactly, which runtimes turn back once, when they load the file."""
    kept, nodes = [], []
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        smaller = _smaller(values) if values.dtype == np.float32 and values.size >= SMALL else None
        if smaller is None:
            kept.append(tensor)
            continue
        numbers, scale = smaller
        name = tensor.name
        kept.append(onnx.numpy_helper.from_array(numbers, f"{name}:small"))
        cast_to = name if scale is None else f"{name}:whole"
        nodes.append(onnx.helper.make_node("Cast", [f"{name}:small"], [cast_to], to=onnx.TensorProto.FLOAT))
        if scale is not None:
            kept.append(onnx.numpy_helper.from_array(scale, f"{name}:scale"))
            nodes.append(onnx.helper.make_node("Mul", [cast_to, f"{name}:scale"], [name]))
    nodes += list(model.graph.node)
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _smaller(values: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[np.float32] | None] | None:
    """Numbers in 16 bits, or in 8 with scales of their rows or columns, if these are what they were stored as.

    >>> whole, scale = _smaller(np.array([[1.27, -0.13], [254.0, 2.0]], dtype=np.float32))
    >>> whole.tolist(), [round(float(each), 2) for each in scale[:, 0]]
    ([[127, -13], [127, 1]], [0.01, 2.0])
    """
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if np.array_equal(half.astype(np.float32), values):
        return half, None
    for axis in {0, values.ndim - 1} if values.ndim > 1 else ():
        others = tuple(each for each in range(values.ndim) if each != axis)
        scale = np.maximum(np.abs(values).max(others, keepdims=True), np.finfo(np.float32).tiny) / np.float32(127)
        steps = values / scale
        whole = np.rint(steps)
        if np.abs(steps - whole).max() < ROUNDING:
            return whole.astype(np.int8), scale
    return None


def _metadata(
    encoder: PhoneBindEncoder, readout: ZeroShotClassifier | Enrolment, threshold: Threshold | None, int8: bool
) -> Mapping[str, str]:
    least = thresholds(threshold, readout)
    said = {label: encoder.variants(text) for label, text in zip(readout.labels, readout.spoken, strict=True)}
    return {
        "words": json.dumps(readout.labels),
        "thresholds": json.dumps(least),
        "pronunciations": json.dumps(said),
        "sample_rate": str(encoder.sample_rate),
        "window": str(encoder.window),
        "hop": str(HOP),
        "smoothed": str(SMOOTHED),
        "patience": str(APART),
        "faintest": str(FAINTEST),
        "precision": "int8" if int8 else "float32",
        "card": json.dumps(asdict(encoder.card)),
        "fingerprint": encoder.fingerprint,
    }


def _error(path: Path, spotter: Spotter) -> float:
    """The largest difference of a cosine between the file and PyTorch, on noise of several colours."""
    draw = torch.Generator().manual_seed(1)
    sound = torch.randn(8, SAMPLES, generator=draw)
    sound[4:] = sound[4:].cumsum(1)
    session = session_of(path)
    found = session.run(["cosines"], {"waveforms": sound.numpy()})[0]
    with torch.inference_mode():
        return float(np.abs(found - spotter(sound)[0].numpy()).max())


def session_of(path: str | os.PathLike[str], threads: int = 1) -> Any:
    """An onnxruntime session of a file, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
