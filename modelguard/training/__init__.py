"""One training loop for everything that learns here, driven by Accelerate."""

from modelguard.training.checkpoint import load_checkpoint, save_checkpoint
from modelguard.training.early_stopping import EarlyStopping
from modelguard.training.loop import Backward, Objective, Optimiser, TrainConfig, TrainResult, fit
from modelguard.training.objectives import imitation, restoration, teacher_answer
from modelguard.training.precision import channels_last, resolve_precision

__all__ = [
    "Backward",
    "EarlyStopping",
    "Objective",
    "Optimiser",
    "TrainConfig",
    "TrainResult",
    "channels_last",
    "fit",
    "imitation",
    "load_checkpoint",
    "resolve_precision",
    "restoration",
    "save_checkpoint",
    "teacher_answer",
]
