"""AVE-Net, AVOL-Net and L3-Net: the published sizes, layer by layer, and distances worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kws_imagebind.models.avenet import (
    THRESHOLD,
    AVENet,
    AVENetConfig,
    AVOLNet,
    L3Net,
    build,
    choice_loss,
    correspondence_loss,
    distances,
    tiny_layer,
)

SMALL = AVENetConfig((32, 32), (40, 48), width=1 / 16, embedding=16)


def parameters(module: nn.Module) -> int:
    return sum(each.numel() for each in module.parameters())


def shapes(tower: nn.Module, x: torch.Tensor) -> list[tuple[int, ...]]:
    """Of the map after each convolution and pooling."""
    found = []
    with torch.no_grad():
        for layer in tower.eval():
            x = layer(x)
            if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
                found.append(tuple(x.shape[1:]))
    return found


# Figure 2 of arXiv:1712.06651: channels, height and width of each layer.
@pytest.mark.parametrize(
    ("inputs", "size", "sides"),
    [
        (3, (224, 224), ((112, 112), (56, 56), (28, 28), (14, 14))),
        (1, (257, 200), ((129, 100), (64, 50), (32, 25), (16, 12))),
    ],
)
def test_the_towers_have_the_published_layers(
    inputs: int, size: tuple[int, int], sides: tuple[tuple[int, int], ...]
) -> None:
    network = AVENet()
    tower = network.image if inputs == 3 else network.sound
    expected: list[tuple[int, ...]] = []
    for block, (channels, side) in enumerate(zip((64, 128, 256, 512), sides, strict=True)):
        pooled = [((64, 128, 256)[block - 1], *side)] if block else []
        expected += [*pooled, (channels, *side), (channels, *side)]
    assert shapes(tower, torch.zeros(1, inputs, *size)) == expected


def test_the_parameters_are_those_of_the_published_layers() -> None:
    convolutions = 9 * (64 * 64 + 64 * 128 + 128 * 128 + 128 * 256 + 256 * 256 + 256 * 512 + 512 * 512)
    normalisation = 2 * 2 * (64 + 128 + 256 + 512)
    heads = (512 * 128 + 128) + (128 * 128 + 128)
    network = AVENet()
    assert parameters(network.image) == 9 * 3 * 64 + convolutions + normalisation
    assert parameters(network.sound) == 9 * 1 * 64 + convolutions + normalisation
    assert parameters(network) == 9 * 4 * 64 + 2 * (convolutions + normalisation + heads) + 4
    assert parameters(L3Net()) == 9 * 4 * 64 + 2 * (convolutions + normalisation) + (1024 * 128 + 128) + (128 * 2 + 2)
    assert parameters(AVOLNet()) == parameters(network) - 4 + 2  # its tiny layer is 1 -> 1


def test_avol_net_keeps_a_map_of_14_by_14() -> None:
    network = AVOLNet().eval()
    with torch.no_grad():
        found = network.maps(network.see(torch.zeros(2, 3, 224, 224)), network.hear(torch.zeros(1, 1, 257, 200)))
    assert found.shape == (2, 1, 14, 14)


def test_distances_and_the_tiny_layer_by_hand() -> None:
    east, north, west = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), torch.tensor([[-1.0, 0.0]])
    found = distances(east, torch.cat([east, north, west]))[0].tolist()
    assert found == pytest.approx([0.0, math.sqrt(2), 2.0], abs=2e-3)
    logits = tiny_layer(slope=3.0)(torch.tensor([[0.0], [THRESHOLD], [2.0]])).detach()
    together = F.softmax(logits, 1)[:, 1].tolist()
    expected = [1 / (1 + math.exp(-3.0 * (THRESHOLD - each))) for each in (0.0, THRESHOLD, 2.0)]
    assert together == pytest.approx(expected)
    assert together[0] > together[1] > together[2]  # the right sign: near belongs together


def test_the_log_odds_are_the_published_softmax() -> None:
    torch.manual_seed(0)
    network = AVENet(SMALL).eval()
    seen, heard = F.normalize(torch.randn(4, 16), dim=1), F.normalize(torch.randn(5, 16), dim=1)
    with torch.no_grad():
        odds = network.correspond(seen, heard)
        for i in range(4):
            for j in range(5):
                apart, together = network.tiny((seen[i] - heard[j]).norm()[None, None])[0]
                assert float(odds[i, j]) == pytest.approx(float(together - apart), abs=1e-4)


def test_l3_net_is_the_network_of_concatenated_vectors() -> None:
    torch.manual_seed(0)
    network = L3Net(SMALL).eval()
    seen, heard = torch.randn(3, 32), torch.randn(4, 32)
    with torch.no_grad():
        odds = network.correspond(seen, heard)
        logits = network.fusion(torch.cat([seen[1], heard[2]])[None])[0]
    assert float(odds[1, 2]) == pytest.approx(float(logits[1] - logits[0]), abs=1e-5)


def test_the_losses_by_hand() -> None:
    odds = torch.tensor([[2.0, -1.0], [0.5, 1.0]])
    sigmoid = 1 / (1 + np.exp(-odds.numpy().astype(float)))
    own = -np.log([sigmoid[0, 0], sigmoid[1, 1]]).mean()
    other = -np.log([1 - sigmoid[0, 1], 1 - sigmoid[1, 0]]).mean()
    assert float(correspondence_loss(odds)) == pytest.approx((own + other) / 2)
    rows = -np.log([np.exp(2) / (np.exp(2) + np.exp(-1)), np.exp(1) / (np.exp(0.5) + np.exp(1))]).mean()
    columns = -np.log([np.exp(2) / (np.exp(2) + np.exp(0.5)), np.exp(1) / (np.exp(-1) + np.exp(1))]).mean()
    assert float(choice_loss(odds)) == pytest.approx((rows + columns) / 2)


@pytest.mark.parametrize("bias", ["pictures", "sounds"])
def test_nothing_about_a_picture_or_a_sound_alone_helps(bias: str) -> None:
    """The shortcut is closed: log-odds that depend on one side alone are never better than chance."""
    torch.manual_seed(0)
    for _ in range(20):
        values = 3 * torch.randn(8)
        odds = (values[:, None] if bias == "pictures" else values[None]).expand(8, 8)
        assert float(correspondence_loss(odds)) >= math.log(2) - 1e-6


@pytest.mark.parametrize("kind", ["avenet", "avolnet"])
def test_the_start_spreads_the_vectors(kind: str) -> None:
    torch.manual_seed(0)
    network = build(kind, SMALL)
    images, sounds = torch.randn(16, 3, 32, 32), torch.randn(16, 1, 40, 48)

    def similar() -> float:
        with torch.no_grad():
            vectors = network.sound_vectors(sounds)
        return float((vectors @ vectors.T)[~torch.eye(16, dtype=torch.bool)].mean())

    before = similar()
    network.start(images, sounds)
    assert before > 0.8 and abs(similar()) < 0.2


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown network 'vgg'; available: avenet, avolnet, l3net"):
        build("vgg", SMALL)
