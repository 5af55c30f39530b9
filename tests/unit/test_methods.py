"""The arithmetic of each method: what it starts from, what trains, at which rate, and what the written weights are."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from peft.utils.integrations import dequantize_module_weight
from safetensors.torch import load_file
from torch.optim.lr_scheduler import LambdaLR
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, Qwen3MoeConfig, Qwen3MoeForCausalLM

from random_models import SHAPE, Reports, chat_row, random_model, write_model, write_rows
from sft_runner.config.schema import Config, Hardware, Lora, Model, Quantization
from sft_runner.config.schema import Train as TrainConfig
from sft_runner.disk import read_json
from sft_runner.errors import UserError
from sft_runner.hardware import Fit
from sft_runner.merging import loading as merging
from sft_runner.merging import proof, whole
from sft_runner.model import loading
from sft_runner.model.adapters import frozen_experts, lora_config, notes
from sft_runner.stages.merge import Merge
from sft_runner.stages.train import Train
from sft_runner.training import output
from sft_runner.training.arguments import arguments
from sft_runner.training.optimizer import loraplus

pytestmark = [
    # PEFT 0.21 asks transformers 5.23 for a property that has a new name
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]
IDS = torch.arange(64).reshape(2, 32)


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(input_ids=IDS).logits


def adapted(base: Any, **lora: Any) -> Any:
    """The base with an adapter as `lora.*` asks for it."""
    torch.manual_seed(3)
    asked = Lora(**({"r": 4, "lora_alpha": 8.0} | lora))
    return get_peft_model(base, lora_config(asked, base))


def learn(model: Any, steps: int = 3) -> Any:
    """A few steps of plain gradient descent on tokens that mean nothing."""
    optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=1e-2)
    for _ in range(steps):
        model(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


# --- starts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["default", "gaussian", "pissa", "pissa_niter_16", "olora"])
@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
def test_every_start_is_the_base_model(start: str, dora: bool) -> None:
    expected = logits(random_model())
    found = logits(adapted(random_model(), init_lora_weights=start, use_dora=dora))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * expected.abs().max().item())


def test_dora_is_another_model_than_lora_after_a_step() -> None:
    lora, dora = (logits(learn(adapted(random_model(), use_dora=dora))) for dora in (False, True))
    assert (lora - logits(random_model())).abs().max() > 0.1
    assert (lora - dora).abs().max() > 0.01


@pytest.mark.parametrize("start", ["default", "olora"])
def test_dora_starts_where_the_base_has_rows_of_zeros(tmp_path: Path, start: str) -> None:
    base = write_model(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(base)
    model.model.layers[0].self_attn.q_proj.weight.data[:5] = 0
    model.save_pretrained(base)
    before = logits(model)
    lora = {"use_dora": True, "init_lora_weights": start}
    config, trainer = Config(model=Model(name=str(base)), lora=Lora(**lora)), Trained(adapted(model, **lora))
    assert not logits(trainer.model).isfinite().all()  # 0 / 0
    output.prepare_start(trainer, config)
    torch.testing.assert_close(logits(trainer.model), before, rtol=0, atol=1e-3)
    expected = logits(learn(trainer.model))
    layer = trainer.model.get_submodule("base_model.model.model.layers.0.self_attn.q_proj")
    assert layer.lora_magnitude_vector["default"].weight[:5].all()  # they learn
    output.write_trained(trainer, config, tmp_path)
    beside = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "adapter")
    torch.testing.assert_close(logits(beside), expected, rtol=0, atol=1e-3)
    torch.testing.assert_close(logits(beside.merge_and_unload(safe_merge=True)), expected, rtol=0, atol=1e-3)


COARSE = [("none", "bfloat16", {}), ("none", "float16", {}), ("4", "bfloat16", {}), ("8", "float32", {})]


@pytest.mark.filterwarnings("ignore:MatMul8bitLt. inputs will be cast from:UserWarning")  # LLM.int8 computes so
@pytest.mark.parametrize(
    ("bits", "dtype", "lora"),
    [*COARSE, ("none", "bfloat16", {"target_modules": ["q_proj", "embed_tokens"]})],
    ids=["bfloat16", "float16", "4 bits", "8 bits", "embedding"],
)
def test_dora_starts_at_a_base_of_any_precision(tmp_path: Path, bits: str, dtype: str, lora: dict[str, Any]) -> None:
    """PEFT measures the lengths in the precision of the base, and divides by others in float32."""
    base = write_model(tmp_path / "base")
    config = Config(model=Model(name=str(base)), quantization=Quantization(bits=bits), lora=Lora(use_dora=True))
    config.hardware.dtype = dtype
    plain = loading.load_trainable(config)
    expected = logits(plain)
    trainer = Trained(adapted(plain, use_dora=True, **lora))
    output.prepare_start(trainer, config)
    off = 0.0
    for layer in trainer.model.modules():
        for magnitude in getattr(layer, "lora_magnitude_vector", {}).values():
            weight = dequantize_module_weight(layer.get_base_layer()).float()
            lengths = weight.norm(dim=0 if isinstance(layer.get_base_layer(), torch.nn.Embedding) else 1)
            off = max(off, (magnitude.weight / lengths - 1).abs().max().item())
            assert magnitude.weight.dtype == torch.float32
    assert off < 1e-6
    tolerance = {"float32": 1e-5, "float16": 5e-3, "bfloat16": 5e-2}[dtype]
    assert (logits(trainer.model) - expected).abs().max() < tolerance * expected.abs().max()


def test_an_earlier_adapters_lengths_stay(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    trainer = Trained(learn(adapted(AutoModelForCausalLM.from_pretrained(base), use_dora=True)))
    before = copy.deepcopy(trainer.model.state_dict())
    config = Config(model=Model(name=str(base)), lora=Lora(use_dora=True))
    config.train.continue_from = str(tmp_path)
    output.prepare_start(trainer, config)
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())


def test_rslora_scales_by_the_root_of_the_rank() -> None:
    def scale(**lora: Any) -> float:
        layer = adapted(random_model(), r=16, lora_alpha=8.0, **lora).get_submodule(
            "base_model.model.model.layers.0.mlp.up_proj"
        )
        return float(layer.scaling["default"])

    assert scale() == 8 / 16
    assert scale(use_rslora=True) == 8 / 4


class Trained:
    """What `training.output` needs of a trainer."""

    def __init__(self, model: Any) -> None:
        self.model = model


VARIANTS: dict[str, dict[str, Any]] = {
    "pissa": {"init_lora_weights": "pissa"},
    "pissa, faster": {"init_lora_weights": "pissa_niter_16"},
    "olora": {"init_lora_weights": "olora"},
    "pissa with rslora": {"init_lora_weights": "pissa", "use_rslora": True},
    "pissa with an embedding": {"init_lora_weights": "pissa", "target_modules": ["q_proj", "embed_tokens"]},
    "olora with dora": {"init_lora_weights": "olora", "use_dora": True},
    "default": {},
}


@pytest.mark.parametrize("lora", VARIANTS.values(), ids=VARIANTS)
def test_the_written_adapter_is_the_trained_model_on_the_original_base(tmp_path: Path, lora: dict[str, Any]) -> None:
    base = write_model(tmp_path / "base")
    config = Config(model=Model(name=str(base)), lora=Lora(**lora))
    trainer = Trained(adapted(AutoModelForCausalLM.from_pretrained(base), **lora))
    output.prepare_start(trainer, config)
    expected = logits(learn(trainer.model))
    output.write_trained(trainer, config, tmp_path)
    original = AutoModelForCausalLM.from_pretrained(base)
    before = logits(original)
    found = logits(PeftModel.from_pretrained(original, tmp_path / "adapter"))
    largest = before.abs().max().item()
    assert (expected - before).abs().max() > 0.05 * largest
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * largest)
    written = read_json(tmp_path / "adapter" / "adapter_config.json")
    assert written["init_lora_weights"] is True
    assert written["r"] == (8 if "init_lora_weights" in lora else 4)
    names = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert any("magnitude" in name for name in names) is lora.get("use_dora", False)


def gpt2() -> Any:
    """A model whose linear layers are stored transposed."""
    torch.manual_seed(0)
    shape = {"vocab_size": 260, "n_embd": 32, "n_layer": 1, "n_head": 4, "initializer_range": 0.3}
    return GPT2LMHeadModel(GPT2Config(**shape, bos_token_id=257, eos_token_id=257)).eval()


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False but the target module is `Conv1D`")  # PEFT sets it
def test_starts_on_weights_that_are_stored_transposed() -> None:
    expected = logits(gpt2())
    found = logits(adapted(gpt2(), init_lora_weights="pissa"))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    with pytest.raises(UserError, match="stored transposed"):
        adapted(gpt2(), init_lora_weights="olora")
    with pytest.raises(UserError, match="no target is a linear layer"):
        adapted(gpt2(), init_lora_weights="pissa", target_modules=["wte"])


def test_more_directions_than_a_weight_has() -> None:
    with pytest.raises(UserError, match=r"k_proj has no 32 directions, only 16") as raised:
        adapted(random_model(), r=32, init_lora_weights="pissa")
    assert "lora.r=16" in raised.value.hint


# --- two learning rates ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optim", ["adamw_torch", "adafactor", "sgd"])
def test_loraplus_has_two_rates_also_after_a_resume(tmp_path: Path, optim: str) -> None:
    model = adapted(random_model(), use_dora=True)
    config = Config(train=TrainConfig(learning_rate=1e-3, weight_decay=0.1), hardware=Hardware(optim=optim))
    told = arguments(config, Fit(1, 1), tmp_path, on_gpu=False)

    def made() -> tuple[Any, Any]:
        optimizer = loraplus(model, told, 16)
        return optimizer, LambdaLR(optimizer, lambda step: 1 / (1 + step))

    def rates(optimizer: Any) -> dict[str, set[float]]:
        names = {id(value): name for name, value in model.named_parameters()}
        found: dict[str, set[float]] = {}
        for group in optimizer.param_groups:
            for value in group["params"]:
                kind = next(kind for kind in ("lora_A", "lora_B", "magnitude") if kind in names[id(value)])
                found.setdefault(kind, set()).add(group["lr"])
        return found

    optimizer, scheduler = made()
    decay = {id(value): group["weight_decay"] for group in optimizer.param_groups for value in group["params"]}
    for name, value in model.named_parameters():
        assert not value.requires_grad or decay[id(value)] == (0.0 if "magnitude" in name else 0.1)
    trained = {id(value) for value in model.parameters() if value.requires_grad}
    assert {id(value) for group in optimizer.param_groups for value in group["params"]} == trained
    model(input_ids=IDS, labels=IDS).loss.backward()
    optimizer.step()
    scheduler.step()
    again, its_scheduler = made()
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    its_scheduler.load_state_dict(scheduler.state_dict())
    for one, schedule in ((optimizer, scheduler), (again, its_scheduler)):
        assert rates(one) == {"lora_A": {5e-4}, "lora_B": {8e-3}, "magnitude": {8e-3}}
        one.step()
        schedule.step()
        assert rates(one) == {"lora_A": {1e-3 / 3}, "lora_B": {16e-3 / 3}, "magnitude": {16e-3 / 3}}


# --- through the train stage ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model and 40 prepared rows of very different lengths."""
    folder = tmp_path_factory.mktemp("world")
    write_model(folder / "base")
    rows = [chat_row("why " * (i % 7), "so " * (1 + i % 11), i) for i in range(40)]
    write_rows(folder / "prepare", rows, rows[:3])
    return folder


