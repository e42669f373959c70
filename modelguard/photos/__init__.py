"""Twelve small photos of public-domain or CC0 origin (see CREDITS.md), for the demo and for first tries."""

from __future__ import annotations

from pathlib import Path

from modelguard.datasets import ImageSet

FOLDER = Path(__file__).parent


def load(channels: int = 1) -> ImageSet:
    """Return the photos, 256 x 256 pixels each, in the order of their file names.

    Args:
        channels: 1 for luma, 3 for RGB; some are grey in RGB too.
    """
    return ImageSet.from_folder(FOLDER, channels)
