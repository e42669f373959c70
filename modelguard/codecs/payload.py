"""Ids and short texts as bits that survive errors: Reed-Solomon words under a random mask.

The mask makes presence testable. Whatever an image is, if it was made without regard to the mask, each of the
2^data code words agrees with its bits as a row of fair coins does. So the chance that any of them agrees as
well as the one found is at most 2^data times the tail of the exact sign test. No decoder, however clever or
biased, changes that.
"""

from __future__ import annotations

import hashlib
import math
from functools import cached_property
from threading import Lock

import numpy as np
import numpy.typing as npt
from reedsolo import ReedSolomonError, RSCodec

from modelguard.errors import InputError
from modelguard.statistics import sign_test

Signs = npt.NDArray[np.int64]

_LOCK = Lock()  # reedsolo keeps the tables of the field it works in in globals


class PayloadCode:
    """Maps `data_bytes` bytes to the `bits` of a codec and back.

    The code is as long as the bits allow: symbols of 4 bits up to 66 of them, larger ones beyond. One byte of
    data for each 16 bits leaves the redundancy to correct errors and to reach a p-value of 1e-6.

    Args:
        bits: that the codec hides, 30 or more.
        seed: of the mask; any constant that was fixed without regard to the images to be tested.
    """

    def __init__(self, bits: int, seed: str) -> None:
        if bits < 30:
            raise InputError(f"bits: {bits} leave no room for data and proof", "use a codec of 30 or more")
        self.bits, self.seed = bits, seed
        self.data_bytes = bits // 16
        self.symbol_bits = 4
        while (2**self.symbol_bits - 1) * self.symbol_bits < 0.9 * bits:
            self.symbol_bits += 1
        self.symbols = min(2**self.symbol_bits - 1, bits // self.symbol_bits)
        self.data_symbols = math.ceil(8 * self.data_bytes / self.symbol_bits)

    @property
    def data_bits(self) -> int:
        """Bits of an id."""
        return 8 * self.data_bytes

    @cached_property
    def _codec(self) -> RSCodec:
        parity = self.symbols - self.data_symbols
        return RSCodec(parity, nsize=2**self.symbol_bits - 1, c_exp=self.symbol_bits)

    @cached_property
    def mask(self) -> npt.NDArray[np.uint8]:
        """The random bits that every code word is combined with, (bits,) of 0 and 1."""
        stream = hashlib.shake_256(f"modelguard payload mask {self.seed}".encode()).digest(self.bits)
        return np.frombuffer(stream, np.uint8) & np.uint8(1)

    def encode(self, data: bytes) -> npt.NDArray[np.uint8]:
        """Return (bits,) of 0 and 1 that carry `data`, shorter data filled up with zero bytes.

        Raises:
            InputError: more data than fits.
        """
        if len(data) > self.data_bytes:
            raise InputError(
                f"payload: {len(data)} bytes do not fit, the codec carries {self.data_bytes}",
                "shorten it, keep it elsewhere under an id, or use a codec of more bits",
            )
        padded = np.frombuffer(data.ljust(self.data_bytes, b"\0"), np.uint8)
        return self._word(self._symbols(np.unpackbits(padded), self.data_symbols))

    def decode(self, soft: npt.NDArray[np.float32]) -> tuple[bytes, int, float] | None:
        """Return the data whose code word agrees best with soft bits, its errors, and log10 of a p-value.

        Symbols are given up as lost one by one, the least certain first, which corrects twice as many of them
        as errors in unknown places.

        Args:
            soft: (bits,), above 0 for a 1.

        Returns:
            The bytes, the number of bits that differ from them, and log10 of the chance that an image without
            this mark agrees as well with any code word; None if no code word is near.
        """
        signs = np.where(soft > 0, 1, -1) * (1 - 2 * self.mask.astype(np.int64))  # without the mask
        certain = np.abs(soft)[: self.symbols * self.symbol_bits].reshape(self.symbols, -1).min(1)
        received = self._symbols((signs > 0).astype(np.uint8), self.symbols)
        weakest = np.argsort(certain, kind="stable").tolist()
        best: npt.NDArray[np.uint8] | None = None
        for lost in range(self.symbols - self.data_symbols + 1):
            try:
                with _LOCK:
                    decoded = self._codec.decode(received, erase_pos=weakest[:lost])[0]
            except ReedSolomonError:
                continue
            if self._unpacked(list(decoded))[self.data_bits :].any():
                continue  # filling that is never written: no word of ours
            word = self._word(list(decoded))
            if best is None or self._agreement(word, soft) > self._agreement(best, soft):
                best = word
        if best is None:
            return None
        test = sign_test(2 * best.astype(np.int64) - 1, as_scores(soft))
        data = np.packbits((best ^ self.mask)[: self.data_bits]).tobytes()
        errors = int(((soft > 0) != best.astype(bool)).sum())
        return data, errors, min(0.0, test.log10_p + self.data_bits * math.log10(2))

    def _symbols(self, bits: npt.NDArray[np.uint8], count: int) -> list[int]:
        filled = np.zeros(count * self.symbol_bits, np.uint8)
        filled[: bits.size] = bits[: filled.size]
        places = 2 ** np.arange(self.symbol_bits)[::-1]
        symbols: list[int] = (filled.reshape(count, -1) @ places).tolist()
        return symbols

    def _word(self, data: list[int]) -> npt.NDArray[np.uint8]:
        with _LOCK:
            bits = self._unpacked(list(self._codec.encode(data)))
        word = np.zeros(self.bits, np.uint8)
        word[: bits.size] = bits
        return word ^ self.mask

    def _unpacked(self, symbols: list[int]) -> npt.NDArray[np.uint8]:
        places = np.arange(self.symbol_bits)[::-1]
        return (np.array(symbols)[:, None] >> places & 1).ravel().astype(np.uint8)

    @staticmethod
    def _agreement(word: npt.NDArray[np.uint8], soft: npt.NDArray[np.float32]) -> float:
        return float(soft @ (2.0 * word - 1))


def as_scores(soft: npt.NDArray[np.float32]) -> Signs:
    """Return soft bits as the integers of the sign test; their sign is kept, however small they are."""
    scores: Signs = np.where(soft > 0, 1, -1) * np.maximum(1, np.rint(np.abs(soft) * 2**16)).astype(np.int64)
    return scores
