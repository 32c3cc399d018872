"""Augmentations: random changes of training rows, on whole batches."""

from __future__ import annotations

from collections.abc import Mapping

from sertk.core import Augmentation
from sertk.hookspecs import hookimpl


@hookimpl
def sertk_augmentations() -> Mapping[str, type[Augmentation]]:
    """The augmentations by name."""
    from sertk.builtin.augmentations.gain import Gain
    from sertk.builtin.augmentations.masks import SpecAugment
    from sertk.builtin.augmentations.mixup import EAM, LAM
    from sertk.builtin.augmentations.noise import Noise, NoiseFolder
    from sertk.builtin.augmentations.reverb import Reverb
    from sertk.builtin.augmentations.speed import Speed

    return {
        "eam": EAM,
        "gain": Gain,
        "lam": LAM,
        "noise": Noise,
        "noise_folder": NoiseFolder,
        "reverb": Reverb,
        "specaugment": SpecAugment,
        "speed": Speed,
    }
