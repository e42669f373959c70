from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from modelguard import photos
from modelguard.codecs import DBMark
from modelguard.datasets import Thumbnail
from modelguard.errors import InputError
from modelguard.networks.coupling import Coupling
from modelguard.networks.dbmark import DBMarkNet, DBMarkSizes
from modelguard.networks.haar import haar, inverse_haar
from modelguard.networks.senet import InverseProcessor, MessageProcessor

few = settings(max_examples=20, deadline=None)
seeds = st.integers(0, 2**31 - 1)
TINY = DBMarkSizes(bits=8, side=32, tile=16, levels=2, blocks=3, growth=6, layers=2, width=8, se_blocks=1)


def random_blocks(seed: int, channels: int, scale: float) -> list[Coupling]:
    """Couplings with weights well away from their start, as after training."""
    torch.manual_seed(seed)
    blocks = [Coupling(channels, growth=6, layers=3) for _ in range(4)]
    with torch.no_grad():
        for block in blocks:
            for net in (block.phi, block.rho, block.eta):
                net.last.weight.mul_(scale)
    return blocks


@few
@given(seeds, st.integers(1, 2), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9))
def test_haar_keeps_energy_and_inverts(seed: int, batch: int, channels: int, rows: int, columns: int) -> None:
    image = torch.randn(batch, channels, 2 * rows, 2 * columns, generator=torch.Generator().manual_seed(seed))
    bands = haar(image)
    assert bands.shape == (batch, 4 * channels, rows, columns)
    torch.testing.assert_close(bands.pow(2).sum(), image.pow(2).sum(), rtol=1e-5, atol=0)
    torch.testing.assert_close(inverse_haar(bands), image, rtol=0, atol=1e-5)


def test_haar_bands_are_coarse_horizontal_vertical_diagonal() -> None:
    flat, columns = torch.ones(1, 1, 2, 2), torch.tensor([[[[1.0, -1.0], [1.0, -1.0]]]])
    assert haar(flat).flatten().tolist() == [2, 0, 0, 0]
    assert haar(columns).flatten().tolist() == [0, 2, 0, 0]
    assert haar(columns.transpose(2, 3)).flatten().tolist() == [0, 0, 2, 0]
    assert haar(columns * torch.tensor([[1.0], [-1.0]])).flatten().tolist() == [0, 0, 0, 2]


def test_haar_refuses_odd_sides() -> None:
    with pytest.raises(InputError, match="odd"):
        haar(torch.rand(1, 3, 8, 7))


@few
@given(seeds, st.floats(0, 10))
@torch.no_grad()
def test_couplings_invert_exactly(seed: int, scale: float) -> None:
    blocks = random_blocks(seed, 12, scale)
    image, message = torch.randn(2, 12, 8, 8), torch.randn(2, 12, 8, 8)
    a, b = image, message
    for block in blocks:
        a, b = block(a, b)
    size = max(1.0, float(a.abs().max()), float(b.abs().max()))
    for block in reversed(blocks):
        a, b = block.inverse(a, b)
    assert (a - image).abs().max() <= 1e-4 * size
    assert (b - message).abs().max() <= 1e-4 * size


@torch.no_grad()
def test_the_inverse_of_bf16_sub_nets_is_still_near() -> None:
    blocks = random_blocks(0, 12, 1.0)
    image, message = torch.randn(2, 12, 8, 8), torch.randn(2, 12, 8, 8)
    a, b = image, message
    with torch.autocast("cpu", torch.bfloat16):
        for block in blocks:
            a, b = block(a, b)
        assert a.dtype == b.dtype == torch.float32
        for block in reversed(blocks):
            a, b = block.inverse(a, b)
    assert (a - image).abs().max() < 0.02
    assert (b - message).abs().max() < 0.02


@pytest.mark.parametrize(("bf16", "image_error", "message_error"), [(False, 1e-5, 1e-5), (True, 0.01, 0.1)])
@torch.no_grad()
def test_a_trained_net_inverts(bf16: bool, image_error: float, message_error: float) -> None:
    net = DBMark.from_pretrained("combined-30").net
    shrink = Thumbnail(net.sizes.side)
    images = torch.stack([shrink(one, torch.Generator())[0] for one in photos.load(3)])
    container = bands = net.analyse(images)
    tile = net.processor(torch.randint(0, 2, (len(images), 30)).float() * 2 - 1)
    message = features = tile.repeat(1, 1, 8, 8)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        for block in net.blocks:
            container, message = block(container, message)
        for block in reversed(net.blocks):
            container, message = block.inverse(container, message)
    assert (net.synthesise(container) - net.synthesise(bands)).abs().max() <= image_error
    assert (message - features).abs().max() <= message_error


