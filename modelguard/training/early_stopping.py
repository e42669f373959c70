"""Training until it no longer helps, and keeping the best of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from torch import nn

from modelguard._files import atomic_write_bytes
from modelguard.errors import InputError
from modelguard.weights import dump_state, load_state

HISTORY, BEST = "validation.json", "best.safetensors"


class EarlyStopping:
    """Scores a model at every checkpoint of `fit`, keeps its best weights and ends training out of patience.

    Give it as `on_checkpoint`; afterwards `restore` puts the best weights back. With a folder, it keeps
    history and weights there and, with `resume`, goes on as if it had never stopped.

    Args:
        score: of a model, the higher the better.
        patience: scores in a row that are no new best, after which training ends.
        folder: the run folder of `fit`, or None to keep the best weights in memory.
        resume: take up what is in `folder`.

    Attributes:
        history: the score at each step so far.
    """

    def __init__(
        self,
        score: Callable[[nn.Module], float],
        patience: int,
        folder: Path | None = None,
        resume: bool = False,
    ) -> None:
        if patience < 1:
            raise InputError(f"patience: {patience} is too short", "use a whole number from 1")
        self.score, self.patience, self.folder = score, patience, folder
        self.history: dict[int, float] = {}
        self._best = b""
        if folder is not None and resume and (folder / HISTORY).is_file():
            content = json.loads((folder / HISTORY).read_text())
            self.history = {int(step): value for step, value in content.items()}

    def __call__(self, model: nn.Module, step: int) -> bool:
        """Score `model` and return whether patience has run out."""
        self.history[step] = self.score(model)
        if self.best_step == step:
            # weights before history: what history calls best is then always there
            if self.folder is None:
                self._best = dump_state(model)
            else:
                atomic_write_bytes(self.folder / BEST, dump_state(model), overwrite=True)
        if self.folder is not None:
            atomic_write_bytes(self.folder / HISTORY, json.dumps(self.history).encode(), overwrite=True)
        return self.exhausted

    @property
    def best_step(self) -> int:
        """The step of the best score, the first of equals; 0 before there is any."""
        return max(self.history, key=lambda step: (self.history[step], -step), default=0)

    @property
    def exhausted(self) -> bool:
        """Whether there is nothing more to be hoped for."""
        return sum(step > self.best_step for step in self.history) >= self.patience

    def restore(self, model: nn.Module) -> None:
        """Load the best weights into `model`; raises InputError if nothing was scored yet."""
        if not self.history:
            raise InputError("history: there is no score yet", "train first")
        load_state(model, self._best if self.folder is None else (self.folder / BEST).read_bytes())
