"""Models of clips, protected as film strips: a small net that sees three frames at once and doubles them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import modelguard as mg
from modelguard import photos
from modelguard.attacks import FineTune, Loot, Prune
from modelguard.datasets import Downscale, Filmed, ImageSet, Motion
from modelguard.distortions import H264
from modelguard.errors import InputError, SuspectError
from modelguard.evidence import Owner
from modelguard.networks import FilmStrip, Still
from modelguard.protecting import Protected
from modelguard.schemes import Barrier, Contract, TriggerKey, keyed_cells, probe
from modelguard.schemes.barrier import Filtered
from modelguard.suspects import ClipSuspect, ModuleSuspect

FRAMES = 3
TASK = Filmed(Downscale(2), FRAMES, Motion(shift=2))
Clip = npt.NDArray[np.uint8]


class Doubler(nn.Module):
    """(B, T, 3, h, w) to (B, T, 3, 2h, 2w): each frame sees its neighbours through 3-D convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.inward = nn.Conv3d(3, 16, (1, 3, 3), padding=(0, 1, 1))
        self.across = nn.Conv3d(16, 16, (3, 1, 1), padding=(1, 0, 0))
        layers = (nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()) for _ in range(2))
        self.outward = nn.Sequential(*layers, nn.Conv2d(16, 12, 3, padding=1))

    def forward(self, clip: Tensor) -> Tensor:
        features = self.across(self.inward(clip.transpose(1, 2)).relu()).relu().transpose(1, 2)
        change = F.pixel_shuffle(self.outward(features.flatten(0, 1)), 2)
        large = F.interpolate(clip.flatten(0, 1), scale_factor=2.0, mode="bilinear") + change
        return large.view(*clip.shape[:2], *large.shape[1:])


@pytest.fixture(scope="module")
def doubler() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Doubler().eval()


@pytest.fixture(scope="module")
def stills(make_photo: Callable[..., Tensor]) -> ImageSet:
    return ImageSet.of([make_photo(seed, 3, 64, 72) for seed in range(4)])


@pytest.fixture(scope="module")
def marked(doubler: nn.Module, stills: ImageSet, owner: Owner) -> Protected:
    scheme = TriggerKey(
        leaves=6, per_query=3, steps=300, batch=1, patch=20, lr=1e-2, amplitude=0.1, fidelity=1.0
    )
    return mg.protect(
        FilmStrip(doubler, FRAMES), scheme, data=stills, owner=owner, task=TASK, name="doubler", stretch=1
    )


def clips_of(model: nn.Module, pick: list[int]) -> ClipSuspect:
    """A service around a film strip's net that returns only some of its frames, in this order."""

    def enlarge(clip: Clip) -> npt.NDArray[np.float32]:
        assert isinstance(model, FilmStrip)
        with torch.no_grad():
            answer = model.net(torch.from_numpy(clip).permute(0, 3, 1, 2)[None].float() / 255)
        large: npt.NDArray[np.float32] = answer[0, pick].clamp(0, 1).permute(0, 2, 3, 1).numpy()
        return large

    return ClipSuspect(enlarge, FRAMES)


def test_a_model_of_clips_is_marked_with_one_clip(marked: Protected, doubler: nn.Module) -> None:
    scheme = marked.registration.scheme
    assert (scheme["id"], scheme["frames"], scheme["channels"], scheme["scale"]) == (
        keyed_cells.CLIP_ID,
        FRAMES,
        3,
        2,
    )
    verdict = mg.verify(marked.model, marked.key)
    assert verdict.match
    assert (verdict.queries, verdict.test.bits) == (1, 3 * 64)
    assert not mg.verify(FilmStrip(doubler, FRAMES), marked.key).match
    assert isinstance(marked.model, FilmStrip)
    assert marked.model.net(torch.rand(1, 7, 3, 8, 10)).shape == (1, 7, 3, 16, 20)  # any length, as before
    assert marked.registration.fields["model"]["input"] == "u8 rgb 3 frames of HxW"


def test_the_evidence_of_a_clip_is_checked_as_any_other(
    marked: Protected, owner: Owner, tmp_path: Path
) -> None:
    verdict = mg.verify(clips_of(marked.model, [0, 1, 2]), marked.key, label="vendor X")
    checked = verdict.certify(owner, tmp_path / "evidence")
    assert checked.verdict == "match"
    assert mg.check(tmp_path / "evidence", trust=[owner.public]).log10_p_adj == checked.log10_p_adj


