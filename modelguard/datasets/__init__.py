"""Images, pairs and videos from folders, and the tasks hosts are trained on."""

from modelguard.datasets.clips import ClipPatches, Filmed, Motion, degraded, moved
from modelguard.datasets.image_pairs import ImagePairs, PairDraws
from modelguard.datasets.images import ImageSet, read_image, to_uint8, write_image
from modelguard.datasets.patches import Patches
from modelguard.datasets.rain import RainStreaks
from modelguard.datasets.ribs import RibBands
from modelguard.datasets.seeds import mixed_seed
from modelguard.datasets.tasks import BicubicLoss, Downscale, GaussianNoise, Task, Thumbnail
from modelguard.datasets.video import VideoSet, read_frames
from modelguard.datasets.windows import windows

__all__ = [
    "BicubicLoss",
    "ClipPatches",
    "Downscale",
    "Filmed",
    "GaussianNoise",
    "ImagePairs",
    "ImageSet",
    "Motion",
    "PairDraws",
    "Patches",
    "RainStreaks",
    "RibBands",
    "Task",
    "Thumbnail",
    "VideoSet",
    "degraded",
    "mixed_seed",
    "moved",
    "read_frames",
    "read_image",
    "to_uint8",
    "windows",
    "write_image",
]
