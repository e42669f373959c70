"""Image codecs on the same images, at the same PSNR, under the same attacks: ours and what runs offline.

Each image carries its own random payload. Every codec has a strength that is set, image by image, to reach
one PSNR: nets scale their residual, as in the DBMARK paper, the others their quantiser. Codecs of different
lengths are compared by -log10 of the exact p-value of the payload, from the hard bits of each; it cannot
exceed 0.3 a bit. Peers: `pip install modelguard-sdk[bench]`.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
import typer
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2.functional import InterpolationMode, rotate

from modelguard.benchmarks import hosts, record
from modelguard.benchmarks.train_dbmark import through
from modelguard.codecs import DBMark
from modelguard.codecs.pretrained import shipped
from modelguard.datasets import ImageSet, mixed_seed, to_uint8
from modelguard.distortions import Blur, Crop, CropMasked, Cropout, Dropout, Jpeg, Noise, Resize
from modelguard.errors import InputError
from modelguard.networks import bicubic
from modelguard.statistics import hard_sign_test

TRIES = 4  # rounding to 8 bits, and quantisers, answer to a strength only roughly
Pixels = npt.NDArray[np.uint8]
Payload = npt.NDArray[np.int64]


class Codec(Protocol):
    """What is compared; images are RGB, (H, W, 3)."""

    name: str
    bits: int

    def embed(self, image: Pixels, payload: Payload, strength: float) -> npt.NDArray[np.float32]:
        """Return the marked image, 0 to 255; what changes is about in proportion to the strength."""
        ...

    def extract(self, image: Pixels, strength: float) -> Payload:
        """Return the bits of an image marked at this strength, if it was."""
        ...


class Ours:
    """A DBMARK codec."""

    def __init__(self, weights: str) -> None:
        self.codec = DBMark.from_pretrained(weights)
        self.name, self.bits = f"modelguard {self.codec.name}", self.codec.bits

    def embed(self, image: Pixels, payload: Payload, strength: float) -> npt.NDArray[np.float32]:
        """Return the marked image, 0 to 255."""
        marked = self.codec.mark(_tensor(image), payload.astype(np.uint8), strength)
        pixels: npt.NDArray[np.float32] = 255 * marked[0].permute(1, 2, 0).numpy()
        return pixels

    def extract(self, image: Pixels, strength: float) -> Payload:
        """Return the bits."""
        return self.codec.extract(image).hard.astype(np.int64)


class InvisibleWatermark:
    """The package invisible-watermark: "dwtDctSvd", or the net "rivaGan"."""

    bits = 32

    def __init__(self, method: str) -> None:
        from imwatermark import WatermarkDecoder, WatermarkEncoder

        self.name, self.method = f"invisible-watermark {method}", method
        self.encoder, self.decoder = WatermarkEncoder(), WatermarkDecoder("bits", self.bits)
        if method == "rivaGan":
            WatermarkEncoder.loadModel()
            WatermarkDecoder.loadModel()

    def embed(self, image: Pixels, payload: Payload, strength: float) -> npt.NDArray[np.float32]:
        """Return the marked image, 0 to 255."""
        self.encoder.set_watermark("bits", payload.tolist())
        settings = self._settings(strength)
        marked = self.encoder.encode(np.ascontiguousarray(image[..., ::-1]), self.method, **settings)
        pixels = np.asarray(marked[..., ::-1], np.float32)
        return pixels if settings else image + strength * (pixels - image)

    def extract(self, image: Pixels, strength: float) -> Payload:
        """Return the bits."""
        swapped = np.ascontiguousarray(image[..., ::-1])
        found = self.decoder.decode(swapped, self.method, **self._settings(strength))
        return (np.asarray(found, np.float32) > 0.5).astype(np.int64)

    def _settings(self, strength: float) -> dict[str, list[float]]:
        """Return the step of the quantiser, 36 by default, of the method that has one."""
        # Its colours go through 8-bit YUV, which costs quality at any step: a finer one only breaks the mark.
        return {} if self.method == "rivaGan" else {"scales": [0, 36 * max(strength, 0.6), 0]}


class BlindWatermark:
    """The package blind-watermark, told the length of the payload, which it needs."""

    name, bits = "blind-watermark", 64

    def __init__(self) -> None:
        import blind_watermark

        blind_watermark.bw_notes.close()  # an advertisement on stdout
        self.make = blind_watermark.WaterMark

    def embed(self, image: Pixels, payload: Payload, strength: float) -> npt.NDArray[np.float32]:
        """Return the marked image, 0 to 255."""
        marker = self._marker(strength)
        marker.read_img(img=np.ascontiguousarray(image[..., ::-1]))
        marker.read_wm(payload.astype(bool), mode="bit")
        return np.asarray(marker.embed()[..., ::-1], np.float32)

    def extract(self, image: Pixels, strength: float) -> Payload:
        """Return the bits."""
        marker = self._marker(strength)
        swapped = np.ascontiguousarray(image[..., ::-1])
        found = marker.extract(embed_img=swapped, wm_shape=self.bits, mode="bit")
        return (np.asarray(found, np.float32) > 0.5).astype(np.int64)

    def _marker(self, strength: float) -> Any:
        marker = self.make(password_img=1, password_wm=1)
        marker.bwm_core.d1, marker.bwm_core.d2 = 36 * strength, 20 * strength  # its defaults, scaled
        return marker


class Function(nn.Module):
    """A function of images as a distortion."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, image: Tensor) -> Tensor:
        """Return what the function makes of it, within [0, 1]."""
        return self.function(image).clamp(0, 1)


