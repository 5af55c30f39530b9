"""An earlier adapter that is trained further: where it lies in a folder, whether it fits, and how it is loaded.

Planning reads two JSON files for it; only `load_continued` loads anything.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_runner.config.schema import Config, Lora, Model
from sft_runner.errors import UserError
from sft_runner.model.files import locate
from sft_runner.model.starts import CONFIG, WEIGHTS

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

KEY = "train.continue_from"
FILES = (CONFIG, WEIGHTS)
"""What PEFT writes; nothing else of such a folder is read, so no pickle is."""
ALL_LINEAR = "all-linear"
"""PEFT's word for every linear layer but the output head."""
UNKNOWN = (
    *("modules_to_save", "trainable_token_indices", "layers_to_transform", "layers_pattern", "exclude_modules"),
    *("layer_replication", "lora_bias", "use_qalora", "use_bdlora", "alora_invocation_tokens", "megatron_config"),
    *("arrow_config", "velora_config", "monteclora_config", "kasa_config"),
)
"""Other fields of PEFT's `LoraConfig` that change what trains; empty in the adapters that are made here."""
CHANGE_THE_BASE = ("pissa", "olora", "loftq", "corda", "lora_ga")
"""PEFT's starts that move part of the base into the adapter: without a conversion it fits no other copy of the base."""


def in_folder(folder: Path) -> Path:
    """The PEFT folder that a run folder, a train stage's folder or a PEFT folder means. Raises `UserError`."""
    for place in (folder, folder / "adapter"):
        if all((place / name).is_file() for name in FILES):
            return place.resolve()
    whole = f"its whole model is a base to go on from: model.name={folder / 'model'}"
    model = (folder / "model" / "config.json").is_file()
    if (folder / "adapter").is_symlink():
        raise UserError(
            f"{KEY}: the adapter of {folder} was removed: there is no {(folder / 'adapter').resolve()}",
            f"make it again with the same command, or {whole}" if model else "make it again with the same command",
        )
    if model:
        raise UserError(f"{KEY}: {folder} has no adapter", whole)
    raise UserError(
        f"{KEY}: {folder} is neither a run with an adapter nor a folder with {' and '.join(FILES)}",
        "give a run folder such as outputs/runs/NAME/TIME, or the name of a run",
    )


def check(config: Config, folder: Path | None) -> list[UserError]:
    """Why the adapter cannot be trained further as the configuration asks; empty where it can, or there is none."""
    try:
        return list(_misfits(config, _values(folder))) if folder else []
    except UserError as error:
        return [error]


def shape_of(folder: Path) -> Lora:
    """The adapter's own `lora.*`, for what a configuration leaves open. Raises `UserError`."""
    return _shape(_values(folder))


def load_continued(base: "PreTrainedModel", folder: Path, dropout: float | None = None) -> "PeftModel":
    """The base with the adapter beside it, which trains on in float32; `dropout` replaces the one it was made with."""
    from peft import LoraConfig, PeftModel

    settings: Any = LoraConfig.from_pretrained(str(folder))
    if dropout is not None:
        settings.lora_dropout = dropout
    model: PeftModel = PeftModel.from_pretrained(base, folder, is_trainable=True, config=settings, use_safetensors=True)
    for weights in model.parameters():
        if weights.requires_grad:
            weights.data = weights.data.float()
    return model


def _values(folder: Path) -> dict[str, Any]:
    """The adapter's `adapter_config.json`."""
    path = folder / CONFIG
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{KEY}: {path} cannot be read: {error}", "copy the adapter again") from None
    if not isinstance(values, dict) or values.get("peft_type") != "LORA" or not _is_lora(values):
        raise UserError(f"{KEY}: {path} is not about a LoRA adapter", "only LoRA and DoRA adapters are trained further")
    more = ", ".join(sorted(_more(values)))
    if more:
        hint = "merge it with PEFT and train a new adapter on the result: model.name=DIR"
        raise UserError(f"{KEY}: {path}: only an adapter of LoRA's two factors is trained further, it has {more}", hint)
    return values


def _is_lora(values: dict[str, Any]) -> bool:
    """Whether the fields that are read here have their types."""
    targets = [values.get(name) or [] for name in ("target_modules", "target_parameters")]
    return (
        isinstance(values.get("r"), int)
        and all(isinstance(named, str) or _are_texts(named) for named in targets)
        and all(isinstance(values.get(name) or 0.0, int | float) for name in ("lora_alpha", "lora_dropout"))
        and all(isinstance(values.get(name) or {}, dict) for name in ("rank_pattern", "alpha_pattern"))
    )


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _alpha(values: dict[str, Any]) -> float:
    return float(values.get("lora_alpha") or values["r"])


