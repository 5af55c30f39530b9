"""Benchmarks through the real lm-evaluation-harness: numbers equal an independent count; a user's folder is data."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from random_models import Reports, random_model, tokenizer
from sft_runner.config import gate_conflicts
from sft_runner.config.schema import Config
from sft_runner.errors import MachineError, UnknownName, UserError
from sft_runner.evaluation import benchmarks, scoring, tasks
from sft_runner.fingerprint import Hashes, gather
from sft_runner.stages import STAGES

DOCUMENTS = [
    {"question": f"{i} plus {i}?", "answer": str(2 * i), "choices": ["no", "yes", "maybe"], "gold": i % 3}
    for i in range(7)
]
WRITTEN = """
task: my_sums
dataset_path: json
dataset_kwargs:
  data_files: {test: sums.jsonl}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 8, do_sample: false}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
tag: [mine]
"""
CHOSEN = """
task: my_choices
dataset_path: json
dataset_kwargs:
  data_files: {test: sums.jsonl}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: gold
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""
GROUP = """
group: my_group
task: [my_sums, my_choices]
aggregate_metric_list: [{metric: acc, weight_by_size: true, filter_list: none}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder of tasks: one writes answers, one chooses, and a group of both."""
    made = tmp_path / "tasks"
    made.mkdir()
    (made / "sums.jsonl").write_text("".join(json.dumps(document) + "\n" for document in DOCUMENTS))
    (made / "sums.yaml").write_text(WRITTEN)
    (made / "choices.yaml").write_text(CHOSEN)
    return made


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def config(folder: Path | None, *names: str, **evaluate: Any) -> Config:
    made = Config()
    made.evaluate.benchmarks = list(names)
    made.evaluate.benchmarks_path = str(folder) if folder else None
    made.hardware.per_device_eval_batch_size = 4
    for key, value in evaluate.items():
        setattr(made.evaluate, key, value)
    return made


def found_in(made: Config) -> list[UserError]:
    return list(tasks.mistakes(made))


def prompt(question: str) -> list[int]:
    ids = tokenizer().apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, return_dict=False
    )
    return list(ids)


def written(model: Any, question: str) -> str:
    """A greedy answer by a loop of its own, up to the line's end or the end of the answer."""
    ids = prompt(question)
    length = len(ids)
    while len(ids) < length + 8:
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] == tokenizer().eos_token_id:
            break
    return tokenizer().decode(ids[length:], skip_special_tokens=True).split("\n")[0]


def likelihood(model: Any, question: str, choice: str) -> float:
    """The log probability of a choice behind a prompt."""
    before, after = prompt(question), tokenizer().encode(" " + choice, add_special_tokens=False)
    return _likelihood(model, before, after)


def _likelihood(model: Any, before: list[int], after: list[int]) -> float:
    logits = model(torch.tensor([before + after])).logits[0].log_softmax(-1)
    return float(sum(logits[len(before) + place - 1, token] for place, token in enumerate(after)))


def test_numbers_are_those_of_an_independent_count(folder: Path, tmp_path: Path) -> None:
    (folder / "group.yaml").write_text(GROUP)
    model, said = random_model(seed=3), Reports()
    answers = [written(model, document["question"]) for document in DOCUMENTS]
    for document, answer in zip(DOCUMENTS[:3], answers[:3], strict=True):
        document["answer"] = answer  # otherwise nothing would be right
    (folder / "sums.jsonl").write_text("".join(json.dumps(document) + "\n" for document in DOCUMENTS))
    model.generation_config.repetition_penalty = 3.0
    with torch.no_grad():
        chosen = [max(range(3), key=lambda i: likelihood(model, d["question"], d["choices"][i])) for d in DOCUMENTS]
    made = config(folder, "my_group")
    assert not found_in(made)
    measured = benchmarks.run(made, model, tokenizer(), tmp_path, said)
    found = measured["benchmarks"]
    assert measured["higher_is_better"]["my_group"] == {"acc": True}
    right = sum(a == d["answer"] for a, d in zip(answers, DOCUMENTS, strict=True)) / len(DOCUMENTS)
    acc = sum(c == d["gold"] for c, d in zip(chosen, DOCUMENTS, strict=True)) / len(DOCUMENTS)
    assert right >= 3 / 7
    assert found["my_sums"]["exact_match"] == pytest.approx(right)
    assert found["my_choices"]["acc"] == pytest.approx(acc)
    assert found["my_group"]["acc"] == pytest.approx(acc)
    error = (right * (1 - right) / (len(DOCUMENTS) - 1)) ** 0.5
    assert found["my_sums"]["exact_match_stderr"] == pytest.approx(error)
    lines = [json.loads(line) for line in (tmp_path / "benchmarks" / "my_sums.jsonl").read_text().splitlines()]
    assert [line["filtered_resps"][0] for line in lines] == answers
    assert (tmp_path / "benchmarks" / "my_choices.jsonl").is_file()
    assert said[-1]["step"] == said[-1]["steps"]
    assert model.generation_config.repetition_penalty == 3.0


