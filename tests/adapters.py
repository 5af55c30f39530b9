"""Adapters as far as planning reads them."""

import json
from pathlib import Path
from typing import Any

BASE = "embedded:tiny"


def adapter(folder: Path, **changes: Any) -> Path:
    """A PEFT folder with these settings; its weights are none."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        "peft_type": "LORA",
        "base_model_name_or_path": BASE,
        "revision": None,
        "r": 4,
        "lora_alpha": 8,
        "lora_dropout": 0.1,
        "target_modules": ["v_proj", "q_proj"],
        "use_dora": False,
        "use_rslora": False,
        "init_lora_weights": True,
    }
    (folder / "adapter_config.json").write_text(json.dumps(values | changes))
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    return folder