def _more(values: dict[str, Any]) -> Iterator[str]:
    """What an adapter has that no setting here says, so that it would be planned as if it had not."""
    targets = values.get("target_modules") or []
    if isinstance(targets, str) and targets != ALL_LINEAR:
        yield f"target_modules={targets} (an expression)"
    elif any(str(name).rpartition(".")[2] == "lm_head" for name in targets):
        yield "target_modules with lm_head (the output head)"
    if values.get("bias") not in (None, "none"):
        yield f"bias={values['bias']}"
    fused = {rf".*\.{re.escape(name)}" for name in values.get("target_parameters") or []}
    for name, whole in (("rank_pattern", values["r"]), ("alpha_pattern", _alpha(values))):
        pattern = (
            values.get(name) or {}
        )  # PEFT's own: of two experts' matrices in one parameter both are twice as large
        if not fused.issuperset(pattern) or any(value != 2 * whole for value in pattern.values()):
            yield name
    yield from (name for name in UNKNOWN if values.get(name))


def _shape(values: dict[str, Any]) -> Lora:
    targets = values.get("target_modules") or []
    return Lora(
        r=values["r"],
        lora_alpha=_alpha(values),
        lora_dropout=float(values.get("lora_dropout") or 0.0),
        target_modules=[targets] if isinstance(targets, str) else sorted(targets),
        use_dora=bool(values.get("use_dora")),
        use_rslora=bool(values.get("use_rslora")),
        target_parameters=list(values.get("target_parameters") or []),
    )


def _misfits(config: Config, values: dict[str, Any]) -> Iterator[UserError]:
    """What the configuration asks for and the adapter is not."""
    if config.adapter == "none":
        yield UserError(f"{KEY} does not go with method=full, which trains no adapter", "merge it, then model.name=DIR")
        return
    base = values.get("base_model_name_or_path")
    if base and not _same_model(Model(name=base, revision=values.get("revision")), config.model):
        yield UserError(
            f"{KEY}: the adapter belongs to the base {base}, model.name is {config.model.name}",
            f"use model.name={base}",
        )
    start = str(values.get("init_lora_weights")).lower()
    if start.startswith(CHANGE_THE_BASE):
        hint = "save it again with PEFT's path_initial_model_for_weight_conversion"
        yield UserError(f"{KEY}: the adapter began as {start} and was not converted: it fits only its own base", hint)
    if config.lora.init_lora_weights != "default":
        hint = "leave lora.init_lora_weights=default"
        yield UserError(f"lora.init_lora_weights does not go with {KEY}: the adapter has begun already", hint)
    shape = _shape(values)
    asked = {"r": config.lora.r, "lora_alpha": config.lora.lora_alpha}
    asked |= {"use_dora": config.lora.use_dora, "use_rslora": config.lora.use_rslora}
    for name, value in asked.items():
        if value is not None and value != (has := getattr(shape, name)):
            yield UserError(f"lora.{name}={_text(value)}: the adapter of {KEY} has {_text(has)}", _hint(name, has))
    for name in ("target_modules", "target_parameters"):
        wanted, has = getattr(config.lora, name), getattr(shape, name)
        if wanted != getattr(Lora(), name) and set(wanted) != set(has):
            yield UserError(f"lora.{name}=[{','.join(wanted)}]: the adapter of {KEY} has others", _hint(name, has))


def _same_model(one: Model, other: Model) -> bool:
    """Whether two names mean the same files: the same folder, or the same hub id."""
    folders = []
    for model in (one, other):
        try:
            folders.append(locate(model).folder)
        except UserError:
            return False  # of the adapter's base; model.name itself was checked by then
    if all(folders):
        return bool(folders[0] == folders[1])
    return one.name == other.name


def _hint(name: str, has: Any) -> str:
    if name in ("use_dora", "use_rslora"):
        return f"set lora.{name}={_text(has)}" + (", or choose method=dora" if name == "use_dora" and has else "")
    return f"leave lora.{name} open, or set lora.{name}={_text(has)}"


def _text(value: Any) -> str:
    """A value as it is written on the command line."""
    if isinstance(value, list):
        return f"[{','.join(map(str, value))}]"
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"
