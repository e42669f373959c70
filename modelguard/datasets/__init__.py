"""Images and pairs from folders, and the tasks hosts are trained on."""

from modelguard.datasets.image_pairs import ImagePairs, PairDraws
from modelguard.datasets.images import ImageSet, read_image, to_uint8, write_image
from modelguard.datasets.patches import Patches
from modelguard.datasets.rain import RainStreaks
from modelguard.datasets.ribs import RibBands
from modelguard.datasets.seeds import mixed_seed
from modelguard.datasets.tasks import BicubicLoss, Downscale, GaussianNoise, Task, Thumbnail

__all__ = [
    "BicubicLoss",
    "Downscale",
    "GaussianNoise",
    "ImagePairs",
    "ImageSet",
    "PairDraws",
    "Patches",
    "RainStreaks",
    "RibBands",
    "Task",
    "Thumbnail",
    "mixed_seed",
    "read_image",
    "to_uint8",
    "write_image",
]
