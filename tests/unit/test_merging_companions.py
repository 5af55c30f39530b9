"""What belongs to a model besides its weights goes along with it."""

import json
from pathlib import Path

from sft_runner.merging import companions


def test_what_belongs_to_the_model_is_carried(tmp_path: Path) -> None:
    base, out = tmp_path / "from", tmp_path / "to"
    base.mkdir()
    out.mkdir()
    carried = {"tokenizer.json", "chat_template.jinja", "vocab.txt", "NOTICE.md", "LICENSE", "preprocessor_config.json"}
    left = {
        "README.md",
        "config.json",
        "model.safetensors",
        "model.safetensors.index.json",
        "pytorch_model.bin",
        "own.py",
    }
    for name in carried | left:
        (base / name).write_text(name)
    companions.carry(base, out)
    assert {path.name for path in out.iterdir()} == carried
    companions.carry(base, out, own_code=True)
    assert {path.name for path in out.iterdir()} == carried | {"own.py"}


def test_settings_change_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"text_config": {"vocab_size": 5, "x": 1}, "model_type": "a"}')
    (tmp_path / "to").mkdir()
    companions.carry_settings(tmp_path, tmp_path / "to", {"vocab_size": 7, "tie_word_embeddings": False})
    assert json.loads((tmp_path / "to/config.json").read_text()) == {
        "text_config": {"vocab_size": 7, "x": 1, "tie_word_embeddings": False},
        "model_type": "a",
        "tie_word_embeddings": False,
    }
    companions.carry_settings(tmp_path, tmp_path / "to", {})
    assert (tmp_path / "to/config.json").read_bytes() == (tmp_path / "config.json").read_bytes()
