"""Ordinary photos as the questions themselves, for marks that every answer carries."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor

from modelguard.datasets import ImageSet, read_image, to_uint8
from modelguard.errors import InputError
from modelguard.evidence import Line, Session
from modelguard.evidence.blobs import array_digest
from modelguard.suspects.base import Pixels
from modelguard.suspects.cover import cover_photos

Photos = str | Path | ImageSet
"""A folder of photos, searched recursively, or images in memory."""


class PhotoQueries:
    """The photos of a session, different ones in random order; its nonce chooses them.

    Args:
        photos: where they come from; the same give the same questions.
        fit: returns a photo as it is asked, or raises InputError for one that cannot be.
        channels: 1 or 3, which files are read as.
        session: how many, and the nonce.

    Raises:
        InputError: too few usable photos; unreadable, small and double ones are not usable.
    """

    def __init__(
        self, photos: Photos, fit: Callable[[Pixels], Pixels], channels: int, session: Session
    ) -> None:
        self._channels, self._fit, count = channels, fit, session.photos
        sources: list[Path | Tensor] = (
            list(photos.images) if isinstance(photos, ImageSet) else list(cover_photos(photos, "photos"))
        )
        random.Random(session.nonce).shuffle(sources)
        self._chosen: dict[str, Path | Tensor] = {}
        why = "too few files"
        for source in sources:
            if len(self._chosen) == count:
                break
            try:
                self._chosen.setdefault(array_digest(self._query(source)), source)
            except InputError as error:
                why = error.message
        if len(self._chosen) < count:
            raise InputError(
                f"photos: {count} to be asked, {len(self._chosen)} of {len(sources)} are usable ({why})",
                "add photos, or ask fewer queries",
            )

    def check_begun(self, lines: Sequence[Line]) -> None:
        """Raise InputError if the session began with other photos."""
        if {line.request for line in lines if line.kind == "photo"} - self._chosen.keys():
            raise InputError(
                "photos: not those this session began with", "give the same photos, or begin a new session"
            )

    def __len__(self) -> int:
        """Return the number of questions."""
        return len(self._chosen)

    def __getitem__(self, index: int) -> Pixels:
        """Return question `index`, uint8 (H, W, C), read anew."""
        return self._query(list(self._chosen.values())[index])

    def _query(self, source: Path | Tensor) -> Pixels:
        image = source if isinstance(source, Tensor) else to_uint8(read_image(source, self._channels))
        if image.shape[0] != self._channels:
            raise InputError(
                f"photos: {image.shape[0]} channels, the model takes {self._channels}", "convert them"
            )
        return self._fit(image.permute(1, 2, 0).contiguous().numpy())
