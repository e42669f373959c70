from __future__ import annotations

import functools
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from modelguard.datasets import to_uint8
from modelguard.distortions import Jpeg
from modelguard.errors import InputError, SuspectError
from modelguard.networks import Upscaled
from modelguard.suspects import Answer, CallableSuspect, ModuleSuspect, Suspect, as_suspect


def encoded(pixels: np.ndarray[Any, Any], form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(buffer, format=form, **options)
    return buffer.getvalue()


def decoded(raw: bytes) -> np.ndarray[Any, Any]:
    return np.atleast_3d(np.array(Image.open(io.BytesIO(raw))))


def photo(make_photo: Callable[..., Tensor], channels: int) -> np.ndarray[Any, Any]:
    return to_uint8(make_photo(7, channels, 24, 17)).permute(1, 2, 0).contiguous().numpy()


@pytest.fixture
def grey(make_photo: Callable[..., Tensor]) -> np.ndarray[Any, Any]:
    """A grey query (24, 17, 1)."""
    return photo(make_photo, 1)


@pytest.fixture
def colour(make_photo: Callable[..., Tensor]) -> np.ndarray[Any, Any]:
    """An RGB query (24, 17, 3)."""
    return photo(make_photo, 3)


class Returns(nn.Module):
    """Answers with whatever `make` makes of the image."""

    def __init__(self, make: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.make = make

    def forward(self, image: Tensor) -> Any:
        return self.make(image)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_identity_answers_with_the_query(channels: int, make_photo: Callable[..., Tensor]) -> None:
    query = photo(make_photo, channels)
    for suspect in (ModuleSuspect(nn.Identity()), CallableSuspect(lambda image: image)):
        answer = suspect.ask(query)
        assert answer.image is not None
        assert answer.image.dtype == np.uint8
        assert np.array_equal(answer.image, query)
        assert (answer.media_type, answer.status) == ("image/png", 200)
        assert np.array_equal(decoded(answer.raw), query)


def test_modules_see_floats_and_are_rounded_and_clamped(colour: np.ndarray[Any, Any]) -> None:
    seen: list[Tensor] = []

    def look(image: Tensor) -> Tensor:
        seen.append(image)
        return image * 3 - 1 + 0.4 / 255

    answer = ModuleSuspect(Returns(look)).ask(colour)
    assert seen[0].shape == (1, 3, 24, 17)
    assert torch.equal(to_uint8(seen[0]), torch.from_numpy(colour).permute(2, 0, 1)[None])
    assert answer.image is not None
    assert np.array_equal(answer.image, np.clip(3 * colour.astype(int) - 255, 0, 255))


def test_modules_run_in_evaluation_mode_and_are_left_alone(
    tiny: nn.Module, grey: np.ndarray[Any, Any]
) -> None:
    tiny.train()
    before = {key: value.clone() for key, value in tiny.state_dict().items()}
    one, two = (ModuleSuspect(tiny).ask(grey).raw for _ in range(2))
    assert one == two == ModuleSuspect(tiny.eval()).ask(grey).raw
    assert all(torch.equal(value, before[key]) for key, value in tiny.state_dict().items())
    tiny.train()
    ModuleSuspect(tiny).ask(grey)
    assert all(module.training for module in tiny.modules())


def test_half_precision_modules_are_asked_in_theirs(tiny: nn.Module, grey: np.ndarray[Any, Any]) -> None:
    full = ModuleSuspect(tiny).ask(grey).image
    half = ModuleSuspect(tiny.to(torch.bfloat16)).ask(grey).image
    assert full is not None
    assert half is not None
    assert np.abs(full.astype(int) - half.astype(int)).max() <= 8


def test_the_channel_comes_before_the_answer(grey: np.ndarray[Any, Any]) -> None:
    answer = ModuleSuspect(nn.Identity(), Jpeg(30)).ask(grey)
    assert answer.image is not None
    assert np.array_equal(answer.image, decoded(encoded(grey, "JPEG", quality=30)))


def test_the_channel_gets_the_range_it_expects(grey: np.ndarray[Any, Any]) -> None:
    seen: list[Tensor] = []

    def look(image: Tensor) -> Tensor:
        seen.append(image)
        return image

    ModuleSuspect(Returns(lambda image: 5 * image - 1), Returns(look)).ask(grey)
    assert seen[0].min() == 0
    assert seen[0].max() == 1


def test_sizes_are_kept_as_they_come(grey: np.ndarray[Any, Any]) -> None:
    large = ModuleSuspect(Upscaled(nn.Identity(), 2)).ask(grey)
    assert large.image is not None
    assert large.image.shape == (48, 34, 1)
    small = CallableSuspect(lambda image: image[::2, ::3]).ask(grey)
    assert small.image is not None
    assert small.image.shape == (12, 6, 1)


def broken(image: Tensor) -> Tensor:
    raise RuntimeError("out of cheese")


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda x: x / 0, "non-finite"),
        (lambda x: torch.where(x == x.max(), torch.nan, x), "non-finite"),
        (lambda x: x[0], r"shape \(3, 24, 17\)"),
        (lambda x: x[:, :2], r"shape \(1, 2, 24, 17\)"),
        (lambda x: torch.cat([x, x]), r"shape \(2, 3, 24, 17\)"),
        (lambda x: x[..., :0], r"shape \(1, 3, 24, 0\)"),
        (lambda x: (x, x), "tuple"),
        (lambda x: None, "NoneType"),
        (broken, "RuntimeError: out of cheese"),
    ],
)
def test_what_a_module_did_wrong_is_named(
    make: Callable[[Tensor], Any], named: str, colour: np.ndarray[Any, Any]
) -> None:
    with pytest.raises(SuspectError, match=named):
        ModuleSuspect(Returns(make), Jpeg(50)).ask(colour)


