"""The output barrier as Zhang et al. (TPAMI 2022) print it: one fixed logo, hidden by H and found by R.

For re-running their tables, never for a verdict: a logo has no secret bits, so a match says nothing about how
many innocents would match too. `logo_training` trains a pair of H (`Embedder`, deployed) and R (`Extractor`,
secret), `logo_score` measures them. Open points of the paper are decided as the docstrings say.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from safetensors.torch import load, save
from torch import Tensor, nn

from modelguard._files import atomic_write_bytes, check_new
from modelguard.datasets import ImageSet, to_uint8
from modelguard.errors import InputError, ModelContractError
from modelguard.evidence import seal, unseal
from modelguard.networks import UNet, evaluating
from modelguard.networks.ceilnet import CEILNet
from modelguard.networks.logo_classifier import LogoClassifier
from modelguard.schemes.base import check_answer, tone_ramp
from modelguard.weights import dump_state, load_state

Host = Callable[[Tensor], Tensor]
"""Whatever answers (B, C, H, W) images in [0, 1] with such images: a module, or any function."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of the networks; the defaults are the paper's.

    Args:
        levels: halvings of the U-Nets, H and the proxy surrogate.
        width: first feature channels of the U-Nets.
        extractor: feature channels of R.
        discriminator: first feature channels of D.
        adding: H adds to the image what its U-Net makes. The paper's makes the whole image anew, and a small
            U-Net's error in that is larger than a mark need be.
    """

    levels: int = 7
    width: int = 64
    extractor: int = 128
    discriminator: int = 64
    adding: bool = False


PAPER = Sizes()
LIGHT = Sizes(levels=5, width=16, extractor=32, discriminator=16)
"""For a CPU: H and R cost under 7 % of the paper's multiplications."""


def stack(logos: Sequence[Tensor]) -> Tensor:
    """Return logos (L, h, w) in [0, 1] as one uint8 tensor (N, L, H, W), the smaller ones padded with white.

    Raises:
        InputError: there is none, or one is not a finite image, or they are not all grey or all colour.
    """
    if not logos:
        raise InputError("logos: the list is empty", "give at least one image")
    for number, logo in enumerate(logos):
        if logo.ndim != 3 or not torch.isfinite(logo).all() or logo.min() < 0 or logo.max() > 1:
            raise InputError(
                f"logos[{number}]: shape {tuple(logo.shape)} with values from {logo.min():.3g} to "
                f"{logo.max():.3g} is no logo",
                "give finite (1, h, w) or (3, h, w) tensors in [0, 1]; divide 8-bit images by 255",
            )
        if logo.shape[0] not in (1, 3) or logo.shape[0] != logos[0].shape[0]:
            raise InputError(
                f"logos[{number}]: {logo.shape[0]} channels, the first has {logos[0].shape[0]}",
                "make all logos grey (1) or all colour (3)",
            )
    height, width = (max(logo.shape[dim] for logo in logos) for dim in (1, 2))
    return to_uint8(torch.stack([padded(logo, height, width) for logo in logos]))


