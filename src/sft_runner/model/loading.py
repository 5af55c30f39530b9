"""Models as training and evaluation see them: the base, what is trained, and what was trained.

All come from local safetensors, run no code of their own unless that was allowed, and lie on one device: the first
visible card where the hardware preset has memory for one, else the CPU.
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_runner.config.schema import Config
from sft_runner.disk import read_json
from sft_runner.errors import MachineError, UserError
from sft_runner.model.files import locate, require

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import BitsAndBytesConfig, PreTrainedModel, PreTrainedTokenizerBase


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """A model's tokenizer. One without a padding token pads with its end token; labels never train padding."""
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        folder, trust_remote_code=False, local_files_only=True
    )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_base(config: Config) -> "PreTrainedModel":
    """The base in `hardware.dtype`, quantized as `quantization.bits` says, in evaluation mode."""
    model = _load(config, require(config.model), config.hardware.dtype, quantization(config))
    _keep_training_layout(model)
    return model


def load_trainable(config: Config) -> "PreTrainedModel":
    """What the trainer gets: the frozen base of an adapter; without an adapter, the whole model in
    `hardware.trained_dtype`, the precision in which its weights learn. Raises `UserError` where they cannot."""
    if config.adapter == "lora":
        return load_base(config)
    if (read_json(require(config.model) / "config.json") or {}).get("quantization_config"):
        raise UserError(
            f"method=full: the weights of {config.model.name} are stored quantized, and such weights do not train",
            "name the 16-bit model, or train an adapter on it: method=lora",
        )
    return _load(config, require(config.model), config.hardware.trained_dtype)


def load_tuned(config: Config, train_folder: Path) -> "PeftModel | PreTrainedModel":
    """What the train stage wrote into its folder, in evaluation mode: the base with the adapter beside it, not merged
    and in float32, or without an adapter the whole model in `hardware.dtype`."""
    from peft import PeftModel

    if config.adapter == "none":
        return _load(config, train_folder / "model", config.hardware.dtype)
    tuned: PeftModel = PeftModel.from_pretrained(load_base(config), train_folder / "adapter")
    return tuned.eval()


def device(config: Config) -> str:
    """`cuda:0` or `cpu`. Raises `MachineError` where the preset counts on a card that is not there."""
    import torch

    if config.hardware.memory_gb <= 0:
        return "cpu"
    if not torch.cuda.is_available():
        raise MachineError(
            f"hardware={config.hardware.name} needs a CUDA card, and torch sees none",
            "use hardware=cpu, or see `nvidia-smi` and CUDA_VISIBLE_DEVICES",
        )
    return "cuda:0"


def quantization(config: Config) -> "BitsAndBytesConfig | None":
    """How bitsandbytes stores the frozen base, None where it is not quantized."""
    import torch
    from transformers import BitsAndBytesConfig

    match config.quantization.bits:
        case "4":
            return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=getattr(torch, config.hardware.dtype),
            )
        case "8":
            return BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]
        case _:
            return None


def _load(config: Config, folder: Path, dtype: str, quantized: "BitsAndBytesConfig | None" = None) -> "PreTrainedModel":
    """A language model from a local folder, on the run's device. Only the base's own folder may run code of its own."""
    import torch
    from transformers import AutoModelForCausalLM

    kernel, base = config.hardware.attn_implementation, locate(config.model)
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            quantization_config=quantized,
            attn_implementation=kernel,
            device_map={"": device(config)},
            use_safetensors=True,
            trust_remote_code=base.own_code and folder == base.folder,
            local_files_only=True,
        )
    except ImportError as error:
        raise MachineError(
            f"hardware.attn_implementation={kernel}, "
            f"quantization.bits={config.quantization.bits}: a package is missing: {str(error).splitlines()[0]}",
            "install it, or leave hardware.attn_implementation open and use quantization.bits=none",
        ) from error
    except ValueError as error:
        if kernel is None or not any(word in str(error) for word in ("attention", "attn_implementation")):
            raise
        raise UserError(
            f"hardware.attn_implementation={kernel}: {config.model.name} does not take it: "
            f"{str(error).splitlines()[0]}",
            "leave it open for the fastest one that the model takes, or use eager",
        ) from error
    return model


def _keep_training_layout(model: Any) -> None:
    """Keep bitsandbytes 0.50 from losing the weights of a model on the CPU that trains, or that DoRA reads.

    With AVX512-BF16 it repacks 4-bit weights in the first evaluation pass and never back, so that they become garbage.
    Of 8-bit weights it forgets the scales once PEFT has moved them from the CPU to the CPU, as it does for DoRA.
    """
    if getattr(model, "is_loaded_in_4bit", False) or getattr(model, "is_loaded_in_8bit", False):
        from bitsandbytes.nn import Linear4bit, Linear8bitLt  # type: ignore[attr-defined]

        for module in model.modules():
            if isinstance(module, Linear4bit):
                module.support_avx512bf16_for_cpu = False
            elif isinstance(module, Linear8bitLt) and module.weight.device.type == "cpu":
                module.init_8bit_state = partial(_init_8bit_state, module)  # type: ignore[method-assign]


def _init_8bit_state(module: Any) -> None:
    """`Linear8bitLt`'s own, but the scales stay with the weight too."""
    module.state.CB, module.state.SCB = module.weight.CB, module.weight.SCB
    module.weight.CB = None
