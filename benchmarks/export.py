"""Whether exported files hear what PyTorch hears, how large they are, and how fast.

    python -m benchmarks.export --data ../shared/data

Every testing clip of Speech Commands through the float32 and the int8 file of the 35 words: how far the cosines are
from `ZeroShotClassifier`'s, how often the word is the same, and the accuracy among 35 words and among the ten commands
beside what `kws-imagebind evaluate` computes. Then milliseconds for one window, one thread, in turns with PyTorch.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import kws_imagebind as kws
from kws_imagebind.audio.signal import fit
from kws_imagebind.datasets.waveforms import load_utterance
from kws_imagebind.encoders.phonebind import PhoneBindEncoder
from kws_imagebind.models.phonebind import SAMPLES
from kws_imagebind.spotting.export import export, session_of
from kws_imagebind.text.tasks import COMMANDS

TURNS = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="testing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    encoder = PhoneBindEncoder.from_weights(device="cpu")
    dataset = kws.load_dataset("speech-commands", root=arguments.data, split=arguments.split, task="v2-35")
    scorer = kws.ZeroShotClassifier(encoder, dataset.keywords)
    waveforms = [fit(load_utterance(each, encoder.sample_rate), SAMPLES) for each in dataset.utterances]
    expected = scorer(torch.cat([encoder.encode_audio(waveforms[i : i + 64]) for i in range(0, len(waveforms), 64)]))
    audio = kws.embed(encoder, dataset)
    measured = kws.evaluate(scorer(audio), audio).accuracy
    said = np.array([each.label for each in dataset.utterances])
    labels = np.array(scorer.labels)
    ten = np.isin(labels, COMMANDS)
    of_ten = np.isin(said, COMMANDS)
    print(f"{len(said):,} {arguments.split} clips; evaluate among {len(labels)} words: {measured}")
    with tempfile.TemporaryDirectory() as folder:
        sessions = {}
        for name in ("float32", "int8"):
            made = export(encoder, scorer, Path(folder, f"{name}.onnx"), int8=name == "int8")
            sessions[name] = session_of(made.path)
            parts = [
                sessions[name].run(["cosines"], {"waveforms": torch.stack(waveforms[i : i + 64]).numpy()})[0]
                for i in range(0, len(waveforms), 64)
            ]
            cosines = np.concatenate(parts)
            same = int((cosines.argmax(1) == expected.values.numpy().argmax(1)).sum())
            right = int((labels[cosines.argmax(1)] == said).sum())
            among = labels[ten][cosines[of_ten][:, ten].argmax(1)] == said[of_ten]
            off = np.abs(cosines - expected.values.numpy()).max()
            print(
                f"{name}: {made.bytes / 1e6:.2f} MB, cosines within {off:.1e}, "
                f"the same word for {same:,} of {len(said):,}; right {right:,} ({right / len(said):.4%}), "
                f"among ten {int(among.sum()):,} of {len(among):,} ({among.mean():.4%})"
            )
        times: dict[str, list[float]] = {"PyTorch": [], "float32": [], "int8": []}
        for turn in range(TURNS):
            window = waveforms[turn]
            start = time.perf_counter()
            scorer(encoder.encode_audio([window]))
            times["PyTorch"].append(time.perf_counter() - start)
            for name, session in sessions.items():
                start = time.perf_counter()
                session.run(None, {"waveforms": window[None].numpy()})
                times[name].append(time.perf_counter() - start)
        for name, taken in times.items():
            middle, least = 1000 * statistics.median(taken), 1000 * min(taken)
            print(f"{name}: {middle:.2f} ms a window in the median of {TURNS}, least {least:.2f}")


if __name__ == "__main__":
    main()