def padded(logo: Tensor, height: int, width: int) -> Tensor:
    """Return `logo` (..., h, w) in the middle of a white (..., height, width).

    Raises:
        InputError: it is larger than that.
    """
    spare = height - logo.shape[-2], width - logo.shape[-1]
    if min(spare) < 0:
        raise InputError(
            f"logo: {logo.shape[-2]} x {logo.shape[-1]} px do not fit into an image of {height} x {width}",
            "give larger images, or train a pair for a smaller logo",
        )
    top, left = (side // 2 for side in spare)
    return F.pad(logo, (left, spare[1] - left, top, spare[0] - top), value=1.0)


class Embedder(nn.Module):
    """H: writes one of its logos invisibly into images. It holds no secret and is deployed.

    Args:
        logos: uint8 (N, L, h, w), as `stack` makes them.
        channels: of the images, 1 or 3.
        sizes: of the U-Net.

    Attributes:
        pair: the digest that H and its R share; empty until `logo_training` is done.
    """

    def __init__(self, logos: Tensor, channels: int = 1, sizes: Sizes = PAPER) -> None:
        super().__init__()
        self.channels, self.sizes, self.pair = channels, sizes, ""
        self.pixels: Tensor
        # flat: as a four-dimensional byte buffer in channels-last order it breaks data-parallel training
        self.register_buffer("pixels", logos.flatten(2))
        self.shape = logos.shape
        self.net = UNet(channels + logos.shape[1], channels, sizes.levels, sizes.width)

    @property
    def logos(self) -> Tensor:
        """The logos, uint8 (N, L, h, w)."""
        return self.pixels.view(self.shape)

    def logo(self, mark: int | Tensor, height: int, width: int) -> Tensor:
        """Return logo number `mark`, or one for each number in a tensor, padded, in [0, 1].

        Raises:
            InputError: there is no such logo, or the image is smaller than it.
        """
        if isinstance(mark, int) and not 0 <= mark < len(self.logos):
            raise InputError(f"mark: there is no logo {mark}", f"use 0 to {len(self.logos) - 1}")
        return padded(self.logos[mark].to(next(self.parameters()).dtype) / 255, height, width)

    def forward(self, image: Tensor, mark: int | Tensor = 0) -> Tensor:
        """Return the marked images (B, C, H, W), in [0, 1] and not rounded.

        Args:
            image: (B, C, H, W) in [0, 1], at least as large as the logo.
            mark: number of the logo, or a tensor (B,) with one for each image.
        """
        logo = self.logo(mark, *image.shape[-2:])
        made: Tensor = self.net(torch.cat([image, logo.expand(image.shape[0], -1, -1, -1)], dim=1))
        return (image + made - 0.5).clamp(0, 1) if self.sizes.adding else made

    def mark(self, images: ImageSet, mark: int = 0) -> ImageSet:
        """Return copies of `images` with a logo in each: protection of data that is to be published.

        Raises:
            InputError: an image has other channels or is smaller than the logo.
        """
        return ImageSet.of([_one(self, image, mark=mark) for image in images])

    def save(self, path: str | Path) -> Path:
        """Write H with its logos; raises InputError if the file exists."""
        about = {"channels": self.channels, "logos": list(self.logos.shape)}
        return atomic_write_bytes(path, _packed(self, about))

    @classmethod
    def load(cls, path: str | Path) -> Embedder:
        """Read what `save` wrote; raises InputError for another or a damaged file."""
        data = _bytes(path)
        about = _about(data, "embedder")
        embedder = cls(torch.zeros(about["logos"], dtype=torch.uint8), about["channels"], about["sizes"])
        load_state(embedder, data)
        embedder.pair = about["pair"]
        return embedder.eval()


class Extractor(nn.Module):
    """R and C: finds the logo in an image and names it. The owner's secret: who has R can train it away.

    Args:
        channels: of the images, 1 or 3.
        logo_channels: of the logos, 1 or 3.
        marks: number of logos.
        sizes: of R.

    Attributes:
        pair: the digest that R and its H share.
    """

    def __init__(
        self, channels: int = 1, logo_channels: int = 1, marks: int = 1, sizes: Sizes = PAPER
    ) -> None:
        super().__init__()
        self.arguments = {"channels": channels, "logo_channels": logo_channels, "marks": marks}
        self.sizes, self.pair = sizes, ""
        self.net = CEILNet(channels, logo_channels, sizes.extractor)
        self.classifier = LogoClassifier(logo_channels, marks)

    def forward(self, image: Tensor) -> Tensor:
        """Return what R finds in (B, C, H, W) images: (B, L, H, W) in [0, 1]; white is nothing."""
        return cast(Tensor, self.net(image)).clamp(0, 1)

    def extract(self, image: Tensor) -> tuple[Tensor, int]:
        """Return the picture found in one image, rounded to 8 bits, and its class by C: 0 for the blank.

        Args:
            image: (C, H, W) in [0, 1]; rounded to 8 bits first, as an answer of a service is.

        Raises:
            InputError: it has other channels or is not finite.
        """
        picture = _one(self, image)
        with evaluating(self):
            logits = self.classifier(picture[None].to(next(self.parameters())))
        return picture, int(logits.argmax())

    def save(self, path: str | Path, passphrase: str | None = None) -> Path:
        """Write R and C encrypted; the passphrase is found as for keys.

        Raises:
            InputError: the file exists, or there is no passphrase.
        """
        check_new(path, "path")  # before a passphrase is asked for
        data = _packed(self, {"arguments": self.arguments})
        return atomic_write_bytes(path, seal(data, passphrase, "extractor"), mode=0o600)

    @classmethod
    def load(cls, path: str | Path, passphrase: str | None = None) -> Extractor:
        """Read what `save` wrote.

        Raises:
            InputError: the file cannot be read, or there is no passphrase.
            KeyFileError: it is another file, or damaged.
            WrongPassphraseError: the passphrase does not open it.
        """
        data = unseal(_bytes(path), passphrase, "extractor")
        about = _about(data, "extractor")
        extractor = cls(**about["arguments"], sizes=about["sizes"])
        load_state(extractor, data)
        extractor.pair = about["pair"]
        return extractor.eval()


class LogoBarrier(nn.Module):
    """A host with H behind it, as it is deployed: the same signature, every answer marked. It holds no R."""

    def __init__(self, host: Host, embedder: Embedder, mark: int = 0) -> None:
        super().__init__()
        self.host, self.embedder, self.number = host, embedder, mark

    def forward(self, image: Tensor) -> Tensor:
        """Return the marked answers (B, C, H, W) in [0, 1]."""
        reply = self.host(image)
        return cast(Tensor, self.embedder(reply.clamp(0, 1), self.number))


def protect(host: Host, embedder: Embedder, image: Tensor, mark: int = 0) -> LogoBarrier:
    """Return a copy of `host` with one of H behind it, on its device and in its precision, to be deployed.

    Args:
        host: a module, or any function, such as a classical filter, which is not copied.
        embedder: H of a trained pair.
        image: (C, H, W); a ramp from black to white in its shape is asked once as a test.
        mark: number of the logo; one for each release or customer.

    Raises:
        ModelContractError: the host's answer is no image, not finite, or far outside [0, 1].
        InputError: the answer is smaller than the logo, or there is no such logo.
    """
    reply = answer(host, tone_ramp(image)[None], embedder.channels)
    embedder.logo(mark, *reply.shape[-2:])
    embedder = deepcopy(embedder).requires_grad_(False)
    if isinstance(host, nn.Module):
        host = deepcopy(host)
        embedder.to(next(host.parameters(), image))
    return LogoBarrier(host, embedder, mark).eval()


def answer(host: Host, images: Tensor, channels: int) -> Tensor:
    """Return what `host` answers to (B, C, H, W) images, rounded to 8 bits, as floats on the CPU.

    Raises:
        ModelContractError: the host fails, or its answer is no such batch, not finite, or far outside [0, 1].
    """
    try:
        if isinstance(host, nn.Module):
            parameter = next(host.parameters(), images)
            with evaluating(host):
                reply = host(images.to(parameter.device, parameter.dtype))
        else:
            with torch.no_grad():
                reply = host(images)
    except Exception as error:
        raise ModelContractError(
            f"host: it fails on an input of shape {tuple(images.shape)}: {error}",
            "give images of its channels and of a size it takes",
        ) from error
    wanted = (len(images), channels)
    if not isinstance(reply, Tensor) or reply.ndim != 4 or reply.shape[:2] != wanted:
        shape = tuple(reply.shape) if isinstance(reply, Tensor) else type(reply).__name__
        raise ModelContractError(
            f"host: {tuple(images.shape)} came back as {shape}",
            f"wrap it to return a tensor (B, {channels}, H, W), picking it out of a tuple or dict",
        )
    check_answer("host", images.shape, reply)
    return to_uint8(reply).float().cpu() / 255


def rounded(image: Tensor) -> Tensor:
    """Round to 8 bits with the gradient of the identity (straight-through)."""
    return image + (image.detach().clamp(0, 1).mul(255).round().div(255) - image.detach())


def identify(embedder: Embedder, extractor: Extractor) -> None:
    """Give a trained pair the digest that tells it from others: SHA-256 of H as it is."""
    embedder.pair = extractor.pair = hashlib.sha256(dump_state(embedder)).hexdigest()


def _one(net: Embedder | Extractor, image: Tensor, **options: Any) -> Tensor:
    """Return what a net gives for one image (C, H, W), rounded to 8 bits before and after."""
    channels = net.channels if isinstance(net, Embedder) else net.arguments["channels"]
    if image.ndim != 3 or image.shape[0] != channels or not torch.isfinite(image).all():
        raise InputError(
            f"image: shape {tuple(image.shape)} is no finite image of {channels} channels",
            f"give ({channels}, H, W) in [0, 1] without NaN",
        )
    with evaluating(net):
        given = (to_uint8(image)[None].float() / 255).to(next(net.parameters()))
        return to_uint8(net(given, **options)[0]).float().cpu() / 255


def _packed(net: Embedder | Extractor, about: dict[str, Any]) -> bytes:
    about = {**about, "sizes": asdict(net.sizes), "pair": net.pair}
    return save(load(dump_state(net)), {"about": json.dumps(about)})


def _about(data: bytes, what: str) -> dict[str, Any]:
    """Return what `_packed` wrote about a net; the header of a safetensors file is JSON after its length."""
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        about: dict[str, Any] = json.loads(header["__metadata__"]["about"])
        return {**about, "sizes": Sizes(**about["sizes"])}
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"{what}: not a file of ours, or damaged ({type(error).__name__})", "check the path"
        ) from error


def _bytes(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"path: cannot read {path} ({error.strerror})", "check the path") from error
