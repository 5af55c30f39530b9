"""Packs are as full as they can be made, and no document in one sees another: on the trainer's own batches."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy
from transformers import MambaConfig, MambaForCausalLM

from random_models import PACKED, Reports, chat_row, random_model, text_row, tokenizer, write_model, write_rows
from sft_runner.config.schema import Config, Hardware, Lora, Model, Quantization, Train
from sft_runner.data.packing import efficiency, pack, packs_per_step
from sft_runner.errors import StageFailed
from sft_runner.hardware import Fit
from sft_runner.model.packs import PackCollator, check_isolated, count_tokens, packs
from sft_runner.model.rows import all_rows

CAPACITY = 2048
FAMILIES = ("llama", "qwen2", "gemma3")


def lognormal(count: int, seed: int) -> NDArray[np.int64]:
    """Lengths with a mean of 378 tokens."""
    deviation = 0.9
    drawn = np.random.default_rng(seed).lognormal(np.log(378) - deviation**2 / 2, deviation, count)
    return np.clip(drawn, 8, CAPACITY).astype(int)


def uniform(count: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(300, 2041, count)


# --- how rows are packed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("mix", "least"), [(lognormal, 0.999), (uniform, 0.968)], ids=["lognormal", "uniform"])
def test_packs_are_full(mix: Any, least: float, seed: int) -> None:
    lengths = mix(6000, seed)
    found = pack(lengths, CAPACITY)
    assert efficiency(lengths, len(found), CAPACITY) >= least


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([], []),
        ([10], [[0]]),
        ([4, 4, 4], [[0, 1], [2]]),
        ([6, 7, 3, 4], [[1, 2], [0, 3]]),  # the tightest fit, not the first: 3 goes to 7, 4 to 6
        ([5, 5, 5, 5, 1], [[0, 1], [2, 3], [4]]),
        ([10, 1, 10], [[0], [2], [1]]),
    ],
)
def test_each_row_goes_where_it_leaves_least(lengths: list[int], expected: list[list[int]]) -> None:
    assert pack(lengths, 10) == expected


def test_it_is_best_fit_decreasing() -> None:
    """As the textbook does it, one row after the other."""
    for seed in range(20):
        lengths = np.random.default_rng(seed).integers(1, 60, 80).tolist()
        room: list[int] = []
        for length in sorted(lengths, reverse=True):
            left = min((left for left in room if left >= length), default=None)
            if left is not None:
                room.remove(left)
            room.append((64 if left is None else left) - length)
        found = pack(lengths, 64)
        assert sorted(64 - sum(lengths[row] for row in rows) for rows in found) == sorted(room)
        assert sorted(row for rows in found for row in rows) == list(range(80))


@pytest.mark.parametrize("lengths", [[3, 11], [3, 0]])
def test_a_row_that_fits_into_no_pack_is_told(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="row 1 has .* tokens; from 1 to 10 fit"):
        pack(lengths, 10)


def test_a_million_rows_take_seconds() -> None:
    lengths = lognormal(200_000, 0)
    found = pack(lengths, CAPACITY)
    assert efficiency(lengths, len(found), CAPACITY) > 0.9995
    assert max(sum(lengths[row] for row in rows) for rows in found) <= CAPACITY


@pytest.mark.parametrize(
    ("rows", "count", "batch_size", "expected"),
    [(100, 20, 16, 3), (100, 20, 17, 3), (100, 20, 18, 4), (100, 20, 1, 1), (7, 7, 16, 16), (3, 1, 16, 5)],
)
def test_packs_of_a_step_hold_nearest_to_its_rows(rows: int, count: int, batch_size: int, expected: int) -> None:
    assert packs_per_step(rows, count, batch_size) == expected


def test_no_packs_have_no_efficiency() -> None:
    assert efficiency([], 0, 10) == 0


# --- what the model sees --------------------------------------------------------------------------------------------


def prepared(folder: Path) -> Path:
    """Conversations, plain texts and code to fill in, of 2 to 200 tokens."""
    rows = [chat_row("Say it " * (i % 5), "abc" * (i + 1), i) for i in range(12)]
    rows += [text_row("once upon a time " * (i + 1), i) for i in range(6)]
    rows += [text_row("return 1", i, prompt="def f():\n    " * (i + 1)) for i in range(3)]
    return write_rows(folder, [*rows, text_row("", 1, prompt="a")])


@pytest.fixture(scope="module", params=FAMILIES)
def trainer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A trainer as the train stage makes it, and the rows that it packs."""
    from sft_runner.training.assembly import build

    folder = tmp_path_factory.mktemp(request.param)
    config = Config(
        model=Model(name=str(write_model(folder / "base", request.param))),
        hardware=Hardware(per_device_train_batch_size=4),
        lora=Lora(r=4, lora_alpha=8.0),
        quantization=Quantization(bits="none"),
        train=Train(learning_rate=1e-3, packing=True),
    )
    made, _ = build(config, Fit(3, 1), prepared(folder / "prepare"), folder / "checkpoints", Reports())
    made.model.eval()
    return made


def documents(batch: dict[str, torch.Tensor]) -> list[tuple[int, slice]]:
    """Row and place of each document of a batch, and of each padding token."""
    found = []
    for row, positions in enumerate(batch["position_ids"]):
        starts = [*(positions == 0).nonzero().flatten().tolist(), len(positions)]
        found += [(row, slice(*edges)) for edges in zip(starts, starts[1:], strict=False)]
    return found


