"""How an image is marked: bits or pictures hidden in its pixels, and read back later."""

from modelguard.codecs.bits import ALPHA, Bits, Message
from modelguard.codecs.dbmark import Capacity, DBMark
from modelguard.codecs.payload import PayloadCode
from modelguard.codecs.riis import RIIS, Located, Revealed

__all__ = ["ALPHA", "RIIS", "Bits", "Capacity", "DBMark", "Located", "Message", "PayloadCode", "Revealed"]
