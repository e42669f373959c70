from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from modelguard.errors import InputError
from modelguard.schemes import keyed_cells

SALT = bytes(range(32))
Array = npt.NDArray[Any]

schemes = st.builds(
    lambda channels, scale, sides: keyed_cells.public(
        channels=channels, scale=scale, size=sides[0], cell=sides[1], chip=sides[2]
    ),
    st.sampled_from([1, 3]),
    st.integers(1, 4),
    st.sampled_from([(16, 8, 2), (16, 8, 4), (24, 8, 1), (32, 16, 4), (64, 8, 2)]),
)


def secrets(count: int, start: int = 0) -> list[bytes]:
    return [hashlib.sha256(bytes([start + number])).digest() for number in range(count)]


def sides(scheme: Mapping[str, Any], leaves: int) -> tuple[int, int]:
    rows, columns = keyed_cells.grid(leaves)
    return rows * scheme["size"] * scheme["scale"], columns * scheme["size"] * scheme["scale"]


def random_answer(scheme: Mapping[str, Any], leaves: int, seed: int = 0) -> Array:
    shape = (*sides(scheme, leaves), scheme["channels"])
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def cells_of(scheme: Mapping[str, Any], leaves: int, picture: Array) -> list[Array]:
    """Cut an output-sized picture into the cells of all leaves, in the order of the bits."""
    side, size = scheme["cell"] * scheme["scale"], scheme["size"] * scheme["scale"]
    _, columns = keyed_cells.grid(leaves)
    found = []
    for leaf in range(leaves):
        top, left = leaf // columns * size, leaf % columns * size
        for y in range(top, top + size, side):
            found += [picture[y : y + side, x : x + side] for x in range(left, left + size, side)]
    return found


def carrier_pictures(scheme: Mapping[str, Any], count: int, salt: bytes = SALT) -> list[Array]:
    """Return the carrier of every cell, pixel by pixel of the output."""
    inner, side = scheme["cell"] // scheme["chip"], scheme["chip"] * scheme["scale"]
    flat = keyed_cells.carriers(scheme, secrets(count), salt)
    return [np.kron(one.reshape(inner, inner), np.ones((side, side), int)) for leaf in flat for one in leaf]


def assemble(scheme: Mapping[str, Any], leaves: int, cells: list[Array]) -> Array:
    """Put cells back into an output-sized picture, the inverse of `cells_of`."""
    picture = np.zeros(sides(scheme, leaves))
    for place, cell in zip(cells_of(scheme, leaves, picture), cells, strict=True):
        place[...] = cell
    return picture


def marked_answer(
    scheme: Mapping[str, Any], signs: Array, leaves: int, amplitude: float = 40, of_trigger: float = 0
) -> Array:
    """Return the answer of a marked model: carriers with their signs, and some of the trigger."""
    cells = [
        sign * carrier / max(1, np.abs(carrier).max())
        for sign, carrier in zip(signs, carrier_pictures(scheme, leaves), strict=True)
    ]
    picture = 127.5 + amplitude * assemble(scheme, leaves, cells)[..., None]
    scale = scheme["scale"]
    trigger = keyed_cells.trigger(scheme, secrets(leaves), SALT).repeat(scale, 0).repeat(scale, 1)
    picture = picture + of_trigger * (trigger.astype(float) - 127.5)
    return np.clip(np.round(picture), 0, 255).astype(np.uint8)


def all_bits(scheme: Mapping[str, Any], leaves: int) -> Array:
    return np.concatenate([keyed_cells.bits(scheme, secret, SALT) for secret in secrets(leaves, 100)])


# --- trigger and bits


@given(scheme=schemes, leaves=st.integers(1, 4))
@settings(max_examples=15, deadline=None)
def test_the_trigger_is_dark_and_light_and_the_same_each_time(scheme: dict[str, Any], leaves: int) -> None:
    image = keyed_cells.trigger(scheme, secrets(leaves), SALT)
    rows, columns = keyed_cells.grid(leaves)
    size = scheme["size"]
    assert image.shape == (rows * size, columns * size, scheme["channels"])
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, keyed_cells.trigger(dict(scheme), secrets(leaves), SALT))
    for leaf in range(rows * columns):
        top, left = leaf // columns * size, leaf % columns * size
        part = image[top : top + size, left : left + size]
        if leaf < leaves:
            low, high = np.unique(part).tolist()
            assert low + high == 255  # the decoder takes it about the middle
            assert 0.2 < (part == high).mean() < 0.8
            alone = keyed_cells.trigger(scheme, [secrets(leaves)[leaf]], SALT)
            np.testing.assert_array_equal(part, alone)
        else:
            assert set(np.unique(part)) == {128}


