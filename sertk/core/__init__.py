"""The types and interfaces that everything else is made of: torch and the standard library only.

The one legend of shapes, used in every docstring:

    B  rows of a batch            T  frames               D  width of a frame
    N  rows of a view (windows)   L  frames of a window   E  width of an embedding
    C  classes                    G  groups               S  samples of a wave

In `Scores`, N are the utterances that were scored.
"""

from sertk.core.batch import CODE_POINTS, Batch, Padded, Target, code_points
from sertk.core.errors import InputError, NotHereError, SertkError, UsageError, check_range, nearest, out_of_range
from sertk.core.interfaces import (
    Augmentation,
    Backbone,
    BatchSampler,
    Corpus,
    CountMetric,
    Decision,
    Feature,
    FrameSpec,
    Head,
    HeadSpec,
    InputSpec,
    Launcher,
    Loss,
    Metric,
    Part,
    Plan,
    Pooled,
    Pooling,
    Split,
    Terms,
)
from sertk.core.protocol import (
    OVERLAPS,
    PAIRS,
    PARTS,
    Crossed,
    Disjoint,
    Duplicates,
    FoldTable,
    Half,
    LeaveOneOut,
    Next,
    Protocol,
    RandomDev,
    RandomSplit,
    Stratified,
)
from sertk.core.reduce import Reduction, hash_of, mean_std, over_rows
from sertk.core.rng import Rng, key
from sertk.core.scores import Prediction, Scores
from sertk.core.task import AUX, AuxTask, Task
from sertk.core.utterance import Rejected, Utterance
from sertk.core.view import WHOLE, At, Crop, Dims, Output, Span, Tail, View, Views

API = 1
"""The version of the interfaces. A plugin whose module says `SERTK_API = 1` is not loaded where this is another."""

__all__ = [
    "API",
    "AUX",
    "CODE_POINTS",
    "OVERLAPS",
    "PAIRS",
    "PARTS",
    "WHOLE",
    "At",
    "Augmentation",
    "AuxTask",
    "Backbone",
    "Batch",
    "BatchSampler",
    "Corpus",
    "CountMetric",
    "Crop",
    "Crossed",
    "Decision",
    "Dims",
    "Disjoint",
    "Duplicates",
    "Feature",
    "FoldTable",
    "FrameSpec",
    "Half",
    "Head",
    "HeadSpec",
    "InputError",
    "InputSpec",
    "Launcher",
    "LeaveOneOut",
    "Loss",
    "Metric",
    "Next",
    "NotHereError",
    "Output",
    "Padded",
    "Part",
    "Plan",
    "Pooled",
    "Pooling",
    "Prediction",
    "Protocol",
    "RandomDev",
    "RandomSplit",
    "Reduction",
    "Rejected",
    "Rng",
    "Scores",
    "SertkError",
    "Span",
    "Split",
    "Stratified",
    "Tail",
    "Target",
    "Task",
    "Terms",
    "UsageError",
    "Utterance",
    "View",
    "Views",
    "check_range",
    "code_points",
    "hash_of",
    "key",
    "mean_std",
    "nearest",
    "out_of_range",
    "over_rows",
]
