"""Scores equal a plain computation of one row at a time, whatever the batches."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM

from random_models import (
    Reports,
    chat_row,
    make_rows,
    random_model,
    rows_of,
    text_row,
    tokenizer,
    write_prepared,
    write_rows,
)
from sft_runner.errors import DataError, MachineError, StageFailed, UnknownName
from sft_runner.evaluation import losses, scoring
from sft_runner.evaluation.metrics.metric import metrics_of
from sft_runner.evaluation.names import ALWAYS
from sft_runner.model.rows import batches, held_out

PAIRS = [("Say it " * (i % 7), "abc" * (1 + i * 5 % 11)) for i in range(20)]


def score(model: Any, rows: Dataset, names: tuple[str, ...] = (), length: int = 12, size: int = 8) -> scoring.Scores:
    return scoring.score(model, tokenizer(), rows, metrics_of(names), length, size, Reports())


def chain(text: str, close: str = "") -> LlamaForCausalLM:
    """A model that says `text` after a line break and then ends; it sees only the last token.

    `close` names characters that come second everywhere, at 0.9 of the first one's logit.
    """
    size = 260
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=size, hidden_size=size, intermediate_size=4, num_hidden_layers=1, num_attention_heads=10,
            num_key_value_heads=10, tie_word_embeddings=False, eos_token_id=259, max_position_embeddings=512,
        )
    ).eval()  # fmt: skip
    steps = [ord("\n"), *text.encode(), 259, ord("z"), ord("z")]
    head = torch.zeros(size, size)
    for last, following in zip(steps, steps[1:], strict=False):
        head[following, last] = 0.3
        for other in close.encode():
            head[other, last] = max(head[other, last].item(), 0.27)
    with torch.no_grad():
        model.model.layers[0].self_attn.o_proj.weight.zero_()
        model.model.layers[0].mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(size))
        model.lm_head.weight.copy_(head)
    return model


@pytest.mark.parametrize("size", [1, 3, 64])
def test_loss_is_that_of_one_row_at_a_time(size: int) -> None:
    model, rows = random_model(), make_rows(PAIRS)
    expected = []
    for row in rows:
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
        expected.append(model(input_ids=ids, labels=labels).loss.item())
    tokens = [len(answer) + 1 for _, answer in PAIRS]
    mean = sum(loss * count for loss, count in zip(expected, tokens, strict=True)) / sum(tokens)
    found = score(model, rows, size=size)
    assert [row["loss"] for row in found.predictions] == pytest.approx(expected, rel=1e-5)
    assert [row["tokens"] for row in found.predictions] == tokens
    assert found.metrics["loss"] == pytest.approx(mean, rel=1e-5)
    assert found.metrics["perplexity"] == pytest.approx(math.exp(mean), rel=1e-4)
    assert (found.metrics["rows"], found.metrics["tokens"]) == (len(PAIRS), sum(tokens))


def test_answers_of_several_turns_count_each() -> None:
    model, rows = random_model(), make_rows(PAIRS[3:6])
    table = rows.to_list()
    for row in table:
        row["labels"][4:7] = row["input_ids"][4:7]  # an earlier turn of the assistant
    ids, labels = torch.tensor([table[0]["input_ids"]]), torch.tensor([table[0]["labels"]])
    found = score(model, Dataset.from_list(table))
    assert found.predictions[0]["loss"] == pytest.approx(model(input_ids=ids, labels=labels).loss.item(), rel=1e-5)
    assert found.predictions[0]["tokens"] == len(PAIRS[3][1]) + 1 + 3


def test_bits_by_byte_and_right_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes are those of the text that carries loss, in all its turns; the end of a turn has none."""
    model, texts = random_model(), ["abc", "naïve 数据 😀", ""]
    table = make_rows([("q", text) for text in texts]).to_list()
    for row in table:
        row["labels"][4:7] = row["input_ids"][4:7]  # three bytes of an earlier turn
    nats, right, tokens = 0.0, 0, 0
    for row in table:
        logits = model(torch.tensor([row["input_ids"]])).logits[0, :-1]
        wanted = torch.tensor(row["labels"][1:])
        nats += torch.nn.functional.cross_entropy(logits, wanted, ignore_index=-100, reduction="sum").item()
        right += int((logits.argmax(-1) == wanted).sum())
        tokens += int((wanted != -100).sum())
    found = score(model, Dataset.from_list(table))
    size = sum(len(text.encode()) + 3 for text in texts)
    assert found.metrics["bits_per_byte"] == pytest.approx(nats / math.log(2) / size, rel=1e-5)
    assert found.metrics["token_accuracy"] == right / tokens
    only_ends = score(model, make_rows([("q", ""), ("w", "")]))
    assert only_ends.metrics.keys() == {"loss", "perplexity", "token_accuracy", "rows", "tokens"}
    known = score(chain("abc"), make_rows([("q", "abc"), ("q", "abz")]))
    assert known.metrics["token_accuracy"] == 6 / 8  # z is wrong, and so is what ends the turn behind it
    assert [row["token_accuracy"] for row in known.predictions] == [1.0, 0.5]