def webp(image: Tensor) -> Tensor:
    """Return (1, 3, H, W) after WebP of quality 50."""
    buffer = io.BytesIO()
    Image.fromarray(_pixels(image)).save(buffer, "WEBP", quality=50)
    return _tensor(np.asarray(Image.open(buffer)))


def attacks(seed: int) -> dict[str, nn.Module]:
    """Return what is done to a marked image, by name; every codec's image of one number meets the same."""
    return {
        "none": nn.Identity(),
        **{f"JPEG {quality}": Jpeg(quality) for quality in (90, 75, 50, 30)},
        "WebP 50": Function(webp),
        "crop .25": Crop(0.25),
        "crop .25, in place": CropMasked(0.25),
        "cropout .3": Cropout(0.3),
        "dropout .3": Dropout(0.3),
        "blur 2": Blur(2.0),
        "noise 5": Noise(5.0, seed),
        "resize .5": Resize(0.5),
        "rotate 5": Function(lambda image: rotate(image, 5, InterpolationMode.BILINEAR)),
        "brightness 1.3": Function(lambda image: 1.3 * image),
    }


def compare(codec: Codec, images: ImageSet, psnr: float) -> dict[str, Any]:
    """Return seconds for a square of 512 px, and by attack the bit accuracy and the median -log10 p.

    Args:
        codec: any.
        images: RGB.
        psnr: that each marked image is scaled to, dB.
    """
    random, reached = np.random.default_rng(0), []
    right: dict[str, list[float]] = {name: [] for name in attacks(0)}
    surprise: dict[str, list[float]] = {name: [] for name in right}
    for number, cover in enumerate(images):
        payload = random.integers(0, 2, codec.bits)
        pixels = _pixels(cover[None])
        strength, chosen = 1.0, codec.embed(pixels, payload, 1.0)
        for _ in range(TRIES):
            strength *= 10 ** ((_psnr(chosen, pixels) - psnr) / 20)
            chosen = codec.embed(pixels, payload, strength).clip(0, 255).round()
        reached.append(_psnr(chosen, pixels))
        marked = _tensor(chosen.astype(np.uint8))
        torch.manual_seed(mixed_seed(0, number))
        for name, attack in attacks(number).items():
            found = codec.extract(_pixels(through(attack, marked, cover[None])), strength)
            right[name].append(float((found == payload).mean()))
            surprise[name].append(-hard_sign_test(2 * payload - 1, 2 * found - 1).log10_p)
    return {
        "codec": codec.name,
        "bits": codec.bits,
        "images": len(images),
        "psnr": round(float(np.mean(reached)), 2),
        "seconds": seconds(codec, _pixels(bicubic(images[0][None], (512, 512)))),
        "accuracy": {name: round(float(np.mean(values)), 4) for name, values in right.items()},
        "surprise": {name: round(float(np.median(values)), 2) for name, values in surprise.items()},
    }


