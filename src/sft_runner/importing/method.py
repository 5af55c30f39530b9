"""What trains: the adapter, how its base is stored, and the file of `conf/method` that says the same."""

from dataclasses import dataclass

from sft_runner.importing.draft import CHANGED, NO_EFFECT, NOT_CARRIED, Draft, as_number

STARTS = {
    "true": "default",
    "false": "",
    "gaussian": "gaussian",
    "orthogonal": "orthogonal",
    "pissa": "pissa",
    "olora": "olora",
}
"""PEFT's `init_lora_weights` -> ours; empty for a start that is none of the base's output."""


@dataclass(frozen=True)
class Words:
    """What a program calls the parts of an adapter, and what it takes where nothing is said."""

    r: str = "lora_r"
    """Rank."""
    dora: str = "use_dora"
    """Magnitude and direction apart."""
    rslora: str = "use_rslora"
    """Scale by the root of the rank."""
    default_r: int = 8
    """Its rank."""
    default_alpha: float | None = 8
    """Its scale; None for `2 * r`."""
    default_dropout: float = 0.0
    """Its dropout."""


def whole(draft: Draft, words: Words, *bits: str) -> None:
    """The whole model trains: what is said of an adapter has no effect. `bits`: keys that quantise the base."""
    draft.choices["method"] = "full"
    for key in (words.r, "lora_alpha", "lora_dropout", "lora_target", "lora_target_modules", "lora_target_linear",
                words.dora, words.rslora, "lora_target_parameters", "lora_task_type"):  # fmt: skip
        if draft.has(key):
            draft.told(NO_EFFECT, key, "the whole model trains")
    for key in bits:
        if draft.has(key):
            lost = draft.flag(key)
            draft.told(
                NOT_CARRIED if lost else NO_EFFECT, key, "weights of so few bits do not train" if lost else "off"
            )


def adapter(draft: Draft, words: Words, bits: str, said: bool) -> None:
    """An adapter on a base of so many `bits`; `said`: the file names the bits itself."""
    for key, ours in ((words.r, "lora.r"), ("lora_alpha", "lora.lora_alpha"), ("lora_dropout", "lora.lora_dropout")):
        if draft.has(key):
            number = as_number(draft.value(key))
            if number is None or number < 0 or (number == 0 and ours != "lora.lora_dropout"):
                draft.told(NOT_CARRIED, key, f"is no number that {ours} takes")
            else:
                draft.carried(key, ours, number)
    draft.assume("lora.r", words.default_r)
    alpha = words.default_alpha
    draft.assume("lora.lora_alpha", 2 * draft.settings["lora.r"] if alpha is None else alpha)
    if words.default_dropout:
        draft.assume("lora.lora_dropout", words.default_dropout)
    for key, ours in ((words.dora, "lora.use_dora"), (words.rslora, "lora.use_rslora")):
        if draft.has(key):
            draft.carried(key, ours, draft.flag(key))
    _loraplus(draft)
    _choose(draft, bits, said)


def start(draft: Draft, key: str) -> None:
    """PEFT's `init_lora_weights`."""
    said = str(draft.value(key)).lower()
    ours = STARTS.get(said, said if said == "pissa_niter_16" else "")
    if ours:
        draft.carried(key, "lora.init_lora_weights", ours)
    else:
        draft.told(NOT_CARRIED, key, "the adapter starts at the base model's output; see lora.init_lora_weights")


def _loraplus(draft: Draft) -> None:
    if draft.has("loraplus_lr_ratio"):
        ratio = draft.number("loraplus_lr_ratio")
        if ratio is None or ratio < 1:
            draft.told(NOT_CARRIED, "loraplus_lr_ratio", "is no ratio from 1 on; set train.loraplus_lr_ratio")
        else:
            draft.carried("loraplus_lr_ratio", "train.loraplus_lr_ratio", ratio)
    if draft.has("loraplus_lr_embedding"):
        draft.told(NO_EFFECT, "loraplus_lr_embedding", "no adapter of an embedding has a rate of its own")


def _choose(draft: Draft, bits: str, said: bool) -> None:
    """The file of `conf/method` that fits, and what it does not say already."""
    settings, choices = draft.settings, draft.choices
    if settings.get("train.loraplus_lr_ratio"):
        choices["method"] = "lora_plus"
        if settings["train.loraplus_lr_ratio"] == 16:
            del settings["train.loraplus_lr_ratio"]
    elif settings.get("lora.use_dora"):
        choices["method"] = "dora"
        del settings["lora.use_dora"]
    else:
        choices["method"] = "qlora" if bits == "4" else "lora"
    if choices["method"] == "qlora":
        return
    if said:
        settings["quantization.bits"] = bits
    else:
        note = f"{draft.program} does not quantise the base; leave it out to let the hardware preset decide"
        draft.assume("quantization.bits", bits, note)


def quantized(draft: Draft, four: str, eight: str) -> tuple[str, bool]:
    """Bits of the frozen base by two switches, and whether the file says it."""
    bits = "4" if draft.flag(four) else "8" if draft.flag(eight) else "none"
    said = False
    for key, own in ((four, "4"), (eight, "8")):
        if draft.has(key):
            said = True
            if draft.flag(key):
                note = "NF4 with double quantisation" if own == "4" else "LLM.int8"
                draft.told(CHANGED if own == "4" else "carried", key, note, f"quantization.bits={own}")
            else:
                draft.told(NO_EFFECT, key, "off" if bits != "none" else "off: quantization.bits=none")
    return bits, said
