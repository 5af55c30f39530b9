"""Everything a user can say, as plain dataclasses: one class for each part, one line of help under each field.

Hydra composes a `Config` from `conf/`, a recipe and the command line; `rules.py` then fills what was left open.
`setting()` marks what is special about a field; data, training and evaluation have modules of their own.
"""

from dataclasses import dataclass, field
from typing import Any

from sft_runner.config.schema_data import FORMATS, Data, Documents
from sft_runner.config.schema_evaluate import Evaluate, Merge
from sft_runner.config.schema_train import EarlyStopping, Train
from sft_runner.config.setting import build, flatten, setting

__all__ = [
    "FORMATS",
    "Config",
    "Data",
    "Documents",
    "EarlyStopping",
    "Evaluate",
    "Merge",
    "Train",
    "build",
    "flatten",
    "setting",
]

EXPORTS = ("adapter", "safetensors", "gguf", "ollama", "archive")
"""What `export` may name."""
MODES = ("none", "selective", "full")
"""Ways of activation checkpointing, the fastest first."""
ALL_LINEAR = "all-linear"
"""PEFT's word for every linear layer but the output head; of a mixture it takes routers and experts too."""


@dataclass
class Model:
    """Which weights to start from."""

    name: str = ""
    """Hub id, folder, or `embedded:tiny`."""
    revision: str | None = None
    """Commit of the hub repository; empty takes the newest one in the local cache."""
    architecture: dict[str, Any] = setting({}, counts=False)
    """Its shape in the words of its config.json, so that memory is planned before the model is on this machine."""
    trust_remote_code: str | None = setting(None, counts=False)
    """`OWNER/NAME@COMMIT` of the one model whose own code may run; open: no code of a model runs."""


@dataclass
class Hardware:
    """How to fit the run on a machine. The second half changes what is learned, and the plan says so."""

    name: str = setting("", counts=False)
    """The preset."""
    chosen: str = setting("", counts=False, found=True)
    """Why `hardware=auto` took this preset."""
    memory_gb: float = setting(0.0, counts=False, at_least=0)
    """Memory of one accelerator in GB (10^9 bytes); 0 means none, the run stays on the CPU."""
    tflops: float = setting(0.0, counts=False, at_least=0)
    """The maker's figure for dense 16-bit matrix products, in 10^12 operations a second; 0: not known."""
    price_per_hour: float | None = setting(None, counts=False, at_least=0)
    """What an hour of this machine costs; the plan then shows a price."""
    per_device_train_batch_size: int | None = setting(None, counts=False, at_least=1)
    """Largest micro-batch in rows of `data.max_length`; open: as many as fit. Accumulation makes up the rest of
    `train.batch_size`; with `train.packing` a pass takes as many tokens as they have."""
    per_device_eval_batch_size: int = setting(16, counts=False, at_least=1)
    """Rows scored or generated at once."""
    activation_checkpointing: str = setting("auto", counts=False, choices=("auto", *MODES))
    """Recompute activations in the backward pass: `full` is about a third slower and takes far less memory, `selective`
    keeps what attention made; `auto` takes the least that fits."""
    attn_implementation: str | None = setting(None, counts=False)
    """Attention kernel, in the words of transformers; open: `sdpa`, or `eager` where the model does not take that."""
    dataloader_num_workers: int = setting(0, counts=False, at_least=0)
    """Processes that feed the trainer."""
    quantization_bits: str = setting("none", counts=False, choices=("none", "8", "4"), approximates=True)
    """Bits of the frozen base where `quantization.bits=auto`."""
    dtype: str = setting("float32", choices=("float32", "bfloat16", "float16"), approximates=True)
    """Precision of the frozen base's weights and of the arithmetic."""
    trained_dtype: str = setting("float32", neutral="float32", choices=("float32", "bfloat16"), approximates=True)
    """Precision of the weights that train: an adapter's, or with `method=full` the whole model's. In bfloat16 an update
    below a 256th of a weight is lost."""
    optim: str = setting("adamw_torch", approximates=True)
    """Optimizer implementation, in the words of transformers."""
    max_length: int | None = setting(None, counts=False, at_least=8, approximates=True)
    """Cap on `data.max_length`, in tokens."""
    lora_r: int | None = setting(None, counts=False, approximates=True)
    """Rank where neither the recipe nor the command line sets `lora.r`."""


@dataclass
class Lora:
    """The adapter, in the words of PEFT's `LoraConfig`."""

    r: int | None = setting(None, at_least=1)
    """Rank; open: `hardware.lora_r`, else 8."""
    lora_alpha: float | None = setting(None, above=0)
    """Scale; open: `2 * r`, so that a sweep over `r` does not also sweep the scale."""
    lora_dropout: float = setting(0.0, at_least=0, below=1)
    """Share of the adapter's inputs dropped in training."""
    target_modules: list[str] = setting([ALL_LINEAR])
    """Names of the modules that get an adapter, or `[all-linear]`."""
    use_dora: bool = setting(False, neutral=False)
    """Learn the magnitude of each weight column apart from its direction."""
    use_rslora: bool = setting(False, neutral=False)
    """Scale by `alpha / sqrt(r)` instead of `alpha / r`."""
    init_lora_weights: str = setting(
        "default",
        neutral="default",
        choices=("default", "gaussian", "orthogonal", "pissa", "pissa_niter_16", "olora"),
    )
    """Where the adapter starts: `default` at the base model's output, with B at zero; `pissa` with the base's largest
    singular vectors (`pissa_niter_16` finds them faster), `olora` with an orthonormal basis of it."""
    target_parameters: list[str] = setting([], neutral=[])
    """Parameters that are no module's own weight and get an adapter too: the experts of a mixture-of-experts model."""


