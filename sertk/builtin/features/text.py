"""Transcripts: their characters as they are, and units that are learned from the transcripts of the training fold."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, ClassVar, Literal

import torch

from sertk.core import CODE_POINTS, Feature, Padded, SertkError, Utterance, check_range

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor
    from torch import Tensor

MODEL = "sentencepiece.model"
PADDING, UNKNOWN, NONE = 0, 1, -1  # the numbers of pieces that stand for no text; none begins or ends one


class Text(Feature):
    """The characters of a transcript, one a frame, for text encoders that have a tokenizer of their own.

    A frame is the Unicode code point of a character; there is nothing to cache.

    Args:
        rate: Sampling rate, Hz; given by the run, and of no matter here.
    """

    cached: ClassVar[bool] = False
    reads = "text"
    width, frame_seconds, symbols = 1, math.inf, CODE_POINTS

    def __init__(self, rate: int) -> None:
        pass

    def __call__(self, inputs: Padded) -> Padded:
        """(B, S) code points -> (B, S, 1)."""
        return Padded(inputs.fill(0).data[..., None], inputs.length)


class SentencePiece(Feature):
    """The numbers of a transcript's pieces, which are learned from the transcripts of the training fold alone.

    The pieces are made by SentencePiece (Kudo and Richardson 2018). They are learned of the transcripts as they stand:
    a sentence that is spoken often counts as often. 0 is padding and 1 what has no piece, such as a character that the
    training fold lacks; a transcript of which nothing is left is one such frame.

    Args:
        rate: Sampling rate, Hz; given by the run, and of no matter here.
        units: Pieces at most, those two among them; at least 3. Few transcripts give fewer. All characters of the
            training fold must find a place, but for `model: char`, which leaves out the rarest.
        model: How pieces are learned.
        lower: Whether capital letters are taken for small ones.
    """

    cached: ClassVar[bool] = False
    reads = "text"
    width, frame_seconds = 1, math.inf

    def __init__(
        self, rate: int, units: int = 1000, model: Literal["unigram", "bpe", "char"] = "unigram", lower: bool = True
    ) -> None:
        check_range("feature 'sentencepiece'", "units", units, at_least=3)
        self.symbols, self._model, self._lower = units, model, lower
        self.weights = f"sentencepiece {version('sentencepiece')}"
        self._processor: SentencePieceProcessor | None = None  # it can be pickled, for the workers of a loader

    def __call__(self, inputs: Padded) -> Padded:
        """(B, S) code points -> (B, T, 1) numbers of pieces.

        Raises:
            SertkError: Before it has learned pieces.
        """
        if self._processor is None:
            raise SertkError("feature 'sentencepiece' has learned no pieces yet: fit it, or restore it from a bundle.")
        found = self._processor.encode(inputs.texts(), out_type=int, num_threads=1)
        rows = [torch.tensor(pieces or [UNKNOWN])[:, None] for pieces in found]
        return Padded.stack(rows).to(inputs.data.device)

    def fit(self, utterances: Sequence[Utterance], wave: Callable[[Utterance], Tensor]) -> None:
        """Learns the pieces of the transcripts, whatever their order; utterances without one are left out.

        Raises:
            SertkError: If there is no text, or there are more characters than units.
        """
        texts = sorted(" ".join(one.transcript.split()) for one in utterances if one.transcript)
        if not texts:
            raise SertkError(
                f"feature 'sentencepiece' learns from transcripts, and none of {len(utterances)} training utterances "
                "has one. Take another feature, or prepare the corpus with its transcripts."
            )
        self._processor = _processor(self._learned(texts))

    def _learned(self, texts: Sequence[str]) -> bytes:
        """The model of some texts."""
        from sentencepiece import SentencePieceTrainer

        written = io.BytesIO()
        try:
            SentencePieceTrainer.train(
                sentence_iterator=iter(texts),
                model_writer=written,
                vocab_size=self.symbols,
                hard_vocab_limit=False,  # fewer will do
                model_type=self._model,
                normalization_rule_name="nmt_nfkc_cf" if self._lower else "nmt_nfkc",
                character_coverage=1.0,
                max_sentence_length=2**30,  # longer ones are skipped
                num_threads=1,  # several would add up in any order
                pad_id=PADDING,
                unk_id=UNKNOWN,
                bos_id=NONE,
                eos_id=NONE,
                minloglevel=2,
            )
        except RuntimeError as error:
            why = str(error).rpartition("] ")[2].rstrip(". ")  # without the place in SentencePiece's code
            raise SertkError(
                f"feature 'sentencepiece' cannot learn {self.symbols} units of {len(texts)} transcripts ({why}). "
                "Set more units, or model: char."
            ) from None
        return written.getvalue()

    def files(self) -> dict[str, bytes]:
        """The model, as SentencePiece writes it."""
        return {} if self._processor is None else {MODEL: self._processor.serialized_model_proto()}

    def restore(self, files: Mapping[str, bytes]) -> None:
        """Takes the model back.

        Raises:
            SertkError: Where it is missing, or none.
        """
        try:
            made = _processor(files[MODEL])
        except KeyError:
            raise SertkError(f"the bundle lacks {MODEL}, its pieces of texts. Copy it again, whole.") from None
        except RuntimeError as error:
            raise SertkError(f"{MODEL} of the bundle cannot be read ({error}). Copy it again, whole.") from None
        if not 0 < made.vocab_size() <= self.symbols:
            what = f"{made.vocab_size()} pieces, and they are from 1 to {self.symbols}"
            raise SertkError(f"{MODEL} of the bundle has {what}. Copy it again, whole.")
        self._processor = made


def _processor(model: bytes) -> SentencePieceProcessor:
    from sentencepiece import SentencePieceProcessor

    return SentencePieceProcessor(model_proto=model)
