"""Networks that learn words: the paper's sizes, an independent reading of BC-ResNet, the shapes of the others."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kws_imagebind.models.bc_resnet import BCResNet
from kws_imagebind.models.light_cnn import LightCNN
from kws_imagebind.models.networks import Architecture, NetworkError, build
from kws_imagebind.models.residual import ResidualNet

FRAMES = 98


def parameters(network: torch.nn.Module) -> int:
    return sum(each.numel() for each in network.parameters())


# Table 2 of arXiv:2106.04140, in thousands, for 12 words.
PAPER = [(1, 9.2, 1), (2, 27.3, 1), (3, 54.2, 1), (6, 188, 0), (8, 321, 0)]  # tau, thousands, digits


@pytest.mark.parametrize(("tau", "thousands", "digits"), PAPER)
def test_bc_resnet_has_the_papers_parameters(tau: float, thousands: float, digits: int) -> None:
    assert round(parameters(BCResNet(12, tau)) / 1000, digits) == thousands


def batch_norm(x: np.ndarray, state: dict[str, np.ndarray], name: str) -> np.ndarray:
    """(channels, F, T) with the running statistics."""
    mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    scaled = (x - mean[:, None, None]) / np.sqrt(variance + 1e-5)[:, None, None]
    return scaled * state[f"{name}.weight"][:, None, None] + state[f"{name}.bias"][:, None, None]


def sub_spectral(x: np.ndarray, state: dict[str, np.ndarray], name: str, bands: int = 5) -> np.ndarray:
    """Each of five sub-bands normalised by itself: channel c of band b has entry 5 c + b of the table."""
    height = x.shape[1] // bands
    out = np.empty_like(x)
    for channel in range(x.shape[0]):
        for band in range(bands):
            entry = bands * channel + band
            mean, variance = state[f"{name}.running_mean"][entry], state[f"{name}.running_var"][entry]
            rows = slice(band * height, (band + 1) * height)
            scaled = (x[channel, rows] - mean) / np.sqrt(variance + 1e-5)
            out[channel, rows] = scaled * state[f"{name}.weight"][entry] + state[f"{name}.bias"][entry]
    return out


def pointwise(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return np.einsum("oi,ift->oft", weight[:, :, 0, 0], x)


def along_frequency(x: np.ndarray, weight: np.ndarray, stride: int) -> np.ndarray:
    """A depthwise convolution of 3 bands, with one band of zeros on either side."""
    padded = np.pad(x, ((0, 0), (1, 1), (0, 0)))
    rows = range(0, x.shape[1], stride)
    return np.stack([sum(weight[:, 0, k, :] * padded[:, f + k] for k in range(3)) for f in rows], 1)


def along_time(x: np.ndarray, weight: np.ndarray, dilation: int) -> np.ndarray:
    """A depthwise convolution of 3 frames, `dilation` frames apart."""
    frames = x.shape[2]
    padded = np.pad(x, ((0, 0), (0, 0), (dilation, dilation)))
    return sum(weight[:, :, 0, k][:, :, None] * padded[:, :, k * dilation : k * dilation + frames] for k in range(3))


def full(
    x: np.ndarray, weight: np.ndarray, stride: tuple[int, int], padding: tuple[int, int], depthwise: bool
) -> np.ndarray:
    """A convolution by its definition."""
    height, width = weight.shape[2:]
    padded = np.pad(x, ((0, 0), (padding[0],) * 2, (padding[1],) * 2))
    rows = range(0, padded.shape[1] - height + 1, stride[0])
    columns = range(0, padded.shape[2] - width + 1, stride[1])
    out = np.zeros((weight.shape[0], len(rows), len(columns)))
    for i, f in enumerate(rows):
        for j, t in enumerate(columns):
            patch = padded[:, f : f + height, t : t + width]
            out[:, i, j] = (weight[:, 0] * patch).sum((1, 2)) if depthwise else np.einsum("oihw,ihw->o", weight, patch)
    return out


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def paper(x: np.ndarray, state: dict[str, np.ndarray]) -> np.ndarray:
    """Table 1 of the paper, row by row, for one spectrogram (40, T)."""
    x = relu(batch_norm(full(x[None], state["stem.0.weight"], (2, 1), (2, 2), False), state, "stem.1"))
    number = 0
    for blocks, stride, dilation in ((2, 1, 1), (2, 2, 2), (4, 2, 4), (4, 1, 8)):
        for block in range(blocks):
            name, first = f"blocks.{number}", block == 0
            shortcut, offset = x, 0
            if first:  # a transition block: other channels, no identity
                x = relu(batch_norm(pointwise(x, state[f"{name}.spectral.0.weight"]), state, f"{name}.spectral.1"))
                offset = 3
            two = along_frequency(x, state[f"{name}.spectral.{offset}.weight"], stride if first else 1)
            two = sub_spectral(two, state, f"{name}.spectral.{offset + 1}.norm")
            one = along_time(two.mean(1, keepdims=True), state[f"{name}.temporal.0.weight"], dilation)
            one = batch_norm(one, state, f"{name}.temporal.1")
            one = pointwise(one / (1 + np.exp(-one)), state[f"{name}.temporal.3.weight"])  # swish
            x = relu((0 if first else shortcut) + two + one)  # broadcast over the frequencies
            number += 1
    x = pointwise(full(x, state["head.0.weight"], (1, 1), (0, 2), True), state["head.1.weight"])
    x = relu(batch_norm(x, state, "head.2")).mean((1, 2))
    return state["classifier.weight"] @ x + state["classifier.bias"]


@pytest.mark.parametrize("tau", [1, 1.5])
def test_bc_resnet_computes_what_the_paper_says(tau: float) -> None:
    torch.manual_seed(0)
    network = BCResNet(4, tau).double().eval()
    for name, value in network.state_dict().items():  # running statistics as after some training
        if name.endswith("running_mean"):
            value.normal_(0, 0.3)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 2)
    spectrogram = torch.randn(1, 1, 40, 21, dtype=torch.float64)
    state = {name: value.numpy() for name, value in network.state_dict().items()}
    with torch.no_grad():
        found = network(spectrogram)[0].numpy()
    assert found == pytest.approx(paper(spectrogram[0, 0].numpy(), state), rel=1e-9)


def test_a_transition_leaves_the_identity_out_and_halves_the_frequencies() -> None:
    network = BCResNet(12).eval()
    assert [block.transition for block in network.blocks] == [n in (0, 2, 4, 8) for n in range(12)]
    x, shapes = network.stem(torch.zeros(1, 1, 40, FRAMES)), []
    for block in network.blocks:
        x = block(x)
        shapes.append(tuple(x.shape[1:]))
    assert [shapes[n] for n in (1, 3, 7, 11)] == [(8, 20, FRAMES), (12, 10, FRAMES), (16, 5, FRAMES), (20, 5, FRAMES)]


def test_the_residual_network_has_the_seeds_shapes() -> None:
    network = ResidualNet(8).eval()
    x, widths = torch.zeros(2, 1, 129, 124), []
    for layer in network.features[:-2]:
        x = layer(x)
        widths.append(tuple(x.shape[1:]))
    assert widths[1::2] == [(16, 64, 62), (32, 32, 31), (64, 16, 15), (64, 8, 7), (64, 4, 3)]
    assert [tuple(head.shape) for head in network.heads(torch.zeros(2, 1, 64, FRAMES))] == [(2, 64), (2, 64)]
    assert network.classifier.in_features == 64 and network(torch.zeros(2, 1, 64, FRAMES)).shape == (2, 8)


def test_the_light_cnn_has_about_seven_tenths_of_a_million_parameters() -> None:
    assert 0.65e6 < parameters(LightCNN(12)) < 0.75e6


@pytest.mark.parametrize("name", ["residual", "light-cnn", "bc-resnet:2", "bc-resnet"])
def test_logits_come_from_the_last_head(name: str) -> None:
    network = build(Architecture(name, 5, (40, FRAMES))).eval()
    clips = torch.randn(3, 1, 40, FRAMES)
    with torch.no_grad():
        assert torch.allclose(network.classifier(network.heads(clips)[-1]), network(clips))  # type: ignore[operator]
        assert torch.allclose(network(clips)[1:2], network(clips[1:2]), atol=1e-5)  # no clip minds its neighbours


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet", "unknown network 'resnet'"),
        ("bc-resnet:wide", "expected a width such as 1, 1.5"),
        ("bc-resnet:-1", "expected a width"),
        ("imagenet", "needs the name of a network"),
        ("probe", "needs the name of an encoder"),
        ("residual:2", "takes nothing after a colon"),
    ],
)
def test_names_that_are_none_get_a_sentence(name: str, message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        build(Architecture(name, 5, (40, FRAMES)))


def test_only_imagenet_has_pretrained_weights() -> None:
    with pytest.raises(NetworkError, match="'residual' has no pre-trained weights"):
        build(Architecture("residual", 5, (40, FRAMES)), pretrained=True)


class TestImagenet:
    @pytest.fixture(autouse=True)
    def timm(self) -> None:
        pytest.importorskip("timm", reason="networks of timm need the extra 'imagenet'")

    def test_one_channel_goes_in_and_the_frozen_backbone_keeps_its_statistics(self) -> None:
        network = build(Architecture("imagenet:mobilenetv3_small_050", 5, (128, FRAMES), frozen=True)).train()
        before = {name: value.clone() for name, value in network.state_dict().items()}
        clips = torch.randn(4, 1, 128, FRAMES)
        optimiser = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.1)
        network(clips).sum().backward()
        optimiser.step()
        changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
        assert changed == {"classifier.weight", "classifier.bias"}

    def test_pretrained_filters_answer_a_grey_picture_as_the_original_does(self) -> None:
        """What timm does with filters of three channels, on which 'one-channel input done right' rests."""
        from timm.models import adapt_input_conv

        three = torch.randn(8, 3, 3, 3)
        grey = torch.randn(1, 1, 9, 9)
        expected = torch.nn.functional.conv2d(grey.expand(1, 3, 9, 9), three)
        assert torch.allclose(torch.nn.functional.conv2d(grey, adapt_input_conv(1, three)), expected, atol=1e-5)

    @pytest.mark.parametrize("name", ["resnet18", "inception_v3"])
    def test_others_take_spectrograms_too(self, name: str) -> None:
        network = build(Architecture(f"imagenet:{name}", 5, (128, FRAMES))).eval()
        assert network(torch.zeros(2, 1, 128, FRAMES)).shape == (2, 5)

    def test_what_is_not_there_gets_a_sentence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(NetworkError, match=r"has no network 'resnet5'; near to it are resnet50"):
            build(Architecture("imagenet:resnet5", 5, (128, FRAMES)))
        with pytest.raises(NetworkError, match="cannot take spectrograms of 10 x 10"):
            build(Architecture("imagenet:inception_v3", 5, (10, 10)))
        import timm

        def unreachable(*arguments: object, **options: object) -> None:
            raise ConnectionError("no route to host")

        monkeypatch.setattr(timm, "create_model", unreachable)
        with pytest.raises(NetworkError, match=r"neither in the hub's cache nor reachable .*leave --pretrained out"):
            build(Architecture("imagenet:resnet18", 5, (128, FRAMES)), pretrained=True)
