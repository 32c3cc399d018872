"""Text encoders of BERT's kind from Hugging Face checkpoints, with the tokenizer beside the weights."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from sertk.builtin.backbones.common import check_depth, check_source, choose, on_meta, pretrained
from sertk.core import (
    CODE_POINTS,
    Backbone,
    InputSpec,
    NotHereError,
    Padded,
    SertkError,
    Split,
    UsageError,
    check_range,
    hash_of,
)

if TYPE_CHECKING:  # seconds that a run without these encoders need not pay
    from tokenizers import Tokenizer
    from transformers import PretrainedConfig, PreTrainedModel

KINDS = ("bert", "camembert", "deberta-v2", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta")
"""As a configuration's `model_type` names them: bidirectional encoders with embeddings and a list of layers."""
CONFIG = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act"),
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "max_position_embeddings", "type_vocab_size"),
    *("layer_norm_eps", "pad_token_id", "embedding_size", "relative_attention_num_buckets"),
    *("dim", "n_layers", "n_heads", "hidden_dim", "dropout", "attention_dropout", "activation", "sinusoidal_pos_embds"),
    *("relative_attention", "max_relative_positions", "position_biased_input", "pos_att_type", "position_buckets"),
    *("norm_rel_ebd", "share_att_key", "conv_kernel_size", "conv_act"),
)
"""What a configuration may say of sizes and arithmetic: BERT's, what ELECTRA and MPNet add, DistilBERT's, DeBERTa's."""
MOST = 100_000_000  # bytes of a tokenizer: the largest that there are have some ten million


