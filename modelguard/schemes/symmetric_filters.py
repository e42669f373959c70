"""Symmetric filters: what differences of colours in an answer take from its brightness, with secret signs.

A filter that looks the same mirrored and turned by a quarter is learnt by networks that train on mirrored and
turned pictures too, which lose an odd one. Denoising, blur and resizing are such filters as well, but treat
colours alike: from brightness they make brightness. So the mark goes from there into differences of colours.

Everything a third party recomputes is integer arithmetic on bytes, the same on every machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from modelguard.errors import InputError
from modelguard.evidence import Decoder
from modelguard.schemes import photo_marks, planes
from modelguard.schemes.filter_fits import brightness, changes, check_one_leaf, fits
from modelguard.schemes.photo_marks import Public
from modelguard.schemes.planes import ONE, Integers, Pixels, in_size_of_query, mean, wave

ID = "mg.symmetric-filters/1"
RADIUS = 6
"""Of the filters, in pixels: what small networks see too."""
WINDOW = (256, 245, 215, 173, 128, 87, 54)
"""Of the filters, from the centre outwards: a Gaussian of 3.4 pixels."""
FREQUENCIES = tuple((i, j) for i in range(6) for j in range(i + 1) if 2 <= i * i + j * j <= 34)
"""Of the filters, in 22/256 of a turn a pixel; each stands for its mirror images too."""
GAINS = (16, 27, 19, 41, 50, 42, 43, 89, 75, 70, 88, 89, 185, 116, 114, 163, 191)
"""Of the filters, which make them about equally strong in photos."""
SHIFT = 33
"""Bits by which the sums of a filter are made smaller."""
CLASSES = 3
"""Every filter is taken as it is, by brightness, and by contrast."""
COLOURS, LENGTHS = ((1, 0, -1), (1, -2, 1)), (181, 105)
"""Directions of change: two differences of colours; and 256 over their lengths."""
CELLS = len(COLOURS) * CLASSES * len(FREQUENCIES)
"""Bits of a leaf."""
BRIGHT, FARTHEST, CONTRAST = 112, 192, 20
"""Middle brightness of photos, where it is cut when a step is two grey levels, and a middling contrast."""
STEPS = 1000
"""Steps in which the overlap of the features in a photo is taken away."""
DEFINITION = (  # its digest is in every registration: to change a letter is to make another decoder
    "mg.symmetric-correlation/1: all in 1/16 grey level, // and >> round down, Br is the mean over (2r+1)^2 "
    "pixels with the border repeated, L the mean of the three channels of the answer Y;\n"
    "filters h of radius 6, for 0 <= i < 6, 0 <= j <= i, 2 <= ii + jj <= 34, in this order: "
    "w = g(y) g(x), g = 256 245 215 173 128 87 54 of |y|; s = w sum of wave(22 (a y + b x) + 64) over "
    "the set (a, b) = (i, j), (j, i) and, if j > 0, (i, -j), (j, -i), wave(t) = sgn t (128 - t) >> 5 "
    "of t mod 128; s -= w (sum of s) // (sum of w), what is left of the sum taken from the centre; "
    "h = s gain, gains 16 27 19 41 50 42 43 89 75 70 88 89 185 116 114 163 191; F = sum of h L >> 33, "
    "cut at -96 and 96;\n"
    "features F; b F >> 7; k F >> 7; b = 2 (B2 B2 L // 16 - 112) cut to +-192; "
    "k = 256 (V - 320) // (V + 320), V = B2 |L - B2 L|; directions u: 1 0 -1, 181; 1 -2 1, 105; "
    "E = length (sum of u ((Y - B3 B3 Y) - (Q - B3 B3 Q))) >> 8 cut at -96 and 96, Q the query;\n"
    "z = <E, features>; N = 9 <features, features> of every third pixel; P = trace of N // features; "
    "N += P // 10 + 256 on the diagonal; "
    "x += ((z << 16) - N x) // max row sum of |N|, 1000 times from 0; x times (P // (mean of EE // 1 + "
    "256)); scores: x of all features, direction by direction, times signs of SHAKE256 stream W"
)
DECODER = Decoder("mg.symmetric-correlation/1", hashlib.sha256(DEFINITION.encode()).hexdigest())
PHOTOS = 16
"""Asked unless said."""
fitted = planes.fitted
"""How a photo is asked."""


def public(*, channels: int, scale: int, levels: int = 15) -> dict[str, int | str]:
    """Return the public parameters of the scheme.

    Args:
        channels: of the model's images, 3.
        scale: of the model's output against its input, 1 to 4.
        levels: weights of the sign test go from 0 to this, 1 to 255.

    Raises:
        InputError: a number is out of range, or images are grey.
    """
    scheme = photo_marks.public(ID, channels, scale, 1, levels)
    _checked(scheme)
    return scheme


def bits(scheme: Public, secret: bytes, salt: bytes) -> npt.NDArray[np.int8]:
    """Return the secret signs of a leaf from its x_b: int8 (102,) of -1 and +1."""
    _checked(scheme)
    return photo_marks.signs("b", secret, salt, CELLS)


def carriers(scheme: Public, secret: bytes, salt: bytes) -> npt.NDArray[np.int8]:
    """Return the carriers of a leaf from its x_K: int8 (102,), the sign of each bit's feature."""
    _checked(scheme)
    return photo_marks.signs("W", secret, salt, CELLS)


