"""AVE-Net, AVOL-Net and L3-Net: which picture and which second of sound belong together.

Arandjelović and Zisserman 2018, Objects that Sound, arXiv:1712.06651; L3-Net is of Look, Listen and Learn (2017,
arXiv:1705.08168). All three have the same two towers of eight convolutions; they differ in how the towers meet. Written
from the papers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHANNELS = (64, 128, 256, 512)  # of the four blocks of two convolutions each
EMBEDDING = 128
# Of the log-odds by distance, at the start. What a useless difference costs grows with its square and what a useful one
# gains with the slope itself, so with a steep layer the towers first learn to give every input the same vector.
SLOPE = 1.0
FARTHEST = 2.0  # distance of opposite unit vectors
THRESHOLD = 2.0**0.5  # distance of unit vectors that have nothing to do with each other
KINDS = ("avenet", "avolnet", "l3net")


@dataclass(frozen=True)
class AVENetConfig:
    """Sizes. The defaults are the published ones.

    Attributes:
        image: height and width of a picture in pixels. The towers take any size; this is what they are trained on.
        sound: frequencies and frames of a second of sound.
        width: factor of the channels, below 1 for small machines.
        embedding: length of a vector.

    >>> AVENetConfig().channels, AVENetConfig(width=0.25).channels
    ((64, 128, 256, 512), (16, 32, 64, 128))
    """

    image: tuple[int, int] = (224, 224)
    sound: tuple[int, int] = (257, 200)
    width: float = 1.0
    embedding: int = EMBEDDING

    @property
    def channels(self) -> tuple[int, ...]:
        return tuple(max(1, round(each * self.width)) for each in CHANNELS)


class CorrespondenceNet(Protocol):
    """What the three networks have in common."""

    def see(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) from -1 to 1 -> what `correspond` takes."""
        ...

    def hear(self, sounds: Tensor) -> Tensor:
        """Spectrograms (B, 1, F, T), standardised -> what `correspond` takes."""
        ...

    def correspond(self, seen: Tensor, heard: Tensor) -> Tensor:
        """(I, ...) and (S, ...) -> (I, S) log-odds that each picture and each sound belong together."""
        ...

    def image_vectors(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, dim) of unit norm."""
        ...

    def sound_vectors(self, sounds: Tensor) -> Tensor:
        """(B, 1, F, T) -> (B, dim) of unit norm."""
        ...

    def start(self, images: Tensor, sounds: Tensor) -> None:
        """Sets what depends on the data before the first step."""
        ...


class Tower(nn.Sequential):
    """Eight 3x3 convolutions with batch normalisation and ReLU, in four blocks with a pooling between them.

    The first convolution has stride 2, so a picture of 224x224 becomes a map of 14x14 and a spectrogram of 257x200 one
    of 16x12.
    """

    def __init__(self, inputs: int, channels: tuple[int, ...]) -> None:
        layers: list[nn.Module] = []
        for block, outputs in enumerate(channels):
            if block:
                layers.append(nn.MaxPool2d(2))
            layers += _convolution(inputs, outputs, 1 if block else 2)
            layers += _convolution(outputs, outputs)
            inputs = outputs
        super().__init__(*layers)


def _convolution(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    # Batch normalisation takes the mean away, so a bias would do nothing.
    convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]


def _pooled(features: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C): the largest response anywhere."""
    return features.amax((2, 3))


def _head(inputs: int, embedding: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, embedding), nn.ReLU(), nn.Linear(embedding, embedding))


def _centre(head: nn.Sequential, vectors: Tensor) -> None:
    """Moves the mean of a head's vectors (B, dim) to zero."""
    last = head[-1]
    assert isinstance(last, nn.Linear | nn.Conv2d)
    last.bias.data -= vectors.mean(0)  # type: ignore[union-attr]


def tiny_layer(slope: float = SLOPE, threshold: float = THRESHOLD) -> nn.Linear:
    """1 -> 2: distance to the logits of "apart" and "together", with the right sign: far means apart.

    Args:
        slope: of the log-odds by distance.
        threshold: the distance at which both are equally likely.

    >>> apart, together = tiny_layer(slope=2.0, threshold=1.0)(torch.tensor([[1.5]]))[0].tolist()
    >>> together - apart
    -1.0
    """
    layer = nn.Linear(1, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[slope / 2], [-slope / 2]]))
        layer.bias.copy_(torch.tensor([-slope * threshold / 2, slope * threshold / 2]))
    return layer


