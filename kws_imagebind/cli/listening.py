"""`listen`, `check-word`, `export`: words as they are said, which to choose, and a file that hears them elsewhere."""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from kws_imagebind.cli.options import BAD_INPUT, add_encoder_options, chosen_encoder, chosen_templates, positive, say

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kws_imagebind.readouts.base import Readout
    from kws_imagebind.spotting.hits import Hit, Threshold
    from kws_imagebind.spotting.stream import Listener

LAST = 60.0  # s that a command may take after the end of the sound
AGAIN = 2.0  # s until a microphone is tried again
METER = 24  # characters
QUIET = -60.0  # dB of full scale, where the meter begins


def add_listen(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "listen",
        help="find words in what a microphone hears, as they are said",
        description="Prints each word as it is heard, about a second after it was said. A microphone needs the extra "
        "'listen'; raw sound on stdin does not: arecord -t raw -f S16_LE -r 16000 | kws-imagebind listen "
        "--words umbrella,kettle -",
    )
    command.set_defaults(run=_listen)
    command.add_argument("source", nargs="?", metavar="-", help="raw 16-bit PCM on stdin")
    command.add_argument("--words", metavar="A,B,C", help="ARPAbet as in 'kettle=/K EH T AH L/'; or FILE.kws")
    command.add_argument(
        "--threshold",
        action="append",
        metavar="S",
        help="the least score of a hit (default 0.5), or of one word, as in umbrella=0.8; may be repeated",
    )
    command.add_argument("--patience", type=float, metavar="S", help="seconds to wait for a better score (default 0.5)")
    command.add_argument("--refractory", type=float, metavar="S", help="seconds between hits (default 0.5)")
    command.add_argument("--json", action="store_true", help="print JSON, one object a hit and line")
    command.add_argument(
        "--command",
        dest="program",
        metavar="C",
        help="run for each hit, as in 'notify-send {word}'; {score} and {time} are filled in, too",
    )
    command.add_argument("--quiet", action="store_true", help="no level meter")
    sound = command.add_argument_group("sound")
    sound.add_argument("--input", metavar="D", help="the microphone's number or a part of its name")
    sound.add_argument("--list-inputs", action="store_true", help="show the microphones and stop")
    sound.add_argument("--rate", type=_hertz, default=16_000, metavar="HZ", help="of stdin (default 16000)")
    sound.add_argument("--channels", type=positive, default=1, metavar="N", help="of stdin (default 1)")
    add_encoder_options(command)


def add_check_word(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "check-word",
        help="how easily a keyword is confused, before you choose it",
        description="Shows how a keyword is read, how long it is, which words sound like it, and how many false alarms "
        "to expect.",
    )
    command.set_defaults(run=_check_word)
    command.add_argument("words", nargs="+", metavar="WORD", help="a word or phrase; ARPAbet as in '/K EH T AH L/'")
    command.add_argument("--json", action="store_true", help="print JSON, one object a word and line")
    command.add_argument("--device", default="auto", metavar="D", help="auto, cpu, cuda, mps")


def add_export(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "export",
        help="one ONNX file that spots your words without this package",
        description="Writes one ONNX file, from a second of sound to the words' scores. It needs the extra 'export'. "
        "docs/listening.md says what the file takes and gives.",
    )
    command.set_defaults(run=_export)
    command.add_argument(
        "--words", required=True, metavar="A,B,C", help="ARPAbet as in 'kettle=/K EH T AH L/'; or FILE.kws of 'enrol'"
    )
    command.add_argument("--output", type=Path, required=True, metavar="FILE.onnx", help="where to write")
    command.add_argument(
        "--encoder", choices=("phonebind", "phonebind-large"), default="phonebind", help="default phonebind"
    )
    command.add_argument("--int8", action="store_true", help="multiply in 8 bits: faster, and a little less exact")
    command.add_argument("--threshold", action="append", metavar="S", help="as 'listen' takes them; kept in the file")


def _hertz(text: str) -> int:
    rate = int(text) if text.isdigit() else 0
    if not 8_000 <= rate <= 192_000:
        raise argparse.ArgumentTypeError(f"expected a sample rate from 8000 to 192000, got '{text}'")
    return rate


