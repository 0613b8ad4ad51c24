"""The mean of the weights of several runs that went on from one checkpoint (Wortsman et al. 2022, arXiv:2203.05482).

    python -m kws_imagebind.training.phonebind.averaging ONE.safetensors OTHER.safetensors --output MEAN.safetensors

    python -m kws_imagebind.training.phonebind.averaging ONE.safetensors --storage int8 --output SMALL.safetensors

Runs with a beginning in common end in one valley, whose middle is no worse than its slopes; runs that have nothing in
common average to noise.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import torch

from kws_imagebind.models.phonebind import PhoneBind, grown, load, save
from kws_imagebind.models.storage import Storage


def average(paths: Sequence[Path], weights: Sequence[float]) -> PhoneBind:
    """The model whose every weight is the weighted mean of those in the files.

    One that does not see bands by themselves is taken as one that makes nothing of them, if others see them.

    Raises:
        ValueError: the models differ in size, there is not one weight for each, or the weights add up to nothing.
    """
    if len(paths) != len(weights):
        raise ValueError(f"{len(weights)} weights for {len(paths)} model(s); expected one for each")
    total = sum(weights)
    if total <= 0 or min(weights) < 0:
        raise ValueError(f"weights {list(weights)} have no mean; expected shares of at least 0 that are not all 0")
    models = [load(path) for path in paths]
    if any(model.config.bands for model in models):
        models = [grown(model, bands=True) for model in models]
    if any(model.config != models[0].config for model in models):
        raise ValueError("the models are of other sizes than each other; only runs of one recipe can be averaged")
    states = [model.state_dict() for model in models]
    mean = {
        name: sum(weight / total * state[name] for weight, state in zip(weights, states, strict=True))
        if tensor.is_floating_point()
        else tensor
        for name, tensor in states[0].items()
    }
    with torch.no_grad():
        models[0].load_state_dict(mean)
    return models[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="+", type=Path, help="files that a run ended with")
    parser.add_argument("--share", nargs="+", type=float, help="of each; by default equal ones")
    parser.add_argument(
        "--storage", choices=get_args(Storage), default="float16", help="int8 takes half the bytes (default float16)"
    )
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    shares = arguments.share or [1.0] * len(arguments.weights)
    notes = {"mean of": ", ".join(map(str, arguments.weights)), "shares": str(shares)}
    try:
        model = average(arguments.weights, shares)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    save(model, arguments.output, notes, arguments.storage)


if __name__ == "__main__":
    main()
