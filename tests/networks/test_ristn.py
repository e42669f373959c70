from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from modelguard import networks, weights
from modelguard.errors import InputError
from modelguard.networks import RISTN, RISTNSizes, bicubic, upscale
from modelguard.networks.rdc_lstm import RDCLSTM
from modelguard.networks.ristn import Slope

TINY = RISTNSizes(width=8, stages=((2,), (1, 2)), layers=2, growth=4, features=8)


def build(sizes: RISTNSizes = TINY, seed: int = 0, *, checkpointing: bool = False) -> RISTN:
    """Return a net with batch statistics of its own, so that evaluation is not the identity."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = RISTN(sizes, checkpointing=checkpointing)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, std=0.1)  # type: ignore[arg-type]
                nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
            if isinstance(module, RDCLSTM):
                for parameter in module.parameters():
                    nn.init.normal_(parameter, std=0.3)
        nn.init.normal_(net.fusion.weight, std=0.3)
    return net.eval().requires_grad_(False)


def clip_of(frames: int, batch: int = 1, height: int = 6, width: int = 7, seed: int = 0) -> Tensor:
    return torch.rand(batch, frames, 3, height, width, generator=torch.Generator().manual_seed(seed))


def without_look_ahead(net: RISTN) -> RISTN:
    """Return the net with backward cells that stay at zero, so that no frame knows a later one."""
    for layer in net.temporal.layers:
        for parameter in layer.parameters():
            parameter[4 * layer.growth :] = 0
    return net


def test_every_part_has_the_published_number_of_parameters() -> None:
    net = RISTN()
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in net.named_children()}
    stages = [[sum(p.numel() for p in block.parameters()) for block in s] for s in net.spatial.stages]
    assert stages == [[2_072], [13_704, 10_270], [81_104, 67_576], [170_110, 283_602]]
    assert parts == {
        "spatial": 628_438,
        "temporal": 2_213_120,
        "adapter_in": 512 + 81_920,
        "adapter_out": 81_920 + 512,
        "fusion": 131_072,
        "head": 66_304 + 66_048,
        "tail": 524_290 + 6_912,
    }
    assert sum(parts.values()) == 3_803_120 - 2_072 == sum(p.numel() for p in net.parameters())


@pytest.mark.slow
def test_the_published_net_runs_both_ways() -> None:
    net, clip = RISTN(), clip_of(5, 1, 48, 48)
    large = net(clip)
    assert large.shape == (1, 5, 3, 192, 192)
    (large.mean() + net.fusion_penalty()).backward()
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("temporal", [False, True])
def test_clips_of_any_length_and_odd_sizes_become_four_times_as_large(temporal: bool, skip: bool) -> None:
    sizes = RISTNSizes(**{**vars(TINY), "temporal": temporal, "skip": skip})
    net = RISTN(sizes)
    for frames, height, width in ((5, 6, 8), (1, 5, 3), (7, 1, 1)):
        large = net(clip_of(frames, 2, height, width))
        assert large.shape == (2, frames, 3, 4 * height, 4 * width)
    large.mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_no_state_is_a_state_of_zeros() -> None:
    net, clip = build(), clip_of(5, 2)
    plain, after = net.step(clip, keep=3)
    assert torch.equal(net(clip), plain)
    again, same = net.step(clip, torch.zeros(2, 2, 2, 4, 6, 7), keep=3)
    assert after is not None
    assert same is not None
    assert torch.equal(plain, again)
    assert torch.equal(after, same)


@pytest.mark.parametrize("keep", [1, 3, 5])
def test_windows_that_carry_the_state_are_the_whole_clip(keep: int) -> None:
    net, clip = without_look_ahead(build()), clip_of(11)
    whole, last = net.step(clip)
    state, parts = None, []
    for start in range(0, 11, keep):
        window = clip[:, start : start + 5]
        now = min(keep, window.shape[1])
        large, state = net.step(window, state, now)
        parts.append(large[:, :now])
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-6, rtol=0)
    torch.testing.assert_close(state, last, atol=1e-6, rtol=0)
    alone = net(clip[:, keep : keep + 5])
    assert (alone[:, 0] - whole[:, keep]).abs().max() > 1e-4  # the state does something


def test_the_state_is_the_one_after_the_kept_frames() -> None:
    net, clip = without_look_ahead(build()), clip_of(5)
    early = net.step(clip, keep=2)[1]
    assert early is not None
    torch.testing.assert_close(early, net.step(clip[:, :2])[1], atol=1e-6, rtol=0)
    assert (early - net.step(clip)[1]).abs().max() > 1e-3


def test_clips_of_a_batch_do_not_mix() -> None:
    net, clip = build(), clip_of(5, 2)
    state = torch.rand(2, 2, 2, 4, 6, 7)
    both, after = net.step(clip, state, 3)
    assert after is not None
    for number in range(2):
        one = slice(number, number + 1)
        large, own = net.step(clip[one], state[:, :, one], 3)
        torch.testing.assert_close(large, both[one], atol=1e-6, rtol=0)
        torch.testing.assert_close(own, after[:, :, one], atol=1e-6, rtol=0)


def test_frames_know_of_each_other_only_through_the_temporal_part() -> None:
    clip = clip_of(5)
    other = clip.clone()
    other[:, 2] = 0
    for temporal in (True, False):
        net = build(RISTNSizes(**{**vars(TINY), "temporal": temporal}))
        change = (net(clip) - net(other)).abs().amax((0, 2, 3, 4))
        assert change[2] > 0
        assert bool((change > 0).all()) is temporal
        assert (net.step(clip)[1] is not None) is temporal


def test_the_shared_slope_is_a_prelu_of_one_parameter() -> None:
    ours, torchs, found = Slope(), nn.PReLU(), []
    for module in (ours, torchs):
        x = torch.linspace(-2, 2, 9, requires_grad=True)
        y = module(x)
        y.square().sum().backward()
        found.append((y, x.grad, module.weight.grad))
    torch.testing.assert_close(found[0], found[1])
    assert ours.state_dict().keys() == torchs.state_dict().keys()


def test_half_precision_and_autocast_are_near_full_precision() -> None:
    net, clip = build(), clip_of(5)
    full = net(clip)
    with torch.autocast("cpu", torch.bfloat16):
        mixed, state = net.step(clip)
    assert state is not None
    assert state.dtype == torch.float32
    for answer in (mixed, net.bfloat16()(clip.bfloat16())):
        assert answer.dtype == torch.bfloat16
        assert (answer.float() - full).abs().max() < 0.1 * full.abs().max()


def test_checkpointing_changes_nothing_but_the_memory() -> None:
    grads, statistics = [], []
    for checkpointing in (False, True):
        net = build(checkpointing=checkpointing).requires_grad_(True).train()
        net(clip_of(4, 2)).square().mean().backward()
        grads.append([p.grad for p in net.parameters()])
        statistics.append([b.clone() for b in net.buffers()])
    torch.testing.assert_close(grads[0], grads[1])
    torch.testing.assert_close(statistics[0], statistics[1], rtol=0, atol=0)


def test_the_skip_begins_at_bicubic() -> None:
    clip = clip_of(3)
    net = RISTN(RISTNSizes(**{**vars(TINY), "skip": True}))
    large = bicubic(clip[0], (24, 28))
    assert (net(clip)[0] - large).abs().max() < 0.05
    assert (RISTN(TINY)(clip)[0] - large).abs().max() > 0.1


def test_the_fusion_matrix_is_a_parameter_and_its_penalty_shrinks_it() -> None:
    net = RISTN(TINY)
    assert "fusion.weight" in net.state_dict()
    assert float(net.fusion_penalty().detach()) == pytest.approx(
        float(net.fusion.weight.detach().abs().sum())
    )
    net.fusion_penalty().backward()
    assert torch.equal(net.fusion.weight.grad, net.fusion.weight.sign())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda net: net(torch.rand(5, 3, 4, 4)), "clip: its shape is"),
        (lambda net: net(torch.rand(1, 5, 1, 4, 4)), "clip: its shape is"),
        (lambda net: net(torch.rand(1, 0, 3, 4, 4)), "clip: its shape is"),
        (lambda net: net(torch.zeros(1, 5, 3, 4, 4, dtype=torch.uint8)), "values are torch.uint8"),
        (lambda net: net.step(clip_of(5), keep=6), "keep: 6"),
        (lambda net: net.step(clip_of(5), keep=0), "keep: 0"),
        (lambda net: net.step(clip_of(5), torch.zeros(2, 2, 1, 4, 6, 6)), "state: its shape is"),
        (lambda net: RISTNSizes(width=5), "width: 5"),
        (lambda net: RISTNSizes(layers=0), "layers: 0"),
        (lambda net: RISTNSizes(stages=((2, 2), (2, 2))), "stages"),
        (lambda net: next(upscale(net, [])), "frames: there are none"),
        (lambda net: next(upscale(net, clip_of(5)[0], step=6)), "step: 6"),
        (lambda net: list(upscale(net, [*clip_of(5)[0], torch.rand(3, 7, 6)])), "number 5 is 6 x 7 px"),
    ],
)
def test_bad_input_is_named(call: Callable[[RISTN], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(build())


def test_a_stream_is_windows_with_the_state_handed_on() -> None:
    net, clip = build(), clip_of(10)
    first, state = net.step(clip[:, :5], None, 3)
    second, state = net.step(clip[:, 3:8], state, 3)
    filled = torch.cat([clip[:, 6:], clip[:, -1:]], 1)
    last, _ = net.step(filled, state, 3)
    expected = torch.cat([first[0, :3], second[0, :3], last[0, :4]])
    assert torch.equal(torch.stack(list(upscale(net, clip[0]))), expected)
    forgetful = torch.stack(list(upscale(net, clip[0], carry=False)))
    assert torch.equal(forgetful[:3], expected[:3])
    assert (forgetful[3:] - expected[3:]).abs().max() > 1e-4


@pytest.mark.parametrize("frames", [1, 2, 4, 5])
def test_a_short_clip_is_filled_up_with_its_last_frame(frames: int) -> None:
    net, clip = build(), clip_of(frames)
    filled = torch.cat([clip, *[clip[:, -1:]] * (5 - frames)], 1)
    assert torch.equal(torch.stack(list(upscale(net, clip[0]))), net(filled)[0, :frames])


def test_a_stream_is_read_no_further_than_needed_and_leaves_the_net_as_it_was() -> None:
    read = 0

    def frames() -> Iterator[Tensor]:
        nonlocal read
        for frame in clip_of(20)[0]:
            read += 1
            yield frame

    net = build().train()
    for number, _ in enumerate(upscale(net, frames())):
        assert net.training
        assert read <= number + 6
    assert number == 19


def test_weights_bring_their_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = build().half().float()
    weights.publish(net, "ristn-tiny", {}, tmp_path, config={"ristn": vars(TINY)})
    weights.publish(net, "dncnn-tiny", {}, tmp_path)
    clip = clip_of(2)
    loaded = networks.ristn(pretrained=tmp_path / "ristn-tiny.safetensors")
    assert not loaded.training
    assert torch.equal(loaded(clip), net(clip))
    with pytest.raises(InputError, match="holds no RISTN"):
        networks.ristn(pretrained=tmp_path / "dncnn-tiny.safetensors")
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    assert torch.equal(networks.ristn(pretrained="tiny")(clip), net(clip))
    with pytest.raises(InputError, match="no weights called 'ristn-small'"):
        networks.ristn(pretrained="small")
    with pytest.raises(InputError, match="sizes"):
        networks.ristn(TINY, pretrained="tiny")
    assert not networks.ristn(TINY).training