def _export(arguments: argparse.Namespace) -> int:
    from kws_imagebind import load_encoder
    from kws_imagebind.readouts.enrolment import word_scorer
    from kws_imagebind.spotting.export import export

    encoder = load_encoder(arguments.encoder, device="cpu")
    words = word_scorer(encoder, arguments.words)
    least = _thresholds(arguments.threshold or [], words)
    made = export(encoder, words, arguments.output, least, arguments.int8)
    say(
        f"wrote {made.path}: {len(words.labels):,} words, {made.bytes / 1e6:.2f} MB; its cosines are within "
        f"{made.error:.0e} of PyTorch's"
    )
    return 0


def _listen(arguments: argparse.Namespace) -> int:
    if arguments.list_inputs:
        return _list_inputs()
    if arguments.source not in (None, "-"):
        file, words = shlex.quote(arguments.source), shlex.quote(arguments.words or "A,B,C")
        say(
            f"kws-imagebind listen: hears a microphone, or raw sound on stdin with '-', and not '{arguments.source}'; "
            f"for a file use 'kws-imagebind spot {file} --words {words} --threshold 0.5'"
        )
        return BAD_INPUT
    if not arguments.words:
        say("kws-imagebind listen: no words to listen for; give them with --words, as in --words umbrella,kettle")
        return BAD_INPUT
    program = _program(arguments.program) if arguments.program else None
    if arguments.program and program is None:
        say(f"kws-imagebind listen: --command '{arguments.program}' cannot be filled in; it may hold {{word}}, "
            "{score} and {time}")  # fmt: skip
        return BAD_INPUT
    listener = _listener(arguments)
    running: list[subprocess.Popen[bytes]] = []
    for hit in _hits(arguments, listener):
        _tell(hit, arguments.json)
        if program:
            running = [each for each in running if each.poll() is None]
            _start(program, hit, running)
    for each in running:
        with suppress(subprocess.TimeoutExpired):
            each.wait(timeout=LAST)
    return 0


def _listener(arguments: argparse.Namespace) -> Listener:
    from kws_imagebind.readouts.enrolment import word_scorer
    from kws_imagebind.spotting.hits import APART
    from kws_imagebind.spotting.stream import Listener

    encoder = chosen_encoder(arguments)
    words = word_scorer(encoder, arguments.words, chosen_templates(arguments), arguments.average)
    patience = APART if arguments.patience is None else arguments.patience
    refractory = APART if arguments.refractory is None else arguments.refractory
    return Listener(words, _thresholds(arguments.threshold or [], words), patience, refractory, encoder)


def _thresholds(given: list[str], words: Readout) -> Threshold:
    """'0.6' for all words, and 'umbrella=0.8' for one."""
    from kws_imagebind.encoders import EncoderError
    from kws_imagebind.readouts.enrolment import thresholds_of

    least = thresholds_of(words)
    # One for all words comes first, so that one for a word holds wherever it stands.
    for text in sorted(given, key=lambda each: "=" in each):
        word, equals, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            raise EncoderError(
                f"threshold '{text}'; expected a number from 0 to 1, or one of a word as in umbrella=0.8"
            ) from None
        least.update({word: value} if equals else dict.fromkeys(words.labels, value))
    return least


def _hits(arguments: argparse.Namespace, listener: Listener) -> Iterator[Hit]:
    if arguments.source == "-":
        blocks = pcm(sys.stdin.buffer, arguments.rate, arguments.channels)
        yield from listener.listen(blocks, arguments.rate)
        return
    while True:
        yield from _from_microphone(arguments, listener)
        time.sleep(AGAIN)


def _from_microphone(arguments: argparse.Namespace, listener: Listener) -> Iterator[Hit]:
    """The hits until the microphone is gone; it is said why, and the stream begins again after it."""
    from kws_imagebind.audio import microphone

    try:
        device = microphone.chosen(arguments.input)
        said = ", ".join(listener.labels)
        say(f"listening to {device.name} for {said}; Ctrl-C stops")
        meter = sys.stderr.isatty() and not arguments.quiet
        for block in microphone.stream(device):
            hits = listener.hear(block, device.rate)
            if meter:
                _show_level(listener.level, bool(hits))
            yield from hits
    except microphone.MicrophoneError as error:
        say(f"kws-imagebind listen: {error}; trying again")
        yield from listener.finish()
        microphone.refresh()