def test_a_metric_that_means_nothing_for_a_row() -> None:
    rows = make_rows([("q", "1"), ("q", "one"), ("q", "3")])
    found = score(chain("1"), rows, ("number", "json_valid"))
    assert found.metrics["number"] == 0.5
    assert "json_valid" not in found.metrics
    assert [row["number"] for row in found.predictions] == [1.0, None, 0.0]
    assert [row["json_valid"] for row in found.predictions] == [None] * 3
    assert scoring.left_out({"": found, "other": found}, ["number", "json_valid", "loss"])[:3] == [
        "number means nothing for 1 of 3 rows, which do not count",
        "json_valid was not measured: it means nothing for any of the 3 rows",
        "number means nothing for 1 of 3 rows of other, which do not count",
    ]


def test_limits_on_memory_change_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = random_model(), make_rows(PAIRS)
    expected = score(model, rows, size=64).metrics
    monkeypatch.setattr(losses, "LOGITS", 260 * 60)
    monkeypatch.setattr(losses, "POSITIONS", 3)
    assert score(model, rows, size=64).metrics == pytest.approx(expected, rel=1e-6)


def test_batches_are_long_first_and_bounded() -> None:
    lengths, starts = [10, 50, 30, 29, 5], [8, 10, 20, 20, 1]
    assert list(batches(lengths, starts, 2, 1000)) == [[1, 2], [3, 0], [4]]
    # row 1 alone has more positions than allowed, rows 2 and 3 have 2 * (30 - 20), with row 0 they would have 3 * 22
    assert list(batches(lengths, starts, 9, 30)) == [[1], [2, 3], [0, 4]]


def narrow(model: Any, most: int, error: Exception) -> Any:
    """The model, with memory for `most` rows at once."""

    def refuse(_: Any, inputs: Any, named: Any) -> None:
        if len(named["input_ids"]) > most:
            raise error

    model.register_forward_pre_hook(refuse, with_kwargs=True)
    return model


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
    ids=["card", "cpu", "python"],
)
def test_where_memory_runs_out_fewer_rows_are_scored_at_once(error: Exception) -> None:
    rows, reports = make_rows(PAIRS), Reports()
    expected = score(random_model(), rows, ("exact_match",), size=16)
    exact = metrics_of(["exact_match"])
    found = scoring.score(narrow(random_model(), 3, error), tokenizer(), rows, exact, 12, 16, reports)
    assert [event["message"] for event in reports if "held-out" in event["message"]] == [
        f"out of memory at held-out rows: scores {size} at once" for size in (8, 4, 2, 8, 4, 2)
    ]
    assert [event["step"] for event in reports if event["message"] == "loss"] == [*range(2, 21, 2)]
    assert [row["answer"] for row in found.predictions] == [row["answer"] for row in expected.predictions]
    for one, other in zip(found.predictions, expected.predictions, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)


