"""The bundled sample: the 35 words of Speech Commands by synthetic voices that training never hears.

    python -m kws_imagebind.training.corpora.sample --output sample
    python -m kws_imagebind.training.corpora.sample --voices validation --output training/validation

The layout is that of Speech Commands, `word/SPEAKER_nohash_0.wav`, with 16-bit WAV files at 16 kHz.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from kws_imagebind.text.phonemes import lookup
from kws_imagebind.text.tasks import SPEECH_COMMANDS_WORDS
from kws_imagebind.training.corpora.shards import SAMPLE_RATE
from kws_imagebind.training.corpora.synthesis import SAMPLE_VOICES, VALIDATION_VOICES, Job, Voice, speak

MARGIN = 0.04  # s of near silence on either side
VOICES = {"sample": SAMPLE_VOICES, "validation": VALIDATION_VOICES}


def speaker(voice: Voice) -> str:
    """Eight hexadecimal digits, as the speakers of Speech Commands are named."""
    return hashlib.sha256(f"{voice.engine}:{voice.name}".encode()).hexdigest()[:8]


def make(output: Path, voices: tuple[Voice, ...], seed: int) -> int:
    """Writes a recording of every word by every voice; returns how many there are."""
    silence = np.zeros(round(MARGIN * SAMPLE_RATE), np.int16)
    count = 0
    for number, voice in enumerate(tqdm(voices, unit="voice")):
        jobs = [
            Job(1000 * number + index, voice, word, lookup(word)[0]) for index, word in enumerate(SPEECH_COMMANDS_WORDS)
        ]
        for segment in speak(jobs, seed):
            path = output / segment.word / f"{speaker(voice)}_nohash_0.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, np.concatenate([silence, segment.audio, silence]), SAMPLE_RATE, subtype="PCM_16")
            count += 1
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("sample"))
    parser.add_argument("--voices", choices=VOICES, default="sample")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    voices = VOICES[arguments.voices]
    count = make(arguments.output, voices, arguments.seed)
    megabytes = sum(path.stat().st_size for path in arguments.output.rglob("*.wav")) / 1e6
    print(f"{count} recordings by {len(voices)} voices, {megabytes:.1f} MB, in {arguments.output}")
    for voice in voices:
        print(f"{speaker(voice)}  {voice.engine} {voice.name}")


if __name__ == "__main__":
    main()
