"""What a thief's network is worth, and what of the mark survives in it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn
from torchmetrics.functional.image import peak_signal_noise_ratio

from modelguard.attacks.base import Loot
from modelguard.attacks.stolen_pairs import answers, query, questioned, scale_of
from modelguard.attacks.surrogate_picture import picture
from modelguard.datasets import to_uint8
from modelguard.errors import InputError

Strength = Callable[[nn.Module], float]
"""Returns log10 of the adjusted p-value of the mark in a model."""


@dataclass(frozen=True)
class Survival:
    """One service of the thief's: its quality, and what is left of the mark.

    Args:
        channel: what the service does to its answers before it hands them out, "none" if nothing.
        psnr: to the ground truth, in dB.
        fidelity: PSNR to the answers of the protected model, in dB.
        retained: the part of the mark that is left, <e, r> / <r, r> with r the protected minus the unmarked
            answer and e the thief's minus the unmarked, over all pixels of all images: 1 for a perfect copy,
            about 0 for a thief who learned nothing of it. None without the unmarked model, or where r is 0.
        log10_p: strength of the mark; None where nobody asked for it.
    """

    channel: str
    psnr: float
    fidelity: float
    retained: float | None
    log10_p: float | None


@dataclass(frozen=True)
class SurrogateReport:
    """A thief, how he was trained, and what came of it.

    Args:
        name: of the attack.
        settings: of the attack.
        parameters: of the thief's network.
        pairs: he had, with those held out.
        digest: sha256 of all pairs there were to have, and so of the model's answers.
        measured: sha256 of what it was measured with.
        steps: of training.
        best_step: whose weights are measured.
        seconds: of training, since it was last resumed.
        protected: the protected model itself, measured alike.
        survival: the thief, behind each channel.
    """

    name: str
    settings: Mapping[str, Any]
    parameters: int
    pairs: int
    digest: str
    measured: str
    steps: int
    best_step: int
    seconds: float
    protected: Survival
    survival: tuple[Survival, ...]

    def to_json(self) -> str:
        """Return the report as one JSON object; a PSNR of identical images is null."""
        return json.dumps(finite(asdict(self)), indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> SurrogateReport:
        """Read what `to_json` wrote.

        Raises:
            ValueError, TypeError, KeyError: it is something else.
        """
        content: dict[str, Any] = json.loads(text)
        rows = [_survival(row) for row in (content.pop("protected"), *content.pop("survival"))]
        return cls(**content, protected=rows[0], survival=tuple(rows[1:]))


def finite(value: Any) -> Any:
    """Return JSON-able `value` with None for NaN and infinities."""
    if isinstance(value, Mapping):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _survival(row: dict[str, Any]) -> Survival:
    identical = {name: math.inf for name in ("psnr", "fidelity") if row[name] is None}
    return Survival(**row | identical)


class Exam:
    """Test images, and the answers of the protected and the unmarked model to them, all in 8 bits.

    Args:
        model: the protected model.
        loot: test images that no thief has, and the task.
        host: the unmarked model.
        strength: see `Strength`.
        seed: of the task's noise.
    """

    def __init__(
        self,
        model: nn.Module,
        loot: Loot,
        host: nn.Module | None = None,
        strength: Strength | None = None,
        seed: int = 1,
    ) -> None:
        self.asked = query(model, loot, seed=seed)
        self.truth = [to_uint8(target) for _, target in questioned(loot, seed)]
        self.unmarked = None if host is None else query(host, loot, seed=seed).targets
        self.border = scale_of(self.asked) if scale_of(self.asked) > 1 else 0
        self.strength = strength
        for number, (one, two) in enumerate(zip(self.asked.targets, self.truth, strict=True)):
            if one.shape != two.shape:
                raise InputError(
                    f"task: its target {number} is {tuple(two.shape[1:])} px, the model's answer "
                    f"{tuple(one.shape[1:])}",
                    "give the task the model is for",
                )
        self.protected = self.grade(model)

    def grade(self, thief: nn.Module, channel: str = "none", through: nn.Module | None = None) -> Survival:
        """Measure `thief`, whose answers go `through` a distortion of this name."""
        service = thief if through is None else nn.Sequential(thief, through).eval()
        given = answers(service, self.asked.inputs)
        kept = None if self.unmarked is None else retained(given, self.asked.targets, self.unmarked)
        return Survival(
            channel,
            psnr=mean_psnr(given, self.truth, self.border),
            fidelity=mean_psnr(given, self.asked.targets, self.border),
            retained=kept,
            log10_p=None if self.strength is None else self.strength(service),
        )

    def picture(self, thief: nn.Module) -> Tensor | None:
        """Return what `thief` took of the mark as a picture; None without the unmarked model."""
        if self.unmarked is None:
            return None
        given = answers(thief, self.asked.inputs)
        return picture(self.asked.inputs, self.asked.targets, given, self.unmarked)


def retained(given: Sequence[Tensor], marked: Sequence[Tensor], plain: Sequence[Tensor]) -> float | None:
    """Return the part of a mark that is in some answers, as `Survival` says; None where there is no mark.

    Args:
        given: the thief's answers, uint8.
        marked: the protected model's.
        plain: the unmarked model's.
    """
    kept = whole = 0.0
    for answer, with_mark, without in zip(given, marked, plain, strict=True):
        mark = with_mark.double() - without
        kept += float(((answer.double() - without) * mark).sum())
        whole += float(mark.square().sum())
    return kept / whole if whole else None


def mean_psnr(answers: Sequence[Tensor], targets: Sequence[Tensor], border: int = 0) -> float:
    """Return the mean PSNR in dB over uint8 images (C, H, W), `border` pixels cut from each side."""
    psnrs = []
    for answer, target in zip(answers, targets, strict=True):
        height, width = (side - 2 * border for side in answer.shape[1:])
        a, b = (one.narrow(1, border, height).narrow(2, border, width).float() for one in (answer, target))
        psnrs.append(float(peak_signal_noise_ratio(a, b, data_range=255.0)))
    return sum(psnrs) / len(psnrs)
