"""Odd filters: how far an answer leans to one side of its query, band by band, with secret signs.

A filter h with h(-u) = -h(u) is uncorrelated, in any picture, with what a symmetric filter makes of the same
picture; and blur, JPEG, resizing and most networks are about symmetric. Little but the mark answers to it.
Yet it is a filter, which a network that imitates the marked one learns early.

Everything a third party recomputes is integer arithmetic on bytes, the same on every machine.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from modelguard.evidence import Decoder
from modelguard.schemes import photo_marks, planes
from modelguard.schemes.filter_fits import brightness, changes, check_one_leaf, fits
from modelguard.schemes.photo_marks import Public
from modelguard.schemes.planes import ONE, Integers, Pixels, in_size_of_query, wave

ID, INSIDE_ID = "mg.odd-filters/1", "mg.odd-filters-inside/1"
"""Of models with a barrier behind them, and of those that have learnt it."""
RADIUS = 10
"""Of the filters, in pixels."""
WINDOW = (256, 251, 238, 217, 190, 161, 131, 103, 78, 57, 40)
"""Of the filters, from the centre outwards: a Gaussian of 5.2 pixels."""
FREQUENCIES = tuple((i, j) for i in range(7) for j in range(-6, 7) if (i, j) > (0, 0) and i * i + j * j <= 40)
"""Of the filters, down and right, in 16/256 of a turn a pixel; the other half-plane holds their negatives."""
CLASSES = 3
"""In grey, every filter is taken as it is, by brightness, and by how bright or dark it is."""
CELLS = CLASSES * len(FREQUENCIES)
"""Bits of a leaf: each is the sign of a filter, in one class of pixels (grey) or one direction (colour)."""
DIRECTIONS = {1: ((1,),), 3: ((1, 1, 1), (1, 0, -1), (1, -2, 1))}
"""Of change, by the number of channels: of brightness, and of two differences of colours."""
COLOURS = DIRECTIONS[3]
LENGTHS = {1: (256,), 3: (148, 181, 105)}
"""256 over the lengths of the directions."""
FARTHEST = 192
"""Where brightness is cut."""
SHIFT = 33
"""Bits by which the sums of a filter are made smaller."""
BRIGHT, EXTREME = 112, 80
"""Of photos the mean brightness, and of its square when a step is two grey levels."""
STEPS = 100
"""Steps in which the overlap of the features in a photo is taken away."""
DEFINITION = (  # its digest is in every registration: to change a letter is to make another decoder
    "mg.odd-correlation/1: all in 1/16 grey level, // and >> round down, Br is the mean over (2r+1)^2 pixels "
    "with the border repeated, L the mean of the c channels of the answer Y;\n"
    "filters h of radius 10, for 0 <= i < 7, -7 < j < 7, (i, j) > (0, 0), ii + jj <= 40, in this order: "
    "wave(16 (i y + j x)) g(y) g(x) isqrt(64 (ii + jj)), wave(t) = sgn t (128 - t) >> 5 of t mod 128, "
    "g = 256 251 238 217 190 161 131 103 78 57 40 of |y|; F = sum of h L >> 33, cut at -96 and 96;\n"
    "features if c = 1: F; b F >> 7; ((bb >> 7) - 80) F >> 7; b = 2 (B2 B2 L // 16 - 112) cut to +-192; "
    "if c = 3: F; directions u if c = 1: 1, length 256; if c = 3: 1 1 1, 148; 1 0 -1, 181; 1 -2 1, 105; "
    "E = length (sum of u ((Y - B3 B3 Y) - (Q - B3 B3 Q))) >> 8 cut at -96 and 96, Q the query;\n"
    "z = <E, features>; N = 9 <features, features> of every third pixel; P = trace of N // features; "
    "N += P // 10 + 256 on the diagonal; "
    "x += ((z << 16) - N x) // max row sum of |N|, 100 times from 0; x times (P // (mean of EE // 1 + 256)); "
    "scores: x of all features, direction by direction, times signs of SHAKE256 stream W"
)
DECODER = Decoder("mg.odd-correlation/1", hashlib.sha256(DEFINITION.encode()).hexdigest())
PHOTOS = 16
"""Asked unless said."""
fitted = planes.fitted
"""How a photo is asked."""


def public(*, channels: int, scale: int, levels: int = 15, inside: bool = False) -> dict[str, int | str]:
    """Return the public parameters of the scheme.

    Args:
        channels: of the model's images, 1 or 3.
        scale: of the model's output against its input, 1 to 4.
        levels: weights of the sign test go from 0 to this, 1 to 255.
        inside: whether the model makes its marks by itself, with nothing behind it.

    Raises:
        InputError: a number is out of range.
    """
    return photo_marks.public(INSIDE_ID if inside else ID, channels, scale, 1, levels)


def bits(scheme: Public, secret: bytes, salt: bytes) -> npt.NDArray[np.int8]:
    """Return the secret signs of a leaf from its x_b: int8 (192,) of -1 and +1."""
    _checked(scheme)
    return photo_marks.signs("b", secret, salt, CELLS)


def carriers(scheme: Public, secret: bytes, salt: bytes) -> npt.NDArray[np.int8]:
    """Return the carriers of a leaf from its x_K: int8 (192,), the sign of each bit's feature."""
    _checked(scheme)
    return photo_marks.signs("W", secret, salt, CELLS)