class Bert(Backbone):
    """A text encoder of BERT's kind (Devlin et al. 2019) from a Hugging Face checkpoint, exact in any batch.

    It reads the characters of a transcript (the feature `text`) and cuts them into tokens as the checkpoint's own
    tokenizer does, which lies beside the weights wherever they lie: a bundle needs no other file. A text of more tokens
    than the encoder has positions for is cut off there, as Hugging Face's `truncation=True` does.

    Args:
        inputs: What the run offers; given by the run.
        reads: The input that it reads, of the feature `text`; the only one when null.
        source: Folder of the checkpoint, or its name on the Hugging Face hub: bert, camembert, deberta-v2, distilbert,
            electra, mpnet, roberta or xlm-roberta. A bundle needs none.
        config: Sizes of an encoder with random weights, instead of `source`, and its `model_type`, bert by
            default. Its tokens are the bytes of the text.
        token: "cls" for the frame of the first token; "mean" for the mean over all; "all" for a frame a token.
        freeze: "none"; the number of layers that are frozen with the embeddings; or "all". What is frozen whole becomes
            a feature that is computed once (see the feature `frozen`), in eval mode.
        tokenizer: Bytes of the tokenizer that a bundle has; set by the run.
    """

    places = ("source",)
    tokenizer: Tensor

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        reads: str | None = None,
        source: str | None = None,
        config: Mapping[str, object] | None = None,
        token: Literal["cls", "mean", "all"] = "cls",  # noqa: S107 - no password
        freeze: int | Literal["none", "all"] = "none",
        tokenizer: int | None = None,
    ) -> None:
        super().__init__()
        self.inputs = (_choose(inputs, reads),)
        check_source("bert", source, config)
        check_range("backbone 'bert'", "tokenizer", tokenizer, at_least=1, at_most=MOST)
        self.encoder = _load(source) if source is not None else _random(config or {})
        self.encoder.register_module("pooler", None)  # it is trained for whether two sentences follow each other
        content = torch.zeros(tokenizer or 0, dtype=torch.uint8)  # a bundle's, which is loaded with the weights
        if tokenizer is None:
            text = _tokenizer(source, self.encoder.config.vocab_size).to_str()
            content = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8).to(content.device)
        self.register_buffer("tokenizer", content)
        self._made: Tokenizer | None = None
        self.register_load_state_dict_post_hook(_forget)  # type: ignore[no-untyped-call]
        self.weights = hash_of(self.state_dict()) if source is not None else ""
        check_depth("bert", len(self._layers), freeze=freeze)
        self._gives, self._whole = token, freeze == "all"
        self.width, self.frame_seconds = self.encoder.config.hidden_size, math.inf
        self.frames = None if self._gives == "all" else 1
        depth = {"none": -1, "all": len(self._layers)}.get(str(freeze), freeze)
        for group in self.groups()[: int(depth) + 1]:
            for parameter in group:
                parameter.requires_grad_(False)

    @property
    def _layers(self) -> nn.ModuleList:
        depth = self.encoder.config.num_hidden_layers
        lists = (one for one in self.encoder.modules() if isinstance(one, nn.ModuleList))
        return next(one for one in lists if len(one) == depth)

    @classmethod
    def split(cls, name: str, settings: Mapping[str, object]) -> Split | None:
        """The whole as a feature of the text, where it is frozen; what is frozen of a part is computed as it trains."""
        freeze = settings.get("freeze", "none")
        if freeze == "none":
            return None
        inside = {word: value for word, value in settings.items() if word not in ("freeze", "reads")}
        whole = Split({"name": "frozen", "reads": "text", "backbone": {"name": name, **inside}}, {"name": "frames"})
        if freeze == "all":
            return whole
        part = f"the embeddings and the first {freeze} layers"
        return whole._replace(part=part, why_not="of a text encoder only the whole is cached")

    def groups(self) -> Sequence[Sequence[nn.Parameter]]:
        """The embeddings with what all layers share, and each layer."""
        layers = [list(layer.parameters()) for layer in self._layers]
        inside = {id(one) for layer in layers for one in layer}
        return [[one for one in self.parameters() if id(one) not in inside], *layers]

    def portable(self) -> Mapping[str, object]:
        """The encoder's sizes instead of its source, and the size of its tokenizer."""
        sizes = self.encoder.config.to_dict()
        config = {name: sizes[name] for name in ("model_type", *CONFIG) if name in sizes}
        return {"source": None, "config": config, "token": self._gives, "tokenizer": len(self.tokenizer)}

    def train(self, mode: bool = True) -> Bert:
        """What is frozen whole stays in eval mode."""
        super().train(mode and not self._whole)
        return self

    def forward(self, inputs: Mapping[str, Padded]) -> Padded:
        """{text: (B, S, 1)} code points -> (B, 1, D), or (B, T, D) with a frame a token."""
        tokens = self._tokens(inputs[self.inputs[0]])
        states: Tensor = self.encoder(tokens.data, attention_mask=tokens.mask.long()).last_hidden_state
        if self._gives == "all":
            return Padded(states, tokens.length)
        one = states[:, :1]
        if self._gives == "mean":
            one = Padded(states, tokens.length).fill(0.0).data.sum(1, keepdim=True) / tokens.length[:, None, None]
        return Padded(one, torch.ones_like(tokens.length))

    def _tokens(self, text: Padded) -> Padded:
        """(B, S, 1) code points -> (B, T) numbers of tokens."""
        self._made = self._made or self._make()
        pad = self.encoder.config.pad_token_id or 0
        found = self._made.encode_batch(text.texts())
        rows = [torch.tensor(one.ids or [pad]) for one in found]  # not every tokenizer marks the beginning of nothing
        return Padded.stack(rows).fill(pad).to(text.data.device)

    def _make(self) -> Tokenizer:
        """The tokenizer whose bytes the state has."""
        from tokenizers import Tokenizer

        # its threads would take every core from the run, and it warns of them where a loader forks
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        made = Tokenizer.from_buffer(self.tokenizer.cpu().numpy().tobytes())
        made.no_padding()
        made.enable_truncation(_longest(self.encoder))
        return made


def _forget(backbone: nn.Module, _: object) -> None:
    """The tokenizer is another after other weights are loaded."""
    backbone._made = None  # type: ignore[assignment]


def _choose(inputs: Mapping[str, InputSpec], reads: str | None) -> str:
    """The input that it reads.

    Raises:
        UsageError: Where it is no text as it is.
    """
    name = choose("bert", inputs, reads, symbols="text")
    if inputs[name].symbols != CODE_POINTS:
        raise UsageError(
            f"backbone 'bert' has a tokenizer of its own and reads characters, and {name!r} has {inputs[name].symbols} "
            "other symbols: set inputs: {text: {name: text}}."
        )
    return name


