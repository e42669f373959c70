"""DBMARK: an invertible net that hides bits in an image's wavelet bands.

After Ye et al., "Deep Boosting Robustness of DNN-based Image Watermarking via DBMARK".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from modelguard.errors import InputError
from modelguard.networks.coupling import Coupling
from modelguard.networks.haar import WaveletSizes, analyse, synthesise
from modelguard.networks.senet import InverseProcessor, MessageProcessor


@dataclass(frozen=True)
class DBMarkSizes(WaveletSizes):
    """All that shapes a DBMARK net; saved with its weights.

    Args:
        bits: length of a message.
        side: of the square image, in pixels.
        tile: side of the repeated message, in image pixels.
        levels: Haar transforms, one of another, before the blocks. The paper has one; with two the blocks see
            twice as far at half the cost.
        blocks: invertible blocks; HiNet, which the paper builds on, has 16.
        growth: of the dense sub-nets; 32 there.
        layers: convolutions of a dense sub-net; 5 there.
        width: of the message processors.
        se_blocks: SE blocks of either message processor.
    """

    bits: int = 30
    side: int = 128
    tile: int = 16
    levels: int = 1
    blocks: int = 16
    growth: int = 32
    layers: int = 5
    width: int = 64
    se_blocks: int = 4

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, int) or value < 1:
                raise InputError(f"{name}: {value!r} is no size", "use a whole number from 1")
        if self.layers < 2:
            raise InputError(f"layers: {self.layers} leaves a sub-net linear", "use 2 or more")
        if self.side % self.tile or self.tile % self.scale:
            raise InputError(
                f"tile: {self.tile} px does not divide a side of {self.side} px "
                f"or is not a multiple of {self.scale} px",
                "choose a power of two, such as 16",
            )


class DBMarkNet(nn.Module):
    """Embeds and extracts with the same invertible blocks.

    Images are (B, 3, side, side) in [0, 1], of `sizes`; the marked image is unclamped. On extraction the lost
    message branch is replaced by zeros rather than by the Gaussian draw of the paper: the answer is then a
    function of the image alone.
    """

    def __init__(self, sizes: DBMarkSizes) -> None:
        super().__init__()
        self.sizes = sizes
        shape = (sizes.bits, sizes.bands, sizes.tile // sizes.scale, sizes.width, sizes.se_blocks)
        self.processor, self.inverse_processor = MessageProcessor(*shape), InverseProcessor(*shape)
        self.blocks = nn.ModuleList(
            Coupling(sizes.bands, sizes.growth, sizes.layers) for _ in range(sizes.blocks)
        )

    def analyse(self, image: Tensor) -> Tensor:
        """Return the wavelet bands of images, fp32 (B, bands, side/scale, side/scale)."""
        return analyse(image, self.sizes.levels)

    def synthesise(self, bands: Tensor) -> Tensor:
        """Return the images of wavelet bands."""
        return synthesise(bands, self.sizes.levels)

    def embed(self, image: Tensor, bits: Tensor) -> Tensor:
        """Return `image` with `bits`, (B, L) of 0 and 1, in it."""
        self._check(image)
        tile = self.processor(2 * bits.float() - 1).float()
        repeats = self.sizes.side // self.sizes.tile
        container, message = self.analyse(image), tile.repeat(1, 1, repeats, repeats)
        for block in self.blocks:
            container, message = block(container, message)
        return self.synthesise(container)

    def extract(self, image: Tensor) -> Tensor:
        """Return soft bits (B, L): about -1 for a 0, +1 for a 1, near 0 where the image does not say."""
        self._check(image)
        container = self.analyse(image)
        message = torch.zeros_like(container)
        for block in reversed(self.blocks):
            container, message = block.inverse(container, message)  # type: ignore[operator]
        soft: Tensor = self.inverse_processor(message)
        return soft

    def forward(
        self, image: Tensor, bits: Tensor, channel: Callable[[Tensor, Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return the marked image, and the soft bits read from what `channel(marked, image)` makes of it."""
        marked = self.embed(image, bits)
        return marked, self.extract(channel(marked, image))

    def _check(self, image: Tensor) -> None:
        expected = (3, self.sizes.side, self.sizes.side)
        if image.ndim != 4 or tuple(image.shape[1:]) != expected or not image.is_floating_point():
            raise InputError(
                f"image: {tuple(image.shape)} of {image.dtype} does not fit the net",
                f"give a float tensor (B, {', '.join(map(str, expected))}) in [0, 1]",
            )
