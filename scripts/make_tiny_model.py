"""Make the embedded tiny chat model: a byte-level Llama of 1.8 M parameters, trained from scratch on string skills.

It gives the quick start and the tests a base that truly learns: it follows short instructions (copy, reverse,
pad, pick a field, month numbers ...), but has never seen the task of `make_dates.py`, which LoRA then teaches it.

Run:  python scripts/make_tiny_model.py [--steps 2400] [--output src/sft_runner/embedded/tiny] [--seed 0]
Took: about TIME minutes on two CPU cores. The same seed, machine and number of threads give the same weights.

Two choices matter for what can be learnt afterwards. The answers emit every printable ASCII character, because
a base that never wrote "-" keeps a floor in the loss of every task that needs it. The last quarter of the steps
packs conversations into long rows that see each other, so that positions far beyond one short prompt work too.
"""

import argparse
import json
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
TEMPLATE = """{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""
README = """---
license: mit
---
# A tiny chat model for quick starts and tests

A Llama of 1.8 M parameters over bytes (256 bytes and 4 special tokens, width 192, 4 layers, 4,096 positions),
in float32, with a ChatML template. It follows short instructions on strings and knows nothing else: it is a base
on which a fine-tune can be seen to work within a minute, not a model for use.

Made from scratch by `scripts/make_tiny_model.py` ({steps} steps, seed {seed}); all its training text is generated
by that script. Licence: MIT.

Exact match, greedy, on fresh samples (200 each):

