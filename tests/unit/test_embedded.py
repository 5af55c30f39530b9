"""What is shipped: a tiny chat model and its data set, small, safe and able."""

import json
import string
from pathlib import Path

import pytest

from sft_runner.data.sources.local import EMBEDDED

TINY = EMBEDDED / "tiny"


def test_the_model_is_small_and_holds_no_code_and_no_pickle() -> None:
    files = [path for path in TINY.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 8_000_000
    assert {path.suffix for path in files} == {".safetensors", ".json", ".jinja", ".md"}
    config = json.loads((TINY / "config.json").read_text())
    assert config["max_position_embeddings"] == 4096
    assert "auto_map" not in config


def test_the_tokenizer_gives_back_every_text() -> None:
    from sft_runner.model.loading import load_tokenizer

    tokenizer = load_tokenizer(TINY)
    for text in (string.printable, "数据模型 😀 naïve", "\n\n  leading and trailing  "):
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_the_model_can_emit_every_printable_character() -> None:
    """Copying is what an adapter builds on; the character is asked for in the middle of a short string."""
    import torch
    from transformers import AutoModelForCausalLM

    from sft_runner.model.loading import load_tokenizer

    tokenizer, model = load_tokenizer(TINY), AutoModelForCausalLM.from_pretrained(TINY).eval()
    contexts = [("x", "k"), ("7", "q"), ("M", "z")]
    cases = [(character, f"{a}{character}{b}") for character in map(chr, range(33, 127)) for a, b in contexts]
    asked = [[{"role": "user", "content": f"Copy: {text}"}] for _, text in cases]
    ids = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.inference_mode():  # all prompts are equally long
        made = model.generate(**ids, max_new_tokens=4, do_sample=False)[:, ids["input_ids"].shape[1] :]
    answers = tokenizer.batch_decode(made, skip_special_tokens=True)
    emitted = {character for (character, _), answer in zip(cases, answers, strict=True) if character in answer}
    missing = sorted({character for character, _ in cases} - emitted)
    assert len(missing) <= 3, missing  # a character is missed now and then in a context; none is out of reach


@pytest.mark.parametrize("line", range(0, 2000, 97))
def test_the_dates_are_right(line: int) -> None:
    row = json.loads((EMBEDDED / "dates.jsonl").read_text().splitlines()[line])
    year, month, day = row["output"].split("-")
    asked = f"{row['instruction']} {row['input']}"
    assert year in asked
    assert str(int(day)) in asked
    assert "ISO" in asked
    assert 1 <= int(month) <= 12


def test_the_dates_are_what_the_script_makes(tmp_path: Path) -> None:
    import subprocess
    import sys

    script = Path(__file__).parents[2] / "scripts" / "make_dates.py"
    subprocess.run([sys.executable, script, "--output", tmp_path / "dates.jsonl"], check=True, capture_output=True)
    assert (tmp_path / "dates.jsonl").read_bytes() == (EMBEDDED / "dates.jsonl").read_bytes()
