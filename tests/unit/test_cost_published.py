"""The estimate beside figures that others published, and `docs/memory.md`, which shows both.

`python -m tests.unit.test_cost_published` prints the tables as they belong into that page.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.cost_models import LLAMA_2_7B, LLAMA_31_8B, LLAMA_32_3B, QWEN_25_7B, settings

from sft_runner.config.schema import Config
from sft_runner.cost.activations import of_layer
from sft_runner.cost.memory import CONTEXT, training_memory
from sft_runner.model.architecture import Architecture

GIB = 2**30
PAGE = Path(__file__).parents[2] / "docs/memory.md"


@dataclass(frozen=True)
class Row:
    """A published figure and ours for the same setting."""

    setting: str
    published: float
    ours: float
    within: float
    """The share by which they may differ."""
    remark: str = ""

    @property
    def difference(self) -> float:
        return self.ours / self.published - 1


def tune(method: str, bits: str, mode: str, length: int, rank: int = 8) -> Config:
    """torchtune: all in bfloat16, two rows at once and in a step."""
    config = settings(method, bits, rows=2, length=length, trained_dtype="bfloat16", activation_checkpointing=mode)
    config.train.packing, config.lora.r = False, rank
    config.lora.target_modules = ["q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    return config


def active(config: Config, arch: Architecture, offloaded: bool = False, whole_logits: bool = False) -> float:
    """Peak of torch's own memory in GiB: without CUDA, which no allocator counts.

    `offloaded` leaves out what goes into the layers, `whole_logits` counts them as a plain loss holds them: in
    16 bits, in float32, and their gradient.
    """
    hardware, tokens = config.hardware, config.train.batch_size * config.data.max_length
    mode = hardware.activation_checkpointing
    found = training_memory(config, arch, config.train.batch_size, mode, config.data.max_length)
    total = found.total - CONTEXT
    if offloaded:
        total -= tokens * arch.num_hidden_layers * of_layer(config, arch, config.data.max_length, True).residual
    if whole_logits:
        total += tokens * arch.vocab_size * (2 + 4 + 4) - found.logits
    return total / GIB


def torchtune() -> list[Row]:
    """https://github.com/pytorch/torchtune, README: peak memory, A100 and 4090 or A6000."""
    whole, lora, qlora = (
        tune(method, bits, mode, 4096, rank=64)
        for method, bits, mode in (("full", "none", "none"), ("lora", "none", "full"), ("lora", "4", "full"))
    )
    saved = tune("full", "none", "full", 4096)
    big, big_saved, big_4bit = (
        tune("lora", bits, mode, 2048) for bits, mode in (("none", "none"), ("none", "full"), ("4", "full"))
    )
    three, eight = LLAMA_32_3B, LLAMA_31_8B
    return [
        Row("3B full, 2 x 4,096", 60.0, active(whole, three, whole_logits=True), 0.05, "all logits at once"),
        Row("… compiled, loss in pieces", 42.9, active(whole, three), 0.30, "ours is not compiled"),
        Row("… and checkpointing", 24.9, active(saved, three), 0.05),
        Row("3B LoRA, compiled, checkpointing, offloading", 8.5, active(lora, three, offloaded=True), 0.05),
        Row("3B QLoRA, the same", 4.6, active(qlora, three, offloaded=True), 0.10),
        Row("8B LoRA, 2 x 2,048, compiled (A6000)", 30.3, active(big, eight), 0.40, "ours is not compiled"),
        Row("8B LoRA, checkpointing, compiled (4090)", 16.2, active(big_saved, eight), 0.12, "ours is not compiled"),
        Row("8B QLoRA, checkpointing, compiled (4090)", 7.4, active(big_4bit, eight), 0.15, "ours is not compiled"),
    ]


def seven(arch: Architecture, method: str, bits: str, trained: str = "float32") -> float:
    """GB of a 7 B model on rows of 1,024 tokens, one at a time of 16, with full checkpointing."""
    config = settings(method, bits, length=1024, trained_dtype=trained)
    return training_memory(config, arch, 1, "full", 1024).total / 1e9


def llamafactory() -> list[Row]:
    """https://github.com/hiyouga/LLaMA-Factory, README: hardware requirement, estimated, for 7 B."""
    return [
        Row("full, float32 weights, 16-bit arithmetic", 120, seven(LLAMA_2_7B, "full", "none"), 0.05),
        Row("full, all in bfloat16", 60, seven(LLAMA_2_7B, "full", "none", "bfloat16"), 0.10),
        Row("LoRA, 16-bit base", 16, seven(LLAMA_2_7B, "lora", "none"), 0.10),
        Row("LoRA, 8-bit base", 10, seven(LLAMA_2_7B, "lora", "8"), 0.12),
        Row("QLoRA, 4-bit base", 6, seven(LLAMA_2_7B, "lora", "4"), 0.10),
    ]


def sage() -> list[Row]:
    """SAGE's documents: 7 B full about 60 GB, LoRA about 8, QLoRA about 6. Ours: Qwen 2.5 7B."""
    return [
        Row("full", 60, seven(QWEN_25_7B, "full", "none"), 2, "float32 weights, gradients and states"),
        Row("full, all in bfloat16", 60, seven(QWEN_25_7B, "full", "none", "bfloat16"), 0.10, "what 60 GB can mean"),
        Row("LoRA", 8, seven(QWEN_25_7B, "lora", "none"), 2, "16-bit weights alone are 15 GB"),
        Row("LoRA, 8-bit base", 8, seven(QWEN_25_7B, "lora", "8"), 0.40, "what 8 GB comes near to"),
        Row("QLoRA", 6, seven(QWEN_25_7B, "lora", "4"), 0.30, "2 GB of it for 152,064 words"),
    ]


TABLES: dict[str, tuple[str, Callable[[], list[Row]]]] = {
    "torchtune": ("GiB", torchtune),
    "LLaMA-Factory": ("GB", llamafactory),
    "SAGE": ("GB", sage),
}


def lines(name: str) -> list[str]:
    """One table as it stands in the page."""
    unit, rows = TABLES[name]
    head = [f"| {name} | published, {unit} | ours, ≈ {unit} | difference | remark |", "|---|--:|--:|--:|---|"]
    return head + [
        f"| {r.setting} | {r.published:g} | {r.ours:.1f} | {r.difference:+.0%} | {r.remark} |" for r in rows()
    ]


@pytest.mark.parametrize("row", [row for _, rows in TABLES.values() for row in rows()], ids=lambda row: row.setting)
def test_a_published_figure(row: Row) -> None:
    assert abs(row.difference) <= row.within, f"{row.setting}: {row.ours:.1f} instead of {row.published}"


@pytest.mark.parametrize("name", TABLES)
def test_the_page_shows_what_is_computed(name: str) -> None:
    assert "\n".join(lines(name)) in PAGE.read_text(encoding="utf-8")


if __name__ == "__main__":
    print("\n\n".join("\n".join(lines(name)) for name in TABLES))
