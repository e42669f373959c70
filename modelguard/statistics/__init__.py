"""How surprising an agreement with secret bits is: exact tests, sequential tests, and what many tries cost.

`sign_test` gives the verdict; the papers' own rules (`eta`, `ncc`) are descriptive.
"""

from __future__ import annotations

from modelguard.statistics.multiplicity import Multiplicity, bits_needed, e_bh, grind_bits, holm
from modelguard.statistics.paper import centred_ncc, distance, eta, ncc
from modelguard.statistics.rank import clopper_pearson, rank_p
from modelguard.statistics.sequential import MixtureEProcess, SoftEProcess
from modelguard.statistics.sign_test import (
    SignTest,
    hard_sign_test,
    quantise_weights,
    sign_test,
    upper_tail,
)

__all__ = [
    "MixtureEProcess",
    "Multiplicity",
    "SignTest",
    "SoftEProcess",
    "bits_needed",
    "centred_ncc",
    "clopper_pearson",
    "distance",
    "e_bh",
    "eta",
    "grind_bits",
    "hard_sign_test",
    "holm",
    "ncc",
    "quantise_weights",
    "rank_p",
    "sign_test",
    "upper_tail",
]