@pytest.mark.parametrize(("names", "remedy"), [((), "data.max_length"), (("exact_match",), "evaluate.max_new_tokens")])
def test_one_row_that_does_not_fit(names: tuple[str, ...], remedy: str) -> None:
    model = random_model()
    if names:
        model.generate = lambda **_: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory.\npages"))
    else:
        narrow(model, 0, torch.OutOfMemoryError("CUDA out of memory.\npages"))
    with pytest.raises(MachineError, match="out of memory while scoring held-out rows: CUDA out of memory.$") as raised:
        score(model, make_rows(PAIRS[:3]), names)
    assert remedy in raised.value.hint
    assert "quantization.bits=4" in raised.value.hint


def test_another_error_is_not_taken_for_missing_memory() -> None:
    with pytest.raises(RuntimeError, match="illegal memory access"):
        score(narrow(random_model(), 3, RuntimeError("CUDA error: an illegal memory access")), make_rows(PAIRS))


@pytest.mark.parametrize("size", [1, 7])
def test_generation_is_greedy_without_padding_or_cache(size: int) -> None:
    model, rows = random_model("qwen2"), make_rows(PAIRS)
    expected = []
    for row in rows:
        ids = row["input_ids"][: row["prompt_length"]]
        while len(ids) - row["prompt_length"] < 12:
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] == tokenizer().eos_token_id:
                break
        expected.append(tokenizer().decode(ids[row["prompt_length"] :], skip_special_tokens=True))
    found = score(model, rows, ("exact_match",), size=size)
    assert [row["answer"] for row in found.predictions] == expected
    assert len(set(expected)) > 5  # the rows are told apart


def test_exact_match_and_the_end_of_an_answer() -> None:
    rows = make_rows([("short", "abc"), ("a longer question", "abcd"), ("q", " abc\n"), ("w", "ab")])
    found = score(chain("abc"), rows, ("exact_match",))
    assert found.metrics["exact_match"] == 0.5
    assert [row["exact_match"] for row in found.predictions] == [1, 0, 1, 0]
    assert [(row["answer"], row["stopped"]) for row in found.predictions] == [("abc", True)] * 4
    cut = score(chain("abc"), rows, ("exact_match",), length=2)
    assert [(row["answer"], row["stopped"]) for row in cut.predictions] == [("ab", False)] * 4
    assert cut.metrics["exact_match"] == 0.25
    assert found.predictions[1]["prompt"] == [{"role": "user", "content": "a longer question"}]
    assert (found.predictions[1]["expected"], found.predictions[1]["source"]) == ("abcd", "rows.jsonl:2")


def test_loss_of_a_model_that_is_known() -> None:
    logit = 0.3 * math.sqrt(260)  # RMSNorm stretches a unit vector to the root of its size
    right, wrong = math.log(math.exp(logit) + 259) - logit, math.log(math.exp(logit) + 259)
    found = score(chain("abc"), make_rows([("q", "abc"), ("q", "abz")]))
    assert found.predictions[0]["loss"] == pytest.approx(right, rel=1e-3)
    assert found.metrics["loss"] == pytest.approx((6 * right + 2 * wrong) / 8, rel=1e-3)


def test_every_stop_token_of_the_model_ends_an_answer() -> None:
    model = chain("abc")
    model.generation_config.eos_token_id = [ord("b"), 257]
    found = score(model, make_rows([("q", "a")]), ("exact_match",)).predictions[0]
    assert (found["answer"], found["stopped"]) == ("a", True)


def test_the_models_own_sampling_is_set_aside() -> None:
    rows = make_rows([("abc abc", "abc")])
    model = chain("abc", close="xy")
    own = model.generation_config
    own.update(do_sample=True, temperature=0.1, top_k=2, repetition_penalty=1.5, max_length=3, min_new_tokens=9)
    penalised = model.generate(torch.tensor([rows[0]["input_ids"][: rows[0]["prompt_length"]]]), max_new_tokens=9)
    assert "abc" not in tokenizer().decode(penalised[0, rows[0]["prompt_length"] :])
    assert score(model, rows, ("exact_match",)).predictions[0]["answer"] == "abc"
    assert model.generation_config is own