def test_packed_logits_are_each_documents_own(trainer: Any) -> None:
    seen = []
    for batch in trainer.get_train_dataloader():
        assert set(batch) == {"input_ids", "labels", "position_ids"}
        with torch.no_grad():
            together = trainer.model(**{name: batch[name] for name in ("input_ids", "position_ids")}).logits
            for row, place in documents(batch):
                ids = batch["input_ids"][row, place]
                alone = trainer.model(input_ids=ids[None]).logits[0]
                assert (together[row, place] - alone).abs().max() < 1e-5
                seen.append(ids.tolist())
    rows = all_rows(Path(trainer.args.output_dir).parent / "prepare" / "train.arrow")["input_ids"]
    assert sorted(ids for ids in seen if len(ids) > 1) == sorted(rows)  # each row once an epoch


def test_the_loss_is_that_of_the_documents_alone(trainer: Any) -> None:
    for batch in trainer.get_train_dataloader():
        total, count = 0.0, 0
        for row, place in documents(batch):
            ids, labels = batch["input_ids"][row, place], batch["labels"][row, place]
            if (labels[1:] != -100).any():
                with torch.no_grad():
                    logits = trainer.model(input_ids=ids[None]).logits[0, :-1]
                total += cross_entropy(logits, labels[1:], reduction="sum").item()
                count += int((labels[1:] != -100).sum())
        whole = trainer._get_num_items_in_batch([batch], batch["labels"].device)
        assert whole == count
        with torch.no_grad():
            loss = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=whole)
        assert loss.item() == pytest.approx(total / count, rel=1e-5)


def test_the_labels_are_those_of_the_rows_but_for_each_first(trainer: Any) -> None:
    folder = Path(trainer.args.output_dir).parent / "prepare"
    rows = all_rows(folder / "train.arrow")
    for wanted, found in zip(all_rows(folder / "packs.arrow")["rows"], packs(folder), strict=True):
        labels = iter(found["labels"])
        for row in wanted:
            own = rows[row]["labels"]
            assert [next(labels) for _ in own] == [-100, *own[1:]]
        assert next(labels, None) is None
        assert sum(found["seq_lengths"]) == len(found["input_ids"]) <= PACKED


def test_padding_is_not_counted(trainer: Any) -> None:
    tokens = sum(count_tokens(batch["position_ids"]) for batch in trainer.get_train_dataloader())
    rows = all_rows(Path(trainer.args.output_dir).parent / "prepare" / "train.arrow")
    assert tokens == sum(map(len, rows["input_ids"]))


def test_flat_packs_name_their_documents(tmp_path: Path) -> None:
    """The form for flash attention, which takes no mask; without that kernel only the numbers can be looked at."""
    made = packs(prepared(tmp_path))
    batch = PackCollator(256, flat=True)([made[0], made[1]])
    lengths = [*made[0]["seq_lengths"], *made[1]["seq_lengths"]]
    assert batch["input_ids"].shape == batch["labels"].shape == (1, sum(lengths))
    assert batch["cu_seq_lens_q"].diff().tolist() == lengths
    assert batch["position_ids"][0].tolist() == [i for length in lengths for i in range(length)]
    assert count_tokens(batch["position_ids"]) == sum(lengths)
    with torch.no_grad():  # sdpa reads the position ids of a flat row too
        model = random_model()
        together = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"]).logits[0]
        alone = model(input_ids=batch["input_ids"][:, : lengths[0]]).logits[0]
    assert (together[: lengths[0]] - alone).abs().max() < 1e-5


# --- models that cannot ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("flat", [False, True], ids=["rows", "flat"])
def test_models_that_keep_documents_apart_pass(tmp_path: Path, family: str, flat: bool) -> None:
    model = random_model(family).train()
    assert check_isolated(model, packs(prepared(tmp_path)), PackCollator(256, flat), exact=True) < 1e-6
    assert model.training


@pytest.mark.parametrize("exact", [True, False])
def test_a_model_with_a_memory_is_refused(tmp_path: Path, exact: bool) -> None:
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "state_size": 4, "num_hidden_layers": 2, "initializer_range": 0.3}
    model = MambaForCausalLM(MambaConfig(vocab_size=260, **shape))
    with pytest.raises(StageFailed, match=r"train\.packing: ") as caught:
        check_isolated(model, packs(prepared(tmp_path)), PackCollator(256, flat=False), exact)
    assert caught.value.hint == "set train.packing=false"


def test_a_model_that_ignores_positions_is_refused(tmp_path: Path) -> None:
    model = random_model()
    forward = model.forward
    model.forward = lambda position_ids=None, **inputs: forward(**inputs)
    with pytest.raises(StageFailed, match="does not keep the documents of a pack apart"):
        check_isolated(model, packs(prepared(tmp_path)), PackCollator(256, flat=False), exact=True)


def test_packs_of_one_document_need_no_check(tmp_path: Path) -> None:
    folder = write_rows(tmp_path, [text_row("x" * (PACKED - 9))])
    assert check_isolated(None, packs(folder), PackCollator(tokenizer().pad_token_id, flat=False), exact=True) == 0