def test_every_secret_and_salt_gives_another_trigger() -> None:
    scheme = keyed_cells.public(channels=1, scale=1)
    images = [
        keyed_cells.trigger(scheme, [secret], salt) for secret in secrets(3) for salt in (SALT, SALT[::-1])
    ]
    for number, one in enumerate(images):
        for other in images[:number]:
            assert 0.45 < (one == other).mean() < 0.55


@given(scheme=schemes)
@settings(max_examples=10, deadline=None)
def test_bits_are_signs_and_depend_on_their_own_secret_only(scheme: dict[str, Any]) -> None:
    one, other = (keyed_cells.bits(scheme, secret, SALT) for secret in secrets(2))
    assert one.dtype == np.int8
    assert one.shape == (keyed_cells.cells_per_leaf(scheme),)
    assert set(np.unique(one)) <= {-1, 1}
    np.testing.assert_array_equal(one, keyed_cells.bits(scheme, secrets(1)[0], SALT))
    if len(one) == 64:
        assert 10 < (one == other).sum() < 54


def test_bits_trigger_and_carriers_are_different_streams() -> None:
    """Equal secrets must not give equal bits: the trigger is public once it is asked."""
    scheme = keyed_cells.public(channels=1, scale=1, size=128, cell=8, chip=4)
    secret = secrets(1)
    bits = keyed_cells.bits(scheme, secret[0], SALT)
    trigger = keyed_cells.trigger(scheme, secret, SALT).ravel()[: bits.size] // 128 * 2.0 - 1
    carriers = np.sign(keyed_cells.carriers(scheme, secret, SALT)).ravel()[: bits.size]
    for one, other in ((bits, trigger), (bits, carriers), (trigger, carriers)):
        assert abs(int((one * other).sum())) < 80  # of 256, five standard deviations


def test_decoding_is_not_told_the_bits() -> None:
    assert list(inspect.signature(keyed_cells.decode).parameters) == ["scheme", "secrets", "salt", "response"]


