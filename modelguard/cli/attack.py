"""`modelguard attack`: do to a marked model what a thief would, and measure what is left.

`modelguard attack MODEL` is short for `modelguard attack weights MODEL`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from modelguard.cli.app import MATCH
from modelguard.cli.naming import MODEL_HELP, WEIGHTS_HELP, load_model, named_number
from modelguard.cli.output import emit, note, table
from modelguard.cli.protect import SIGMA_HELP
from modelguard.cli.surrogate import strength, surrogate
from modelguard.errors import InputError

if TYPE_CHECKING:
    from modelguard.attacks import Attack
    from modelguard.evidence import Key
    from modelguard.schemes import AttachedScheme, TrainedScheme

QUICK = ("prune", "int8", "fp16", "noise")
KINDS = ("finetune", *QUICK, "overwrite")


class Attacks(TyperGroup):
    """A group whose command `weights` need not be named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the name of the command in where it is left out."""
        named = args and args[0] in (*self.commands, *ctx.help_option_names)
        rest: list[str] = super().parse_args(ctx, args if named else ["weights", *args])
        return rest


def weights(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    marked_weights: Annotated[Path, typer.Option("--weights", help=WEIGHTS_HELP)],
    key: Annotated[Path, typer.Option(help="Key file of the mark.")],
    data: Annotated[Path, typer.Option(help="Folder of clean images the thief has.")],
    test: Annotated[
        Path | None, typer.Option(help="Folder of clean images to measure quality on; by default --data.")
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=VALUE]",
            help="finetune=STEPS (2000), prune=SHARE of each layer's weights (0.35), int8, fp16, noise=SIGMA "
            "beside the layer's weights (0.05), overwrite=KEYS (1); repeat it for several. By default "
            f"{', '.join(QUICK)}.",
        ),
    ] = None,
    alpha: Annotated[float, typer.Option(help="Level of the verdict.")] = 1e-6,
    sigma: Annotated[float | None, typer.Option(min=0, help=SIGMA_HELP)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object to stdout.")] = False,
) -> int:
    """Change a marked model, and show its quality and the strength of its mark before and after.

    Each attack starts from the marked model. An attack that ruins the model is no theft: read both columns.
    """
    if not 0 < alpha < 1:
        raise InputError(f"alpha: {alpha} is no level", "use a number between 0 and 1, such as 1e-6")
    marked = load_model(model, marked_weights)

    from modelguard.attacks import Loot, evaluate
    from modelguard.datasets import Downscale, GaussianNoise, ImageSet, Task
    from modelguard.evidence import Key

    secret = Key.load(key)
    channels, scale = int(secret.scheme["channels"]), int(secret.scheme["scale"])
    if scale > 1 and sigma is not None:
        raise InputError(f"sigma: the model enlarges {scale} times", "leave it out")
    task: Task = GaussianNoise(25 if sigma is None else sigma) if scale == 1 else Downscale(scale)
    attacks = [_attack(one, secret) for one in kind or QUICK]
    loot = Loot(ImageSet.from_folder(data, channels, smallest=40), task)
    held_out = loot.images if test is None else ImageSet.from_folder(test, channels)

    results, read = [], strength(secret, held_out)
    for number, one in enumerate(attacks, start=1):
        note(f"[{number}/{len(attacks)}] {one.name}")
        results.append(evaluate(one, marked, loot, held_out, read, border=scale if scale > 1 else 0))
    records = [
        {**asdict(one), "verdict": "match" if one.log10_p_after <= math.log10(alpha) else "inconclusive"}
        for one in results
    ]
    rows = [
        (
            str(one["attack"]),
            f"{one['psnr_before']:.2f}",
            f"{one['psnr_after']:.2f}",
            f"{one['log10_p_before']:.1f}",
            f"{one['log10_p_after']:.1f}",
            str(one["verdict"]),
        )
        for one in records
    ]
    columns = ("attack", "dB before", "dB after", "log10 p before", "log10 p after", "verdict after")
    title = f"{model}: {len(held_out)} images, all trials counted"
    emit({"model": model, "alpha": alpha, "attacks": records}, table(title, columns, rows), as_json)
    return MATCH


def _attack(kind: str, key: Key) -> Attack:
    """Return the attack that --kind names on a model with the mark of `key`."""
    from modelguard import attacks

    name, value = named_number("kind", kind, math.nan, ("finetune", "overwrite"))
    makers: dict[str, tuple[Callable[[float], Attack], float]] = {
        "finetune": (lambda steps: attacks.FineTune(int(steps), progress="fine-tuning"), 2000),
        "prune": (attacks.Prune, 0.35),
        "noise": (attacks.WeightNoise, 0.05),
        "overwrite": (lambda keys: attacks.Overwrite(int(keys), _same_kind(key), "overwriting"), 1),
        "int8": (lambda _: attacks.Int8(), 0),
        "fp16": (lambda _: attacks.HalfPrecision(), 0),
    }
    if name not in makers:
        raise InputError(f"kind: there is no attack {name!r}", f"choose from {', '.join(makers)}")
    make, usual = makers[name]
    if name in ("int8", "fp16") and not math.isnan(value):
        raise InputError(f"kind: {name} takes no value", f"write {name} alone")
    return make(usual if math.isnan(value) else value)


def _same_kind(key: Key) -> TrainedScheme | AttachedScheme:
    """Return the scheme of a key with its usual settings: what a thief would mark the model again with."""
    from modelguard import schemes
    from modelguard.schemes import odd_filters, symmetric_filters, tone_carriers

    kinds: dict[str, Callable[[], TrainedScheme | AttachedScheme]] = {
        odd_filters.ID: schemes.Barrier,
        odd_filters.INSIDE_ID: schemes.SelfWatermark,
        symmetric_filters.ID: schemes.SymmetricBarrier,
        tone_carriers.ID: schemes.WaveBarrier,
    }
    return kinds.get(str(key.scheme["id"]), schemes.TriggerKey)()


attack = typer.Typer(cls=Attacks)
for command in (weights, surrogate):
    attack.command()(command)