def seconds(codec: Codec, picture: Pixels, repeats: int = 5) -> dict[str, float]:
    """Return the median seconds of marking a picture and of reading it, after a first of each.

    Our embedding includes rounding and reading back, as a user has it.
    """
    payload = np.random.default_rng(0).integers(0, 2, codec.bits)
    clocks: dict[str, list[float]] = {"embed": [], "extract": []}
    for _ in range(1 + repeats):
        began = time.perf_counter()
        if isinstance(codec, Ours):
            marked = codec.codec.embed(picture, payload)
        else:
            marked = codec.embed(picture, payload, 1.0).clip(0, 255).round().astype(np.uint8)
        between = time.perf_counter()
        codec.extract(marked, 1.0)
        clocks["embed"].append(between - began)
        clocks["extract"].append(time.perf_counter() - between)
    return {name: round(float(np.median(values[1:])), 4) for name, values in clocks.items()}


def _psnr(one: npt.NDArray[Any], other: Pixels) -> float:
    error = float(np.mean(np.square(one.astype(np.float64) - other)))
    return float(-10 * np.log10(max(error, 1e-9) / 255**2))


def _tensor(pixels: npt.NDArray[Any]) -> Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


def _pixels(image: Tensor) -> Pixels:
    pixels: Pixels = to_uint8(image)[0].permute(1, 2, 0).numpy()
    return pixels


PEERS: dict[str, Callable[[], Codec]] = {
    "dwtDctSvd": lambda: InvisibleWatermark("dwtDctSvd"),
    "rivaGan": lambda: InvisibleWatermark("rivaGan"),
    "blind-watermark": BlindWatermark,
}


def contenders(names: Sequence[str], ours: Sequence[str]) -> list[Codec]:
    """Return the codecs to compare; raises InputError for a peer that is unknown or not installed."""
    codecs: list[Codec] = [Ours(weights) for weights in ours]
    for name in names:
        if name not in PEERS:
            raise InputError(f"peer: {name!r} is not known", f"choose from {', '.join(PEERS)}")
        try:
            codecs.append(PEERS[name]())
        except ImportError as error:
            raise InputError(
                f"peer: {name} needs {error.name}", "pip install modelguard-sdk[bench]"
            ) from error
    return codecs


def main(
    tests: hosts.Tests,
    codec: Annotated[list[str] | None, typer.Option(help="our weights; by default all that ship")] = None,
    peer: Annotated[list[str] | None, typer.Option(help=f"default {', '.join(PEERS)}")] = None,
    images: Annotated[str, typer.Option("--set", help="of images, at their own size")] = "Kodak24",
    limit: Annotated[int, typer.Option(help="images used at most")] = 24,
    psnr: Annotated[float, typer.Option(help="of every marked image, dB")] = 42.0,
    out: record.Out = Path("docs/results"),
) -> None:
    """Compare codecs by attack."""
    given = ImageSet.from_folder(tests / images, 3)
    given = ImageSet(given.images[:limit])
    peers = list(PEERS) if peer is None else [name for name in peer if name != "none"]
    rows = [compare(one, given, psnr) for one in contenders(peers, codec or shipped("dbmark"))]
    record.write(
        "codecs",
        out,
        rows,
        seed=0,
        notes=f"{len(given)} images of {images} at {psnr:g} dB; median of -log10 p over images",
    )


if __name__ == "__main__":
    typer.run(main)