@given(scheme=schemes, leaves=st.integers(1, 3))
@settings(max_examples=10, deadline=None)
def test_carriers_sum_to_zero(scheme: dict[str, Any], leaves: int) -> None:
    carriers = keyed_cells.carriers(scheme, secrets(leaves), SALT)
    chips = (scheme["cell"] // scheme["chip"]) ** 2
    assert carriers.shape == (leaves, keyed_cells.cells_per_leaf(scheme), chips)
    assert not carriers.sum(2).any()
    assert carriers.any(2).mean() > 0.7


# --- decoding


@given(scheme=schemes, leaves=st.integers(1, 4), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_decoding_is_exactly_what_its_definition_says(scheme: dict[str, Any], leaves: int, seed: int) -> None:
    """Pixel by pixel, in Python integers that cannot overflow."""
    response = random_answer(scheme, leaves, seed)
    scale = scheme["scale"]
    trigger = keyed_cells.trigger(scheme, secrets(leaves), SALT).repeat(scale, 0).repeat(scale, 1)
    answer, noise = ((2 * image.astype(int) - 255).sum(2) for image in (response, trigger))
    own, cross = sum((noise * noise).ravel().tolist()), sum((answer * noise).ravel().tolist())
    expected = []
    for carrier, a, k in zip(
        carrier_pictures(scheme, leaves),
        cells_of(scheme, leaves, answer),
        cells_of(scheme, leaves, noise),
        strict=True,
    ):
        with_answer, with_noise = sum((a * carrier).ravel().tolist()), sum((k * carrier).ravel().tolist())
        expected.append(with_answer * (own >> 12) - with_noise * (cross >> 12))
    scores = keyed_cells.decode(scheme, secrets(leaves), SALT, response)
    assert scores.dtype == np.int64
    assert scores.tolist() == expected


@given(scheme=schemes, leaves=st.integers(1, 4), of_trigger=st.floats(-0.5, 0.5))
@settings(max_examples=25, deadline=None)
def test_planted_bits_are_read_beside_any_part_of_the_trigger(
    scheme: dict[str, Any], leaves: int, of_trigger: float
) -> None:
    signs = all_bits(scheme, leaves)
    response = marked_answer(scheme, signs, leaves, of_trigger=of_trigger)
    scores = keyed_cells.decode(scheme, secrets(leaves), SALT, response)
    carried = np.concatenate(list(keyed_cells.carriers(scheme, secrets(leaves), SALT).any(2)))
    np.testing.assert_array_equal(np.sign(scores)[carried], signs[carried])


@given(scheme=schemes, leaves=st.sampled_from([1, 2, 4]), steps=st.integers(1, 50), seed=st.integers(0, 9))
@settings(max_examples=15, deadline=None)
def test_multiples_of_the_trigger_change_no_score_but_by_rounding(
    scheme: dict[str, Any], leaves: int, steps: int, seed: int
) -> None:
    scale = scheme["scale"]
    trigger = keyed_cells.trigger(scheme, secrets(leaves), SALT).repeat(scale, 0).repeat(scale, 1)
    response = random_answer(scheme, leaves, seed) // 2 + 60  # 60 to 187: nothing is clipped
    more = np.where(trigger > 128, response + steps, response - steps).astype(np.uint8)
    one, two = (keyed_cells.decode(scheme, secrets(leaves), SALT, image) for image in (response, more))
    noise = (2 * trigger.astype(int) - 255).sum(2)
    pairs = zip(carrier_pictures(scheme, leaves), cells_of(scheme, leaves, noise), strict=True)
    allowed = 3 * np.array([abs(int((carrier * cell).sum())) for carrier, cell in pairs])
    assert (np.abs(one - two) <= allowed).all()


def test_a_service_that_gives_the_image_back_scores_nothing() -> None:
    scheme = keyed_cells.public(channels=3, scale=1)
    trigger = keyed_cells.trigger(scheme, secrets(4), SALT)
    assert not keyed_cells.decode(scheme, secrets(4), SALT, trigger).any()


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("factor", [0.75, 1.5])
def test_an_answer_of_another_size_is_resampled(scale: int, factor: float) -> None:
    scheme = keyed_cells.public(channels=3, scale=scale)
    signs = all_bits(scheme, 4)
    response = marked_answer(scheme, signs, 4, of_trigger=0.1)
    size = tuple(round(side * factor) for side in response.shape[:2])
    resized = np.asarray(Image.fromarray(response).resize(size, Image.Resampling.BICUBIC))
    scores = keyed_cells.decode(scheme, secrets(4), SALT, resized)
    assert scores.shape == signs.shape
    assert (np.sign(scores) == signs).mean() > 0.97


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 500, 1), (127, 129, 1)])
def test_any_size_gives_scores(shape: tuple[int, int, int]) -> None:
    scheme = keyed_cells.public(channels=1, scale=1)
    response = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert keyed_cells.decode(scheme, secrets(4), SALT, response).shape == (256,)


def test_cutting_is_the_same_for_arrays_and_tensors() -> None:
    scheme = keyed_cells.public(channels=1, scale=1, size=32, cell=8, chip=2)
    picture = np.arange(32 * 32).reshape(32, 32)  # chips of 2 x 2 leaves
    array = keyed_cells.gather(scheme, picture, 3)
    assert array.shape == (3, 16, 16)
    np.testing.assert_array_equal(array, keyed_cells.gather(scheme, torch.from_numpy(picture), 3).numpy())
    assert array[0, 0].tolist() == [32 * row + column for row in range(4) for column in range(4)]
    assert array[1, 0, 0] == 16
    assert array[2, 0, 0] == 16 * 32


@pytest.mark.parametrize(
    ("leaves", "shape"), [(1, (1, 1)), (2, (1, 2)), (3, (2, 2)), (5, (2, 3)), (16, (4, 4))]
)
def test_the_mosaic_is_nearly_square(leaves: int, shape: tuple[int, int]) -> None:
    assert keyed_cells.grid(leaves) == shape


# --- clips


