"""Which engine writes the answers that are scored: transformers, or vLLM where there is one that can.

It is settled before anything runs and counts for what was measured, for no two engines round alike. Base and tuned
model always have the same one.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sft_runner.config.run import Decision, Run
from sft_runner.config.schema import ALL_LINEAR, Config
from sft_runner.errors import MachineError, UserError, raise_all
from sft_runner.evaluation import names, vllm_models
from sft_runner.model.architecture import Architecture, architecture
from sft_runner.model.family import class_of
from sft_runner.model.files import locate, settings
from sft_runner.model.starts import moves
from sft_runner.serving import vllm
from sft_runner.serving.engine import interpreter, require

if TYPE_CHECKING:
    from sft_runner.evaluation.generation import Answer

KEY = "evaluate.engine"
LANGUAGE = ("ForCausalLM", "LMHeadModel")
"""How transformers' classes of language models end; others have parts that training does not load."""
Write = Callable[..., "list[Answer]"]
"""`answers(model, tokenizer, rows, max_new_tokens, batch_size, report)`, as in `generation`."""
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Largest ranks that vLLM 0.32 can be started for (vllm/config/lora.py)."""
CPU_HEADS = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)
"""Widths of heads that its attention on the CPU knows (vllm/v1/attention/backends/cpu_attn.py)."""
NOT_IN_FLOAT16 = ("gemma2", "gemma3", "gemma3_text", "glm4")
"""Families that it refuses in float16 (vllm/config/model.py)."""


@contextmanager
def writer(config: Config, folder: Path, trained: Path | None = None) -> Iterator[Write]:
    """What writes one model's answers to any number of sets of rows, with the engine of `evaluate.engine`.

    vLLM is started when it is first asked, once, and before that lets go of the weights of the model that it is given:
    whatever else they are needed for comes first. Its log goes into `folder`. `trained` is the train stage's folder,
    None for the base.
    """
    from sft_runner.evaluation import generation, vllm_answers

    if config.evaluate.engine != "vllm":
        yield generation.answers
        return
    with vllm_answers.writer(with_own_python(config), folder, trained) as answers:
        yield answers


def settle(config: Config) -> Decision | None:
    """What `evaluate.engine=auto` becomes; None while that hangs on a model of which nothing is known here yet.

    The reason is empty where there is nothing to tell: there is no vLLM, or nothing is generated.
    """
    package = _package(config)
    if package is None or not generates(config):
        return Decision(KEY, "transformers", "")
    shape = _shape(config)
    reason = _whatever_model(config, package) or (_of_model(config, shape, package) if shape else _unknown(config))
    if reason:
        return Decision(KEY, "transformers", f"not vLLM: {reason}")
    where = "serve.python" if with_own_python(config).serve.python else "this environment"
    return Decision(KEY, "vllm", f"{where} has it") if shape else None


def settled(run: Run) -> Run:
    """The run with its engine, once the model tells which can run it. Raises `UserError` where the one asked for
    cannot."""
    raise_all(list(misfits(run.config)))
    if run.config.evaluate.engine != "auto" or (decision := settle(run.config)) is None:
        return run
    config = replace(run.config, evaluate=replace(run.config.evaluate, engine=decision.value))
    return replace(run, config=config, decisions=(*run.decisions, *([decision] if decision.reason else [])))


def misfits(config: Config) -> Iterator[UserError]:
    """Why vLLM cannot do what it is asked for by name."""
    if config.evaluate.engine != "vllm" or not generates(config):
        return
    package, shape = _package(config), _shape(config)
    reason = _whatever_model(config, package) or (_of_model(config, shape, package) if shape else "")
    if reason:
        yield UserError(f"{KEY}=vllm: {reason}", f"use {KEY}=transformers, or {KEY}=auto")


def check(config: Config) -> None:
    """Raise `MachineError` where vLLM is asked for and not installed."""
    if config.evaluate.engine == "vllm" and generates(config):
        require(vllm.PACKAGE, interpreter(with_own_python(config)), KEY)


def generates(config: Config) -> bool:
    """Whether any metric needs answers."""
    return any(names.generated(name) for name in config.evaluate.metrics)


def with_own_python(config: Config) -> Config:
    """The configuration for vLLM's server: `serve.python` is only its interpreter where it serves too."""
    return config if config.serve.engine == "vllm" else replace(config, serve=replace(config.serve, python=None))


def _package(config: Config) -> Path | None:
    """The folder of the vLLM that would be used; None where there is none."""
    try:
        return vllm_models.home(interpreter(with_own_python(config)))
    except MachineError:
        return None  # `check` tells it where vLLM is asked for


def _shape(config: Config) -> Architecture | None:
    """What is known of the model; what is wrong with its name is told by planning."""
    try:
        return architecture(config.model)
    except UserError:
        return None


def _unknown(config: Config) -> str:
    """Why a model of unknown shape is left to transformers; empty where its files may still tell it."""
    try:
        return "the model's files do not tell its shape" if locate(config.model).folder else ""
    except UserError:
        return ""


def _whatever_model(config: Config, package: Path | None) -> str:
    """What it cannot do with any model; empty where it can."""
    hardware, lora = config.hardware, config.lora
    if package and vllm_models.for_cpu(package) != (hardware.memory_gb <= 0):
        return f"it is a build for {'the CPU' if hardware.memory_gb > 0 else 'cards'}"
    if config.quantization.bits != "none":
        return f"it would not see the base as training did, in {config.quantization.bits} bits"
    if config.model.trust_remote_code:
        return "it runs no code of a model's own here"
    if config.adapter == "none":
        return ""
    if lora.use_dora:
        return "it has no DoRA"
    rank = (lora.r or 0) * (2 if moves(lora) else 1)
    if rank > RANKS[-1]:
        return f"it takes adapters up to rank {RANKS[-1]}, this one has {rank}"
    if lora.target_parameters:
        return "it takes no adapter of single parameters (lora.target_parameters)"
    if embeddings := [name for name in lora.target_modules if "embed" in name or name.endswith("wte")]:
        return f"it takes no adapter of the embedding {embeddings[0]}"
    return ""


def _of_model(config: Config, shape: Architecture, package: Path | None) -> str:
    """What it cannot do with this one."""
    hardware, lora = config.hardware, config.adapter == "lora"
    if shape.stored_bits:
        return f"the model's files hold {shape.stored_bits}-bit weights"
    if hardware.memory_gb <= 0 and shape.head_dim not in CPU_HEADS:
        return f"its attention on the CPU has no heads of width {shape.head_dim}"
    if hardware.dtype == "float16" and shape.model_type in NOT_IN_FLOAT16:
        return f"it refuses {shape.model_type} in float16"
    if lora and shape.is_moe and ALL_LINEAR in config.lora.target_modules:
        return "it takes no adapter of experts as PEFT writes them"
    name = _class(config, shape)
    if not name.endswith(LANGUAGE):
        return f"{name or shape.model_type} is more than a language model, or none"
    if package and not vllm_models.has(package, name, adapter=lora):
        able = lora and vllm_models.has(package, name, adapter=False)
        return f"it takes no adapter for {name}" if able else f"it has no {name}"
    return ""


def _class(config: Config, shape: Architecture) -> str:
    """The model's class in transformers, as its folder names it, else as its family is mapped."""
    folder = locate(config.model).folder
    named = settings(folder).get("architectures") if folder else None
    return str(named[0]) if isinstance(named, list) and named else class_of(shape.model_type)
