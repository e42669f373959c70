"""What a thief does to a model, and what it costs in quality and in evidence: `evaluate(attack, ...)`."""

from modelguard.attacks.base import Attack, AttackResult, Loot, evaluate
from modelguard.attacks.finetune import FineTune
from modelguard.attacks.overwrite import Overwrite
from modelguard.attacks.prune import Prune
from modelguard.attacks.quantise import HalfPrecision, Int8
from modelguard.attacks.weight_noise import WeightNoise

__all__ = [
    "Attack",
    "AttackResult",
    "FineTune",
    "HalfPrecision",
    "Int8",
    "Loot",
    "Overwrite",
    "Prune",
    "WeightNoise",
    "evaluate",
]
