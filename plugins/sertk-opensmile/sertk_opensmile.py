"""openSMILE's functionals for sertk, and the linear SVM that the baselines of the field put on them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from sertk.core import At, Dims, Feature, HeadSpec, InputError, Loss, Padded, SertkError, Target, Task, Views, over_rows
from sertk.hookspecs import hookimpl

if TYPE_CHECKING:
    from opensmile import Smile

SHORTEST = 0.06  # s, openSMILE's longest analysis window: a shorter wave has no frame to take functionals of


class Functionals(Feature):
    """Functionals of an openSMILE feature set: one frame for a whole utterance, however long.

    There is no second frame, so `frame_seconds` is infinite: a crop, or segments in seconds, are refused as shorter
    than a frame. `silence`, which is what crops are padded with, is never read. openSMILE gives zero where a functional
    is undefined (the pitch of a wave without voice); a wave that it can make nothing of is an error.

    Args:
        rate: Sampling rate, Hz; given by the run.
        set: eGeMAPSv02, 88 functionals (Eyben et al. 2016, IEEE Trans. Affective Computing 7(2)), or ComParE_2016,
            6,373 of them (Schuller et al. 2016, Interspeech).
    """

    frame_seconds = math.inf

    def __init__(self, rate: int, set: Literal["eGeMAPSv02", "ComParE_2016"] = "eGeMAPSv02") -> None:  # noqa: A002
        self._rate, self._set, self._smile = rate, set, _smile(set)
        self.width = self._smile.num_features
        self.weights = f"opensmile {version('opensmile')}"  # what another version computed is not taken for this one's

    def __call__(self, inputs: Padded) -> Padded:
        """(B, S) waves -> (B, 1, width).

        Raises:
            InputError: Where a wave is too short, or it or a functional is not finite.
        """
        waves = zip(inputs.data.cpu(), inputs.length.tolist(), strict=True)
        # one by one, against the house's rule: a call of the C library takes one signal, and there is no other way in
        rows = torch.stack([self._row(wave[:size]) for wave, size in waves])
        return Padded(rows[:, None].to(inputs.data.device), torch.ones_like(inputs.length))

    def _row(self, wave: Tensor) -> Tensor:
        """(S,) -> (width,)."""
        what = f"feature 'opensmile': a wave of {len(wave) / self._rate:.3f} s"
        if len(wave) < SHORTEST * self._rate:
            raise InputError(
                f"{what} is too short; {self._set} needs {SHORTEST} s. Set audio.min_seconds: {SHORTEST} or more and "
                "prepare again: that names the utterance."
            )
        if not wave.isfinite().all():
            raise InputError(
                f"{what} has samples that are no numbers; all must be finite. Correct the augmentation in front of it."
            )
        # opensmile casts to 16 bits without a look: from full scale on, 1.0 included, samples would change their sign
        legal = wave.float().clamp(-1.0, 32767 / 32768)
        found = torch.from_numpy(self._smile(legal.numpy(), self._rate)).reshape(self.width)
        odd = (~found.isfinite()).nonzero().flatten().tolist()
        if odd:
            raise InputError(
                f"{what} has {len(odd)} of {self.width} functionals that are no finite numbers, the first "
                f"{self._smile.feature_names[odd[0]]!r}; none may be. Remove the utterance, or take another set."
            )
        return found


def _smile(name: str) -> Smile:
    """The extractor of a set.

    Raises:
        SertkError: Where the package opensmile is absent or does not load.
    """
    try:
        import opensmile
    except (ImportError, OSError) as error:  # OSError: its C library
        raise SertkError(
            f"feature 'opensmile' needs the package opensmile, which does not load: {error}. Run `pip install "
            "opensmile` (free for research; read audEERING's licence), or take another feature, such as mel."
        ) from error
    return opensmile.Smile(opensmile.FeatureSet[name], opensmile.FeatureLevel.Functionals)


class Hinge(Loss):
    """One-vs-rest squared hinge, the data term of a linear SVM (LIBLINEAR's L2-loss SVC, Fan et al. 2008, JMLR 9).

    L = sum_c [y_c max(0, 1 - f_c)^2 + (1 - y_c) max(0, 1 + f_c)^2], f the values of the head; the mean over rows.

    The other term, |w|^2 / 2, is the optimizer's: a loss does not see the head. With `train.optimizer.weight_decay`
    lambda on R training rows the minimum is that of scikit-learn's LinearSVC(C = 1 / (lambda R)), bias included. That
    holds for adam and sgd, which add lambda w to the gradient, and not for adamw, which does not; and with `train.clip`
    out of reach, for it would shrink the gradient of this term and not the decay.

    The posterior is the softmax of the f: it decides as the SVM does, for the largest f, and orders by it; as a
    probability it is not calibrated (two classes at the margin have 0.88 and 0.12).

    Args:
        task: Given by the run.
        dims: Given by the run.
        at: Which windows; auto is both where the run has segments, else the whole.
    """

    trains = frozenset({"emotion"})

    def __init__(self, task: Task, dims: Dims, at: At = "auto") -> None:
        super().__init__()
        self.spans, self._classes = dims.spans(at), len(task.classes)

    def heads(self) -> Mapping[str, HeadSpec]:
        """A linear emotion head."""
        return {"emotion": HeadSpec("linear", self._classes)}

    def forward(self, views: Views, target: Target, groups: Mapping[str, Tensor]) -> Tensor:
        """Views of B rows -> the mean over rows; a soft label shares every class out between both sides."""
        values = {}
        for span in self.spans:
            f, label = views[span].logits, target.soft[views[span].owner]  # (N, C)
            each = label * (1 - f).clamp(min=0).square() + (1 - label) * (1 + f).clamp(min=0).square()
            values[span] = each.sum(1)
        return over_rows(values, views, target, "mean")


@hookimpl
def sertk_features() -> Mapping[str, type[Feature]]:
    """The feature by name."""
    return {"opensmile": Functionals}


@hookimpl
def sertk_losses() -> Mapping[str, type[Loss]]:
    """The name that `--loss` takes."""
    return {"hinge": Hinge}
