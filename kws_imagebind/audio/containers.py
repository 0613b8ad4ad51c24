"""What a stream of bytes is that should be raw samples and is not: a file of sound, or text."""

from __future__ import annotations

from codecs import getincrementaldecoder

ENOUGH = 4096  # bytes in which three frames of MP3 begin
LEAST_TEXT = 16  # bytes; of fewer, random samples may happen to be letters
LEAST_LETTERS = 4  # different bytes; a constant may be made of any two

# Where a format's mark is, and the mark: four bytes or more, which samples hold there once in four thousand million.
_MARKS = (
    (0, b"RIFF", "a WAV file"),
    (0, b"RF64", "a WAV file"),
    (0, b"OggS", "an Ogg file"),
    (0, b"fLaC", "a FLAC file"),
    (0, b"FORM", "an AIFF file"),
    (0, b"caff", "a CAF file"),
    (0, b".snd", "an AU file"),
    (0, b"\x1a\x45\xdf\xa3", "a WebM or Matroska file"),
    (4, b"ftyp", "an MP4 file"),
)

# MPEG audio, layer III: kbit/s by the header's index, in version 1, and in versions 2 and 2.5.
_RATES = (
    (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
_HERTZ = (44_100, 48_000, 32_000)
_DIVIDED = {3: 1, 2: 2, 0: 4}  # the sample rate, by the header's version: 1, 2 and 2.5


def container(data: bytes) -> str | None:
    """What the beginning of a stream is, with its article, if it is known not to be raw samples.

    Args:
        data: the first bytes: `ENOUGH`, or all of a shorter stream.

    >>> container(b"OggS" + bytes(60)), container(b"dear diary, today"), container(bytes(64))
    ('an Ogg file', 'text', None)
    """
    for place, mark, name in _MARKS:
        if data[place : place + len(mark)] == mark:
            return name
    if _is_tagged(data) or _is_mpeg(data):
        return "an MP3 file"
    return "text" if _is_text(data) else None


def _is_tagged(data: bytes) -> bool:
    """Whether an ID3v2 tag begins there: its version is 2 to 4, and its size leaves the top bit of each byte free."""
    return len(data) >= 10 and data[:3] == b"ID3" and data[3] in (2, 3, 4) and not data[4] and max(data[6:10]) < 0x80


def _is_mpeg(data: bytes) -> bool:
    """Whether three frames of MP3 of the same kind follow each other. Samples may look like a single one."""
    place = 0
    kind: tuple[int, int, int] | None = None
    for _ in range(3):
        header = data[place : place + 4]
        length = _frame(header)
        if not length or kind not in (None, _kind(header)):
            return False
        place, kind = place + length, _kind(header)
    return True


def _kind(header: bytes) -> tuple[int, int, int]:
    """What all frames of a file share: version and layer, sample rate, and whether there are two channels."""
    return header[1] & 0xFE, header[2] & 0x0C, int(header[3] >> 6 == 3)


def _frame(header: bytes) -> int:
    """Bytes of the frame of MP3 that a header begins; 0 if it is not one."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0 or header[1] >> 1 & 3 != 1:
        return 0
    version, rate, hertz = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if version not in _DIVIDED or rate in (0, 15) or hertz == 3:
        return 0
    eighth = 144 if version == 3 else 72  # of a frame's samples
    return eighth * 1000 * _RATES[version != 3][rate - 1] * _DIVIDED[version] // _HERTZ[hertz] + (header[2] >> 1 & 1)


def _is_text(data: bytes) -> bool:
    """Whether all of it is UTF-8 without control characters; samples near zero are such characters."""
    try:
        text = getincrementaldecoder("utf-8")().decode(data)  # which does not mind that the last letter is cut
    except UnicodeDecodeError:
        return False
    plain = all(letter.isprintable() or letter in "\t\n\r\f" for letter in text)
    return plain and len(data) >= LEAST_TEXT and len(set(data)) >= LEAST_LETTERS
