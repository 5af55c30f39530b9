"""The shape of a model, in the words of its config.json, known without loading or fetching anything.

It comes from the model's folder where that is on this machine, else from `model.architecture` in `conf/model`.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, get_type_hints

from sft_runner.config.schema import Config, Model
from sft_runner.errors import UnknownName, UserError, raise_all
from sft_runner.model.family import Family, family
from sft_runner.model.files import locate, settings
from sft_runner.model.weights import sizes

OWNER = "_name_or_path"
"""The word in which a config.json names its model. `model.architecture` with another name than `model.name` is
another model's, as when `model.name` alone was set on the command line."""
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
"""What families call the number of experts."""
PARTS = ("text_config", "llm_config", "language_config")
"""Where models that also see or hear keep their language model's numbers."""
POSITIVE = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
"""Numbers without which there is no model."""
HEAD = "lm_head.weight"
"""How the output head's weights end, in every family that stores them."""


@dataclass(frozen=True)
class Architecture:
    """The numbers from which parameters, memory and arithmetic follow."""

    model_type: str
    """The family, such as `qwen2`."""
    vocab_size: int
    """Rows of the embedding."""
    hidden_size: int
    """Width of the residual stream."""
    intermediate_size: int
    """Width inside the feed-forward part."""
    num_hidden_layers: int
    """Layers."""
    num_attention_heads: int
    """Query heads."""
    num_key_value_heads: int
    """Key and value heads."""
    head_dim: int
    """Width of a head."""
    tie_word_embeddings: bool
    """Whether the output head shares the embedding's weights."""
    max_position_embeddings: int
    """Longest context in tokens."""
    num_experts: int = 0
    """Experts of a layer; 0 for a dense model."""
    num_experts_per_tok: int = 0
    """Experts that see a token."""
    moe_intermediate_size: int = 0
    """Width inside one expert."""
    num_parameters: int | None = None
    """All parameters, shared ones once: counted in the weights' files, or as published; None: not known."""
    stored_bits: int = 0
    """Bits of the linear layers' weights where the files hold them quantised; 0: they are whole."""

    @property
    def is_moe(self) -> bool:
        """Whether its feed-forward layers are experts. transformers holds all experts of a layer in two parameters of
        three dimensions, which bitsandbytes does not quantise; PEFT's `all-linear` reaches them in the families that it
        knows."""
        return self.num_experts > 1

    @property
    def num_expert_parameters(self) -> int:
        """Weights of all experts: gate, up and down for each."""
        return 3 * self.num_hidden_layers * self.num_experts * self.hidden_size * self.moe_intermediate_size


def architecture(model: Model) -> Architecture | None:
    """The shape of a model; None where nothing on this machine tells it. Raises `UserError` for bad keys."""
    given = model.architecture
    raise_all(list(_mistakes(given)))
    folder = locate(model).folder
    found = _read(settings(folder), sizes(folder), f"model.name: {folder / 'config.json'}: ") if folder else None
    if found is None and given and given.get(OWNER, model.name) == model.name:
        found = _read(given, {}, "model.architecture: ")
    return found


def unquantised(config: Config, arch: Architecture) -> str | None:
    """One sentence where `quantization.bits` leaves most of a model as it is: experts are no linear layers."""
    if config.quantization.bits == "none" or not arch.is_moe:
        return None
    share = f"{arch.num_expert_parameters / arch.num_parameters:.0%}" if arch.num_parameters else "most"
    return (
        f"quantization.bits={config.quantization.bits} does not reach the experts, {share} of the weights: "
        f"bitsandbytes leaves them in {config.hardware.dtype}"
    )


