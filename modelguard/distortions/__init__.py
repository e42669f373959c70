"""What happens to an image on its way: rounding, JPEG, resizing, noise, blur, and parts that get lost."""

from modelguard.distortions.channel import Blur, Grey, Jpeg, Noise, Quantise, Resize
from modelguard.distortions.masks import AgainstCover, Crop, CropMasked, Cropout, Dropout
from modelguard.distortions.simulation import ForwardASL, SimulatedJpeg

__all__ = [
    "AgainstCover",
    "Blur",
    "Crop",
    "CropMasked",
    "Cropout",
    "Dropout",
    "ForwardASL",
    "Grey",
    "Jpeg",
    "Noise",
    "Quantise",
    "Resize",
    "SimulatedJpeg",
]
