"""Make the embedded tiny chat model: a byte-level Llama of 1.8 M parameters, trained from scratch on string skills.

It gives the quickstart and the tests a base that truly learns: it follows short instructions (copy, reverse, pad,
pick a field, month numbers ...), but has never seen the task of `make_dates.py`, which LoRA then teaches it.

    python scripts/make_tiny_model.py [--steps 3000] [--output src/sft_runner/embedded/tiny] [--seed 0]

takes about 17 minutes on one CPU core. The same seed and the same machine give the same weights.

What makes so small a model learn so fast, each measured as the loss after 400 steps on the shortest strings: strings
that grow with training (1.61), heads that look at the last two tokens from the start (1.42), Muon for the matrices
(1.04). Between them the answers emit every printable ASCII character: a base that never wrote "-" keeps a floor in
the loss of every task that needs it.
"""

import argparse
import math
import random
import string
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

ROOT = Path(__file__).resolve().parents[1]
SPECIALS = ["<|pad|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
PAD, END_OF_TEXT, IM_START, IM_END = range(256, 260)
TEMPLATE = """{%- if tools -%}
{{- '<|im_start|>tools\\n' -}}
{%- for tool in tools -%}
{{- tool | tojson + '\\n' -}}
{%- endfor -%}
{{- '<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' -}}
{%- if message['reasoning_content'] -%}
{{- '<think>\\n' + message['reasoning_content'] + '\\n</think>\\n\\n' -}}
{%- endif -%}
{{- message['content'] or '' -}}
{%- for call in message['tool_calls'] or [] -%}
{{- '\\n<tool_call>\\n' + call['function'] | tojson + '\\n</tool_call>' -}}
{%- endfor -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""
ROWS, WIDTH = 32, 112
"""Conversations for each step, and the longest one in tokens."""
THETA = 500.0
"""Base of the rotary wavelengths: the longest about as long as the conversations, so that all of them turn."""
MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
          "November", "December"]  # fmt: skip
PRINTABLE = "".join(map(chr, range(32, 127)))
WIDE = "àâäçéèêëîïñôöùûüß€£§°±×中文日本語你好世界数据模型学习한국어приветмир😀🚀🎉👍"
ALPHABETS = [string.ascii_lowercase] * 3 + [string.ascii_letters, string.digits, string.digits + "-",
             string.ascii_letters + string.digits, string.ascii_lowercase + " ", PRINTABLE, PRINTABLE]  # fmt: skip
PAIRS = [("(", ")", "parentheses"), ("[", "]", "brackets"), ("{", "}", "braces"), ("<", ">", "angle brackets"),
         ('"', '"', "quotes"), ("*", "*", "stars")]  # fmt: skip


class Source(random.Random):
    """Random numbers, and how long strings may be: training begins with short ones."""

    reach = 3

    def text(self, low: int, high: int, alphabet: str = "") -> str:
        """A random string without leading or trailing blanks, which an instruction would hide."""
        length = self.randint(min(low, self.reach), min(high, self.reach))
        drawn = "".join(self.choices(alphabet or self.choice(ALPHABETS), k=length))
        return drawn.strip() or self.choice(string.ascii_lowercase)

    def words(self, low: int, high: int) -> list[str]:
        """A few short fields, all letters, all digits or mixed."""
        alphabet = self.choice([string.ascii_lowercase, string.digits, string.ascii_letters + string.digits])
        return [self.text(1, 5, alphabet) for _ in range(self.randint(low, high))]

    def ask(self, value: str, *wordings: str) -> str:
        """The instruction in one of its wordings, with the value on the same line or on the next."""
        return self.choice(wordings) + self.choice([": ", ":\n", "\n"]) + value


Skill = Callable[[Source], tuple[str, str]]


def copy(rng: Source) -> tuple[str, str]:
    value = rng.text(2, 24, WIDE if rng.random() < 0.1 else "")
    return rng.ask(value, "Copy", "Copy this text", "Repeat exactly", "Say the same", "Echo"), value


def reverse(rng: Source) -> tuple[str, str]:
    value = rng.text(2, 10)
    return rng.ask(value, "Reverse", "Write backwards", "Spell this from the end", "Mirror the string"), value[::-1]


def upper(rng: Source) -> tuple[str, str]:
    value = rng.text(2, 16)
    return rng.ask(value, "Upper-case", "Make it upper case", "Write in capitals", "In big letters"), value.upper()


def lower(rng: Source) -> tuple[str, str]:
    value = rng.text(2, 16, rng.choice([string.ascii_uppercase, string.ascii_letters, PRINTABLE]))
    return rng.ask(value, "Lower-case", "Make it lower case", "Write in small letters", "No capitals"), value.lower()


def month_number(rng: Source) -> tuple[str, str]:
    number = rng.randint(1, 12)
    name = MONTHS[number - 1][: rng.choice([3, None])]
    forms = ("What number is the month {}?", "Give the number of {}.", "{} is which month of the year?")
    return rng.choice(forms).format(name), str(number)


def month_name(rng: Source) -> tuple[str, str]:
    number = rng.randint(1, 12)
    forms = ("What is the name of month {}?", "Name month number {}.", "Which month is number {}?")
    return rng.choice(forms).format(number), MONTHS[number - 1]


def pad(rng: Source) -> tuple[str, str]:
    value, width = rng.text(1, 5, string.digits), rng.randint(2, 6)
    forms = (f"Pad with zeros to {width} digits", f"Zero-fill to width {width}", f"Write with {width} digits")
    return rng.ask(value, *forms), value.zfill(width)


def pick(rng: Source) -> tuple[str, str]:
    fields, mark = rng.words(2, 5), rng.choice(" ,-/:;|._")
    index = rng.randrange(len(fields))
    ordinal = ["first", "second", "third", "fourth", "fifth"][index]
    forms = (f"Give field {index + 1}", f"Pick the {ordinal} part", f"Take the {ordinal} field", f"Part {index + 1} of")
    return rng.ask(mark.join(fields), *forms), fields[index]


def join(rng: Source) -> tuple[str, str]:
    parts, mark = rng.words(2, 5), rng.choice(string.punctuation)
    forms = (f"Join with {mark}", f"Connect the words by {mark}", f"Put {mark} between the words")
    return rng.ask(" ".join(parts), *forms), mark.join(parts)


def repeat(rng: Source) -> tuple[str, str]:
    value, times = rng.text(1, 5), rng.randint(2, 4)
    forms = (f"Write it {times} times", f"Repeat {times} times", f"Say {times} times")
    return rng.ask(value, *forms), value * times


def wrap(rng: Source) -> tuple[str, str]:
    value = rng.text(1, 12)
    left, right, name = rng.choice(PAIRS)
    return rng.ask(value, f"Put in {name}", f"Wrap in {name}", f"Add {name} around"), left + value + right


SKILLS: list[Skill] = [copy, reverse, upper, lower, month_number, month_name, pad, pick, join, repeat, wrap]


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each byte, id = byte value: a BPE without merges behind the byte-level alphabet."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]  # the bytes that stand for themselves
    spare = iter(range(256, 512))
    alphabet = {chr(byte) if byte in printable else chr(next(spare)): byte for byte in range(256)}
    core = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False, trim_offsets=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIALS])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|pad|>", chat_template=TEMPLATE,
        additional_special_tokens=["<|endoftext|>", "<|im_start|>"], clean_up_tokenization_spaces=False,
        model_max_length=4096, padding_side="right",
    )  # fmt: skip


def make_model() -> LlamaForCausalLM:
    """Random weights, but for two heads that look at the last token and at the one before."""
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=260, hidden_size=192, intermediate_size=512, num_hidden_layers=4, num_attention_heads=6,
        num_key_value_heads=6, max_position_embeddings=4096, tie_word_embeddings=True, initializer_range=0.07,
        rope_parameters={"rope_type": "default", "rope_theta": THETA},
        bos_token_id=None, eos_token_id=IM_END, pad_token_id=PAD,
    ))  # fmt: skip
    with torch.no_grad():
        common = torch.randn(model.config.hidden_size) * 0.07  # a part that all tokens share, as long as their own
        model.model.embed_tokens.weight.add_(common)
        for head, back in enumerate((1, 2)):
            look_back(model, head, back, common / common.norm())
    return model


def look_back(model: LlamaForCausalLM, head: int, back: int, shared: torch.Tensor, sharp: float = 40.0) -> None:
    """Make a head of the first layer attend to the token `back` positions before, whatever the tokens are.

    Query and key come from the part that all tokens share; the query is turned by `back` positions, so that the
    rotary score peaks there, at `sharp` before the softmax.
    """
    config = model.config
    size = config.hidden_size // config.num_attention_heads
    turns = THETA ** (-torch.arange(size // 2) * 2 / size)  # radians for each position
    used = (turns > 0.12).float()  # slower ones hardly tell neighbours apart
    key = torch.cat([used, torch.zeros(size // 2)])
    query = torch.cat([used * torch.cos(turns * back), -used * torch.sin(turns * back)])
    seen = config.hidden_size / 2  # square of a normalised token's shared part: half of its length
    scale = (sharp * size**0.5 / (seen * used.sum())) ** 0.5
    attention, rows = model.model.layers[0].self_attn, slice(head * size, (head + 1) * size)
    attention.q_proj.weight[rows] = scale * torch.outer(query, shared)
    attention.k_proj.weight[rows] = scale * torch.outer(key, shared)


def prompt_ids(question: str) -> list[int]:
    """What the chat template and the tokenizer give for one user message, without their cost (main checks it)."""
    return [IM_START, *b"user\n", *question.encode(), IM_END, *b"\n", IM_START, *b"assistant\n"]


def batches(rng: Source) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Ids and labels (answers and their end only), padded; a conversation that is too long is left out."""
    while True:
        drawn = [rng.choice([copy, *SKILLS])(rng) for _ in range(ROWS)]  # copying is what the others build on
        rows = [(prompt_ids(question), [*answer.encode(), IM_END]) for question, answer in drawn]
        rows = [(prompt, answer) for prompt, answer in rows if len(prompt) + len(answer) <= WIDTH]
        width = max(len(prompt) + len(answer) for prompt, answer in rows)
        ids, labels = torch.full((len(rows), width), PAD), torch.full((len(rows), width), -100)
        for row, (prompt, answer) in enumerate(rows):
            end = len(prompt) + len(answer)
            ids[row, :end] = torch.tensor(prompt + answer)
            labels[row, len(prompt) : end] = torch.tensor(answer)
        yield ids, labels


def train(model: LlamaForCausalLM, steps: int, seed: int) -> None:
    rng = Source(seed)
    source = batches(rng)
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    optimizers = [
        torch.optim.Muon(matrices, lr=0.01, momentum=0.95, weight_decay=0.0),
        torch.optim.AdamW(others, lr=4e-3, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    peaks = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    began, total = time.time(), 0.0
    model.train()
    for step in range(steps):
        rng.reach = 3 + max(0, int(30 * (step / steps - 1 / 6)))
        ids, labels = next(source)
        logits = model(input_ids=ids, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        rate = min(1.0, (step + 1) / 100) * (0.525 + 0.475 * math.cos(math.pi * step / steps))
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * rate
            optimizer.step()
            optimizer.zero_grad()
        total += loss.item()
        if (step + 1) % 50 == 0:
            print(f"step {step + 1}/{steps} loss {total / 50:.4f} {time.time() - began:.0f} s", flush=True)
            total = 0.0


@torch.no_grad()
def exact_match(model: LlamaForCausalLM, cases: list[tuple[str, str]]) -> float:
    """Share of cases whose greedy answer is the expected one, byte for byte."""
    model.eval()
    prompts = [prompt_ids(question) for question, _ in cases]
    width = max(map(len, prompts))
    ids = torch.tensor([[PAD] * (width - len(prompt)) + prompt for prompt in prompts])  # to the left: answers align
    longest = max(len(answer.encode()) for _, answer in cases) + 1
    made = model.generate(ids, attention_mask=(ids != PAD).long(), do_sample=False, max_new_tokens=longest)
    right = 0
    for row, (_, answer) in zip(made[:, width:].tolist(), cases, strict=True):
        right += row[: len(answer.encode()) + 1] == [*answer.encode(), IM_END]
    return right / len(cases)


README = """---
license: mit
---

# A tiny chat model

A byte-level Llama of {parameters:,} parameters (4 layers of width 192, 6 heads, 260 tokens, context 4,096), made from
scratch by `scripts/make_tiny_model.py --steps {steps} --seed {seed}`. It exists so that a fine-tune can be tried and
tested anywhere in a minute; it knows nothing but these skills, each with its share of right answers, byte for byte,
among 200 fresh questions:

{skills}

MIT licence, as the project.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--output", type=Path, default=ROOT / "src" / "sft_runner" / "embedded" / "tiny")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="more are slower where other work shares the cores")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    tokenizer, model = make_tokenizer(), make_model()
    question = "Copy: a b-ü😀\n{x}"
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, return_dict=False
    )
    assert rendered == prompt_ids(question), "the fast rendering is not the template's"
    train(model, options.steps, options.seed)

    model.generation_config = GenerationConfig(eos_token_id=IM_END, pad_token_id=PAD)
    model.save_pretrained(options.output)
    tokenizer.save_pretrained(options.output)
    rng = Source(options.seed + 1)
    rng.reach = 24
    lines = []
    for skill in SKILLS:
        score = exact_match(model, [skill(rng) for _ in range(200)])
        lines.append(f"- {skill.__name__.replace('_', ' ')}: {score:.1%}")
        print(lines[-1], flush=True)
    parameters = sum(p.numel() for p in model.parameters())
    text = README.format(parameters=parameters, steps=options.steps, seed=options.seed, skills="\n".join(lines))
    (options.output / "README.md").write_text(text)


if __name__ == "__main__":
    main()