@pytest.mark.parametrize("leaves", [1, 3, 4, 8])
def test_a_clip_has_its_leaves_frame_by_frame(leaves: int) -> None:
    """Each frame is a row of leaves, whose textures are those they have in an image."""
    image, clip = (keyed_cells.public(channels=1, scale=1, per_query=8, frames=n) for n in (1, 4))
    assert clip == {**image, "id": keyed_cells.CLIP_ID, "frames": 4}
    strip = keyed_cells.trigger(clip, secrets(leaves), SALT)
    columns = -(-leaves // 4)
    assert strip.shape == (4 * 64, columns * 64, 1)
    parts = [cell for row in np.split(strip, 4) for cell in np.split(row, columns, axis=1)]
    for number, part in enumerate(parts):
        if number < leaves:
            alone = keyed_cells.trigger(image, [secrets(leaves)[number]], SALT)
            np.testing.assert_array_equal(part, alone)
        else:
            assert set(np.unique(part)) == {128}


@pytest.mark.parametrize(("leaves", "frames"), [(3, 3), (4, 2), (2, 5)])
def test_planted_bits_are_read_from_a_clip(leaves: int, frames: int) -> None:
    scheme = keyed_cells.public(channels=3, scale=2, frames=frames)
    signs = all_bits(scheme, leaves)
    size, columns = 128, -(-leaves // frames)
    carriers = keyed_cells.carriers(scheme, secrets(leaves), SALT)
    wave = np.sign(carriers).reshape(leaves, 8, 8, 4, 4) * signs.reshape(leaves, 8, 8, 1, 1)
    pictures = wave.transpose(0, 1, 3, 2, 4).reshape(leaves, 32, 32).repeat(4, 1).repeat(4, 2)
    strip = np.full((frames * size, columns * size, 3), 128, np.uint8)
    for leaf, picture in enumerate(pictures):
        top, left = leaf // columns * size, leaf % columns * size
        strip[top : top + size, left : left + size] = (128 + 20 * picture)[..., None]
    scores = keyed_cells.decode(scheme, secrets(leaves), SALT, strip)
    assert (np.sign(scores) == signs).mean() > 0.97


@pytest.mark.parametrize("frames", [0, 65])
def test_clips_of_other_lengths_are_refused(frames: int) -> None:
    with pytest.raises(InputError, match="frames, not 2 to 64"):
        keyed_cells.public(channels=1, scale=1, frames=frames)
    clip = keyed_cells.public(channels=1, scale=1, frames=3)
    with pytest.raises(InputError, match="frames is missing or unknown"):
        keyed_cells.trigger({**clip, "id": keyed_cells.ID}, secrets(1), SALT)


# --- format

GOLDEN = {
    (1, 1, 64, 8, 2): (
        "5d6742d1ae4066ff76e9a6da5c95b4a3eeeeca548333f50ca4b6df7f147cf283",
        "11ea991491c5ea497d9fa9327b0ad038b849a453cd1a07a1166c091bd9b3db80",
        "5493780bb0fbf2c73fa1a5bc5b88b457c34be8717849a480bc623bb15cf9b973",
        "dfb3fd64f8a740a6625940063290dca001f7822f266ed0eda2adf1aa9afbe5dd",
    ),
    (3, 2, 64, 8, 2): (
        "ca17cf605305180bdf82b5fd150e7f06a5efd3953978970cb5cdb355510702c4",
        "11ea991491c5ea497d9fa9327b0ad038b849a453cd1a07a1166c091bd9b3db80",
        "5493780bb0fbf2c73fa1a5bc5b88b457c34be8717849a480bc623bb15cf9b973",
        "d62b8a523c963b4202dff857e8a9219e58c113dc30655e454b29f2b10655d50c",
    ),
    (1, 3, 32, 8, 4): (
        "4abaa4a366e25d0710aec1c3c6b72be2ae3df2bd88de7bf832314fb2bd28a0e1",
        "6fc9458abfb834dd8dcf70e6bc6423a2d62a7a2da50cdec7027a08d909363a82",
        "9f6f95e71c9de48fc4c04c4aecf8feac7c3c9200d17f552e0c063b20c2a6afdc",
        "7fd962b1b28c7cc5d68705f58907e428c5296796da17b9421037741ca07cf1d3",
    ),
}


def digest(array: Array) -> str:
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"))
    return hashlib.sha256(little.tobytes()).hexdigest()


@pytest.mark.parametrize("numbers", GOLDEN)
def test_the_format_is_frozen(numbers: tuple[int, int, int, int, int]) -> None:
    """Another digest here means that no registration made before can be checked any more."""
    channels, scale, size, cell, chip = numbers
    scheme = keyed_cells.public(channels=channels, scale=scale, size=size, cell=cell, chip=chip)
    leaves = [bytes([number]) * 32 for number in range(3)]
    trigger = keyed_cells.trigger(scheme, leaves, SALT)
    response = random_answer(scheme, 3)
    found = (
        trigger,
        keyed_cells.bits(scheme, b"\xbb" * 32, SALT),
        keyed_cells.carriers(scheme, leaves, SALT),
        keyed_cells.decode(scheme, leaves, SALT, response),
    )
    assert tuple(map(digest, found)) == GOLDEN[numbers]


def test_the_public_names_are_frozen() -> None:
    assert keyed_cells.public(channels=3, scale=2) == {
        "id": "mg.keyed-cells/1",
        "channels": 3,
        "scale": 2,
        "size": 64,
        "cell": 8,
        "chip": 2,
        "perQuery": 4,
        "levels": 15,
    }
    assert keyed_cells.DECODER.id == "mg.cell-correlation/1"
    assert keyed_cells.DECODER.sha256 == "f47ae8f02c6054c1b00a842d561f823783b9426493f2c327023e7b7d88028627"


GOOD = keyed_cells.public(channels=1, scale=1)
BAD = {
    "no id": {name: value for name, value in GOOD.items() if name != "id"},
    "another id": {**GOOD, "id": "mg.keyed-cells/2"},
    "no size": {name: value for name, value in GOOD.items() if name != "size"},
    "no levels": {name: value for name, value in GOOD.items() if name != "levels"},
    "unknown": {**GOOD, "colour": 1},
    "text": {**GOOD, "size": "64"},
    "none": {**GOOD, "size": None},
    "float": {**GOOD, "size": 64.0},
    "bool": {**GOOD, "scale": True},
    "2 channels": {**GOOD, "channels": 2},
    "scale 0": {**GOOD, "scale": 0},
    "scale 9": {**GOOD, "scale": 9},
    "cell 0": {**GOOD, "cell": 0},
    "chip 0": {**GOOD, "chip": 0},
    "chip as large as a cell": {**GOOD, "chip": 8},
    "chip does not divide": {**GOOD, "chip": 3},
    "cell does not divide": {**GOOD, "cell": 24},
    "cell larger than size": {**GOOD, "cell": 128},
    "negative": {**GOOD, "size": -64, "cell": -8, "chip": -2},
    "huge": {**GOOD, "size": 1 << 40},
    "no leaves": {**GOOD, "perQuery": 0},
    "17 leaves": {**GOOD, "perQuery": 17},
    "no level": {**GOOD, "levels": 0},
    "256 levels": {**GOOD, "levels": 256},
    "overflow": {**GOOD, "size": 512, "cell": 512, "chip": 1, "scale": 8, "perQuery": 16},
}
READS: dict[str, Callable[[Any], object]] = {
    "trigger": lambda scheme: keyed_cells.trigger(scheme, secrets(1), SALT),
    "bits": lambda scheme: keyed_cells.bits(scheme, secrets(1)[0], SALT),
    "decode": lambda scheme: keyed_cells.decode(scheme, secrets(1), SALT, np.zeros((64, 64, 1), np.uint8)),
}


@pytest.mark.parametrize("case", BAD)
def test_malformed_parameters_are_refused(case: str) -> None:
    for read in READS.values():
        with pytest.raises(InputError, match="scheme"):
            read(BAD[case])


@pytest.mark.parametrize(
    ("name", "value"), [("channels", 4), ("scale", 0), ("size", 60), ("per_query", 17), ("levels", 0)]
)
def test_parameters_out_of_range_are_not_made(name: str, value: int) -> None:
    with pytest.raises(InputError, match="scheme"):
        keyed_cells.public(**{"channels": 1, "scale": 1, name: value})


@pytest.mark.parametrize("leaves", [0, 5])
def test_a_query_holds_no_more_leaves_than_registered(leaves: int) -> None:
    with pytest.raises(InputError, match=f"{leaves} leaves"):
        keyed_cells.trigger(GOOD, secrets(leaves), SALT)


def test_the_largest_scores_of_allowed_parameters_fit() -> None:
    """An answer made to score as high as can be, for parameters near the limit."""
    scheme = keyed_cells.public(channels=3, scale=4, size=64, cell=32, chip=2, per_query=1)
    carriers = assemble(scheme, 1, carrier_pictures(scheme, 1))
    response = np.where(carriers > 0, 255, 0).astype(np.uint8)[..., None].repeat(3, 2)
    scores = keyed_cells.decode(scheme, secrets(1), SALT, response)
    assert (scores > 0).all()
    assert math.log2(scores.max()) > 45
