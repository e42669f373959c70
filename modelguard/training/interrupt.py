"""Ctrl-C between steps, never within one."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class HeldInterrupt:
    """Context in which the first Ctrl-C only sets `asked`; a second one interrupts at once, as usual.

    A step cut short leaves batch-norm statistics or half the weights changed, which no checkpoint may hold.
    Leaving the context raises the KeyboardInterrupt held back. Does nothing outside the main thread, or where
    the program has a handler of its own.
    """

    def __enter__(self) -> HeldInterrupt:
        self.asked = False
        main = threading.current_thread() is threading.main_thread()
        self.holding = main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self.holding:
            signal.signal(signal.SIGINT, self._ask)
        return self

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self.holding:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self.asked and kind is None:
            raise KeyboardInterrupt