def settings(world: Path, **changes: Any) -> Config:
    """A settled run of four steps of 16 rows; `changes` are such as `train__seed=1`."""
    config = Config(
        model=Model(name=str(world / "base")),
        hardware=Hardware(per_device_train_batch_size=4),
        lora=Lora(r=4, lora_alpha=8.0),
        quantization=Quantization(bits="none"),
        train=TrainConfig(learning_rate=5e-3, warmup_steps=0, max_steps=4, logging_steps=1, save_steps=100),
    )
    config.data.max_length = 256
    for key, value in changes.items():
        part, _, name = key.partition("__")
        if name:
            setattr(getattr(config, part), name, value)
        else:
            setattr(config, part, value)
    return config


def train(world: Path, folder: Path, **changes: Any) -> list[float]:
    """The losses of the steps."""
    folder.mkdir(exist_ok=True)
    Train().execute(settings(world, **changes), {"prepare": world / "prepare"}, folder, Reports())
    return [entry["loss"] for entry in read_json(folder / "training.json")["logged"]]


FULL = {"adapter": "none", "train__learning_rate": 1e-3}


@pytest.mark.parametrize("method", [{}, FULL], ids=["lora", "full"])
def test_the_micro_batch_does_not_change_the_loss(world: Path, tmp_path: Path, method: dict[str, Any]) -> None:
    ones = train(world, tmp_path / "1x16", **method, hardware__per_device_train_batch_size=1)
    fours = train(world, tmp_path / "4x4", **method, hardware__per_device_train_batch_size=4)
    assert ones == pytest.approx(fours, rel=1e-4)
    assert len(ones) == 4
    assert ones[-1] < ones[0] - 0.1


