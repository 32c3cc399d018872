"""Losses: terms of the training objective."""

from __future__ import annotations

from collections.abc import Mapping

from sertk.core import Loss
from sertk.hookspecs import hookimpl


@hookimpl
def sertk_losses() -> Mapping[str, type[Loss]]:
    """The losses by name."""
    from sertk.builtin.losses.arcface import APFL, ArcFace
    from sertk.builtin.losses.auxiliary import Auxiliary
    from sertk.builtin.losses.bce import BinaryCrossEntropy
    from sertk.builtin.losses.ce import CrossEntropy
    from sertk.builtin.losses.center import Center
    from sertk.builtin.losses.contrastive import Contrastive
    from sertk.builtin.losses.focal import Focal
    from sertk.builtin.losses.frame_supcon import FrameSupCon
    from sertk.builtin.losses.kl import KullbackLeibler
    from sertk.builtin.losses.l1 import L1, SmoothL1
    from sertk.builtin.losses.triplet import Triplet

    return {
        "apfl": APFL,
        "arcface": ArcFace,
        "aux": Auxiliary,
        "bce": BinaryCrossEntropy,
        "ce": CrossEntropy,
        "center": Center,
        "contrastive": Contrastive,
        "focal": Focal,
        "frame_supcon": FrameSupCon,
        "kl": KullbackLeibler,
        "l1": L1,
        "smooth_l1": SmoothL1,
        "triplet": Triplet,
    }