def test_answers_stay_inside_the_context() -> None:
    model = chain("ab" * 40)
    model.config.max_position_embeddings = 60
    found = score(model, make_rows([("q" * 20, "ab")]), ("exact_match",), length=50).predictions[0]
    assert len(found["answer"]) == 60 - len(make_rows([("q" * 20, "")])[0]["input_ids"]) + 2


def test_nothing_is_generated_for_loss_alone() -> None:
    reports = Reports()
    found = scoring.score(random_model(), tokenizer(), make_rows(PAIRS), (), 9, 8, reports)
    assert {report["message"] for report in reports} == {"loss"}
    assert reports[-1] == {"step": 20, "steps": 20, "message": "loss"}
    assert "answer" not in found.predictions[0]


def test_a_loss_that_is_no_number_names_its_row() -> None:
    model = random_model()
    model.model.embed_tokens.weight.data[ord("!")] = float("nan")
    with pytest.raises(StageFailed, match=r"rows\.jsonl:2 is nan"):
        score(model, make_rows([("fine", "a"), ("bad!", "a")]))


def test_an_unknown_metric_gets_a_suggestion() -> None:
    with pytest.raises(UnknownName, match=r"evaluate\.metrics: metric 'exact_macth' does not exist") as caught:
        score(random_model(), make_rows(PAIRS[:1]), ("exact_macth",))
    assert "exact_match" in caught.value.hint


def test_gain_is_positive_where_the_tuned_model_is_better() -> None:
    base = {"loss": 2.0, "perplexity": 8.0, "exact_match": 0.25, "rows": 4, "tokens": 9}
    tuned = {"loss": 1.5, "perplexity": 4.5, "exact_match": 0.75, "rows": 4, "tokens": 9}
    assert scoring.gain(base, tuned) == {"loss": 0.5, "perplexity": 3.5, "exact_match": 0.5}


def test_gain_has_the_shape_of_scores() -> None:
    base = {"loss": 2.0, "sets": {"general": {"perplexity": 3.0, "rows": 2}}}
    tuned = {"loss": 1.5, "sets": {"general": {"perplexity": 4.0, "rows": 2}}}
    base["benchmarks"] = {"task": {"acc": 0.5, "acc_stderr": 0.1, "word_perplexity": 9.0}, "old": {"acc": 1.0}}
    tuned["benchmarks"] = {"task": {"acc": 0.75, "acc_stderr": 0.1, "word_perplexity": 8.0}, "new": {"acc": 1.0}}
    assert scoring.gain(base, tuned) == {
        "loss": 0.5,
        "sets": {"general": {"perplexity": -1.0}},
        "benchmarks": {"task": {"acc": 0.25, "word_perplexity": 1.0}},
    }


def test_predictions_are_kept_whatever_is_in_them(tmp_path: Path) -> None:
    rows = [{"answer": "naïve \u2028 数据 \ud83d \x00"}, {"answer": ""}]
    assert scoring.write_predictions(tmp_path, "other", rows) == "predictions.other.jsonl"
    assert list(scoring.read_predictions(tmp_path, "other")) == rows


def test_without_held_out_rows_the_key_is_named(tmp_path: Path) -> None:
    prepared = write_prepared(tmp_path, held_out=0)
    with pytest.raises(DataError, match=r"data\.held_out"):
        held_out(prepared, None)
    with pytest.raises(DataError, match=r"data\.held_out"):
        held_out(tmp_path / "nowhere", None)


def test_only_the_first_held_out_rows_are_used(tmp_path: Path) -> None:
    rows = held_out(write_prepared(tmp_path, held_out=4), 3)
    assert list(rows["source"]) == ["rows.jsonl:1", "rows.jsonl:2", "rows.jsonl:3"]
    assert len(held_out(tmp_path, 10)) == 4


# --- rows that are no plain chats, and rows of several kinds ----------------------------------------------------------