| skill | exact match |
|---|---|
{table}
"""
TOKENS_PER_STEP = 2048
MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
          "November", "December"]  # fmt: skip
PRINTABLE = "".join(map(chr, range(32, 127)))
WIDE = "àâäçéèêëîïñôöùûüß€£§°±×中文日本語你好世界数据模型学习한국어приветмир😀🚀🎉👍"
ALPHABETS = [string.ascii_lowercase] * 3 + [string.ascii_letters, string.digits, string.digits + "-",
             string.ascii_letters + string.digits, string.ascii_lowercase + " ", PRINTABLE, PRINTABLE]  # fmt: skip
Skill = Callable[[random.Random], tuple[str, str]]


def text(rng: random.Random, low: int, high: int, alphabet: str = "") -> str:
    """A random string; without leading or trailing blanks, which an instruction would hide."""
    alphabet = alphabet or rng.choice(ALPHABETS)
    return "".join(rng.choices(alphabet, k=rng.randint(low, high))).strip() or rng.choice(string.ascii_lowercase)


def words(rng: random.Random, low: int, high: int) -> list[str]:
    """A few short fields, all letters or all numbers or mixed."""
    alphabet = rng.choice([string.ascii_lowercase, string.digits, string.ascii_letters + string.digits])
    return [text(rng, 1, 5, alphabet) for _ in range(rng.randint(low, high))]


def ask(rng: random.Random, value: str, *wordings: str) -> str:
    """The instruction in one of its wordings, with the value on the same line or on the next."""
    return rng.choice(wordings) + rng.choice([": ", ":\n", "\n"]) + value


def copy(rng: random.Random) -> tuple[str, str]:
    wide = rng.random() < 0.1
    value = text(rng, 2, 200 if not wide and rng.random() < 0.04 else 24, WIDE if wide else "")
    return ask(rng, value, "Copy", "Copy this text", "Repeat exactly", "Say the same", "Echo"), value


def reverse(rng: random.Random) -> tuple[str, str]:
    value = text(rng, 2, 10)
    return ask(rng, value, "Reverse", "Write backwards", "Spell this from the end", "Mirror the string"), value[::-1]


def upper(rng: random.Random) -> tuple[str, str]:
    value = text(rng, 2, 16)
    return ask(rng, value, "Upper-case", "Make it upper case", "Write in capitals", "In big letters"), value.upper()


def lower(rng: random.Random) -> tuple[str, str]:
    value = text(rng, 2, 16, rng.choice([string.ascii_uppercase, string.ascii_letters, PRINTABLE]))
    return ask(rng, value, "Lower-case", "Make it lower case", "Write in small letters", "No capitals"), value.lower()


def month_number(rng: random.Random) -> tuple[str, str]:
    number = rng.randint(1, 12)
    name = MONTHS[number - 1][: rng.choice([3, None])]
    forms = ("What number is the month {}?", "Give the number of {}.", "{} is which month of the year?")
    return rng.choice(forms).format(name), str(number)


def month_name(rng: random.Random) -> tuple[str, str]:
    number = rng.randint(1, 12)
    forms = ("What is the name of month {}?", "Name month number {}.", "Which month is number {}?")
    return rng.choice(forms).format(number), MONTHS[number - 1]


def pad(rng: random.Random) -> tuple[str, str]:
    value, width = text(rng, 1, 5, string.digits), rng.randint(2, 6)
    forms = (f"Pad with zeros to {width} digits", f"Zero-fill to width {width}", f"Write with {width} digits")
    return ask(rng, value, *forms), value.zfill(width)


def pick(rng: random.Random) -> tuple[str, str]:
    fields, mark = words(rng, 2, 5), rng.choice(" ,-/:;|._")
    index = rng.randrange(len(fields))
    ordinal = ["first", "second", "third", "fourth", "fifth"][index]
    forms = (f"Give field {index + 1}", f"Pick the {ordinal} part", f"Take the {ordinal} field", f"Part {index + 1} of")
    return ask(rng, mark.join(fields), *forms), fields[index]


def replace(rng: random.Random) -> tuple[str, str]:
    value, new = text(rng, 3, 12), rng.choice(PRINTABLE[1:])
    old = rng.choice(value.replace(" ", "") or "a")
    forms = (f"Replace {old} with {new}", f"Change every {old} to {new}", f"Swap {old} for {new}")
    return ask(rng, value, *forms), value.replace(old, new)


def join(rng: random.Random) -> tuple[str, str]:
    parts, mark = words(rng, 2, 5), rng.choice(string.punctuation)
    forms = (f"Join with {mark}", f"Connect the words by {mark}", f"Put {mark} between the words")
    return ask(rng, " ".join(parts), *forms), mark.join(parts)


def split(rng: random.Random) -> tuple[str, str]:
    parts, mark = words(rng, 2, 5), rng.choice(",-/:;|._+")
    blank, name = rng.choice([(" ", "spaces"), ("\n", "lines"), (", ", "a list")])
    return ask(rng, mark.join(parts), f"Split at {mark} into {name}", f"Cut at {mark}, give {name}"), blank.join(parts)


def turn(rng: random.Random) -> tuple[str, str]:
    parts, mark = words(rng, 2, 4), rng.choice(" ,-/:.")
    value, answer = mark.join(parts), mark.join(parts[::-1])
    return ask(rng, value, "Reverse the order of the parts", "Parts from last to first", "Turn the fields"), answer


def sort(rng: random.Random) -> tuple[str, str]:
    alphabet = rng.choice([string.ascii_lowercase, string.digits])
    value = "".join(rng.sample(alphabet, rng.randint(2, 6)))
    return ask(rng, value, "Sort the letters", "Sort", "Put the characters in order"), "".join(sorted(value))


def repeat(rng: random.Random) -> tuple[str, str]:
    value, times = text(rng, 1, 5), rng.randint(2, 4)
    forms = (f"Write it {times} times", f"Repeat {times} times", f"Say {times} times")
    return ask(rng, value, *forms), value * times


def wrap(rng: random.Random) -> tuple[str, str]:
    value = text(rng, 1, 12)
    kinds = [("(", ")", "parentheses"), ("[", "]", "brackets"), ("{", "}", "braces"), ("<", ">", "angle brackets"),
             ('"', '"', "quotes"), ("*", "*", "stars")]  # fmt: skip
    left, right, name = rng.choice(kinds)
    return ask(rng, value, f"Put in {name}", f"Wrap in {name}", f"Add {name} around"), left + value + right


def pairs(rng: random.Random) -> tuple[str, str]:
    rows = [(text(rng, 1, 5, string.ascii_lowercase), rng.randint(0, 2000)) for _ in range(rng.randint(1, 3))]
    value = ", ".join(f"{key} {number}" for key, number in rows)
    if rng.random() < 0.5:
        answer = "{" + ", ".join(f'"{key}": {number}' for key, number in rows) + "}"
        return ask(rng, value, "Write as JSON", "Give a JSON object", "To JSON"), answer
    answer = "; ".join(f"{key}={number}" for key, number in rows)
    return ask(rng, value, "Write as key=value", "Give assignments", "As settings"), answer


def digits(rng: random.Random) -> tuple[str, str]:
    value = text(rng, 3, 12, string.digits * 2 + string.ascii_lowercase + "-/ .")
    answer = "".join(filter(str.isdigit, value)) or "none"
    return ask(rng, value, "Keep only the digits", "Only digits", "Drop all but digits"), answer


def ends(rng: random.Random) -> tuple[str, str]:
    value, count = text(rng, 5, 14, rng.choice(ALPHABETS).replace(" ", "")), rng.randint(1, 4)
    if rng.random() < 0.5:
        return ask(rng, value, f"First {count} characters", f"Start, {count} long"), value[:count]
    return ask(rng, value, f"Last {count} characters", f"End, {count} long"), value[-count:]


def contains(rng: random.Random) -> tuple[str, str]:
    value, mark = text(rng, 3, 8, string.ascii_lowercase), rng.choice(string.ascii_lowercase)
    mark = rng.choice(value) if rng.random() < 0.5 else mark
    return ask(rng, value, f"Does it contain {mark}?", f"Is there a {mark}?"), "yes" if mark in value else "no"


SKILLS: list[Skill] = [copy, reverse, upper, lower, month_number, month_name, pad, pick, replace, join, split, turn,
                       sort, repeat, wrap, pairs, digits, ends, contains]  # fmt: skip


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
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=260, hidden_size=192, intermediate_size=512, num_hidden_layers=4, num_attention_heads=6,
        num_key_value_heads=6, max_position_embeddings=4096, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=IM_END, pad_token_id=PAD, initializer_range=0.07,
    ))  # fmt: skip
    with torch.no_grad():
        # A part common to all tokens lets heads attend by position alone from the start: copying is learnt far sooner.
        model.model.embed_tokens.weight.add_(torch.randn(192) * 0.07)
    return model


def prompt_ids(question: str) -> list[int]:
    """What the chat template and the tokenizer give for one user message, without their cost (main checks it)."""
    return [IM_START, *b"user\n", *question.encode(), IM_END, *b"\n", IM_START, *b"assistant\n"]


def batches(rng: random.Random, width: int) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Ids, labels (answers and their end only) and positions (from 0 in each conversation) of rows of `width`."""
    spare: tuple[list[int], list[int]] | None = None
    while True:
        ids = torch.full((TOKENS_PER_STEP // width, width), PAD)
        labels, positions = torch.full_like(ids, -100), torch.arange(width).repeat(len(ids), 1)
        for row in range(len(ids)):
            start = 0
            while True:
                if spare is None:
                    question, answer = rng.choice(SKILLS)(rng)
                    spare = prompt_ids(question), [*answer.encode(), IM_END]
                ask_ids, answer_ids = spare
                end = start + len(ask_ids) + len(answer_ids) + 1
                positions[row, start:] = torch.arange(width - start)
                if end > width:
                    break
                ids[row, start:end] = torch.tensor([*ask_ids, *answer_ids, *b"\n"])
                labels[row, end - 1 - len(answer_ids) : end - 1] = torch.tensor(answer_ids)
                start, spare = end, None
        yield ids, labels, positions


def train(model: LlamaForCausalLM, steps: int, seed: int, peak: float = 2e-3) -> None:
    rng = random.Random(seed)
    short, long = batches(rng, 512), batches(rng, 1024)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.98))
    began, total = time.time(), 0.0
    model.train()
    for step in range(steps):
        packed = step >= steps * 3 // 4
        ids, labels, positions = next(long if packed else short)
        # Positions that start again tell transformers to keep the conversations of a row apart.
        logits = model(input_ids=ids, position_ids=None if packed else positions, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        rate = min((step + 1) / 100, 0.5 + 0.5 * math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = peak * rate
        optimizer.step()
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


def check_prompt(tokenizer: PreTrainedTokenizerFast) -> None:
    """The training prompts must be what users of the folder get, and text must come back byte for byte."""
    question = "Copy: 中文 😀 naïve"
    turn_ = [{"role": "user", "content": question}]
    made = tokenizer.apply_chat_template(turn_, add_generation_prompt=True, return_dict=False)
    if made != prompt_ids(question) or tokenizer.decode(list(question.encode())) != question:
        raise SystemExit("the tokenizer and prompt_ids disagree")


def date_cases(path: Path) -> list[tuple[str, str]]:
    """The task the base must not know."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[:200]]
    return [("\n".join(filter(None, [row["instruction"], row["input"]])), row["output"]) for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3600)
    parser.add_argument("--output", type=Path, default=ROOT / "src/sft_runner/embedded/tiny")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    tokenizer, model = make_tokenizer(), make_model()
    check_prompt(tokenizer)
    train(model, options.steps, options.seed)

    model.generation_config = GenerationConfig(eos_token_id=IM_END, pad_token_id=PAD)
    model.save_pretrained(options.output)
    tokenizer.save_pretrained(options.output)
    scores = {}
    rng = random.Random(options.seed + 1)
    for skill in SKILLS:
        scores[skill.__name__] = exact_match(model, [skill(rng) for _ in range(200)])
        print(f"{skill.__name__:14} {scores[skill.__name__]:.3f}", flush=True)
    dates = ROOT / "src/sft_runner/embedded/dates.jsonl"
    if dates.exists():
        scores["dates as ISO (never taught)"] = exact_match(model, date_cases(dates))
    table = "\n".join(f"| {name} | {score:.1%} |" for name, score in scores.items())
    (options.output / "README.md").write_text(README.format(steps=options.steps, seed=options.seed, table=table))
    print(table)


if __name__ == "__main__":
    main()
