"""An earlier adapter that is trained further: what `train.continue_from` names, whether it fits, and how it is loaded.

Planning reads two JSON files for it; only `load_continued` loads anything.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_runner.config.schema import Config, Lora, Model
from sft_runner.errors import UnknownName, UserError
from sft_runner.model.files import locate
from sft_runner.runs import runs

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

KEY = "train.continue_from"
FILES = ("adapter_config.json", "adapter_model.safetensors")
"""What PEFT writes; nothing else of such a folder is read, so no pickle is."""
CHANGE_THE_BASE = ("pissa", "olora", "loftq", "corda", "lora_ga")
"""PEFT's starts that move part of the base into the adapter: without a conversion it fits no other copy of the base."""


def adapter_of(config: Config) -> Path | None:
    """The PEFT folder that `train.continue_from` means, absolute; None where it is open.

    It is a run folder, a folder with an adapter, or the name of a run: then the newest one that completed and has an
    adapter. Raises `UserError`.
    """
    named = config.train.continue_from
    if named is None:
        return None
    folder = Path(named).expanduser()
    return _in_folder(folder.absolute()) if folder.is_dir() else _by_name(named, config)


def check(config: Config) -> list[UserError]:
    """Why the adapter cannot be trained further as the configuration asks; empty where it can, or none is named."""
    try:
        folder = adapter_of(config)
        return list(_misfits(config, _values(folder))) if folder else []
    except UserError as error:
        return [error]


def shape_of(config: Config) -> Lora | None:
    """The adapter's own `lora.*`, for what a configuration leaves open; None where no adapter is trained further.

    Raises `UserError`.
    """
    folder = adapter_of(config)
    return _shape(_values(folder)) if folder else None


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


def _in_folder(folder: Path) -> Path:
    """The adapter of a PEFT folder, of a run folder, or of a train stage's folder."""
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


def _by_name(name: str, config: Config) -> Path:
    """The adapter of the newest completed run of that name."""
    output_dir = Path(config.output_dir)
    names = {state["name"] for _, state in runs(output_dir) if state.get("name")}
    if "/" in name or name not in names:
        if names and "/" not in name:
            raise UnknownName("run", name, names, f"{KEY}: ")
        raise UserError(
            f"{KEY}: there is no folder and no run '{name}'",
            "give a run folder, the name of a run, or a folder with a PEFT adapter"
            + (f"; runs in {output_dir}: {', '.join(sorted(names))}" if names else ""),
        )
    finished = [folder for folder, state in runs(output_dir, name) if state.get("state") == "completed"]
    found = next((folder for folder in finished if (folder / "adapter").exists()), None)
    if name == config.name:
        raise UserError(
            f"{KEY}={name} is the name of this run itself: each time, it would go on from its own result",
            f"give this run a new name, such as name={name}-2"
            + (f", or name the run folder: {KEY}={found}" if found else ""),
        )
    if found is None and finished:
        return _in_folder(finished[0].absolute())  # says what is there instead
    if found is None:
        raise UserError(f"{KEY}: no run '{name}' has completed", "finish it first, or name a run folder")
    return _in_folder(found.absolute())


def _values(folder: Path) -> dict[str, Any]:
    """The adapter's `adapter_config.json`."""
    path = folder / FILES[0]
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{KEY}: {path} cannot be read: {error}", "copy the adapter again") from None
    if not isinstance(values, dict) or values.get("peft_type") != "LORA" or not isinstance(values.get("r"), int):
        raise UserError(f"{KEY}: {path} is not about a LoRA adapter", "only LoRA and DoRA adapters are trained further")
    return values


def _shape(values: dict[str, Any]) -> Lora:
    targets = values.get("target_modules") or []
    return Lora(
        r=values["r"],
        lora_alpha=float(values.get("lora_alpha") or values["r"]),
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
