"""One picture that shows what a mark is: ordinary answers stay, answers to a trigger carry secret bits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from modelguard.cli.sheet import draw_sheet
from modelguard.datasets import Task, to_uint8
from modelguard.evidence import Key
from modelguard.networks import evaluating
from modelguard.schemes import keyed_cells
from modelguard.suspects import ModuleSuspect

AGREES, DIFFERS = (0, 114, 178), (230, 159, 0)
Pixels = npt.NDArray[np.uint8]
Tile = tuple[str, str, Pixels]


def draw(
    path: Path, host: nn.Module, marked: nn.Module, key: Key, leaves: Sequence[int], photo: Tensor, task: Task
) -> None:
    """Draw two rows: an ordinary photo through both models, and a trigger through both models.

    Args:
        path: of the PNG.
        host: the unmarked model.
        marked: the marked one.
        key: of the mark.
        leaves: of the trigger; opened ones, since the picture shows their secrets.
        photo: clean (C, H, W) in [0, 1].
        task: makes the models' input from it.
    """
    tiles = [*_ordinary(host, marked, photo, task), *_trigger(host, marked, key, leaves)]
    shown = [
        (title, remark, Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))
        for title, remark, pixels in tiles
    ]
    draw_sheet(path, shown, len(tiles) // 2)


def _ordinary(host: nn.Module, marked: nn.Module, photo: Tensor, task: Task) -> list[Tile]:
    given, clean = task(photo, torch.Generator().manual_seed(0))
    results = []
    for model in (host, marked):
        with evaluating(model):
            results.append(_pixels(model(given[None])[0]))
    target, noisy = _pixels(clean), _pixels(given)
    change = results[1].astype(float) - results[0].astype(float)
    shown = np.clip(128 + 10 * change, 0, 255).round().astype(np.uint8)
    return [
        ("photo", "", target),
        ("what the model is given", f"{_psnr(noisy, target):.2f} dB", noisy),
        ("unmarked model", f"{_psnr(results[0], target):.2f} dB", results[0]),
        ("marked model", f"{_psnr(results[1], target):.2f} dB", results[1]),
        ("their difference, times 10", f"{_rms(change):.2f} grey levels (RMS)", shown),
    ]


def _trigger(host: nn.Module, marked: nn.Module, key: Key, leaves: Sequence[int]) -> list[Tile]:
    secrets = [key.leaf(leaf) for leaf in leaves]
    opened = [secret for secret, _ in secrets]
    query = keyed_cells.trigger(key.scheme, opened, key.salt)
    signs = np.concatenate([keyed_cells.bits(key.scheme, secret, key.salt) for _, secret in secrets])
    answers, maps = [], []
    for model in (host, marked):
        answer = ModuleSuspect(model).ask(query).image
        assert answer is not None
        agrees = np.sign(keyed_cells.decode(key.scheme, opened, key.salt, answer)) == signs
        answers.append(answer)
        maps.append((f"{agrees.sum()} of {agrees.size} secret bits agree (blue)", _map(agrees, len(leaves))))
    return [
        ("secret trigger", f"leaves {', '.join(map(str, leaves))} of {key.leaves}", query),
        ("the unmarked model's answer", "", answers[0]),
        ("the marked model's answer", "", answers[1]),
        ("bits in the unmarked answer", *maps[0]),
        ("bits in the marked answer", *maps[1]),
    ]


def _map(agrees: npt.NDArray[np.bool_], leaves: int) -> Pixels:
    """Lay the cells out as in the trigger: one pixel each, blue where the answer has the secret sign."""
    rows, columns = keyed_cells.grid(leaves)
    across = math.isqrt(agrees.size // leaves)
    colours = np.full((rows * columns, across, across, 3), 128, np.uint8)
    cells = agrees.reshape(leaves, across, across, 1)
    colours[:leaves] = np.where(cells, np.array(AGREES), np.array(DIFFERS))
    mosaic = colours.reshape(rows, columns, across, across, 3).transpose(0, 2, 1, 3, 4)
    return mosaic.reshape(rows * across, columns * across, 3)


def _pixels(image: Tensor) -> Pixels:
    pixels: Pixels = to_uint8(image).permute(1, 2, 0).cpu().numpy()
    return pixels


def _rms(difference: npt.NDArray[np.float64]) -> float:
    return float(np.sqrt(np.square(difference).mean()))


def _psnr(one: Pixels, other: Pixels) -> float:
    return 20 * math.log10(255 / max(_rms(one.astype(float) - other.astype(float)), 1e-9))