def test_full_trains_every_weight_and_leaves_a_whole_model(world: Path, tmp_path: Path) -> None:
    train(world, tmp_path / "train", **FULL)
    assert {path.name for path in (tmp_path / "train" / "model").iterdir()} == {"config.json", "model.safetensors"}
    assert not (tmp_path / "train" / "adapter").exists()
    before = load_file(world / "base" / "model.safetensors")
    after = load_file(tmp_path / "train" / "model" / "model.safetensors")
    assert before.keys() == after.keys()
    assert [name for name in before if torch.equal(before[name], after[name])] == []
    written, own = (read_json(folder / "config.json") for folder in (tmp_path / "train" / "model", world / "base"))
    assert written == own


@pytest.mark.parametrize(
    ("method", "compared"),
    [(FULL, True), ({"lora__init_lora_weights": "pissa"}, True), ({"quantization__bits": "4"}, False)],
    ids=["full", "pissa", "qlora"],
)
def test_training_keeps_what_it_is_compared_with(
    world: Path, tmp_path: Path, method: dict[str, Any], compared: bool
) -> None:
    """The merge stage sees noise between trainer and disk; this base's rows of 32 are not what 4 bits on a CPU read."""
    train(world, tmp_path / "train", **method)
    (tmp_path / "merge").mkdir()
    inputs = {"prepare": world / "prepare", "train": tmp_path / "train"}
    found = Merge().execute(settings(world, **method), inputs, tmp_path / "merge", Reports())
    assert (tmp_path / "train" / proof.KEPT).exists()
    assert ("trained" in found.metrics) is compared
    assert any("no multiple of 64" in note for note in found.notes) is not compared
    assert not compared or found.metrics["trained"]["relative"] < 1e-5