@torch.no_grad()
def test_the_log_scale_is_bounded_and_centred() -> None:
    block = Coupling(4, growth=4, layers=2, limit=0.5)
    block.rho.last.weight.mul_(1e6)
    image = torch.randn(1, 4, 8, 8)
    marked, grown = block(image, torch.ones(1, 4, 8, 8))
    factor = grown - block.eta(marked)
    assert factor.max() <= torch.tensor(0.5).exp() + 1e-5
    assert factor.min() >= torch.tensor(-0.5).exp() - 1e-5
    block.rho.last.weight.zero_()
    marked, kept = block(image, torch.ones(1, 4, 8, 8))
    torch.testing.assert_close(kept - block.eta(marked), torch.ones(1, 4, 8, 8))


def test_a_message_reaches_the_image_and_gradients_reach_both_halves_from_the_start() -> None:
    torch.manual_seed(0)
    net, image = DBMarkNet(TINY), torch.rand(2, 3, 32, 32)
    bits = torch.randint(0, 2, (2, 8))
    marked, soft = net(image, bits, lambda marked, cover: marked)
    assert not torch.equal(marked[0] - image[0], net.embed(image, 1 - bits)[0] - image[0])
    soft.pow(2).sum().backward()
    gradients = {name: p.grad for name, p in net.named_parameters()}
    for part in ("processor.spread.weight", "blocks.0.phi.last.weight", "blocks.0.eta.last.weight"):
        gradient = gradients[part]
        assert gradient is not None
        assert gradient.abs().max() > 0


@torch.no_grad()
def test_extraction_is_a_function_of_the_image() -> None:
    net, image = DBMarkNet(TINY).eval(), torch.rand(2, 3, 32, 32)
    assert torch.equal(net.extract(image), net.extract(image))
    torch.testing.assert_close(net.extract(image)[:1], net.extract(image[:1]))


@torch.no_grad()
def test_the_way_back_weighs_places_by_their_trust() -> None:
    torch.manual_seed(1)
    reader = InverseProcessor(4, 6, tile=4, width=8, blocks=1)
    reader.head = torch.nn.Identity()  # type: ignore[assignment]
    reader.trust, reader.features = torch.nn.Conv2d(6, 1, 1), torch.nn.Conv2d(6, 6, 1)
    reader.body, reader.gather = torch.nn.Sequential(torch.nn.Conv2d(6, 1, 1)), torch.nn.Linear(16, 4)
    reader.trust.weight.zero_()
    reader.trust.weight[0, 0] = 1
    tile = torch.randn(1, 6, 4, 4)
    tile[:, 0] = 20  # trusted
    distrusted = torch.randn(1, 6, 4, 4)
    distrusted[:, 0] = -20
    row = torch.cat([distrusted, tile, distrusted, distrusted], 3)
    torch.testing.assert_close(reader(row), reader(tile), atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize(("bits", "tile", "maps"), [(30, 8, 1), (30, 4, 4), (64, 16, 1), (128, 8, 4)])
def test_a_tile_holds_at_least_two_values_a_bit(bits: int, tile: int, maps: int) -> None:
    assert MessageProcessor(bits, 12, tile, width=8, blocks=1).spread.out_features == maps * tile**2


@pytest.mark.parametrize(
    ("changes", "name"),
    [({"bits": 0}, "bits"), ({"layers": 1}, "layers"), ({"tile": 24}, "tile"), ({"tile": 2}, "tile")],
)
def test_impossible_sizes_are_named(changes: dict[str, int], name: str) -> None:
    with pytest.raises(InputError, match=name):
        replace(TINY, **changes)


@pytest.mark.parametrize(
    "image",
    [
        torch.rand(3, 32, 32),
        torch.rand(1, 1, 32, 32),
        torch.rand(1, 3, 32, 34),
        torch.zeros(1, 3, 32, 32).byte(),
    ],
)
def test_images_of_other_shapes_are_refused(image: Tensor) -> None:
    net = DBMarkNet(TINY)
    calls: list[Callable[[], Tensor]] = [
        lambda: net.embed(image, torch.zeros(1, 8)),
        lambda: net.extract(image),
    ]
    for call in calls:
        with pytest.raises(InputError, match="image"):
            call()