def filters() -> Integers:
    """Return the filters: int64 (frequencies, 21, 21), each the negative of itself turned by half."""
    axis = np.arange(-RADIUS, RADIUS + 1)
    window = np.array(WINDOW)[abs(axis)]
    found = []
    for i, j in FREQUENCIES:
        waves = wave(16 * (i * axis[:, None] + j * axis))
        # photos have less of a frequency the higher it is
        found.append(waves * window[:, None] * window * math.isqrt(64 * (i * i + j * j)))
    return np.stack(found)


def decode_photo(
    scheme: Public, secrets: Sequence[bytes], salt: bytes, query: Pixels, response: Pixels
) -> Integers:
    """Return one integer a bit: how much of its filter the answer holds beyond what the query does.

    What features have in common in this photo is taken away by steps towards their least-squares fit. Photos
    weigh by the power of the features over that of the change. All of it is blind to the key.

    Args:
        scheme: public parameters.
        secrets: x_K of the leaf that is read.
        salt: of the key.
        query: uint8 (H, W, C), the photo asked.
        response: uint8 (H', W', C); another size than registered is resampled first (bicubic).

    Returns:
        int64 (192,), in the order of `bits`.

    Raises:
        InputError: `scheme` is not what `public` returns, or an image is of another number of channels, or
            the query of another size than `fitted` gives.
    """
    channels, scale = _checked(scheme)
    photo_marks.check_session(scheme, secrets, query, response)
    shown = in_size_of_query(response, query.shape[:2], scale)
    tone = shown.sum(axis=2) // channels
    seen = changes(shown, ONE * query.astype(np.int64), DIRECTIONS[channels], LENGTHS[channels])
    found = fits(tone, seen, filters(), SHIFT, _classes(tone)[..., : CLASSES // len(seen)], STEPS)
    scores: Integers = carriers(scheme, secrets[0], salt) * found.reshape(-1)
    return scores


def _classes(tone: Integers) -> Integers:
    """Return what each filter is multiplied with: (H, W, 3), in 1/128."""
    bright = brightness(tone, BRIGHT, FARTHEST)
    return np.stack([np.full_like(tone, 128), bright, (bright * bright >> 7) - EXTREME], axis=2)


def _checked(scheme: Public) -> tuple[int, int]:
    """Return channels and scale, once all parameters are checked."""
    found = photo_marks.channels_and_scale(scheme, INSIDE_ID if scheme.get("id") == INSIDE_ID else ID)
    check_one_leaf(scheme)
    return found