def test_a_barrier_marks_every_frame_and_is_read_from_stills(doubler: nn.Module, owner: Owner) -> None:
    protected = mg.protect(Still(doubler, FRAMES), Barrier(), data=photos.load(3), owner=owner, stretch=1)
    barred = protected.model
    assert isinstance(barred, Filtered)
    barred.host = doubler  # as it is deployed: clips in, clips out
    clip = torch.rand(2, 5, 3, 24, 32)
    with torch.no_grad():
        plain, answer = doubler(clip).clamp(0, 1), barred(clip)
    assert answer.shape == plain.shape
    assert not torch.equal(answer, plain)
    torch.testing.assert_close(answer[1, 3], barred.mark(plain[1, 3:4])[0])
    still = ModuleSuspect(Still(barred, FRAMES))
    assert mg.verify(still, protected.key, photos=photos.load(3), queries=10).match
    assert not mg.verify(Still(doubler, FRAMES), protected.key, photos=photos.load(3), queries=10).match


@pytest.mark.parametrize("crf", [23, 28])
def test_the_mark_outlives_h264(marked: Protected, crf: int) -> None:
    coded = ModuleSuspect(marked.model, FilmStrip(H264(crf), FRAMES))
    assert mg.verify(coded, marked.key).log10_p_adj < -6


@pytest.mark.parametrize("pick", [[0, 2], [1, 2], [0, 1, 1, 2]], ids=["dropped", "cut", "repeated"])
def test_frames_that_are_lost_cost_no_more_than_their_bits(marked: Protected, pick: list[int]) -> None:
    verdict = mg.verify(clips_of(marked.model, pick), marked.key)
    assert verdict.converted == 1
    # a frame that is gone agrees by chance; those that came agree as they do in a whole clip
    whole = mg.verify(marked.model, marked.key).test
    lost = 64 * (FRAMES - len(set(pick)))
    assert verdict.test.matches > whole.matches * (1 - lost / whole.bits) - 10
    assert verdict.match


def test_thieves_attack_a_film_strip_like_any_model(marked: Protected, stills: ImageSet) -> None:
    loot = Loot(stills, TASK)
    for attack in (Prune(0.2), FineTune(steps=3, batch=1, lr=1e-4, patch=20)):
        stolen = attack(marked.model, loot)
        changed = zip(stolen.parameters(), marked.model.parameters(), strict=True)
        assert not all(torch.equal(one, other) for one, other in changed)
        assert mg.verify(stolen, marked.key).match


def test_covers_of_a_clip_are_still_clips(
    marked: Protected, make_photo: Callable[..., Tensor], tmp_path: Path
) -> None:
    mg.datasets.write_image(tmp_path / "photo.png", make_photo(1, 3))
    seen: list[Clip] = []

    def service(clip: Clip) -> Clip:
        seen.append(clip)
        return clip.repeat(2, 1).repeat(2, 2)

    verdict = mg.verify(ClipSuspect(service, FRAMES), marked.key, cover=tmp_path)
    assert (verdict.ordinary, verdict.match) == (1, False)
    assert sum(all((frame == clip[0]).all() for frame in clip) for clip in seen) == 1


def test_what_is_no_clip_is_refused(doubler: nn.Module, stills: ImageSet, owner: Owner) -> None:
    strip = FilmStrip(doubler, FRAMES)
    assert probe(strip, torch.rand(3, 24, 8)) == Contract(3, 2, FRAMES)
    with pytest.raises(mg.errors.ModelContractError, match="no strip of 3 frames"):
        probe(strip, torch.rand(3, 25, 8))
    with pytest.raises(InputError, match="Barrier is read from photos"):
        mg.protect(strip, Barrier(), data=stills, owner=owner, stretch=1)
    with pytest.raises(InputError, match="no room to move"):
        TASK(torch.rand(3, 4, 20), torch.Generator())
    shorter = nn.Module()
    shorter.forward = lambda clip: clip[:, :2]  # type: ignore[method-assign]
    with pytest.raises(SuspectError, match="3 frames came back as"):
        ModuleSuspect(FilmStrip(shorter, FRAMES)).ask(np.zeros((24, 8, 3), np.uint8))


def test_a_camera_over_a_still_makes_the_same_strip_each_time() -> None:
    clean = torch.rand(3, 20, 24)
    given, target = TASK(clean, torch.Generator().manual_seed(1))
    assert given.shape == (3, FRAMES * 8, 8)
    assert target.shape == (3, FRAMES * 16, 16)
    again = TASK(clean, torch.Generator().manual_seed(1))
    assert torch.equal(given, again[0])
    still = Filmed(Downscale(2), FRAMES, Motion(shift=0))
    shifted = still(clean, torch.Generator().manual_seed(8))[1].chunk(FRAMES, 1)
    assert shifted[1].shape == (3, 20, 20)
    torch.testing.assert_close(shifted[1], clean[:, :, 2:22], atol=1e-5, rtol=0)
