"""A small random model with a tokenizer of a usual size, for measurements that need no trained one."""

import json
from collections.abc import Iterator
from pathlib import Path

from sft_runner.model.files import EMBEDDED

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_base(data: Path, folder: Path, vocabulary: int) -> Path:
    """A model shaped like the embedded one, its tokenizer a byte-level BPE trained on the texts in `data`."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(data), trainer)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    wrapped.chat_template = TEMPLATE
    wrapped.save_pretrained(folder)
    config = AutoConfig.from_pretrained(EMBEDDED / "tiny")
    config.vocab_size, config.eos_token_id, config.pad_token_id = vocabulary, wrapped.eos_token_id, 0
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def _texts(data: Path) -> Iterator[str]:
    for path in sorted(data.iterdir()):
        if path.suffix == ".jsonl":
            yield from (" ".join(map(str, json.loads(line).values())) for line in path.read_text().splitlines())
        elif path.suffix == ".json":
            yield from (json.dumps(row, ensure_ascii=False) for row in json.loads(path.read_text()))