def _longest(encoder: PreTrainedModel) -> int:
    """Tokens that the encoder has positions for; RoBERTa and its kin count them from behind the position of padding."""
    positions = getattr(encoder.embeddings, "position_embeddings", None)
    padding = getattr(positions, "padding_idx", None)
    return int(encoder.config.max_position_embeddings) - (0 if padding is None else padding + 1)


class _Config:
    """Configurations of the kinds, by the one that a checkpoint names; no code of a checkpoint is ever run."""

    @staticmethod
    def from_pretrained(source: str, **more: object) -> PretrainedConfig:
        from transformers import AutoConfig

        found: PretrainedConfig = AutoConfig.from_pretrained(source, trust_remote_code=False, **more)
        if found.model_type not in KINDS:
            raise ValueError(f"its model_type is {found.model_type}; it is one of {', '.join(KINDS)}")
        return found


def _class(config: PretrainedConfig) -> Any:  # noqa: ANN401 - as `pretrained` has it
    from transformers import MODEL_MAPPING

    found: Any = MODEL_MAPPING[type(config)]
    return found


def _load(source: str) -> PreTrainedModel:
    """The encoder of a checkpoint in float32: of an encoder alone, or of one with a head."""
    with torch.random.fork_rng(devices=[]):  # a pooler that the checkpoint lacks draws its weights, and is left out
        made: PreTrainedModel = pretrained(
            "text encoder", source, _Config, _class, lambda name: "pooler" not in name, "google-bert/bert-base-uncased"
        )
    return made


def _random(sizes: Mapping[str, object]) -> PreTrainedModel:
    """An encoder with random weights.

    Raises:
        UsageError: On another kind, or a size that it does not have.
    """
    from transformers import AutoConfig

    kind = str(sizes.get("model_type", "bert"))
    if kind not in KINDS:
        raise UsageError(f"backbone 'bert': config.model_type is {kind!r}; it is one of {', '.join(KINDS)}")
    odd = sorted(sizes.keys() - {*CONFIG, "model_type"})
    if odd:
        raise UsageError(f"backbone 'bert': config has no {odd[0]!r}; it has {', '.join(CONFIG)}")
    config = AutoConfig.for_model(kind, **{word: value for word, value in sizes.items() if word != "model_type"})
    made: PreTrainedModel = _class(config)(config)
    return made


def _tokenizer(source: str | None, size: int) -> Tokenizer:
    """The tokenizer of a checkpoint, or one whose tokens are the bytes of a text.

    Raises:
        NotHereError: On the meta device, where the hub would have to be asked.
        SertkError: If it has no tokenizer for the tokenizers library, or the encoder has fewer tokens than `size`.
    """
    made = _bytes() if source is None else _read(source)
    if made.get_vocab_size() > size:
        mend = "Set config.vocab_size." if source is None else f"Put its own tokenizer.json into {source!r}."
        raise SertkError(
            f"backbone 'bert': the tokenizer has {made.get_vocab_size()} tokens, and the encoder takes {size}. {mend}"
        )
    return made


def _read(source: str) -> Tokenizer:
    from transformers import AutoTokenizer

    what = "it has no words"
    try:
        found = AutoTokenizer.from_pretrained(source, trust_remote_code=False, local_files_only=on_meta())
        made: Tokenizer = found.backend_tokenizer
    except (OSError, ValueError, KeyError, ImportError, AttributeError) as error:
        if on_meta() and not Path(source).is_dir():
            raise NotHereError(f"the tokenizer of {source!r} is not on this machine yet") from None
        what = str(error).strip().partition("\n")[0]
    else:
        if made.get_vocab_size() > len(found.all_special_tokens):  # Hugging Face makes one of these alone without files
            made.no_padding()
            made.no_truncation()
            return made
    raise SertkError(f"{source!r} has no tokenizer that can be read ({what}). Put tokenizer.json beside config.json.")


def _bytes() -> Tokenizer:
    """Each byte of a text is a token, between one that begins a text and one that ends it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    marks = ["[PAD]", "<pad>", "[CLS]", "[SEP]"]  # 0 is BERT's padding, 1 RoBERTa's
    words = [*marks, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    made = Tokenizer(models.BPE({word: number for number, word in enumerate(words)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(word, words.index(word)) for word in ("[CLS]", "[SEP]")]
    )
    return made
