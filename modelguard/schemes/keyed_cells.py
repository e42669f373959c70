"""Keyed cells: texture as trigger, and a response that holds a carrier in each cell, its sign a secret bit.

Everything a third party recomputes is integer arithmetic on bytes, the same on every machine. The response
carries one bit a cell; `decode` never sees the bits (evidence: the exact sign test).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from modelguard.errors import InputError
from modelguard.evidence import Decoder, stream
from modelguard.schemes.parameters import form_problem

ID = "mg.keyed-cells/1"
CLIP_ID = "mg.keyed-clips/1"
"""The same for clips: each row of the mosaic is a frame."""
DARK, LIGHT = 40, 215
"""Levels of a trigger: unlike any photo, yet an answer that follows it can carry more without clipping."""
TAPS = 5
"""Side of the filter that gives each leaf a texture of its own: a host tells such textures apart at once, so
marking it costs its other answers less, and another owner's marks do not fall upon the same answers."""
DEFINITION = (  # its digest is in every registration: to change a letter is to make another decoder
    "mg.cell-correlation/1: trigger of levels 40 and 215, 215 where signed bytes of SHAKE256 stream K, "
    "filtered by 5x5 signed bytes of stream T less their mean, are above 0;\n"
    "resample an answer to the registered size by Pillow's bicubic; "
    "A = sum over channels of 2*answer - 255,\n"
    "K likewise of the trigger, enlarged by repetition; C = carriers of SHAKE256 stream C, "
    "chips*sign - sum of signs;\n"
    "score = <A,C>(<K,K> >> 12) - <K,C>(<A,K> >> 12), one per cell"
)
DECODER = Decoder("mg.cell-correlation/1", hashlib.sha256(DEFINITION.encode()).hexdigest())
NAMES = ("channels", "scale", "size", "cell", "chip", "perQuery", "levels")
Public = Mapping[str, int | str]
Pixels = npt.NDArray[np.uint8]


def public(
    *,
    channels: int,
    scale: int,
    size: int = 64,
    cell: int = 8,
    chip: int = 2,
    per_query: int = 4,
    levels: int = 15,
    frames: int = 1,
) -> dict[str, int | str]:
    """Return the public parameters of the scheme.

    Args:
        channels: of the model's images, 1 or 3.
        scale: of the model's output against its input, 1 to 8.
        size: side of a leaf's trigger in pixels, up to 512.
        cell: side of a cell in input pixels; a leaf carries (size/cell)^2 bits.
        chip: side of the squares a carrier is made of, in input pixels.
        per_query: leaves in the mosaic of one query, 1 to 16.
        levels: weights of the sign test go from 0 to this, 1 to 255.
        frames: of the model's clips, up to 64; 1 for a model of images.

    Raises:
        InputError: a number is out of range.
    """
    numbers = (channels, scale, size, cell, chip, per_query, levels)
    scheme: dict[str, int | str] = {"id": ID, **dict(zip(NAMES, numbers, strict=True))}
    if frames != 1:
        scheme.update(id=CLIP_ID, frames=frames)
    _numbers(scheme)
    return scheme


def _numbers(scheme: Public) -> tuple[int, int, int, int, int, int]:
    """Return channels, scale, size, cell, chip and leaves a query, once all parameters are checked."""
    if problem := _problem(scheme):
        raise InputError(f"scheme: {problem}", "use the parameters that `public` returns")
    channels, scale, size, cell, chip, per_query, _ = (int(scheme[name]) for name in NAMES)
    return channels, scale, size, cell, chip, per_query


