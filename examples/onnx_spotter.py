"""Finds words in a recording with an exported file: python onnx_spotter.py spotter.onnx recording.wav

It needs numpy, onnxruntime and soundfile (for reading the file) and nothing else; the file comes from
kws-imagebind export --words umbrella,kettle --output spotter.onnx
"""

import json
import sys

import numpy as np
import onnxruntime
import soundfile

session = onnxruntime.InferenceSession(sys.argv[1])
about = session.get_modelmeta().custom_metadata_map
words, least, rate = json.loads(about["words"]), json.loads(about["thresholds"]), int(about["sample_rate"])
sound, own_rate = soundfile.read(sys.argv[2], dtype="float32", always_2d=True)
assert own_rate == rate, f"expected {rate} Hz, got {own_rate}: convert it, as with ffmpeg -i in.wav -ar {rate} out.wav"

hop, size, around = round(rate * float(about["hop"])), round(rate * float(about["window"])), int(about["smoothed"])
padded = np.pad(sound.mean(1), (size // 2, size))
windows = np.lib.stride_tricks.sliding_window_view(padded, size)[: len(sound) + 1 : hop]
scores = np.concatenate(
    [session.run(["scores"], {"waveforms": windows[i : i + 32]})[0] for i in range(0, len(windows), 32)]
)
scores[windows.std(1) < 10 ** (float(about["faintest"]) / 20)] = 0  # silence
scores = np.stack([np.convolve(column, np.ones(around) / around, "same") for column in scores.T], 1)

best, wait = scores.max(1), round(float(about["patience"]) * rate / hop)
for place in range(len(best)):
    word = words[scores[place].argmax()]
    if (
        best[place] >= least[word]
        and place == max(0, place - wait) + best[max(0, place - wait) : place + wait + 1].argmax()
    ):
        print(f"{place * hop / rate:6.1f} s  {word}  {best[place]:.2f}")
