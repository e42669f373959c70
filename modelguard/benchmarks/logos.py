"""Logos drawn from a seed, where the papers use pictures from the web: nobody's property, any number."""

from __future__ import annotations

import colorsys
import random

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor


def draw(seed: int, side: int, channels: int = 1) -> Tensor:
    """Return a logo (channels, side, side) in [0, 1]: three shapes and two letters on white.

    Args:
        seed: another seed, another logo.
        side: in pixels.
        channels: 1 for black on white, 3 for colour.
    """
    dice = random.Random(seed)
    large = 4 * side  # drawn larger and shrunk, for smooth edges
    canvas = Image.new("RGB", (large, large), "white")
    pen = ImageDraw.Draw(canvas)
    for _ in range(3):
        x, y = (dice.uniform(0, 0.6) * large for _ in range(2))
        box = (x, y, x + dice.uniform(0.2, 0.4) * large, y + dice.uniform(0.2, 0.4) * large)
        shape = dice.choice([pen.ellipse, pen.rectangle])
        shape(box, outline=_colour(dice, channels), width=large // 16)
    letters = "".join(dice.choice("ABCDEFGHKLMNPRSTUVXYZ") for _ in range(2))
    place = dice.uniform(0.05, 0.4) * large, dice.uniform(0.05, 0.4) * large
    pen.text(place, letters, fill=_colour(dice, channels), font=ImageFont.load_default(large * 0.4))
    small = canvas.resize((side, side), Image.Resampling.BOX).convert("L" if channels == 1 else "RGB")
    return torch.from_numpy(np.array(small)).view(side, side, channels).permute(2, 0, 1).float() / 255


def _colour(dice: random.Random, channels: int) -> tuple[int, int, int]:
    hue = dice.random()
    if channels == 1:
        return 0, 0, 0
    red, green, blue = colorsys.hsv_to_rgb(hue, 1, 0.7)
    return round(255 * red), round(255 * green), round(255 * blue)