@dataclass
class Quantization:
    """How the frozen base is stored while it is trained."""

    bits: str = setting("auto", choices=("auto", "none", "8", "4"))
    """4 (NF4, double quantisation), 8 (LLM.int8), none, or auto: the preset's."""


@dataclass
class Gguf:
    """The file for llama.cpp and Ollama (`export=[gguf]`, the extra `gguf`)."""

    type: str = setting("auto", neutral="auto", choices=("auto", "f32", "f16", "bf16", "q8_0"))
    """Precision of its weights; `auto`: that of the merged model."""


@dataclass
class Serve:
    """The server for the merged model."""

    engine: str = setting("transformers", choices=("transformers", "vllm"))
    """`transformers` (`transformers serve`) or `vllm`."""
    host: str = setting("127.0.0.1", counts=False)
    """Loopback address to bind."""
    port: int = setting(8000, counts=False, at_least=0)
    """Port of `stage=serve`; 0 takes a free one. The bounded check always takes a free one."""
    python: str | None = setting(None, counts=False)
    """Interpreter of another environment that holds the engine; open: this one."""
    startup_timeout: float = setting(600.0, counts=False, at_least=1)
    """Seconds until the first real answer."""
    max_tokens: int = setting(64, at_least=1)
    """Length of the check's answer."""
    max_model_len: int | None = setting(None, neutral=None, at_least=8)
    """vLLM: longest prompt and answer together; open: `data.max_length` plus `evaluate.max_new_tokens`."""
    gpu_memory_utilization: float = setting(0.9, counts=False)
    """vLLM: share of the card it may take."""
    tensor_parallel_size: int = setting(1, counts=False, at_least=1)
    """vLLM: cards for one model."""
    enforce_eager: bool = setting(False, counts=False)
    """vLLM: no CUDA graphs; slower, starts faster."""


@dataclass
class Stage:
    """How far to go."""

    until: str = setting("serve", counts=False)
    """The last stage; what it needs is run first."""
    stay: bool = setting(False, counts=False)
    """Keep the server up until Ctrl-C."""


@dataclass
class Mlflow:
    """MLflow's sub-key of `tracking`."""

    enabled: bool = setting(False, counts=False)
    """Log to MLflow."""
    uri: str | None = setting(None, counts=False)
    """Tracking server; open: `MLFLOW_TRACKING_URI`, else `sqlite` under `output_dir`."""
    experiment: str = setting("sft_runner", counts=False)
    """MLflow experiment."""


@dataclass
class Tensorboard:
    """TensorBoard's sub-key of `tracking`."""

    enabled: bool = setting(False, counts=False)
    """Write TensorBoard's event files."""
    dir: str | None = setting(None, counts=False)
    """Where; open: `tensorboard` under `output_dir`."""


@dataclass
class Wandb:
    """Weights & Biases' sub-key of `tracking`."""

    enabled: bool = setting(False, counts=False)
    """Log to Weights & Biases. The key is read from `WANDB_API_KEY`, never from here."""
    project: str = setting("sft_runner", counts=False)
    """Its project."""
    entity: str | None = setting(None, counts=False)
    """User or team; open: the key's own."""
    mode: str = setting("online", counts=False, choices=("online", "offline"))
    """`offline` keeps everything under `output_dir/wandb` for a later `wandb sync`."""


@dataclass
class Tracking:
    """Who is told; one sub-key for each tracker, so that several compose."""

    mlflow: Mlflow = field(default_factory=Mlflow)
    """MLflow."""
    tensorboard: Tensorboard = field(default_factory=Tensorboard)
    """TensorBoard."""
    wandb: Wandb = field(default_factory=Wandb)
    """Weights & Biases."""


@dataclass
class Config:
    """One run, as written."""

    name: str = setting("", counts=False)
    """Name of the run; open: the recipe's, else `run`."""
    output_dir: str = setting("outputs", counts=False)
    """Where everything goes."""
    dry_run: bool = setting(False, counts=False)
    """Print the plan and stop."""
    force: list[str] = setting([], counts=False)
    """Stages to run again although their output is there, such as `[evaluate]`."""
    locked: bool = setting(False, counts=False)
    """Run only what the recipe's lock says for this hardware; `sft-runner lock` writes it."""
    model: Model = field(default_factory=Model)
    """Which weights to start from."""
    hardware: Hardware = field(default_factory=Hardware)
    """How to fit the run on a machine."""
    data: Data = field(default_factory=Data)
    """What to learn from."""
    adapter: str = setting("lora", neutral="lora", choices=("lora", "none"))
    """What trains: a `lora` adapter beside the frozen base, or with `none` the whole model."""
    lora: Lora = field(default_factory=Lora)
    """The adapter."""
    quantization: Quantization = field(default_factory=Quantization)
    """How the frozen base is stored."""
    train: Train = field(default_factory=Train)
    """The training run."""
    merge: Merge = field(default_factory=Merge)
    """Adapter into base."""
    evaluate: Evaluate = field(default_factory=Evaluate)
    """How it is scored."""
    export: list[str] = setting([])
    """Forms to hand the model on in: `adapter`, `safetensors`, `gguf`, `ollama`, `archive`."""
    gguf: Gguf = field(default_factory=Gguf)
    """The file for llama.cpp and Ollama."""
    serve: Serve = field(default_factory=Serve)
    """The server."""
    stage: Stage = field(default_factory=Stage)
    """How far to go."""
    tracking: Tracking = field(default_factory=Tracking)
    """Who is told."""