def test_other_batch_sizes_and_memory_that_runs_out_give_the_same(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, said = random_model(seed=3), Reports()
    made = config(folder, "my_choices", benchmarks_limit=5)
    found = benchmarks.run(made, model, tokenizer(), _fresh(tmp_path / "a"), Reports())
    forward, sizes = model.forward, []

    def small(input_ids: Any, **more: Any) -> Any:
        sizes.append(len(input_ids))
        if len(input_ids) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(input_ids, **more)

    monkeypatch.setattr(model, "forward", small)
    assert benchmarks.run(made, model, tokenizer(), _fresh(tmp_path / "b"), said) == found
    assert sizes[:3] == [4, 2, 1]
    assert [line["message"] for line in said if "again" in line["message"]][-1].endswith("begins again with 1 at once")
    lines = (tmp_path / "b" / "benchmarks" / "my_choices.jsonl").read_text().splitlines()
    assert len(lines) == 5
    monkeypatch.setattr(model, "forward", lambda *_, **__: _raise(torch.OutOfMemoryError("CUDA out of memory")))
    with pytest.raises(MachineError, match="out of memory in benchmarks"):
        benchmarks.run(made, model, tokenizer(), _fresh(tmp_path / "c"), Reports())


def test_an_adapter_is_measured_with_its_layers(folder: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    made = config(folder, "my_choices")
    base = benchmarks.run(made, random_model(seed=3), tokenizer(), _fresh(tmp_path / "a"), Reports())
    adapted = get_peft_model(
        random_model(seed=3), LoraConfig(target_modules="all-linear", r=4, init_lora_weights=False)
    )
    tuned = benchmarks.run(made, adapted, tokenizer(), _fresh(tmp_path / "b"), Reports())
    assert base.keys() == tuned.keys()
    answers = [(tmp_path / name / "benchmarks" / "my_choices.jsonl").read_text() for name in "ab"]
    assert answers[0] != answers[1]


def test_a_model_without_a_chat_template_gets_plain_prompts(folder: Path, tmp_path: Path) -> None:
    plain = copy.deepcopy(tokenizer())
    plain.chat_template = None
    benchmarks.run(config(folder, "my_sums"), random_model(), plain, tmp_path, Reports())
    first = json.loads((tmp_path / "benchmarks" / "my_sums.jsonl").read_text().splitlines()[0])
    assert first["arguments"][0][0] == DOCUMENTS[0]["question"]


def test_filters_have_their_name_behind_the_metric() -> None:
    values = {
        "alias": "gsm8k",
        "exact_match,strict-match": 0.5,
        "exact_match_stderr,strict-match": 0.1,
        "exact_match,flexible-extract": 0.75,
        "exact_match_stderr,flexible-extract": "N/A",
        "perplexity,flexible-extract": float("inf"),
    }
    assert benchmarks.numbers(values) == {
        "exact_match_strict_match": 0.5,
        "exact_match_strict_match_stderr": 0.1,
        "exact_match_flexible_extract": 0.75,
    }
    assert benchmarks.numbers({"acc,none": 1, "acc_stderr,none": 0.0, " ": " "}) == {"acc": 1.0, "acc_stderr": 0.0}
    assert benchmarks.numbers({"exact_match,get-answer": 1.0}) == {"exact_match": 1.0}


def test_directions_are_those_of_the_harness() -> None:
    values = {"acc,none": 0.5, "acc_stderr,none": 0.1, "likelihood_diff,none": 2.0, "mixed,none": 1.0, "own,none": 1.0}
    told = {"acc": True, "likelihood_diff": False, "mixed": None}
    assert benchmarks.directions(values, told) == told
    filtered = {"wer,a-b": 0.5, "wer,c": 0.4}
    assert benchmarks.directions(filtered, {"wer": False}) == {"wer_a_b": False, "wer_c": False}
    base = {"benchmarks": {"t": {"acc": 0.5, "likelihood_diff": 2.0, "mixed": 1.0, "ter": 2.0}}}
    tuned = {"benchmarks": {"t": {"acc": 0.75, "likelihood_diff": 3.0, "mixed": 2.0, "ter": 1.0}}}
    tuned |= {"higher_is_better": {"t": told}}
    assert scoring.gain(base, tuned) == {"benchmarks": {"t": {"acc": 0.25, "likelihood_diff": -1.0, "ter": 1.0}}}


def test_what_a_task_of_ones_own_measures_is_known_before(folder: Path) -> None:
    made = config(folder, "my_sums", "my_choices", "filtered")
    two = '  - {name: "strict-match", filter: [{function: take_first}]}\n  - {name: none, filter: []}\n'
    text = WRITTEN.replace("task: my_sums", "task: filtered")
    (folder / "filtered.yaml").write_text(text.replace("tag: [mine]", f"filter_list:\n{two}"))
    assert tasks.metrics(made, "my_choices") == ["acc"]
    assert tasks.metrics(made, "filtered") == ["exact_match_strict_match", "exact_match"]
    assert tasks.metrics(made, "gsm8k") == tasks.metrics(made, "mine") == tasks.metrics(config(None), "my_sums") == []
    made.evaluate.gates = {"benchmarks": {"my_choices": {"exact_match": {"min": 0.5}}, "filtered": {"acc": {"min": 1}}}}
    said = [error.show() for error in gate_conflicts.of_gates_and_sets(made, None)]
    assert [text.splitlines()[0] for text in said] == [
        "evaluate.gates.benchmarks.my_choices.exact_match: my_choices does not measure 'exact_match'",
        "evaluate.gates.benchmarks.filtered.acc: filtered does not measure 'acc'",
    ]
    assert said[0].endswith("known: acc")


# --- names ----------------------------------------------------------------------------------------------------------


def test_names_are_checked_before_anything_runs(folder: Path) -> None:
    assert not found_in(config(folder, "my_sums", "mine", "gsm8k", "mmlu", "acp_bench"))
    (error,) = found_in(config(folder, "my_sum"))
    assert isinstance(error, UnknownName)
    assert error.message == "evaluate.benchmarks: task 'my_sum' does not exist"
    assert error.hint == "did you mean 'my_sums'?"
    (error,) = found_in(config(None, "gsm8"))
    assert "gsm8k" in error.hint
    assert not found_in(config(folder / "missing"))
    (error,) = found_in(config(folder / "missing", "my_sums"))
    assert "there is no folder" in error.message
    above = config(folder, "my_sums")
    above.output_dir = str(folder / "outputs")
    (error,) = found_in(above)
    assert "holds output_dir too" in error.message, "its bytes would never be the same"


@pytest.mark.slow
def test_every_name_of_the_harness_is_known() -> None:
    """The scan reads 14,000 files as text; the harness parses them all."""
    from lm_eval.tasks import TaskManager

    assert set(TaskManager().all_tasks) <= tasks.known()


def test_a_missing_harness_is_told_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "find_spec", lambda name: None)
    assert not found_in(config(None, "gsm8k"))
    with pytest.raises(MachineError, match="needs the package lm-eval") as caught:
        tasks.check(config(None, "gsm8k"))
    assert "sft-runner[benchmarks]" in caught.value.hint
    tasks.check(config(None))


# --- a user's own folder --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        ('doc_to_target: "{{answer}}"', "doc_to_target: !function utils.target", "line 9: !function runs Python"),
        ("dataset_path: json", "class: utils.Mine", "'class' names Python"),
        ("dataset_path: json", "dataset_path: pandas", "reads pickles"),
        ("dataset_path: json", "dataset_path: json\nunsafe_code: true", "'unsafe_code' runs what a model wrote"),
        ("{test: sums.jsonl}", "{test: sums.jsonl}\n  trust_remote_code: true", "'trust_remote_code'"),
        ("{metric: exact_match,", "{metric: mine, hf_evaluate: true,", "'hf_evaluate' fetches a metric's code"),
        ("sums.jsonl", "../other.jsonl", "is outside of"),
        ("sums.jsonl", "https://example.org/sums.jsonl", "is outside of"),
        ("sums.jsonl", "/etc/passwd", "is outside of"),
        ("dataset_path: json", "dataset_path: ../other", "is outside of"),
        ("sums.jsonl", "sum.jsonl", "there is no 'sum.jsonl'"),
        ("task: my_sums", "task: my_sums\ninclude: ../other.yaml", "includes ../other.yaml, which is outside of"),
        ("task: my_sums", "task: my_sums\ninclude: sums.yaml", "includes itself"),
        ("task: my_sums", "task: [", "cannot be read"),
        ("task: my_sums", "task: 2001-99-99", "cannot be read"),
        ("task: my_sums", "task: !function utils.f\ntask: my_sums", "line 2: !function runs Python"),
        ("task: my_sums", "? !function utils.f\n: 1\ntask: my_sums", "line 2: !function runs Python"),
        ("task: my_sums", "task: my_sums\nx: !!set {? !function utils.f }", "line 3: !function runs Python"),
        ("task: my_sums", "task: my_sums\nx: !!pairs [{a: !function utils.f}]", "line 3: !function runs Python"),
        ("task: my_sums", "task: my_sums\nx: !!pairs [{a: {class: 1}}]", "'class' names Python"),
        ("sums.jsonl", ".git/sums.jsonl", "the bytes of the data '.git/sums.jsonl' do not count"),
        ("task: my_sums", "task: !!python/object/apply:os.getcwd []", "cannot be read"),
    ],
)
def test_code_and_data_from_elsewhere_are_refused(folder: Path, was: str, now: str, said: str) -> None:
    text = (folder / "sums.yaml").read_text()
    assert was in text
    (folder / "sums.yaml").write_text(text.replace(was, now))
    (error,) = found_in(config(folder, "my_choices"))
    assert said in error.message
    assert "sums.yaml" in error.message
    with pytest.raises(UserError):
        benchmarks.run(config(folder, "my_choices"), random_model(), tokenizer(), folder, Reports())