def pcm(source: BinaryIO, rate: int, channels: int) -> Iterator[NDArray[np.int16]]:
    """Little-endian 16-bit samples from a pipe, (samples, channels) a block, as they come.

    Raises:
        AudioError: nothing comes, or what comes is a file of sound or text and not samples.
    """
    import numpy as np

    width, held = 2 * channels, b""
    for data in _checked(source, max(width, rate // 10 * width)):
        held += data
        whole = len(held) // width * width
        if whole:
            yield np.frombuffer(held[:whole], dtype="<i2").reshape(-1, channels).astype(np.int16)
        held = held[whole:]


def _checked(source: BinaryIO, size: int) -> Iterator[bytes]:
    """The bytes of a pipe, at most so many at once, after the first have shown that they may be samples."""
    from kws_imagebind.audio.containers import ENOUGH, container
    from kws_imagebind.audio.signal import AudioError

    read = getattr(source, "read1", source.read)
    first = b""
    while len(first) < ENOUGH and (data := read(size)):
        first += data
    if not first:
        raise AudioError("no sound came on stdin; expected raw 16-bit PCM, as 'arecord -t raw -f S16_LE' writes it")
    found = container(first)
    if found == "text":
        raise AudioError(
            "what comes on stdin is text; expected raw 16-bit PCM, as 'arecord -t raw -f S16_LE' writes it"
        )
    if found:
        raise AudioError(
            f"what comes on stdin is {found}; send raw 16-bit PCM, as 'ffmpeg -i FILE -f s16le -ac 1 -ar 16000 -' "
            "writes it, or use 'kws-imagebind spot FILE --threshold 0.5'"
        )
    yield first
    while data := read(size):
        yield data


def _show_level(level: float, found: bool) -> None:
    filled = round(METER * min(1.0, max(0.0, 1 - level / QUIET)))
    end = "\n" if found else ""
    print(f"\r{'#' * filled}{' ' * (METER - filled)} {max(level, -99):4.0f} dB ", end=end, file=sys.stderr, flush=True)


def _tell(hit: Hit, as_json: bool) -> None:
    if as_json:
        print(json.dumps(_fields(hit)), flush=True)
    else:
        print(f"{time.strftime('%H:%M:%S')}  {hit.start:8.1f} s  {hit.word}  {hit.score:.2f}", flush=True)


def _fields(hit: Hit) -> dict[str, Any]:
    return {
        "word": hit.word, "time": round(hit.time, 3), "start": round(hit.start, 3), "end": round(hit.end, 3),
        "score": round(hit.score, 4),
    }  # fmt: skip


def _program(template: str) -> list[str] | None:
    """A command's parts, if they can be filled in."""
    try:
        parts = shlex.split(template)
        for part in parts:
            part.format(word="", score="", time="")
    except (ValueError, KeyError, IndexError, AttributeError):
        return None
    return parts or None


def _start(program: list[str], hit: Hit, running: list[subprocess.Popen[bytes]]) -> None:
    """Runs it beside the listening. No shell reads the word."""
    filled = [part.format(word=hit.word, score=f"{hit.score:.3f}", time=f"{hit.time:.2f}") for part in program]
    try:
        running.append(subprocess.Popen(filled, stdin=subprocess.DEVNULL))
    except OSError as error:
        say(f"kws-imagebind listen: '{filled[0]}' cannot be run ({error.strerror})")


def _list_inputs() -> int:
    from kws_imagebind.audio.microphone import devices

    found = devices()
    for device in found:
        print(f"{device.number:3}  {device.name}  {device.rate:,} Hz")
    if not found:
        say("kws-imagebind listen: this machine has no microphone")
    return 0


def _check_word(arguments: argparse.Namespace) -> int:
    from kws_imagebind import load_encoder
    from kws_imagebind.spotting.advice import check_word

    encoder = load_encoder("phonebind", device=arguments.device)
    for found in [check_word(encoder, word) for word in arguments.words]:  # all of them before the first is shown
        print(json.dumps(found.as_dict()) if arguments.json else found.text())
    return 0