def test_a_text_is_scored_by_its_loss_alone() -> None:
    rows = rows_of([chat_row("q", "abc"), text_row("abcd", 2), text_row("abd", 3, prompt="x\n")])
    found = score(chain("abc"), rows, ("exact_match",))
    assert [row.get("answer") for row in found.predictions] == ["abc", None, "abc"]
    assert [(row["prompt"], row["expected"]) for row in found.predictions[1:]] == [("", "abcd"), ("x\n", "abd")]
    assert found.metrics["exact_match"] == 0.5
    assert (found.metrics["rows"], found.metrics["answers"]) == (3, 2)
    assert found.metrics["tokens"] == 4 + 4 + 4  # of the text the first is predicted from nothing
    texts = score(chain("abc"), rows.select([1]), ("exact_match",))
    assert texts.metrics.keys() == {*ALWAYS, "rows", "tokens"}
    assert scoring.left_out({"": found, "other": texts}, ["exact_match", "loss"]) == [
        "exact_match was not measured: none of the 1 rows of other has a prompt to answer"
    ]
    assert scoring.left_out({"": texts}, ["exact_match", "number"]) == [
        "exact_match, number were not measured: none of the 1 rows has a prompt to answer"
    ]
    assert scoring.left_out({"": texts}, ["loss"]) == []


def test_what_is_expected_is_read_as_answers_are() -> None:
    """Of a tool call or of reasoning too, whatever the template writes counts, up to the end of the turn."""
    call = '<tool_call>{"name": "clock"}</tool_call>'
    row = chat_row("q", call) | {
        "messages": '[{"role": "user", "content": "q"}, {"role": "assistant", "content": "", "tool_calls": []}]'
    }
    found = score(chain("abc"), rows_of([row]), ("exact_match",)).predictions[0]
    assert (found["expected"], found["exact_match"]) == (call, 0)


def test_kinds_and_sources_are_named_apart() -> None:
    rows = [chat_row("q", "abc", 1, kind="unseen"), chat_row("q", "abx", 2, kind="reworded")]
    rows += [chat_row("q", "abc", 3, kind="reworded"), chat_row("q", "abc", 4, origin="other.jsonl")]
    found = score(chain("abc"), rows_of(rows), ("exact_match",))
    by = found.metrics["by"]
    assert {name: (scores["exact_match"], scores["rows"]) for name, scores in by.items()} == {
        "unseen": (1.0, 1),
        "reworded": (0.5, 2),
        "rows.jsonl": (2 / 3, 3),
        "other.jsonl": (1.0, 1),
    }
    alone = score(chain("abc"), rows_of(rows[1:3]), ("exact_match",))
    assert by["reworded"] == pytest.approx({name: alone.metrics[name] for name in by["reworded"]})
    assert [(row["kind"], row["origin"]) for row in found.predictions[2:]] == [
        ("reworded", "rows.jsonl"),
        ("", "other.jsonl"),
    ]
    assert scoring.gain(found.metrics, found.metrics).keys() == {*ALWAYS, "exact_match", "by"}


def test_gain_goes_into_the_parts() -> None:
    base = {"loss": 2.0, "rows": 4, "by": {"unseen": {"loss": 3.0, "rows": 2}}}
    tuned = {"loss": 1.5, "rows": 4, "by": {"unseen": {"loss": 1.0, "rows": 2}}}
    assert scoring.gain(base, tuned) == {"loss": 0.5, "by": {"unseen": {"loss": 2.0}}}


def test_a_limit_is_shared_by_kinds_and_sources(tmp_path: Path) -> None:
    kinds = ["", "", "", "", "unseen", "unseen", "unseen", "reworded"]
    rows = [chat_row("q", "a", line, kind=kind) for line, kind in enumerate(kinds, 1)]
    prepared = write_rows(tmp_path, rows[:1], rows)
    found = [list(held_out(prepared, limit)["source"]) for limit in (1, 3, 6, 8)]
    assert [[int(source.split(":")[1]) for source in sources] for sources in found] == [
        [1],
        [1, 5, 8],
        [1, 2, 3, 5, 6, 8],
        [1, 2, 3, 4, 5, 6, 7, 8],
    ]