@pytest.mark.parametrize("place", [".git", "a/.git/b"])
def test_a_task_where_bytes_do_not_count_is_refused(folder: Path, place: str) -> None:
    """The harness skips only `__pycache__` and `.ipynb_checkpoints`."""
    (folder / place).mkdir(parents=True)
    (folder / place / "arc.yaml").write_text(WRITTEN.replace("task: my_sums", "task: arc_easy"))
    (error,) = found_in(config(folder, "arc_easy"))
    assert "arc.yaml is a task file whose bytes do not count" in error.message
    (folder / place / "arc.yaml").rename(folder / place / "arc.yml")
    (folder / "mine.yaml").write_text(f"include: {place}/arc.yml\ntask: mine_too\n")
    (error,) = found_in(config(folder, "mine_too"))
    assert "bytes do not count" in error.message


def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    """The harness would read what the file includes from beside its target."""
    (tmp_path / "else.yaml").write_text("include: sums.yaml\ntask: linked\n")
    (tmp_path / "sums.yaml").write_text(WRITTEN)
    (folder / "linked.yaml").symlink_to(tmp_path / "else.yaml")
    (error,) = found_in(config(folder, "linked"))
    assert "else.yaml is a task file whose bytes do not count" in error.message


def test_files_of_the_harness_may_be_included(folder: Path) -> None:
    home = tasks.harness()
    assert home is not None
    task = f"include: {home}/tasks/gsm8k/gsm8k.yaml\ntask: my_gsm8k\nnum_fewshot: 0\n"
    (folder / "mine.yaml").write_text(task)
    assert not found_in(config(folder, "my_gsm8k"))


