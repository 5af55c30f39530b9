"""The adapter in PEFT's format, with the tokenizer and chat template that it was trained with."""

from pathlib import Path
from typing import Any

from sft_runner.disk import read_json, write_json
from sft_runner.errors import StageFailed
from sft_runner.exporting.copying import Meter, copy
from sft_runner.merging.companions import companions

CONFIG = "adapter_config.json"


def write(adapter: Path, merged: Path, base: str, target: Path, meter: Meter) -> None:
    """Write the adapter into `target`; `base` is what its configuration calls the model it is for."""
    belongs = [file for file in companions(merged) if file.name != "generation_config.json"]
    copy((file for file in sorted(adapter.iterdir()) if file.is_file()), target, meter)
    copy(belongs, target, meter)
    write_json(target / CONFIG, configuration(adapter, base))


def configuration(adapter: Path, base: str) -> dict[str, Any]:
    """PEFT's configuration of an adapter, for a base that is called `base`: not by a folder of this machine."""
    values = read_json(adapter / CONFIG)
    if not isinstance(values, dict):
        raise StageFailed(f"{adapter / CONFIG} is damaged", "train again with force=[train]")
    return values | {"base_model_name_or_path": base}