def test_full_keeps_the_precision_of_the_base(tmp_path: Path, world: Path) -> None:
    write_model(tmp_path / "base", tied=True, dtype=torch.bfloat16)
    (tmp_path / "prepare").symlink_to(world / "prepare")
    train(tmp_path, tmp_path / "train", **FULL)
    after = load_file(tmp_path / "train" / "model" / "model.safetensors")
    assert {value.dtype for value in after.values()} == {torch.bfloat16}
    assert "lm_head.weight" not in after  # it is the embedding's


@pytest.mark.filterwarnings("ignore:MatMul8bitLt. inputs will be cast from:UserWarning")  # LLM.int8 computes so
# TRL's selective checkpointing calls it by its old name
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")
@pytest.mark.parametrize("checkpointing", ["none", "selective", "full"])
@pytest.mark.parametrize("bits", ["none", "8", "4"])
def test_gradients_reach_the_first_layer(world: Path, tmp_path: Path, bits: str, checkpointing: str) -> None:
    changes = {"quantization__bits": bits, "hardware__activation_checkpointing": checkpointing, "train__max_steps": 3}
    train(world, tmp_path / "train", **changes)
    train(world, tmp_path / "fresh", **changes | {"train__learning_rate": 0.0})
    after, before = (
        load_file(tmp_path / name / "adapter" / "adapter_model.safetensors") for name in ("train", "fresh")
    )
    first = [name for name in after if ".layers.0." in name]
    assert len(first) == 14
    for name in first:
        assert after[name].dtype == torch.float32
        assert not torch.equal(after[name], before[name]), name


@pytest.mark.parametrize("ratio", [None, 4.0], ids=["dora", "lora_plus"])
def test_doras_lengths_do_not_decay(world: Path, tmp_path: Path, ratio: float | None) -> None:
    changes = {"lora__use_dora": True, "train__max_steps": 2, "train__loraplus_lr_ratio": ratio}
    files = []
    for decay in (0.0, 10.0):
        train(world, tmp_path / f"{decay}", train__weight_decay=decay, **changes)
        files.append(load_file(tmp_path / f"{decay}" / "adapter" / "adapter_model.safetensors"))
    for name in files[0]:
        share = files[1][name].norm() / files[0][name].norm()
        assert "lora_B" in name or bool(share > 0.99) is ("magnitude" in name), (name, share)  # B begins at zero