def test_a_module_of_other_channels_is_a_suspect_error(tiny: nn.Module, colour: np.ndarray[Any, Any]) -> None:
    with pytest.raises(SuspectError, match="channels"):
        ModuleSuspect(tiny).ask(colour)


@pytest.mark.parametrize(
    ("form", "media_type"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp")]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_files_are_kept_and_decoded(
    channels: int, form: str, media_type: str, make_photo: Callable[..., Tensor]
) -> None:
    raw = encoded(photo(make_photo, channels), form)
    answer = CallableSuspect(lambda image: raw).ask(photo(make_photo, channels))
    assert answer.raw == raw
    assert answer.media_type == media_type
    assert answer.image is not None
    assert answer.image.shape == (24, 17, channels)
    pixels = decoded(raw)
    assert np.array_equal(answer.image, pixels if pixels.shape[2] == channels else luma(pixels))


def test_two_axes_and_pictures_are_taken(grey: np.ndarray[Any, Any], colour: np.ndarray[Any, Any]) -> None:
    for query, reply in (
        (grey, grey[..., 0]),
        (grey, Image.fromarray(grey[..., 0])),
        (colour, Image.fromarray(colour)),
    ):
        answer = CallableSuspect(lambda image, reply=reply: reply).ask(query)  # type: ignore[misc]
        assert answer.image is not None
        assert np.array_equal(answer.image, query)


def test_answers_are_copies(grey: np.ndarray[Any, Any]) -> None:
    """What a suspect does to arrays later changes neither the query nor the answer."""
    kept: list[np.ndarray[Any, Any]] = []

    def keeps(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        image[:] = 9
        kept.append(image)
        return image

    query = grey.copy()
    answer = CallableSuspect(keeps).ask(query)
    kept[0][:] = 77
    assert np.array_equal(query, grey)
    assert answer.image is not None
    assert (answer.image == 9).all()


def raises(image: Any) -> Any:
    raise ConnectionError("the line is dead")


@pytest.mark.parametrize(
    ("fn", "named"),
    [
        (raises, "ConnectionError: the line is dead"),
        (lambda x: None, "NoneType"),
        (lambda x: "an answer", "str"),
        (lambda x: x.astype(np.float32), "floats from"),
        (lambda x: x.astype(np.float32) / np.nan, "floats from nan"),
        (lambda x: x.astype(np.int64), "int64"),
        (lambda x: x[:0], r"shape \(0, 17, 3\)"),
        (lambda x: np.dstack([x, x]), r"shape \(24, 17, 6\)"),
        (lambda x: np.zeros((2100, 2100, 1), np.uint8), "2100 x 2100 pixels"),
        (lambda x: x[None], r"shape \(1, 24, 17, 3\)"),
        (lambda x: x.ravel(), r"shape"),
        (lambda x: Image.fromarray(x).convert("P"), "P pixels"),
        (lambda x: b"", "0 bytes"),
        (lambda x: b"<html>502 Bad Gateway</html>", "html"),
        (lambda x: encoded(x)[:200], "PNG"),
        (lambda x: encoded(x, "BMP"), "no PNG, JPEG or WebP"),
        (lambda x: encoded(np.zeros((4100, 4100), np.uint8)), "4100 x 4100 pixels are too many"),
    ],
)
def test_what_a_callable_did_wrong_is_named(
    fn: Callable[[Any], Any], named: str, colour: np.ndarray[Any, Any]
) -> None:
    with pytest.raises(SuspectError, match=named):
        CallableSuspect(fn).ask(colour)


def luma(colour: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(Image.fromarray(colour).convert("L"))[..., None]


def test_other_channels_and_depths_are_brought_to_the_query(colour: np.ndarray[Any, Any]) -> None:
    grey = luma(colour)
    alpha = np.full((24, 17, 1), 9, np.uint8)
    wide = colour.astype(np.uint16) * 257
    cases: list[tuple[Any, Any, Any, str]] = [
        (colour, grey, grey.repeat(3, 2), "grey to RGB"),
        (grey, colour, grey, "RGB to grey"),
        (colour, np.dstack([colour, alpha]), colour, "alpha dropped"),
        (colour, Image.fromarray(np.dstack([colour, alpha])), colour, "alpha dropped"),
        (grey, np.dstack([grey, alpha]), grey, "alpha dropped"),
        (grey, np.dstack([colour, alpha]), grey, "alpha dropped, RGB to grey"),
        (colour, wide, colour, "uint16 to uint8"),
        (colour, colour / 255, colour, "float64 to uint8"),
        (grey, encoded(grey.astype(np.uint16) * 257), grey, "uint16 to uint8"),
        (colour, encoded(colour), colour, ""),
    ]
    for query, reply, expected, said in cases:
        answer = CallableSuspect(lambda image, reply=reply: reply).ask(query)  # type: ignore[misc]
        assert np.array_equal(answer.image, expected)  # type: ignore[arg-type]
        assert answer.converted == said


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "WEBP"]), st.data())
def test_damaged_files_never_escape_as_other_errors(form: str, data: st.DataObject) -> None:
    query = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    raw = bytearray(encoded(query, form))
    for position in data.draw(st.lists(st.integers(0, len(raw) - 1), min_size=1, max_size=6)):
        raw[position] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(raw)))
    try:
        answer = CallableSuspect(lambda image: bytes(raw[:end])).ask(query)
    except SuspectError:
        return
    assert answer.image is not None
    assert answer.image.shape[2] == 3


