from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from service import Smoother, psnr
from torch import Tensor, nn

from modelguard.attacks import (
    Loot,
)
from modelguard.attacks.stolen_pairs import StolenPatches, mark_truth, query
from modelguard.datasets import ImagePairs, ImageSet, to_uint8
from modelguard.errors import InputError, ModelContractError, SuspectError


def test_the_service_is_asked_and_answers_in_8_bits(light_loot: Loot, pairs: ImagePairs) -> None:
    assert len(pairs) == len(light_loot.images)
    for question, answer in pairs:
        assert torch.equal(to_uint8(Smoother()(question[None])[0]), to_uint8(answer))
    again = query(Smoother(), light_loot)
    assert all(torch.equal(a, b) for a, b in zip(pairs.inputs, again.inputs, strict=True))


def test_truth_is_the_marked_clean_image(light_loot: Loot) -> None:
    pairs = mark_truth(lambda image: (image + 0.1).clamp(max=1), light_loot)
    for (_, target), clean in zip(pairs, light_loot.images, strict=True):
        torch.testing.assert_close(target, (clean + 0.1).clamp(max=1), atol=0.003, rtol=0)


class Tuple(nn.Module):
    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return image, image


def test_what_is_no_model_of_images_is_refused(light_loot: Loot) -> None:
    with pytest.raises(SuspectError, match="a tuple"):
        query(Tuple(), light_loot)
    with pytest.raises(ModelContractError, match="came back as"):
        query(nn.AvgPool2d(2), light_loot)


def pair_of(height: int, width: int, scale: int = 1) -> ImagePairs:
    place = torch.arange(height * width).reshape(1, height, width).remainder(251).to(torch.uint8)
    big = place.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    return ImagePairs((place,), (255 - big,))


def drawn(pairs: ImagePairs, size: int, *augmentations: str, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    patches = StolenPatches(pairs, size, frozenset(augmentations), 60, seed)
    return [patches[index] for index in range(60)]


def test_without_augmentation_patches_are_tiles_of_a_grid() -> None:
    pairs = pair_of(40, 35)
    tiles = {
        pairs.inputs[0][:, top : top + 16, left : left + 16].numpy().tobytes()
        for top in (0, 16)
        for left in (0, 16)
    }
    assert {to_uint8(one).numpy().tobytes() for one, _ in drawn(pairs, 16)} == tiles


def test_flips_turn_question_and_answer_alike() -> None:
    pairs = pair_of(16, 16)
    seen = drawn(pairs, 16, "flips")
    assert len({one.numpy().tobytes() for one, _ in seen}) == 8
    assert all(torch.equal(to_uint8(one), 255 - to_uint8(two)) for one, two in seen)


def test_crops_lie_anywhere() -> None:
    seen = {one.numpy().tobytes() for one, _ in drawn(pair_of(40, 35), 16, "crop")}
    assert len(seen) > 40


@pytest.mark.parametrize("scale", [1, 2])
def test_resized_patches_still_fit_their_answers(scale: int) -> None:
    ramp = torch.linspace(0, 255, 64).to(torch.uint8).expand(1, 64, 64).contiguous()
    pairs = ImagePairs((ramp,), (ramp.repeat_interleave(scale, 1).repeat_interleave(scale, 2),))
    steps = set()
    for question, answer in drawn(pairs, 32, "resize", "crop"):
        assert question.shape[1:] == (32, 32)
        assert answer.shape[1:] == (32 * scale, 32 * scale)
        small = F.avg_pool2d(answer, scale)
        assert (small - question).abs().mean() < 0.01
        steps.add(round(float(question[0, 0, -4] - question[0, 0, 4]) / 24 * 255, 1))
    assert min(steps) < 0.85 * 255 / 63 < 1.2 * 255 / 63 < max(steps)  # slopes of the ramp, 0.77 to 1.43


def test_jpeg_compresses_both_at_many_qualities(photos: ImageSet) -> None:
    pairs = ImagePairs(photos.images, photos.images)
    patches = drawn(pairs, 32, "jpeg")
    assert all(torch.equal(one, two) for one, two in patches)
    plain = drawn(pairs, 32)
    errors = {round(psnr(one, other), 2) for (one, _), (other, _) in zip(patches, plain, strict=True)}
    assert len(errors) > 30


@pytest.mark.parametrize("augmentations", [(), ("flips", "crop", "resize", "jpeg")])
def test_patches_are_functions_of_seed_and_index(pairs: ImagePairs, augmentations: tuple[str, ...]) -> None:
    one, two, other = (drawn(pairs, 16, *augmentations, seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(one, two, strict=True))
    assert any(not torch.equal(a[0], b[0]) for a, b in zip(one, other, strict=True))


def test_too_large_patches_are_refused(pairs: ImagePairs) -> None:
    with pytest.raises(InputError, match="48 px, patches need 49"):
        StolenPatches(pairs, 49, frozenset(), 1)