def test_a_metric_from_the_hub_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "sums.yaml").write_text(WRITTEN.replace("exact_match,", "exact_mach,"))
    with pytest.raises(UnknownName, match="metric 'exact_mach' does not exist") as caught:
        benchmarks.run(config(folder, "my_sums"), random_model(), tokenizer(), tmp_path, Reports())
    assert "exact_match" in caught.value.hint


def test_a_template_sees_nothing_but_the_document(folder: Path, tmp_path: Path) -> None:
    escape = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    (folder / "sums.yaml").write_text(WRITTEN.replace("{{question}}", escape))
    with pytest.raises(UserError, match="SecurityError"):
        benchmarks.run(config(folder, "my_sums"), random_model(), tokenizer(), tmp_path, Reports())


@pytest.mark.slow
def test_a_task_of_the_harness_that_runs_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="humaneval runs the code that the model writes"):
        benchmarks.run(config(None, "humaneval"), random_model(), tokenizer(), tmp_path, Reports())


def test_the_bytes_of_the_folder_count_and_its_place_does_not(folder: Path, tmp_path: Path) -> None:
    def fingerprints(made: Config) -> dict[str, str]:
        hashes = Hashes(tmp_path / "hashes.json")
        made.model.name = "embedded:tiny"
        return {
            name: gather(
                STAGES[name], made, dict.fromkeys(STAGES[name].inputs, ""), {"data": "", "sets": ""}, hashes
            ).fingerprint()
            for name in ("prepare", "baseline", "train", "evaluate")
        }

    before = fingerprints(config(folder, "my_sums"))
    moved = folder.rename(tmp_path / "moved")
    assert fingerprints(config(moved, "my_sums")) == before
    with open(moved / "sums.jsonl", "a") as file:
        file.write("\n")
    after = fingerprints(config(moved, "my_sums"))
    assert {name for name in before if before[name] != after[name]} == {"baseline", "evaluate"}
    assert fingerprints(config(moved)) == fingerprints(config(None)), "nothing of it is run"


def _fresh(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _raise(error: Exception) -> None:
    raise error