@pytest.mark.parametrize(
    "query",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 2), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((0, 8, 1), np.uint8),
        np.zeros((8, 8, 1), np.float32),
        "query",
    ],
)
def test_bad_queries_are_input_errors(query: Any) -> None:
    for suspect in (ModuleSuspect(nn.Identity()), CallableSuspect(lambda image: image)):
        with pytest.raises(InputError, match="query"):
            suspect.ask(query)


class Refuses:
    """A suspect of the user's own."""

    kind, endpoint = "http-api", "https://example.org/denoise"

    def ask(self, query: np.ndarray[Any, Any]) -> Answer:
        return Answer(None, b"slow down", "text/plain", 429)


def test_as_suspect_picks_the_adapter(tiny: nn.Module) -> None:
    own: Suspect = Refuses()
    assert as_suspect(own) is own
    module = as_suspect(tiny)
    assert isinstance(module, ModuleSuspect)
    assert module.model is tiny
    assert isinstance(as_suspect(lambda image: image), CallableSuspect)


def test_suspects_say_what_they_are(tiny: nn.Module) -> None:
    assert (as_suspect(tiny).kind, as_suspect(tiny).endpoint) == ("module", "DnCNN")
    for fn, name in ((raises, "raises"), (functools.partial(raises, image=0), "partial")):
        suspect = as_suspect(fn)
        assert suspect.kind == "callable"
        assert suspect.endpoint.endswith(name)


@pytest.mark.parametrize("obj", [None, "ftp", 7, nn.Identity, Refuses, np.zeros(3)])
def test_as_suspect_refuses_the_rest(obj: object) -> None:
    with pytest.raises(InputError, match="cannot be asked"):
        as_suspect(obj)


def test_answers_show_no_bytes(grey: np.ndarray[Any, Any]) -> None:
    answer = Refuses().ask(grey)
    assert answer.image is None
    assert "slow down" not in repr(answer)
