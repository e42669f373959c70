"""What happens to an image on its way: rounding, JPEG, resizing, noise, blur, median, lost parts, paper."""

from modelguard.distortions.channel import Blur, Grey, Jpeg, Median, Noise, Poisson, Quantise, Resize
from modelguard.distortions.levels import LEVELS, level_of, nearest
from modelguard.distortions.masks import AgainstCover, Crop, CropMasked, Cropout, Dropout
from modelguard.distortions.photographed import PrintAndPhoto, straightened
from modelguard.distortions.simulation import ForwardASL, SimulatedJpeg
from modelguard.distortions.video import H264

__all__ = [
    "H264",
    "LEVELS",
    "AgainstCover",
    "Blur",
    "Crop",
    "CropMasked",
    "Cropout",
    "Dropout",
    "ForwardASL",
    "Grey",
    "Jpeg",
    "Median",
    "Noise",
    "Poisson",
    "PrintAndPhoto",
    "Quantise",
    "Resize",
    "SimulatedJpeg",
    "level_of",
    "nearest",
    "straightened",
]