def test_loraplus_reaches_the_trainer(world: Path, tmp_path: Path) -> None:
    train(world, tmp_path / "plain", train__max_steps=1)
    train(world, tmp_path / "plus", train__max_steps=1, train__loraplus_lr_ratio=4.0)
    one, other = (load_file(tmp_path / name / "adapter" / "adapter_model.safetensors") for name in ("plain", "plus"))
    grown = {
        round((other[name].norm() / one[name].norm()).item(), 3) for name in one if "lora_B" in name and one[name].any()
    }
    assert grown == {4.0}  # B starts at zero, and Adam's first step is as large as its rate


# --- experts --------------------------------------------------------------------------------------------------------


def moe() -> Any:
    torch.manual_seed(0)
    shape = SHAPE | {"moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2, "head_dim": 8}
    return Qwen3MoeForCausalLM(Qwen3MoeConfig(**shape, eos_token_id=257, pad_token_id=256)).eval()


ATTENTION = ["q_proj", "v_proj"]
EXPERTS = ["experts.gate_up_proj", "experts.down_proj"]


# PEFT looks for the rank of the experts among the modules, and finds it among the parameters
@pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys did not match:RuntimeWarning")
@pytest.mark.parametrize(
    ("lora", "frozen"),
    [
        ({"target_modules": ATTENTION}, ["down_proj", "gate_up_proj"]),
        ({"target_modules": ATTENTION, "target_parameters": EXPERTS[1:]}, ["gate_up_proj"]),
        ({"target_modules": ATTENTION, "target_parameters": EXPERTS}, []),
        ({"target_modules": [], "target_parameters": ["gate.weight", *EXPERTS]}, []),
        ({}, []),  # PEFT knows this family, and what all-linear meant for it
    ],
    ids=["attention", "one", "both", "experts alone", "all-linear"],
)
def test_experts_are_reached_by_their_parameters(tmp_path: Path, lora: dict[str, Any], frozen: list[str]) -> None:
    model = adapted(moe(), **lora)
    assert frozen_experts(model) == frozen
    assert [name in " ".join(notes(model)) for name in frozen] == [True] * len(frozen)
    expected = logits(learn(model))
    assert (expected - logits(moe())).abs().max() > 0.1
    model.save_pretrained(tmp_path / "adapter")
    moe().save_pretrained(tmp_path / "base")
    beside = merging.load_adapted(tmp_path / "base", tmp_path / "adapter")
    torch.testing.assert_close(logits(beside), expected, rtol=0, atol=1e-5)
    change = whole.merge(beside, tmp_path / "base", tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(merged), expected, rtol=0, atol=1e-3)
    assert change.changed_modules == change.adapted_modules > 0


def test_a_dense_model_has_no_experts() -> None:
    assert notes(adapted(random_model())) == notes(random_model()) == notes(moe()) == []
    with pytest.raises(UserError, match="no experts"):
        adapted(random_model(), target_parameters=["experts.down_proj"])


@pytest.mark.parametrize(
    ("lora", "said", "remedy"),
    [
        ({"target_parameters": ["experts.down_porj"]}, "'experts.down_porj'", "'experts.down_proj'"),
        ({"use_dora": True}, "lora.use_dora", "lora.target_modules="),
        ({"lora_dropout": 0.1}, "lora.lora_dropout", "lora.target_modules="),
        ({"init_lora_weights": "pissa"}, "lora.init_lora_weights", "lora.target_modules="),
    ],
)
def test_what_experts_cannot_have(lora: dict[str, Any], said: str, remedy: str) -> None:
    with pytest.raises(UserError) as raised:
        adapted(moe(), **lora)
    assert said in raised.value.message
    assert remedy in raised.value.hint


def test_all_mistakes_in_the_targets_at_once() -> None:
    with pytest.raises(UserError) as raised:
        adapted(moe(), target_modules=["q_porj"], target_parameters=["experts.up"])
    assert "q_porj" in raised.value.show()
    assert "experts.up" in raised.value.show()
