"""What a thief does to a model, and what it costs in quality and in evidence: `evaluate(attack, ...)`."""

from modelguard.attacks.base import Attack, AttackResult, Loot, evaluate
from modelguard.attacks.finetune import FineTune
from modelguard.attacks.overwrite import Overwrite
from modelguard.attacks.prune import Prune
from modelguard.attacks.quantise import HalfPrecision, Int8
from modelguard.attacks.surrogate import Surrogate
from modelguard.attacks.surrogate_matrix import surrogate_cells, surrogate_matrix
from modelguard.attacks.surrogate_report import SurrogateReport, Survival
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
    "Surrogate",
    "SurrogateReport",
    "Survival",
    "WeightNoise",
    "evaluate",
    "surrogate_cells",
    "surrogate_matrix",
]
