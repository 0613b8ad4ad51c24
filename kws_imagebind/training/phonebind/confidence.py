"""What PhoneBind's cosines are worth: three numbers beside its weights, to be fitted again whenever these change.

    python -m kws_imagebind.training.phonebind.confidence --data DIR
    python -m kws_imagebind.training.phonebind.confidence --data DIR --encoder phonebind-large

DIR holds Speech Commands. Its validation and training clips, never its testing clips, are put one after another into a
long recording with pauses and background noise; the ten command words are the keywords, and the other words, the pauses
and the noise are not. The fit decides nothing about which keyword is the best, only about whether it was said at all.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from kws_imagebind.audio.files import load_audio
from kws_imagebind.datasets import Utterance, load_dataset
from kws_imagebind.datasets.speech_commands import noise_folder
from kws_imagebind.embeddings.embed import embed
from kws_imagebind.encoders.confidence import Confidence
from kws_imagebind.encoders.phonebind import PhoneBindEncoder, PhoneBindLarge
from kws_imagebind.readouts.fillers import filler_scores, filler_vectors
from kws_imagebind.readouts.rejection import Rejection, fit_rejection
from kws_imagebind.readouts.zero_shot import ZeroShotClassifier
from kws_imagebind.spotting.windows import HOP, Ear, Heard, listen_to
from kws_imagebind.text.tasks import COMMANDS
from kws_imagebind.training.corpora.shards import SAMPLE_RATE
from kws_imagebind.training.corpora.soundscape import Samples, Soundscape, compose

SPLITS = ("validation", "training")
ENCODERS = {encoder.name: encoder for encoder in (PhoneBindEncoder, PhoneBindLarge)}
TOLERANCE = 0.3  # s from a word, where what is heard is still about it
PLACES = 5  # windows, of which the best keyword's best counts: half a second

# What the examples weigh together. Half of them should be accepted; of those that should not, words tempt the most.
SHARES = {"keyword": 0.5, "word": 0.3, "pause": 0.2}


@dataclass(frozen=True)
class Examples:
    """Places where a keyword scores more than around, and what was there.

    Attributes:
        cosines: (n, 2) with the best keyword and with the best fillers.
        kinds: (n,) "keyword" where it was said, "word" where another word was, "pause" where none was, and "confusion"
            where another of the keywords was.
    """

    cosines: NDArray[np.float64]
    kinds: NDArray[np.str_]


def noises(root: Path) -> list[Samples]:
    """The recordings of background noise that come with Speech Commands."""
    paths = sorted(noise_folder(root, "v0.02").glob("*.wav"))
    return [load_audio(path, SAMPLE_RATE).numpy() for path in paths]


def clips(root: Path, split: str) -> tuple[Utterance, ...]:
    """The clips of a split that may choose something.

    Raises:
        ValueError: the split is the testing one.
    """
    if split not in SPLITS:
        raise ValueError(f"split '{split}' chooses nothing; take {' or '.join(SPLITS)}")
    return load_dataset("speech-commands", root=root, split=split, task="v2-35").utterances


def examples(heard: Heard, scene: Soundscape) -> Examples:
    """What was heard of a soundscape, held against what is in it."""
    best = heard.keywords.max(dim=1)
    values = best.values.numpy()
    around = np.lib.stride_tricks.sliding_window_view(np.pad(values, PLACES // 2, constant_values=-1), PLACES)
    places = np.flatnonzero((values >= around.max(1)) & heard.audible)
    kinds = [_kind(place * HOP, heard.labels[int(best.indices[place])], heard.labels, scene) for place in places]
    cosines = np.stack([values[places], heard.fillers.numpy()[places]], 1).astype(np.float64)
    return Examples(cosines, np.array(kinds))


def _kind(seconds: float, word: str, keywords: Sequence[str], scene: Soundscape) -> str:
    near = {said.word for said in scene.said if said.is_at(seconds, TOLERANCE)}
    if word in near:
        return "keyword"
    if near & set(keywords):
        return "confusion"
    return "word" if near else "pause"


def fit(found: Examples) -> Confidence:
    """The logistic regression of "was it said?" on both cosines, nearly unpenalised. Confusions do not count."""
    from sklearn.linear_model import LogisticRegression

    used = np.isin(found.kinds, list(SHARES))
    kinds = found.kinds[used]
    weight = np.array([SHARES[kind] / (kinds == kind).sum() for kind in kinds])
    # Weights that sum to one want a large C; a trace of ridge keeps the numbers finite where the kinds never meet.
    model = LogisticRegression(C=1e6, fit_intercept=False, solver="newton-cholesky", tol=1e-10, max_iter=1_000)
    inputs = np.column_stack([found.cosines[used], np.ones(used.sum())])
    model.fit(inputs, kinds == "keyword", weight)
    return Confidence(*(round(number, 4) for number in model.coef_[0].tolist()))


def thresholds(encoder: PhoneBindEncoder, root: Path, splits: Sequence[str] = SPLITS) -> Rejection:
    """What tells ten commands from other words and from noise, best by macro accuracy on the clips that choose."""
    scorer = ZeroShotClassifier(encoder, COMMANDS)
    fillers = filler_vectors(encoder, scorer)
    data = [load_dataset("speech-commands", root=root, split=split, task="v2-12") for split in splits]
    heard = torch.cat([embed(encoder, each).features for each in data])
    spoken = [utterance.label for each in data for utterance in each.utterances]
    return fit_rejection(scorer(heard), filler_scores(heard, fillers), spoken)


def gather(encoder: PhoneBindEncoder, root: Path, splits: Sequence[str] = SPLITS) -> Examples:
    """The examples of splits."""
    scorer = ZeroShotClassifier(encoder, COMMANDS)
    fillers, found = filler_vectors(encoder, scorer), []
    for split in splits:
        scene = compose(clips(root, split), noises(root))
        heard = listen_to([torch.from_numpy(scene.samples)], Ear(encoder, scorer, fillers))
        found.append(examples(heard, scene))
    return Examples(np.concatenate([each.cosines for each in found]), np.concatenate([each.kinds for each in found]))


def add_encoder_options(parser: argparse.ArgumentParser) -> None:
    """Which weights numbers are fitted for; `chosen_encoder` reads them."""
    parser.add_argument("--encoder", choices=ENCODERS, default="phonebind")
    parser.add_argument("--weights", type=Path, help="its file, or the folder of its files; default the bundled ones")


def chosen_encoder(arguments: argparse.Namespace) -> PhoneBindEncoder:
    """The encoder to fit numbers for, which are kept in its `confidence_file` with its `digest`."""
    return ENCODERS[arguments.encoder].from_weights(arguments.weights, device="cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    add_encoder_options(parser)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    encoder = chosen_encoder(arguments)
    found = gather(encoder, arguments.data)
    numbers = fit(found)
    counts = ", ".join(f"{int((found.kinds == kind).sum()):,} of kind {kind}" for kind in SHARES)
    rejection = thresholds(encoder, arguments.data)
    rounded = {name: round(value, 4) for name, value in rejection.as_dict().items()}
    made = f"python -m kws_imagebind.training.phonebind.confidence --encoder {encoder.name}"
    notes = {"rejection": rounded, "made_by": made, "examples": counts}
    numbers.write(encoder.confidence_file, encoder.digest, notes)
    print(f"{numbers} of {counts}, {rounded}, in {encoder.confidence_file}")


if __name__ == "__main__":
    main()