def _problem(scheme: Public) -> str | None:
    clips = scheme.get("id") == CLIP_ID
    form = form_problem(scheme, CLIP_ID, (*NAMES, "frames")) if clips else form_problem(scheme, ID, NAMES)
    if form:
        return form
    channels, scale, size, cell, chip, per_query, levels = (int(scheme[name]) for name in NAMES)
    if channels not in (1, 3):
        return f"{channels} channels, not 1 or 3"
    if not 1 <= scale <= 8:
        return f"scale {scale}, not 1 to 8"
    if not 1 <= chip < cell <= size <= 512:
        return f"chip {chip}, cell {cell} and size {size} must grow, up to 512"
    if cell % chip or size % cell:
        return f"size {size}, cell {cell}, chip {chip} do not divide"
    if not 1 <= per_query <= 16:
        return f"{per_query} leaves a query, not 1 to 16"
    if not 1 <= levels <= 255:
        return f"{levels} levels, not 1 to 255"
    frames = frames_of(scheme)
    if clips and not 2 <= frames <= 64:
        return f"{frames} frames, not 2 to 64"
    # |<A,C>| (<K,K> >> 12) for the largest possible answer, twice as a score is a difference
    pixels = math.prod(grid(per_query, frames)) * (size * scale) ** 2
    correlation = 255 * channels * (cell * scale) ** 2 * 2 * (cell // chip) ** 2
    if 2 * correlation * ((255 * channels) ** 2 * pixels >> 12) >= 2**63:
        return f"size {size}, cell {cell} and scale {scale} are too large for 63-bit scores"
    return None


def cells_per_leaf(scheme: Public) -> int:
    """Return the number of bits a leaf carries."""
    _, _, size, cell, _, _ = _numbers(scheme)
    return (size // cell) ** 2


def frames_of(scheme: Public) -> int:
    """Return how many frames a query has, one below the other; 1 for an image."""
    return int(scheme.get("frames", 1))


def grid(leaves: int, frames: int = 1) -> tuple[int, int]:
    """Return (rows, columns) of the mosaic of `leaves` leaves in one query; of a clip each row is a frame."""
    if frames > 1:
        return frames, -(-leaves // frames)
    columns = math.isqrt(max(leaves - 1, 0)) + 1
    return -(-leaves // columns), columns


def trigger(scheme: Public, secrets: Sequence[bytes], salt: bytes) -> Pixels:
    """Return the query image of some leaves: a dark and light texture of each leaf's own, as SHAKE256 says.

    Args:
        scheme: public parameters.
        secrets: x_K of each leaf, in order; laid out row by row, a missing last leaf is mid-grey.
        salt: of the key.

    Returns:
        uint8 (rows*size, columns*size, channels); of a clip each row is a frame.

    Raises:
        InputError: `scheme` is not what `public` returns, or the leaves do not fit into one query.
    """
    channels, _, size, _, _, per_query = _numbers(scheme)
    if not 1 <= len(secrets) <= per_query:
        raise InputError(f"secrets: {len(secrets)} leaves in one query", f"ask 1 to {per_query}")
    rows, columns = grid(len(secrets), frames_of(scheme))
    image = np.full((rows * size, columns * size, channels), 128, np.uint8)
    for number, secret in enumerate(secrets):
        light = _texture(salt, secret, size, channels) > 0
        top, left = number // columns * size, number % columns * size
        image[top : top + size, left : left + size] = np.where(light, LIGHT, DARK)
    return image


def _texture(salt: bytes, secret: bytes, size: int, channels: int) -> npt.NDArray[np.int64]:
    """Return white noise (size, size, channels), filtered by the leaf's zero-sum taps."""
    taps = np.frombuffer(stream("T", salt, secret, TAPS**2), np.int8).astype(np.int64)
    taps = taps * taps.size - taps.sum()
    side = size + TAPS - 1
    white = np.frombuffer(stream("K", salt, secret, side * side * channels), np.int8)
    white = white.reshape(side, side, channels).astype(np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(white, (TAPS, TAPS), axis=(0, 1))
    filtered: npt.NDArray[np.int64] = windows.reshape(size, size, channels, -1) @ taps
    return filtered


def bits(scheme: Public, secret: bytes, salt: bytes) -> npt.NDArray[np.int8]:
    """Return the secret signs of a leaf's cells, row by row, from its x_b: int8 (cells,) of -1 and +1."""
    count = cells_per_leaf(scheme)
    packed = np.frombuffer(stream("b", salt, secret, count // 8 + 1), np.uint8)
    return (np.unpackbits(packed)[:count].astype(np.int8) * 2 - 1).astype(np.int8)


def carriers(scheme: Public, secrets: Sequence[bytes], salt: bytes) -> npt.NDArray[np.int64]:
    """Return the zero-sum carrier of every cell: int64 (leaves, cells, chips^2), one value a chip.

    A chip is a square of `chip` input pixels; larger chips survive stronger JPEG and down-scaling.
    """
    _, _, size, cell, chip, _ = _numbers(scheme)
    cells, chips = (size // cell) ** 2, (cell // chip) ** 2
    packed = [
        np.frombuffer(stream("C", salt, secret, cells * chips // 8 + 1), np.uint8) for secret in secrets
    ]
    signs = np.stack([np.unpackbits(p)[: cells * chips].astype(np.int64) for p in packed]) * 2 - 1
    signs = signs.reshape(len(secrets), cells, chips)
    carrier: npt.NDArray[np.int64] = signs * chips - signs.sum(axis=2, keepdims=True)
    return carrier


def gather(scheme: Public, picture: Any, leaves: int) -> Any:
    """Cut a picture of chips (NumPy array or tensor) into (leaves, cells, chips^2)."""
    _, _, size, cell, chip, _ = _numbers(scheme)
    (rows, columns), across, inner = grid(leaves, frames_of(scheme)), size // cell, cell // chip
    blocks = picture.reshape(rows, across, inner, columns, across, inner)
    order = (0, 3, 1, 4, 2, 5)
    blocks = blocks.transpose(order) if isinstance(blocks, np.ndarray) else blocks.permute(order)
    return blocks.reshape(rows * columns, across**2, inner**2)[:leaves]


def decode(scheme: Public, secrets: Sequence[bytes], salt: bytes, response: Pixels) -> npt.NDArray[np.int64]:
    """Return one integer a cell: how much of its carrier the response holds beyond what the trigger explains.

    With A the response (channels added), K the trigger and C a carrier, the score of a cell is
    <A, C><K, K> - <A, K><K, C>: the correlation that is left when the multiple of K that fits the whole
    answer best is taken away, in exact integers. That step is blind to the bits, like all of this function.

    Args:
        scheme: public parameters.
        secrets: x_K of each leaf in the query.
        salt: of the key.
        response: uint8 (H, W, C); another size than registered is resampled first (bicubic).

    Returns:
        int64 (leaves * cells,), in the order of `bits`.

    Raises:
        InputError: as `trigger`.
    """
    _, scale, _, _, chip, _ = _numbers(scheme)
    query = trigger(scheme, secrets, salt)
    height, width = (side * scale for side in query.shape[:2])
    if response.shape[:2] != (height, width):
        planes = [Image.fromarray(plane) for plane in np.moveaxis(response, 2, 0)]
        planes = [plane.resize((width, height), Image.Resampling.BICUBIC) for plane in planes]
        response = np.stack([np.asarray(plane) for plane in planes], axis=2)
    answer = 2 * response.astype(np.int64).sum(axis=2) - 255 * response.shape[2]
    noise = (2 * query.astype(np.int64) - 255).sum(axis=2)
    side = chip * scale
    chips = answer.reshape(height // side, side, width // side, side).sum(axis=(1, 3))
    chips_of_noise = noise.reshape(height // side, chip, width // side, chip).sum(axis=(1, 3)) * scale**2
    carrier = carriers(scheme, secrets, salt)
    parts = (gather(scheme, picture, len(secrets)) for picture in (chips, chips_of_noise))
    with_answer, with_noise = ((part * carrier).sum(axis=2).reshape(-1) for part in parts)
    enlarged = noise.repeat(scale, axis=0).repeat(scale, axis=1)
    common = int((answer * enlarged).sum()), int((enlarged * enlarged).sum())
    # without their low 12 bits, which do not matter, every product fits in 63 bits
    scores: npt.NDArray[np.int64] = with_answer * (common[1] >> 12) - with_noise * (common[0] >> 12)
    return scores
