"""However the rows of a step are cut into passes, the model gives them the logits and the loss of the rows alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import MambaConfig, MambaForCausalLM

from random_models import chat_row, random_model, text_row, tokenizer
from sft_runner.training.isolation import mixes
from sft_runner.training.loss import summed_loss
from sft_runner.training.passes import Collator, Layout

FAMILIES = ("llama", "qwen2", "gemma3")
LAYOUTS = {
    "whole": Layout(rows=99),
    "pieces": Layout(rows=3),
    "packed": Layout(rows=99, packing=True),
    "packed pieces": Layout(rows=2, length=200, packing=True),
    "flat": Layout(rows=99, packing=True, flat=True),
    "flat pieces": Layout(rows=2, length=200, packing=True, flat=True),
    "masked": Layout(rows=3, mask=True),
}


def rows() -> list[dict[str, Any]]:
    """Conversations, plain texts and code to fill in, of 2 to 200 tokens."""
    found = [chat_row("Say it " * (i % 5), "abc" * (i + 1), i) for i in range(7)]
    found += [text_row("once upon a time " * (i + 1), i) for i in range(4)]
    found += [text_row("return 1", i, prompt="def f():\n    " * (i + 1)) for i in range(3)]
    return [*found, text_row("", 1, prompt="a")]


def step() -> dict[str, Any]:
    return Collator(tokenizer().pad_token_id)(rows())


def mamba() -> Any:
    """A model whose layers have a memory of their own."""
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "state_size": 4, "num_hidden_layers": 2, "initializer_range": 0.3}
    return MambaForCausalLM(MambaConfig(vocab_size=260, **shape))


def summed(model: Any, layout: Layout) -> float:
    with torch.no_grad():
        return sum(summed_loss(model, one).item() for one in layout.passes(step()))


def alone(model: Any) -> float:
    """The summed loss of each row in a batch of its own, by the model's own logits."""
    total = 0.0
    for row in rows():
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"])
        with torch.no_grad():
            total += cross_entropy(model(input_ids=ids).logits[0, :-1], labels[1:], reduction="sum").item()
    return total


# --- what stands together -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_row_stands_in_one_pass(name: str) -> None:
    layout, lengths = LAYOUTS[name], step()["lengths"]
    groups = layout.groups(lengths)
    assert sorted(row for group in groups for row in group) == list(range(len(lengths)))
    if layout.packing:
        sizes = [sum(lengths[row] for row in group) for group in groups if len(group) > 1]
        assert max(sizes) <= layout.rows * (layout.length or max(lengths))
    else:
        assert max(map(len, groups)) <= layout.rows
        assert [row for group in groups for row in group] == list(range(len(lengths)))


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_largest_pass_is_what_the_model_gets(name: str) -> None:
    layout, batch = LAYOUTS[name], step()
    assert layout.largest(batch["lengths"]) == max(one["input_ids"].numel() for one in layout.passes(batch))


def test_a_step_without_rows_has_no_largest_pass() -> None:
    assert Layout(rows=2).largest([]) == 0


# --- what the model sees --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", LAYOUTS)
def test_the_loss_is_that_of_the_rows_alone(name: str, family: str) -> None:
    model = random_model(family)
    assert summed(model, LAYOUTS[name]) == pytest.approx(alone(model), rel=1e-5)


@pytest.mark.parametrize("name", ["pieces", "packed", "masked"])
def test_rows_that_stay_rows_suit_a_model_with_a_memory(name: str) -> None:
    model = mamba().eval()
    assert summed(model, LAYOUTS[name]) == pytest.approx(alone(model), rel=1e-5)


@pytest.mark.parametrize("name", LAYOUTS)
def test_padding_changes_nothing(name: str) -> None:
    """The gradients too: what padding holds must not reach them."""
    gradients = []
    for padding in (0, 100):
        model = random_model()
        batch = Collator(padding)(rows())
        for one in LAYOUTS[name].passes(batch):
            summed_loss(model, one).backward()
        gradients.append(model.model.layers[0].self_attn.q_proj.weight.grad)
    assert torch.equal(*gradients) or torch.allclose(*gradients, rtol=1e-5, atol=1e-6)


def test_a_head_that_is_no_module_call_gives_the_same_loss() -> None:
    model = random_model()
    expected = summed(model, LAYOUTS["whole"])
    head = model.lm_head
    model.get_output_embeddings = lambda: torch.nn.Identity()  # one that is never called
    assert head is not model.get_output_embeddings()
    assert summed(model, LAYOUTS["whole"]) == pytest.approx(expected, rel=1e-6)


def test_the_head_sees_only_tokens_with_loss() -> None:
    model, seen = random_model(), []
    model.lm_head.register_forward_hook(lambda _, given, __: seen.append(given[0].shape[1]))
    summed(model, LAYOUTS["whole"])
    assert seen == [sum(label != -100 for row in rows() for label in row["labels"][1:])]


def test_flat_passes_name_their_rows() -> None:
    """The form for flash attention, which takes no mask; without that kernel only the numbers can be looked at."""
    batch = step()
    (one,) = Layout(rows=99, packing=True, flat=True).passes(batch)
    (group,) = Layout(rows=99, packing=True, flat=True).groups(batch["lengths"])
    lengths = [batch["lengths"][row] for row in group]
    assert one["input_ids"].shape == one["labels"].shape == (1, sum(lengths))
    assert one["cu_seq_lens_q"].diff().tolist() == one["cu_seq_lens_k"].diff().tolist() == lengths
    assert (one["cu_seq_lens_q"].dtype, one["max_length_q"]) == (torch.int32, max(lengths))
    assert one["position_ids"][0].tolist() == [i for length in lengths for i in range(length)]
    assert [label for row in group for label in (-100, *rows()[row]["labels"][1:])] == one["labels"][0].tolist()


# --- models that cannot be flat -------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_models_that_keep_rows_apart_pass(family: str) -> None:
    model = random_model(family).train()
    assert mixes(model, step(), exact=True) is None
    assert model.training


@pytest.mark.parametrize("exact", [True, False])
def test_a_model_with_a_memory_mixes_rows(exact: bool) -> None:
    found = mixes(mamba(), step(), exact)
    assert found is not None
    assert found.startswith(("this model mixes rows in one flat row", "this model takes no flat row"))


def test_a_model_that_ignores_positions_mixes_rows(tmp_path: Path) -> None:
    model = random_model()
    forward = model.forward
    model.forward = lambda position_ids=None, **inputs: forward(**inputs)
    assert "logits differ by" in (mixes(model, step(), exact=True) or "")