def distances(images: Tensor, sounds: Tensor) -> Tensor:
    """(I, d) and (S, d), both of unit norm -> (I, S) Euclidean distances.

    >>> distances(torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 0.0], [0.6, 0.8]])).tolist()
    [[2.0, 0.894...]]
    """
    return (2 - 2 * images @ sounds.T).clamp(1e-6, FARTHEST**2).sqrt()  # the root has no slope at 0


class AVENet(nn.Module):
    """Two towers that meet in a Euclidean distance, so that their vectors lie in one space.

    The log-odds are the difference of the tiny layer's two logits: the cross-entropy of the published softmax over two
    classes is the binary one of that difference.
    """

    def __init__(self, config: AVENetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or AVENetConfig()
        last = config.channels[-1]
        self.image, self.sound = Tower(3, config.channels), Tower(1, config.channels)
        self.image_head, self.sound_head = _head(last, config.embedding), _head(last, config.embedding)
        self.tiny = tiny_layer()

    def see(self, images: Tensor) -> Tensor:
        return F.normalize(self.image_head(_pooled(self.image(images))), dim=1)

    def hear(self, sounds: Tensor) -> Tensor:
        return F.normalize(self.sound_head(_pooled(self.sound(sounds))), dim=1)

    def correspond(self, seen: Tensor, heard: Tensor) -> Tensor:
        logits = self.tiny(distances(seen, heard)[..., None])
        return logits[..., 1] - logits[..., 0]

    image_vectors, sound_vectors = see, hear

    @torch.no_grad()
    def start(self, images: Tensor, sounds: Tensor) -> None:
        """Spreads the vectors of the first batch over the sphere.

        What an untrained tower gives is nearly the same for every input. All distances are equal then, the loss has
        almost no slope, and some seeds stay at chance for long. Without the mean, the vectors point everywhere.
        """
        _centre(self.image_head, self.image_head(_pooled(self.image(images))))
        _centre(self.sound_head, self.sound_head(_pooled(self.sound(sounds))))


class AVOLNet(nn.Module):
    """Localises: every position of the picture's map has a vector, and the best position decides.

    The published network maps the scalar product at each position by a 1x1 convolution and a sigmoid, and takes the
    maximum over the map. The sigmoid rises, so the maximum of the log-odds is the same.
    """

    def __init__(self, config: AVENetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or AVENetConfig()
        last = config.channels[-1]
        self.image, self.sound = Tower(3, config.channels), Tower(1, config.channels)
        self.image_head = nn.Sequential(
            nn.Conv2d(last, config.embedding, 1), nn.ReLU(), nn.Conv2d(config.embedding, config.embedding, 1)
        )
        self.sound_head = _head(last, config.embedding)
        self.tiny = nn.Conv2d(1, 1, 1)
        with torch.no_grad():
            self.tiny.weight.fill_(config.embedding**-0.5)  # similar means together
            self.tiny.bias.zero_()  # type: ignore[union-attr]

    def see(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, dim, h, w)."""
        return self.image_head(self.image(images))

    def hear(self, sounds: Tensor) -> Tensor:
        return self.sound_head(_pooled(self.sound(sounds)))

    def maps(self, seen: Tensor, heard: Tensor) -> Tensor:
        """(I, dim, h, w) and (S, dim) -> (I, S, h, w) log-odds that the sound's source is at each position."""
        similar = torch.einsum("idhw,sd->ishw", seen, heard)
        return similar * self.tiny.weight.view(()) + self.tiny.bias.view(())  # type: ignore[union-attr]

    def correspond(self, seen: Tensor, heard: Tensor) -> Tensor:
        return self.maps(seen, heard).amax((2, 3))

    def image_vectors(self, images: Tensor) -> Tensor:
        return F.normalize(self.see(images).mean((2, 3)), dim=1)

    def sound_vectors(self, sounds: Tensor) -> Tensor:
        return F.normalize(self.hear(sounds), dim=1)

    @torch.no_grad()
    def start(self, images: Tensor, sounds: Tensor) -> None:
        """As for AVE-Net; then gives the log-odds of the first batch a mean of 0 and a deviation of 1."""
        _centre(self.image_head, self.see(images).mean((2, 3)))
        _centre(self.sound_head, self.hear(sounds))
        found = self.correspond(self.see(images), self.hear(sounds))
        scale = found.std().clamp_min(1e-3)
        self.tiny.weight /= scale
        self.tiny.bias.sub_(found.mean()).div_(scale)  # type: ignore[union-attr]


class L3Net(nn.Module):
    """The baseline: the two pooled vectors are concatenated, and two layers decide. They share no space.

    Its vectors for retrieval are the pooled features themselves, of unit norm.
    """

    def __init__(self, config: AVENetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or AVENetConfig()
        last = config.channels[-1]
        self.image, self.sound = Tower(3, config.channels), Tower(1, config.channels)
        self.fusion = nn.Sequential(nn.Linear(2 * last, config.embedding), nn.ReLU(), nn.Linear(config.embedding, 2))

    def see(self, images: Tensor) -> Tensor:
        return _pooled(self.image(images))

    def hear(self, sounds: Tensor) -> Tensor:
        return _pooled(self.sound(sounds))

    def correspond(self, seen: Tensor, heard: Tensor) -> Tensor:
        first, last = self.fusion[0], self.fusion[2]
        assert isinstance(first, nn.Linear)
        left, right = first.weight.split([seen.shape[1], heard.shape[1]], 1)  # of the concatenation, for all pairs
        hidden = (seen @ left.T)[:, None] + (heard @ right.T)[None] + first.bias
        logits = last(hidden.relu())
        return logits[..., 1] - logits[..., 0]

    def image_vectors(self, images: Tensor) -> Tensor:
        return F.normalize(self.see(images), dim=1)

    def sound_vectors(self, sounds: Tensor) -> Tensor:
        return F.normalize(self.hear(sounds), dim=1)

    def start(self, images: Tensor, sounds: Tensor) -> None:
        """Nothing depends on the data."""


def build(kind: str, config: AVENetConfig) -> AVENet | AVOLNet | L3Net:
    """One of the networks by name.

    Raises:
        ValueError: there is none of that name.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown network '{kind}'; available: {', '.join(KINDS)}")
    networks: dict[str, type[AVENet] | type[AVOLNet] | type[L3Net]] = {
        "avenet": AVENet,
        "avolnet": AVOLNet,
        "l3net": L3Net,
    }
    return networks[kind](config)


def correspondence_loss(log_odds: Tensor) -> Tensor:
    """The mean cross-entropy of a batch's pairs: picture i belongs to sound i, and to no other.

    Each picture and each sound is in one pair that belongs together and in B - 1 that do not, so nothing about a
    picture or a sound alone can tell which pair it is in: the shortcut of the published sampling is closed. The two
    kinds of pairs weigh the same, as in the published batches, which hold as many of one as of the other.

    Args:
        log_odds: (B, B).

    >>> round(float(correspondence_loss(torch.zeros(3, 3))), 4)  # chance: ln 2
    0.6931
    """
    count = len(log_odds)
    together = F.softplus(-log_odds.diagonal()).mean()
    apart = (F.softplus(log_odds).sum() - F.softplus(log_odds.diagonal()).sum()) / max(1, count * (count - 1))
    return (together + apart) / 2


def choice_loss(log_odds: Tensor) -> Tensor:
    """The mean cross-entropy of choosing a picture's sound among the batch's, and a sound's picture.

    The log-odds of a pair count only beside those of the others, so a network whose vectors are all alike gains from
    any difference that helps. `correspondence_loss` makes such a network pay for every difference first, and it stays
    at chance for long.

    Args:
        log_odds: (B, B).

    >>> round(float(choice_loss(torch.zeros(3, 3))), 4)  # chance: ln 3
    1.0986
    """
    own = torch.arange(len(log_odds), device=log_odds.device)
    return (F.cross_entropy(log_odds, own) + F.cross_entropy(log_odds.T, own)) / 2


def pixels(pictures: Tensor) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32 from -1 to 1.

    >>> pixels(torch.tensor([[[[0, 255, 255]]]], dtype=torch.uint8)).flatten().tolist()
    [-1.0, 1.0, 1.0]
    """
    return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1
