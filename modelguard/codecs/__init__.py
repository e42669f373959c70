"""How an image is marked: bits hidden in its pixels, and read back later."""

from modelguard.codecs.bits import ALPHA, Bits, Message
from modelguard.codecs.dbmark import Capacity, DBMark
from modelguard.codecs.payload import PayloadCode

__all__ = ["ALPHA", "Bits", "Capacity", "DBMark", "Message", "PayloadCode"]
