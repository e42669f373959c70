"""Fixtures of attacks."""

from __future__ import annotations

import pytest
from service import Smoother

from modelguard.attacks import Loot
from modelguard.attacks.stolen_pairs import query
from modelguard.datasets import GaussianNoise, ImagePairs, ImageSet


@pytest.fixture
def light_loot(photos: ImageSet) -> Loot:
    """What the thief of a light denoiser has."""
    return Loot(photos, GaussianNoise(10))


@pytest.fixture
def pairs(light_loot: Loot) -> ImagePairs:
    """What he learns from an unmarked service."""
    return query(Smoother(), light_loot)
