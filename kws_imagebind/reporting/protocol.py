"""How a run was made, in words: what the protocol record of `results.json` means to a reader."""

from __future__ import annotations

from kws_imagebind.reporting.results import ZERO_SHOT, Protocol, Results, saw_speech_commands

NOT_RECORDED = "not recorded"
SUPERVISED = "supervised"
_SAW = "the encoder was trained on Speech Commands"


def kind(results: Results | None) -> str:
    """The kind of run in two words, for a table.

    >>> kind(Results(protocol=Protocol(trained_on=["Speech Commands"]))), kind(None)
    ('not zero-shot', 'not recorded')
    """
    made_by = results.made_by if results else None
    if made_by is None or results is None:
        return NOT_RECORDED
    return f"not {ZERO_SHOT}" if made_by.kind == ZERO_SHOT and results.zero_shot is False else made_by.kind


def described(results: Results | None) -> str:
    """The kind of run, what the read-out learnt from and what the encoder did.

    >>> described(Results(protocol=Protocol(kind="few-shot", shots=5, draws=10, trained_on=["AudioSet"])))
    'few-shot, 5 clips a word, mean of 10 draws'
    >>> described(Results(protocol=Protocol(trained_on=["speech_commands"])))
    'not zero-shot: the encoder was trained on Speech Commands'
    """
    made_by = results.made_by if results else None
    if results is None or made_by is None:
        return NOT_RECORDED
    if made_by.kind == ZERO_SHOT:
        return _zero_shot(results)
    text = _learnt(made_by)
    if made_by.kind == SUPERVISED:  # the whole network learnt, and the text says from what
        return text
    return f"{text}; {_SAW}" if saw_speech_commands(results.trained_on) else text


def _zero_shot(results: Results) -> str:
    if results.zero_shot is None:
        return "zero-shot read-out: the words are given as text; what the encoder was trained on is not recorded"
    if results.zero_shot:
        return "zero-shot: the words are given as text, and the encoder was not trained on Speech Commands"
    return f"not zero-shot: {_SAW}" if saw_speech_commands(results.trained_on) else "not zero-shot"


def _learnt(protocol: Protocol) -> str:
    """A read-out or a network that learnt, and from how many clips."""
    if protocol.kind == SUPERVISED:
        return f"supervised: learnt from these words{_clips(protocol.support, ', ')}"
    if protocol.kind == "probe":
        return f"probe: a classifier learnt from labelled clips of these words{_clips(protocol.support, ', ')}"
    parts = [protocol.kind]
    if protocol.shots:
        parts.append(f"{protocol.shots:,} clip{'' if protocol.shots == 1 else 's'} a word")
    if protocol.draws:
        parts.append(f"mean of {protocol.draws:,} draws" if protocol.draws > 1 else "one draw")
    return ", ".join(parts)


def _clips(count: int | None, before: str) -> str:
    return f"{before}{count:,} clips" if count else ""
