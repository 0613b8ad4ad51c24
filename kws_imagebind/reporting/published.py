"""What others have published, each with its task and its clips, so that nobody compares apples with pears."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedResult:
    """One published accuracy.

    Attributes:
        system: what was measured.
        task: the choice it had, in the names of `keywords.TASKS` where there is one.
        n: clips; None where the source does not say.
        accuracy: from 0 to 1.
        supervised: whether it was trained on these very words.
        source: who published it.
        note: what a reader should know.
        limits: of a 95 % interval, where there is one.
    """

    system: str
    task: str
    n: int | None
    accuracy: float
    supervised: bool
    source: str
    note: str = ""
    limits: tuple[float, float] | None = None


@dataclass(frozen=True)
class PublishedPairs:
    """One published figure of pairs: every clip against every keyword, pooled (PhonMatchNet's loader).

    Attributes:
        system: what was measured.
        eer: equal error rate, from 0 to 1.
        auc: area under the ROC curve; None where the source at hand does not give it.
        parameters: of the model.
        source: who published it.
        note: which clips and words.
    """

    system: str
    eer: float
    auc: float | None
    parameters: int | None
    source: str
    note: str


_V1 = "ten command words, v0.01 test list"
_AGAIN = "trained again by Liu et al. 2026, arXiv:2602.08930, table 1, by a digest"
# None of these publishes an accuracy. CLAP-IPA (arXiv:2311.08323) publishes neither for Speech Commands.
PAIRS = (
    PublishedPairs("CMCD", 0.273, None, 700_000, "Shin et al. 2022, as later papers cite it", _V1),
    PublishedPairs("CED (Flexible KWS)", 0.135, None, 3_800_000, "Nishu et al. 2023, as later papers cite it", _V1),
    PublishedPairs("PhonMatchNet", 0.0677, 0.9811, 655_000, "Lee and Cho 2023, their repository", _V1),
    PublishedPairs("PhonMatchNet, again", 0.1028, 0.9595, 655_000, _AGAIN, _V1),
    PublishedPairs("SLiCK, again", 0.0800, 0.9752, 580_000, _AGAIN, _V1),
    PublishedPairs(
        "SLiCK-EPS", 0.0887, 0.9719, 557_000, "Liu et al. 2026, arXiv:2602.08930, table 1, by a digest", _V1
    ),
)

_MTEB = "MTEB, SpeechCommandsZeroshotv0.02"
_TEN = (
    ("jina-embeddings-v5-omni-small", 0.9745),
    ("LCO-Embedding-Omni-7B", 0.9742),
    ("jina-embeddings-v5-omni-nano", 0.9732),
    ("BidirLM-Omni-2.5B", 0.9730),
    ("e5-omni-7B", 0.9705),
    ("OmniEmbed", 0.329),
    ("speecht5", 0.188),
    ("larger_clap_general", 0.1244),
    ("clap-htsat-fused", 0.1176),
    ("EBind", 0.1168),
    ("msclap-2022", 0.1051),
    ("msclap-2023", 0.1001),
    ("Wav2CLIP", 0.0972),
)

PUBLISHED = (
    *(PublishedResult(system, "v2-10", 4_074, accuracy, False, _MTEB) for system, accuracy in _TEN),
    PublishedResult(
        "pocketsphinx 5.1", "v2-10", 4_074, 0.695, False, "measured by this project", "a recogniser, 35-word grammar"
    ),
    PublishedResult(
        "ImageBind", "v2-37", 11_005, 304 / 11_005, False, "predictions of pjohnden/197DL_Project2, recomputed",
        "chance is 2.70 %", (0.0247, 0.0309),
    ),
    PublishedResult("AST", "v2-35", 11_005, 0.9811, True, "Gong et al. 2021"),
    PublishedResult("HTS-AT", "v2-35", 11_005, 0.980, True, "Chen et al. 2022"),
    PublishedResult("KWT-2", "v2-35", 11_005, 0.9774, True, "Berg et al. 2021"),
    PublishedResult("BC-ResNet-8", "v2-12", 4_890, 0.987, True, "Kim et al. 2021"),
    PublishedResult("KWT-3", "v2-12", 4_890, 0.987, True, "Berg et al. 2021"),
    PublishedResult("att_mh_rnn", "v2-12", 4_890, 0.983, True, "Rybakov et al. 2020"),
)  # fmt: skip

# Accuracies on Speech Commands whose source does not say among which words and of how many clips.
WORDS_NOT_STATED = (
    PublishedResult("GLAP", "v0.01", None, 0.966, False, "Dinkel et al. 2025, arXiv:2506.11350, table 5, by a digest"),
    PublishedResult("GLAP", "v0.02", None, 0.958, False, "Dinkel et al. 2025, arXiv:2506.11350, table 5, by a digest"),
)

# What PhoneBind's bundled weights reach on the real recordings at hand; the README's table says the same.
_PART = "part of the test split"
PHONEBIND = (
    PublishedResult("PhoneBind", "v2-10", 1_050, 0.910, False, "this project", _PART, (0.867, 0.941)),
    PublishedResult("PhoneBind", "v2-35", 1_142, 0.891, False, "this project", _PART, (0.844, 0.925)),
)
