"""Validators: functions of `Evidence` that score a model without target labels, by name; higher is better."""

from collections.abc import Callable

from ..evidence import Evidence
from .a_distance import a_distance
from .agreement import agreement
from .bnm import bnm
from .clusters import class_ami, v_measure
from .diversity import diversity
from .entropy import entropy
from .importance import dev, devn, iwcv
from .information_maximization import information_maximization
from .input_ami import input_ami
from .mixval import mixval
from .mmd import mmd
from .neighbors import neighbors
from .rank_me import rank_me
from .silhouette import silhouette
from .snd import snd
from .source_accuracy import source_accuracy
from .source_loss import source_loss
from .transfer_score import transfer_score

Validator = Callable[[Evidence], float]

VALIDATORS: dict[str, Validator] = {
    "source-accuracy": source_accuracy,
    "source-loss": source_loss,
    "entropy": entropy,
    "diversity": diversity,
    "information-maximization": information_maximization,
    "bnm": bnm,
    "class-ami": class_ami,
    "v-measure": v_measure,
    "silhouette": silhouette,
    "snd": snd,
    "iwcv": iwcv,
    "dev": dev,
    "devn": devn,
    "mixval": mixval,
    "transfer-score": transfer_score,
    "rank-me": rank_me,
    "mmd": mmd,
    "a-distance": a_distance,
    "agreement": agreement,
    "neighbors": neighbors,
    "input-ami": input_ami,
}

__all__ = ["VALIDATORS", "Validator"]
