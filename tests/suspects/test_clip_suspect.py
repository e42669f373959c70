from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from modelguard.errors import InputError, SuspectError
from modelguard.suspects import ClipSuspect, as_suspect

Clip = npt.NDArray[np.uint8]
STRIP: Clip = np.random.default_rng(0).integers(40, 216, (5 * 16, 24, 3), np.uint8)


def enlarged(clip: Clip) -> Clip:
    return (64 + clip // 2).repeat(2, 1).repeat(2, 2)


def frames(strip: Clip) -> Clip:
    return strip.reshape(5, -1, *strip.shape[1:])


def test_clips_are_strips_in_the_record() -> None:
    seen: list[Clip] = []

    def answer(clip: Clip) -> npt.NDArray[np.float64]:
        seen.append(clip)
        return enlarged(clip) / 255

    suspect = ClipSuspect(answer, 5)
    assert as_suspect(suspect) is suspect
    assert suspect.kind == "callable"
    found = suspect.ask(STRIP)
    np.testing.assert_array_equal(seen[0], frames(STRIP))
    assert found.image is not None
    np.testing.assert_array_equal(frames(found.image), enlarged(frames(STRIP)))
    assert found.converted == "float64 to uint8"


@pytest.mark.parametrize(
    "pick",
    [[0, 1, 2], [1, 2, 3, 4], [0, 2, 3, 4], [4], [0, 0, 1, 2, 2, 3, 4], [0, 1, 1, 3, 4]],
    ids=["cut after", "cut before", "dropped", "one", "repeated", "frozen"],
)
def test_frames_go_where_they_belong(pick: list[int]) -> None:
    found = ClipSuspect(lambda clip: enlarged(clip)[pick], 5).ask(STRIP)
    assert found.image is not None
    assert found.image.shape == (5 * 32, 48, 3)
    assert found.converted == f"{len(pick)} frames for 5, {len(set(pick))} of them placed"
    large = frames(STRIP).repeat(2, 1).repeat(2, 2)
    for number, frame in enumerate(frames(found.image)):
        if number in pick:
            np.testing.assert_array_equal(frame, enlarged(frames(STRIP))[number])
        else:  # the frame asked, about the middle, in half the contrast that the answers have
            np.testing.assert_allclose(frame, 127.5 + (large[number] - 127.5) / 2, atol=1.5)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "returned NoneType, no clip"),
        (np.zeros((16, 24, 3), np.uint8), r"returned shape \(16, 24, 3\), no clip"),
        (np.zeros((0, 16, 24, 3), np.uint8), "no clip"),
        (np.full((5, 16, 24, 3), 2.0), "floats from 2 to 2"),
    ],
)
def test_what_is_no_clip_is_an_error(answer: object, message: str) -> None:
    with pytest.raises(SuspectError, match=message):
        ClipSuspect(lambda clip: answer, 5).ask(STRIP)


def test_a_callable_that_fails_is_an_error() -> None:
    with pytest.raises(SuspectError, match="ZeroDivisionError"):
        ClipSuspect(lambda clip: 1 // 0, 5).ask(STRIP)
    with pytest.raises(InputError, match="80 rows are no 3 frames"):
        ClipSuspect(enlarged, 3).ask(STRIP)
    with pytest.raises(InputError, match="frames: 0"):
        ClipSuspect(enlarged, 0)
