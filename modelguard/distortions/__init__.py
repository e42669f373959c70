"""What happens to an answer on its way from the suspect: rounding, JPEG, resizing, noise, blur, median."""

from modelguard.distortions.channel import Blur, Jpeg, Median, Noise, Quantise, Resize

__all__ = ["Blur", "Jpeg", "Median", "Noise", "Quantise", "Resize"]
