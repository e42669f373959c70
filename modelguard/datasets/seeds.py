"""Seeds for one random draw among many."""

from __future__ import annotations


def mixed_seed(seed: int, index: int) -> int:
    """Return the generator seed of draw `index` under the user's `seed`.

    PyTorch's CPU generator keeps only the low 32 bits of its seed, so `seed << 40` would be no seed at all. A
    step of 2**32 over the golden ratio spreads the seeds evenly: neighbours start 1.6e9 draws apart.

    Args:
        seed: any whole number; the same modulo 2**32 is the same seed.
        index: from 0.
    """
    return (seed * 0x9E3779B1 + index) & 0xFFFFFFFF
