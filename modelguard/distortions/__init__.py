"""What happens to an answer on its way from the suspect: rounding, JPEG, resizing, noise, blur."""

from modelguard.distortions.channel import Blur, Jpeg, Noise, Quantise, Resize

__all__ = ["Blur", "Jpeg", "Noise", "Quantise", "Resize"]
