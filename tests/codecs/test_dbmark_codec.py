from __future__ import annotations

import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save
from torch import Tensor

from modelguard import photos, weights
from modelguard.codecs import DBMark
from modelguard.codecs.files import embed_file
from modelguard.codecs.pretrained import shipped
from modelguard.datasets import to_uint8
from modelguard.distortions import Blur, Cropout, Jpeg
from modelguard.errors import EmbeddingError, InputError, WeightsError
from modelguard.networks import bicubic

TINY = Path(__file__).parent / "tiny.safetensors"


@pytest.fixture(scope="module")
def codec() -> DBMark:
    return DBMark.from_pretrained(TINY)


@pytest.fixture(scope="module")
def photo() -> Tensor:
    """A colour photo, (3, 256, 256)."""
    return photos.load(3)[2]


def pil(photo: Tensor, mode: str = "RGB") -> Image.Image:
    return Image.fromarray(to_uint8(photo).permute(1, 2, 0).numpy()).convert(mode)


def png_of_16_bits(side: int) -> bytes:
    """A black RGB image of 16 bits a channel, which Pillow reads but cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 16, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(side * (1 + 6 * side)))
    chunks = chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def psnr(one: Any, other: Any) -> float:
    return float(-10 * np.log10(np.mean((np.asarray(one, float) - np.asarray(other, float)) ** 2) / 255**2))


@pytest.mark.parametrize("payload", [0, 77, 255, "k"])
def test_ids_and_texts_come_back(codec: DBMark, photo: Tensor, payload: int | str) -> None:
    message = codec.extract(codec.embed(photo, payload)).message()
    assert message is not None
    assert message.log10_p <= -6
    assert payload in (message.id, message.text)


def test_bare_bits_come_back_and_test_as_there(codec: DBMark, photo: Tensor) -> None:
    bits = np.random.default_rng(0).integers(0, 2, codec.bits)
    read = codec.extract(codec.embed(photo, bits))
    assert (read.hard != bits).sum() <= 1
    assert read.test(bits).p <= 1e-6
    assert read.test(1 - bits).p > 0.5


@pytest.mark.parametrize("size", [(256, 256), (40, 200), (301, 97)])
def test_any_size_and_aspect(codec: DBMark, photo: Tensor, size: tuple[int, int]) -> None:
    image = photo[:, : size[0], : size[1]] if max(size) <= 256 else photo.repeat(1, 2, 1)[:, :301, :97]
    marked = codec.embed(image, 9)
    assert marked.shape == image.shape
    message = codec.extract(marked).message()
    assert message is not None
    assert message.id == 9


def test_the_mark_outlives_another_size_and_the_clean_image_has_none(codec: DBMark, photo: Tensor) -> None:
    marked = codec.embed(pil(photo), 5)
    message = codec.extract(marked.resize((190, 333), Image.Resampling.BICUBIC)).message()
    assert message is not None
    assert (message.id, message.log10_p <= -4) == (5, True)
    clean = codec.extract(photo).message()
    assert clean is None or clean.log10_p > -4


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_every_kind_of_pixels_keeps_its_form_and_alpha(codec: DBMark, photo: Tensor, mode: str) -> None:
    picture = pil(photo, mode)
    if mode.endswith("A"):
        picture.putalpha(Image.linear_gradient("L"))
    picture.info["dpi"] = (72, 72)
    marked = codec.embed(picture, 3)
    assert (marked.mode, marked.size, marked.info) == (mode, picture.size, picture.info)
    if mode.endswith("A"):
        assert marked.getchannel("A").tobytes() == picture.getchannel("A").tobytes()
    message = codec.extract(marked).message()
    assert message is not None
    assert message.id == 3


def test_all_forms_are_marked_alike(codec: DBMark, photo: Tensor, tmp_path: Path) -> None:
    picture = pil(photo)
    picture.save(tmp_path / "photo.png")
    array = np.asarray(picture)
    expected = np.asarray(codec.embed(picture, 1))
    assert np.array_equal(codec.embed(array, 1), expected)
    assert np.array_equal(np.asarray(codec.embed(tmp_path / "photo.png", 1)), expected)
    as_bytes = torch.from_numpy(array.copy()).permute(2, 0, 1)
    assert np.array_equal(codec.embed(as_bytes, 1).permute(1, 2, 0).numpy(), expected)
    as_floats = codec.embed(as_bytes.float() / 255, 1)
    assert as_floats.dtype == torch.float32
    assert np.array_equal(to_uint8(as_floats).permute(1, 2, 0).numpy(), expected)


def test_a_batch_is_marked_and_read_one_by_one(codec: DBMark) -> None:
    images = torch.stack([photos.load(3)[i] for i in (1, 2, 3)])
    marked = codec.embed(images, 8)
    assert marked.shape == images.shape
    torch.testing.assert_close(marked[1:2], codec.embed(images[1:2], 8), atol=1.01 / 255, rtol=0)
    messages = [read.message() for read in codec.extract_batch(marked)]
    assert [message and message.id for message in messages] == [8, 8, 8]
    with pytest.raises(InputError, match="3 images at once"):
        codec.extract(marked)


def test_strength_trades_quality(codec: DBMark, photo: Tensor) -> None:
    picture = pil(photo)
    one, two = (psnr(codec.embed(picture, 1, strength), picture) for strength in (1.0, 2.0))
    assert one - two == pytest.approx(6, abs=0.8)


def test_a_mark_is_as_strong_as_it_must_be_to_survive() -> None:
    codec, jpeg = DBMark.from_pretrained("jpeg-64"), Jpeg(50)
    bits = np.random.default_rng(0).integers(0, 2, 64, dtype=np.uint8)
    some = [bicubic(photo[None], (128, 128)).clamp(0, 1) for photo in list(photos.load(3))[:7]]
    small = to_uint8(torch.cat(some)).float() / 255
    fixed = to_uint8(codec.mark(small, bits, 1.0)).float() / 255
    fitted = to_uint8(codec.embed(small, bits, survives=[jpeg])).float() / 255
    wrong = [
        sum(int((read.hard != bits).sum()) for read in codec.extract_batch(jpeg(marked)))
        for marked in (fixed, fitted)
    ]
    assert wrong[0] > 0
    assert wrong[1] == 0
    changes = [(marked - small).square().mean((1, 2, 3)) for marked in (fixed, fitted)]
    assert (changes[1] > 1.1 * changes[0]).any()  # full of texture
    assert (changes[1] < 0.9 * changes[0]).sum() >= 3
    grey = small[:1].mean(1, keepdim=True)
    assert np.array_equal(codec.extract(jpeg(codec.embed(grey, bits, survives=[jpeg]))).hard, bits)


def test_what_no_strength_survives_is_refused(codec: DBMark, photo: Tensor) -> None:
    with pytest.raises(EmbeddingError, match=r"2\.5 times the mark.*Blur"):
        codec.embed(photo, 1, survives=[Jpeg(90), Blur(30)])
    for wrong in (Cropout(0.3), "jpeg"):
        with pytest.raises(InputError, match=r"survives\[1\].*is no distortion of an image alone"):
            codec.embed(photo, 1, survives=[Jpeg(50), wrong])  # type: ignore[list-item]
    with pytest.raises(InputError, match=r"survives: Jpeg\(.*\) is no list"):
        codec.embed(photo, 1, survives=Jpeg(50))  # type: ignore[call-overload]


def test_a_picture_that_does_not_hold_the_mark_is_refused(codec: DBMark, photo: Tensor) -> None:
    assert codec.capacity(photo).holds
    faint = codec.capacity(photo, strength=0.02)
    assert not faint.holds
    assert faint.psnr > codec.capacity(photo).psnr
    with pytest.raises(EmbeddingError, match="does not hold the mark"):
        codec.embed(photo, 1, strength=0.02)
    bare = [0, 1] * 15
    assert codec.capacity(photo, payload=bare).holds
    poor = codec.extract(codec.mark(photo[None], codec.payload(bare), 0.3)[0].clamp(0, 1))
    assert 0 < int((poor.hard != bare).sum()) < 15
    with pytest.raises(EmbeddingError, match="read wrongly"):
        codec.check(poor, bare)  # bare bits cannot be corrected
    saturated = torch.ones(3, 64, 64)
    assert codec.capacity(saturated).errors >= codec.capacity(photo).errors


@pytest.mark.parametrize("name", shipped("dbmark"))
def test_what_ships_marks_photos_grey_and_flat_pictures(name: str, photo: Tensor) -> None:
    codec = DBMark.from_pretrained(name)
    assert codec.capacity(photo).holds
    assert codec.capacity(photo).psnr > 34
    flat = [torch.full((3, 160, 200), level) for level in (0.0, 0.5, 1.0)]
    for picture in (photo.mean(0, keepdim=True), *flat):
        assert codec.capacity(picture, strength=1.5).holds


def test_capacity_names_what_fits(codec: DBMark, photo: Tensor) -> None:
    capacity = codec.capacity(photo)
    assert (capacity.bits, capacity.id_bits, capacity.characters) == (30, 8, 1)
    assert 15 < capacity.psnr < 40


@pytest.mark.parametrize(
    "payload",
    [
        256,
        -1,
        "ab",
        "",
        "\0",
        "\n",
        "\udcff",
        [0] * 29,
        [0, 2] * 15,
        np.zeros((1, 30)),
        [0.5] * 30,
        [[1], [1, 0]],
    ],
)
def test_bad_payloads_are_refused(codec: DBMark, photo: Tensor, payload: Any) -> None:
    with pytest.raises(InputError, match="payload"):
        codec.embed(photo, payload)


@pytest.mark.parametrize(
    "image",
    [
        torch.full((3, 64, 64), float("nan")),
        torch.full((3, 64, 64), 2.0),
        torch.zeros(5, 64, 64),
        torch.zeros(3, 31, 64),
        torch.zeros(3, 64, 64, dtype=torch.int64),
        torch.zeros(64, 64),
        torch.zeros(0, 3, 64, 64),
        np.zeros((64, 64, 3)),
        np.zeros((64,), np.uint8),
        Image.new("CMYK", (64, 64)),
        Image.new("P", (64, 64)),
        Image.new("I;16", (64, 64)),
        Image.new("1", (64, 64)),
        None,
    ],
)
def test_bad_images_are_refused(codec: DBMark, image: Any) -> None:
    for call in (lambda: codec.embed(image, 1), lambda: codec.extract(image), lambda: codec.capacity(image)):
        with pytest.raises(InputError, match="image"):
            call()


@pytest.mark.parametrize("strength", [0, -1, float("nan"), float("inf")])
def test_bad_strengths_are_refused(codec: DBMark, photo: Tensor, strength: float) -> None:
    with pytest.raises(InputError, match="strength"):
        codec.embed(photo, 1, strength)
    with pytest.raises(InputError, match="strength"):
        codec.capacity(photo, strength)


def test_bad_files_are_refused(codec: DBMark, photo: Tensor, tmp_path: Path) -> None:
    pil(photo).save(tmp_path / "whole.jpg", quality=95)
    (tmp_path / "half.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:6000])
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "deep.png").write_bytes(png_of_16_bits(64))
    frames = [pil(photo, "P"), pil(photo.flip(1), "P")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    Image.new("RGB", (64, 64)).save(tmp_path / "sizeless.tif")
    tiff = bytearray((tmp_path / "sizeless.tif").read_bytes())
    (first,) = struct.unpack_from("<I", tiff, 4)
    (entries,) = struct.unpack_from("<H", tiff, first)
    struct.pack_into("<I", tiff, first + 2 + 12 * entries, len(tiff) - 100)  # a second frame without entries
    (tmp_path / "sizeless.tif").write_bytes(tiff)
    pil(photo).save(tmp_path / "holed.png", transparency=(1, 2, 3))
    names = ("half.jpg", "text.png", "deep.png", "moving.gif", "missing.png", "sizeless.tif", "holed.png")
    for name in names:
        with pytest.raises(InputError, match=name):
            codec.extract(tmp_path / name)


def test_files_keep_profile_and_are_replaced_only_by_force(
    codec: DBMark, photo: Tensor, tmp_path: Path
) -> None:
    source, target = tmp_path / "in.png", tmp_path / "sub" / "out.jpg"
    pil(photo).save(source, icc_profile=b"profile", exif=Image.Exif())
    embed_file(codec, source, target, 4)
    with Image.open(target) as marked:
        assert marked.info["icc_profile"] == b"profile"
    message = codec.extract(target).message()
    assert message is not None
    assert message.id == 4
    before = target.read_bytes()
    with pytest.raises(InputError, match="exists"):
        embed_file(codec, source, target, 5)
    assert target.read_bytes() == before
    embed_file(codec, source, target, 5, force=True)
    assert target.read_bytes() != before


def test_a_turned_photo_is_marked_as_it_is_seen(codec: DBMark, photo: Tensor, tmp_path: Path) -> None:
    source, target = tmp_path / "turned.jpg", tmp_path / "out.png"
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"  # orientation: to be turned clockwise for viewing
    pil(photo[:, :200]).transpose(Image.Transpose.ROTATE_90).save(source, quality=98, exif=exif)
    embed_file(codec, source, target, 4)
    with Image.open(target) as marked:
        assert marked.size == (256, 200)
        assert dict(marked.getexif()) == {0x010F: "maker"}
        assert psnr(marked, pil(photo[:, :200])) > 25
    message = codec.extract(target).message()
    assert message is not None
    assert message.id == 4
    with Image.open(source) as turned:  # a picture is turned like a file
        assert codec.embed(turned, 4).tobytes() == codec.embed(source, 4).tobytes()
        assert turned.size == (200, 256)


def test_the_mark_under_transparency_is_kept(codec: DBMark, photo: Tensor, tmp_path: Path) -> None:
    picture = pil(photo, "RGBA")
    picture.putalpha(Image.new("L", picture.size))
    picture.save(tmp_path / "in.png")
    for name in ("out.png", "out.webp"):
        embed_file(codec, tmp_path / "in.png", tmp_path / name, 4)


def test_targets_that_cannot_hold_the_image_are_refused(codec: DBMark, photo: Tensor, tmp_path: Path) -> None:
    source = tmp_path / "in.png"
    pil(photo, "RGBA").save(source)
    for name, part in (("out.jpg", "alpha"), ("out.bmp", "alpha"), ("out.gif", "ending"), ("out", "ending")):
        with pytest.raises(InputError, match=part):
            embed_file(codec, source, tmp_path / name, 5)
    assert [path.name for path in tmp_path.iterdir()] == ["in.png"]


def test_unknown_weights_list_what_ships() -> None:
    with pytest.raises(InputError, match="'nonsense'") as caught:
        DBMark.from_pretrained("nonsense")
    shipped = [name for name in weights.names() if name.startswith("dbmark-")]
    assert all(name.removeprefix("dbmark-") in caught.value.remedy for name in shipped)


def test_changed_and_foreign_weight_files_are_refused(tmp_path: Path) -> None:
    changed = tmp_path / "tiny.safetensors"
    data = bytearray(TINY.read_bytes())
    data[-1] ^= 1
    changed.write_bytes(data)
    DBMark.from_pretrained(changed)  # of yours: no card beside it
    shutil.copy(TINY.with_suffix(".json"), tmp_path)
    with pytest.raises(WeightsError, match="card"):
        DBMark.from_pretrained(changed)
    renamed = tmp_path / "renamed.safetensors"
    shutil.copy(TINY, renamed)
    assert np.array_equal(DBMark.from_pretrained(renamed).payload(1), DBMark.from_pretrained(TINY).payload(1))
    foreign = tmp_path / "foreign.safetensors"
    foreign.write_bytes(weights.dump_state(torch.nn.Linear(2, 2)))
    with pytest.raises(InputError, match="no DBMARK net"):
        DBMark.from_pretrained(foreign)
    foreign.write_bytes(save({"a": torch.zeros(1)}, {"config": "no JSON"}))
    with pytest.raises(InputError, match="no JSON"):
        DBMark.from_pretrained(foreign)
    (tmp_path / "renamed.json").write_text('{"mine": 1}')
    with pytest.raises(WeightsError, match="card"):
        DBMark.from_pretrained(renamed)
    foreign.write_bytes(b"junk")
    with pytest.raises(InputError, match="safetensors"):
        DBMark.from_pretrained(foreign)


def test_random_crops_of_clean_photos_are_not_found(codec: DBMark) -> None:
    from modelguard.benchmarks.dbmark import false_finds

    found = false_finds(codec, photos.load(3), 60)
    assert found["found_at"]["1e-06"] == 0
    assert found["found_at"]["0.0001"] == 0