def _mistakes(given: Mapping[str, Any]) -> Iterator[UserError]:
    """What is wrong with `model.architecture`."""
    known = {*get_type_hints(Architecture), OWNER}
    for key, value in given.items():
        wanted: type = {OWNER: str, "model_type": str, "tie_word_embeddings": bool}.get(key, int)
        if key not in known:
            yield UnknownName("key", key, known, "model.architecture: ")
        elif type(value) is not wanted or str(value).startswith("-"):
            kind = {str: "a word", bool: "true or false", int: "a whole number"}[wanted]
            yield UserError(f"model.architecture.{key}={value} is not {kind}", "copy it from the model's config.json")
    needed = [item.name for item in fields(Architecture) if item.default is MISSING and item.name != "head_dim"]
    if given and (missing := [name for name in needed if name not in given]):
        yield UserError(f"model.architecture lacks {', '.join(missing)}", "copy them from the model's config.json")


def _read(config: Mapping[str, Any], weights: Mapping[str, int], where: str = "") -> Architecture | None:
    """The shape that a config.json tells; `weights` are the sizes of the weights in the files beside it.

    None for what is no transformer, and for one whose layers differ from each other: those have lists of numbers.
    Raises `UserError`, beginning with `where`, for a number that cannot be one.
    """
    inner: Mapping[str, Any] = next((config[part] for part in PARTS if isinstance(config.get(part), dict)), {})
    values = {**config, **inner}
    known = family(str(values.get("model_type", ""))) or Family()

    def number(*names: str) -> Any:
        own = [*names, *(known.renamed[name] for name in names if name in known.renamed)]
        told = ((n, source[n]) for source in (values, known.defaults) for n in own if source.get(n) is not None)
        name, value = next(told, ("", None))
        if isinstance(value, str | float | bool) or (name in POSITIVE and isinstance(value, int) and value < 1):
            raise UserError(f"{where}{name} is {json.dumps(value)}, not a whole number", "copy that file again")
        return value

    width, heads = number("hidden_size"), number("num_attention_heads")
    inside = number("intermediate_size", "n_inner", "ffn_dim") or (4 * width if width else None)
    ties = [source.get("tie_word_embeddings") for source in (values, known.defaults)]
    tied = next((value for value in ties if isinstance(value, bool)), None)
    experts = number(*EXPERTS) or 0
    if isinstance(inside, list | dict) or not all(isinstance(value, int | None) for value in (width, heads, experts)):
        return None
    told: dict[str, Any] = {
        "vocab_size": number("vocab_size"),
        "hidden_size": width,
        "intermediate_size": inside,
        "num_hidden_layers": number("num_hidden_layers"),
        "num_attention_heads": heads,
        "num_key_value_heads": number("num_key_value_heads") or heads,
        "head_dim": number("head_dim") or (width // heads if width and heads else None),
        "tie_word_embeddings": tied if tied is not None else not any(name.endswith(HEAD) for name in weights),
        "max_position_embeddings": number("max_position_embeddings"),
        "num_experts": experts,
        "num_experts_per_tok": (number("num_experts_per_tok", "moe_topk") or 1) if experts else 0,
        "moe_intermediate_size": (number("moe_intermediate_size") or inside) if experts else 0,
    }
    if not all(isinstance(value, int) for value in told.values()):
        return None
    counted = sum(size for name, size in weights.items() if not (told["tie_word_embeddings"] and name.endswith(HEAD)))
    published = values.get("num_parameters") if isinstance(values.get("num_parameters"), int) else None
    packed = "quantization_config" in config  # several weights in each stored number
    told["stored_bits"] = _bits(config["quantization_config"]) if packed else 0
    return Architecture(
        model_type=str(values.get("model_type")),
        **told,
        num_parameters=(None if packed else counted) or published,
    )


def _bits(stored: Any) -> int:
    """Bits of a `quantization_config`: GPTQ and AWQ name them, bitsandbytes has a flag, others are of 8 or 4 bits."""
    values = stored if isinstance(stored, dict) else {}
    bits = values.get("bits", values.get("w_bit"))
    if isinstance(bits, int):
        return bits
    return 4 if values.get("load_in_4bit") or "4" in str(values.get("quant_method", "")) else 8
