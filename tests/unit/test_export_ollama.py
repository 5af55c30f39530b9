"""Modelfiles: the template writes what the model's own writes, by our reading of Go's rules and by Go itself."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

import families
from families import FAMILIES, chat
from random_models import chat_row, rows_of
from sft_runner.data.template import Renderer
from sft_runner.data.template.special_tokens import SpecialTokens
from sft_runner.errors import StageFailed, UserError
from sft_runner.exporting.ollama import go, modelfile
from sft_runner.exporting.ollama.layout import FIRST, LAST, NOWHERE, OWN, Layout, learned

CHATS = [
    chat("One?"),
    chat("One?", "Yes.", "Two?"),
    chat('{{ .System }} "quoted" \\n', "ünï {{end}}\n\ncode", "Wait", "{%- if x %}", "last?"),
]
PROGRAM = """package main

import (
	"encoding/json"
	"os"
	"strings"
	"text/template"
)

type turn struct{ Role, Content string }

func main() {
	var jobs []struct {
		Template string
		Chats    [][]turn
	}
	if err := json.NewDecoder(os.Stdin).Decode(&jobs); err != nil {
		panic(err)
	}
	var found [][]string
	for _, job := range jobs {
		made := template.Must(template.New("").Parse(job.Template))
		var texts []string
		for _, chat := range job.Chats {
			var system []string
			for _, one := range chat {
				if one.Role == "system" {
					system = append(system, one.Content)
				}
			}
			var text strings.Builder
			values := map[string]any{"System": strings.Join(system, "\\n\\n"), "Messages": chat}
			if err := made.Execute(&text, values); err != nil {
				panic(err)
			}
			texts = append(texts, text.String())
		}
		found = append(found, texts)
	}
	json.NewEncoder(os.Stdout).Encode(found)
}
"""


def layout_of(folder: Path) -> tuple[Renderer, Layout]:
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    renderer = Renderer(tokenizer)
    return renderer, learned(renderer, SpecialTokens(folder, tokenizer), "")


def chats_for(layout: Layout) -> list[list[dict[str, Any]]]:
    with_system = [chat("Hi", "Ho", "He", system="Be {{ brief }}."), chat("Hi", system="Be brief.")]
    return CHATS if layout.system == NOWHERE else [*CHATS, *with_system]


@pytest.mark.parametrize("family", FAMILIES)
def test_families_ask_as_they_were_trained(tmp_path: Path, family: str) -> None:
    renderer, layout = layout_of(families.write(family, tmp_path))
    template = go.written(layout)
    for turns in chats_for(layout):
        assert go.render(template, turns) == renderer.text(turns, prompt=True)


@pytest.mark.skipif(shutil.which("go") is None, reason="Go is not installed")
@pytest.mark.slow
def test_go_itself_writes_the_same(tmp_path: Path) -> None:
    jobs, expected = [], []
    for family in FAMILIES:
        folder = tmp_path / family
        _, layout = layout_of(families.write(family, folder))
        template, chats = go.written(layout), chats_for(layout)
        turns = [[{"Role": turn["role"], "Content": turn["content"]} for turn in one] for one in chats]
        jobs.append({"Template": template, "Chats": turns})
        expected.append([go.render(template, one) for one in chats])
    (tmp_path / "main.go").write_text(PROGRAM)
    ended = subprocess.run(
        ["go", "run", tmp_path / "main.go"], input=json.dumps(jobs), capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == expected


@pytest.mark.parametrize(
    ("family", "system"), [("qwen-2.5", OWN), ("gemma-3", FIRST), ("mistral-v0.3", LAST), ("gemma-2", NOWHERE)]
)
def test_where_the_system_text_stands(tmp_path: Path, family: str, system: str) -> None:
    assert layout_of(families.write(family, tmp_path))[1].system == system


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{% for m in messages %}{{ loop.index ~ m.content }}{% endfor %}", "another prompt"),
        ("{{ messages[-1].content }}", "it leaves out a turn"),
        ("{% for m in messages %}{{ m.content ~ m.content }}{% endfor %}", "it leaves out a turn, writes it twice"),
        (
            "{% if messages|length > 1 %}{{ raise_exception('one only') }}{% endif %}{{ messages[0].content }}",
            "one only",
        ),
    ],
)
def test_a_template_of_another_kind_is_refused_or_found_out(tmp_path: Path, template: str, why: str) -> None:
    folder = families.write("chatml", tmp_path / "model", template=template)
    rows = rows_of([chat_row("a", "b")])
    with pytest.raises((UserError, StageFailed)) as failed:
        modelfile.write(folder, "../gguf/x.gguf", tmp_path / "ollama", "x", rows)
    assert why in failed.value.message
    assert "ollama out of export" in failed.value.hint


def test_the_file(tmp_path: Path) -> None:
    folder = families.write("llama-3.2", tmp_path / "model")
    settings = {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "eos_token_id": [1, 2]}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    (folder / "LICENSE").write_text('Say """please""".\n')
    proof = modelfile.write(folder, "../gguf/x.gguf", tmp_path / "ollama", "x", rows_of([chat_row("a", "b")] * 3))
    text = (tmp_path / "ollama/Modelfile").read_text()
    assert "\nFROM ../gguf/x.gguf\n" in text
    assert "\nPARAMETER temperature 0.6\nPARAMETER top_p 0.9\n" in text
    assert '\nPARAMETER stop "<|eot_id|>"\n' in text
    assert "LICENSE \"\"\"Say '''please'''.\n\"\"\"" in text
    assert proof.rows == 3
    assert any("2024-07-26" in note for note in proof.notes)


def test_greedy_where_the_model_says_nothing_of_sampling(tmp_path: Path) -> None:
    folder = families.write("chatml", tmp_path / "model")
    modelfile.write(folder, "../safetensors", tmp_path / "ollama", "x", rows_of([chat_row("a", "b")]))
    text = (tmp_path / "ollama/Modelfile").read_text()
    assert "FROM ../safetensors\n" in text
    assert "PARAMETER temperature 0\n" in text


def test_rows_that_ollama_cannot_be_asked_are_counted(tmp_path: Path) -> None:
    folder = families.write("chatml", tmp_path / "model")
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    rows = [chat_row("a", "b"), chat_row("c", "d", tools=[tool])]
    twice = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    rows.append({**chat_row("e", "f"), "messages": json.dumps(twice)})
    proof = modelfile.write(folder, "../safetensors", tmp_path / "ollama", "x", rows_of(rows))
    assert (proof.rows, proof.left_out) == (1, 2)


def test_a_template_that_was_changed_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = families.write("chatml", tmp_path / "model")
    real = go.written
    monkeypatch.setattr(go, "written", lambda layout: real(layout).replace("assistant\\n", "assistant"))
    with pytest.raises(StageFailed, match="proof of the Modelfile: its template writes another prompt"):
        modelfile.write(folder, "../safetensors", tmp_path / "ollama", "x", rows_of([chat_row("a", "b")]))


def test_a_model_without_a_template_is_given_the_text(tmp_path: Path) -> None:
    folder = families.write("chatml", tmp_path / "model")
    (folder / "chat_template.jinja").unlink()
    proof = modelfile.write(folder, "../safetensors", tmp_path / "ollama", "x", rows_of([chat_row("a", "b")]))
    assert modelfile.template_of(tmp_path / "ollama/Modelfile") == "{{ .Prompt }}"
    assert proof.notes