def filters() -> Integers:
    """Return the filters: int64 (frequencies, 13, 13), symmetric, of sum 0."""
    axis = np.arange(-RADIUS, RADIUS + 1)
    window = np.array(WINDOW)[abs(axis)]
    weights, found = window[:, None] * window, []
    for (i, j), gain in zip(FREQUENCIES, GAINS, strict=True):
        images = {(i, j), (j, i), *([(i, -j), (j, -i)] if j else [])}
        shape = weights * sum(wave(22 * (a * axis[:, None] + b * axis) + 64) for a, b in images)
        shape -= weights * shape.sum() // weights.sum()
        shape[RADIUS, RADIUS] -= shape.sum()
        found.append(shape * gain)
    return np.stack(found)


def decode_photo(
    scheme: Public, secrets: Sequence[bytes], salt: bytes, query: Pixels, response: Pixels
) -> Integers:
    """Return one integer a bit: how much of its filter the answer holds beyond what the query does.

    See `fits` for how; all of it is blind to the key.

    Args:
        scheme: public parameters.
        secrets: x_K of the leaf that is read.
        salt: of the key.
        query: uint8 (H, W, 3), the photo asked.
        response: uint8 (H', W', 3); another size than registered is resampled first (bicubic).

    Returns:
        int64 (102,), in the order of `bits`.

    Raises:
        InputError: `scheme` is not what `public` returns, or an image is of another number of channels, or
            the query of another size than `fitted` gives.
    """
    scale = _checked(scheme)
    photo_marks.check_session(scheme, secrets, query, response)
    shown = in_size_of_query(response, query.shape[:2], scale)
    tone = shown.sum(axis=2) // 3
    seen = changes(shown, ONE * query.astype(np.int64), COLOURS, LENGTHS)
    found = fits(tone, seen, filters(), SHIFT, _classes(tone), STEPS)
    scores: Integers = carriers(scheme, secrets[0], salt) * found.reshape(-1)
    return scores


def _classes(tone: Integers) -> Integers:
    """Return what each filter is multiplied with: (H, W, 3), in 1/128."""
    contrast, middling = mean(np.abs(tone - mean(tone, 2)), 2), CONTRAST * ONE
    rough = 256 * (contrast - middling) // (contrast + middling)
    return np.stack([np.full_like(tone, 128), brightness(tone, BRIGHT, FARTHEST), rough], axis=2)


def _checked(scheme: Public) -> int:
    """Return the scale, once all parameters are checked."""
    channels, scale = photo_marks.channels_and_scale(scheme, ID)
    if channels != 3:
        raise InputError(
            f"scheme: {channels} channels, not 3; the mark is in the colours",
            "use Barrier() for grey images, or give colour ones as an ImageSet",
        )
    check_one_leaf(scheme)
    return scale
