"""The base model as training sees it, and the same base with an adapter beside it.

Both come from local safetensors, run no code of the model's own, and lie on one device: the first visible card where
the hardware preset has memory for one, else the CPU.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_runner.config.schema import Config
from sft_runner.errors import MachineError
from sft_runner.model.files import require

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
    import torch
    from transformers import AutoModelForCausalLM

    folder, hardware = require(config.model), config.hardware
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, hardware.dtype),
            quantization_config=quantization(config),
            attn_implementation=hardware.attn_implementation,
            device_map={"": device(config)},
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
        )
    except ImportError as error:
        raise MachineError(
            f"hardware.attn_implementation={hardware.attn_implementation}, "
            f"quantization.bits={config.quantization.bits}: a package is missing: {str(error).splitlines()[0]}",
            "install it, or use hardware.attn_implementation=sdpa and quantization.bits=none",
        ) from error
    _keep_training_layout(model)
    return model


def load_tuned(config: Config, adapter_folder: Path) -> "PeftModel":
    """The base with an adapter beside it, not merged, in evaluation mode; adapter weights are float32."""
    from peft import PeftModel

    tuned: PeftModel = PeftModel.from_pretrained(load_base(config), adapter_folder)
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


def _keep_training_layout(model: Any) -> None:
    """On a CPU with AVX512-BF16, bitsandbytes 0.50 repacks 4-bit weights in the first evaluation pass and never back.

    What trains on them afterwards, or reads them as DoRA does, would see garbage.
    """
    if getattr(model, "is_loaded_in_4bit", False):
        from bitsandbytes.nn import Linear4bit  # type: ignore[attr-defined]

        for module in model.modules():
            if isinstance(module, Linear4bit):
                module.support_avx512bf16_for_cpu = False
