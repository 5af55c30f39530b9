"""The model card: what the hub and a person must know of a tuned model, from what was measured.

The same run gives the same bytes.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sft_runner.disk import explained
from sft_runner.evaluation import names
from sft_runner.exporting.licence import Licence
from sft_runner.exporting.record import Record

README = "README.md"


def write(target: Path, record: Record, licence: Licence, adapter: bool = False) -> None:
    """Write `README.md` into `target`: of the adapter, or of the whole model."""
    with explained(target / README):
        (target / README).write_text(text(record, licence, adapter), encoding="utf-8")


def text(record: Record, licence: Licence, adapter: bool = False) -> str:
    """The card."""
    parts = [
        _front(record, licence, adapter),
        *_title(record, adapter),
        *_use(record, adapter),
        *_scores(record.metrics.get("evaluate", {})),
        *_data(record),
        *_recipe(record),
        *_proofs(record),
        *_terms(licence),
    ]
    return "\n".join(parts).rstrip() + "\n"


def _front(record: Record, licence: Licence, adapter: bool) -> str:
    """The hub's metadata."""
    import yaml

    method = "full" if record.settings.get("adapter") == "none" else "lora"
    values: dict[str, Any] = dict(licence.metadata())
    if record.hub:
        values |= {"base_model": record.base, "base_model_relation": "adapter" if adapter else "finetune"}
    public = [hub for one in record.datasets if (hub := _hub(str(one.get("name"))))]
    if public:
        values["datasets"] = list(dict.fromkeys(public))
    values |= {
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["sft", method, "sft-runner"],
    }
    return "---\n" + yaml.safe_dump(values, sort_keys=False, allow_unicode=True) + "---\n"


def _hub(name: str) -> str:
    """The hub's id of a data set that is read from there; else empty."""
    if not name.startswith("hf://"):
        return ""
    parts = name.removeprefix("hf://").removeprefix("datasets/").split("/")
    return "/".join(part.partition("@")[0] for part in parts[:2]) if len(parts) > 1 else ""


def _title(record: Record, adapter: bool) -> Iterator[str]:
    base = f"[{record.base}](https://huggingface.co/{record.base})" if record.hub else f"`{record.base}`"
    at = f" (commit `{record.commit[:12]}`)" if record.commit else ""
    yield f"# {record.name}\n"
    if record.settings.get("adapter") == "none":
        yield f"{base}{at}, trained as a whole on the data below.\n"
    elif adapter:
        yield f"A LoRA adapter for {base}{at}, in PEFT's format.\n"
    else:
        yield f"{base}{at} with a LoRA adapter merged into its weights.\n"
    yield "Made with sft_runner, which wrote this card from what it measured.\n"
    for note in record.notes:
        yield f"- {note}"
    if record.notes:
        yield ""


def _use(record: Record, adapter: bool) -> Iterator[str]:
    yield "## How to use it\n"
    load = 'AutoModelForCausalLM.from_pretrained("PATH", dtype="auto")'
    if adapter:
        yield "```python\nfrom peft import AutoPeftModelForCausalLM\nfrom transformers import AutoTokenizer\n"
        load = 'AutoPeftModelForCausalLM.from_pretrained("PATH", dtype="auto")'
    else:
        yield "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n"
    yield f'tokenizer = AutoTokenizer.from_pretrained("PATH")\nmodel = {load}'
    yield 'chat = [{"role": "user", "content": "..."}]'
    yield 'ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)'
    yield "answer = model.generate(**ids, max_new_tokens=256)"
    yield 'print(tokenizer.decode(answer[0, ids["input_ids"].shape[1] :], skip_special_tokens=True))\n```\n'
    if adapter and not record.hub:
        yield f"Its base is not on the hub: set `base_model_name_or_path` in adapter_config.json to `{record.base}`'s"
        yield "folder on your machine first, and put it for BASE below.\n"
    if adapter:
        base = record.base if record.hub else "BASE"
        yield f"vLLM: `vllm serve {base} --enable-lora --lora-modules {record.name}=PATH`  "
        yield f"sft_runner: `python -m sft_runner model.name={base} train.continue_from=PATH ...`\n"
    else:
        yield "vLLM: `vllm serve PATH`  \nsft_runner: `python -m sft_runner model.name=PATH ...` trains it further.\n"
    yield "The chat template in this folder is the one that it was trained with; other prompts give worse answers.\n"


def _scores(scores: Mapping[str, Any]) -> Iterator[str]:
    if "tuned" not in scores:
        return
    yield "## Scores\n"
    yield "On rows that were kept away from training; base and tuned model answered the same ones.\n"
    intervals = scores.get("intervals", {})
    base, tuned, gain = (scores.get(side, {}) for side in ("base", "tuned", "gain"))
    yield from _table(base, tuned, gain, intervals)
    for kind, title in (("sets", "Other rows"), ("by", "By group")):
        for name, tuned in scores["tuned"].get(kind, {}).items():
            yield f"{title}: **{name}**\n"
            base, gain = (scores.get(side, {}).get(kind, {}).get(name, {}) for side in ("base", "gain"))
            yield from _table(base, tuned, gain, intervals.get(kind, {}).get(name, {}))
    for task, tuned in scores["tuned"].get("benchmarks", {}).items():
        yield f"Benchmark: **{task}**\n"
        base, gain = (scores.get(side, {}).get("benchmarks", {}).get(task, {}) for side in ("base", "gain"))
        yield from _table(base, tuned, gain, {})


def _table(
    base: Mapping[str, Any], tuned: Mapping[str, Any], gain: Mapping[str, Any], intervals: Mapping[str, Any]
) -> Iterator[str]:
    """Base, tuned and gain side by side."""
    rows = ", ".join(f"{tuned[name]:,} {name}" for name in names.COUNTS if isinstance(tuned.get(name), int))
    yield "| metric | base | tuned | gain | 95 % interval of the gain |\n| --- | ---: | ---: | ---: | ---: |"
    for name, value in tuned.items():
        if name in names.COUNTS or isinstance(value, bool) or not isinstance(value, int | float):
            continue
        shown = [_number(name, side.get(name)) for side in (base, tuned, gain)]
        between = intervals.get(name, {}).get("gain") or {}
        ends = [_number(name, between.get(end)) for end in ("low", "high")]
        yield f"| {name} | {' | '.join(shown)} | {' to '.join(ends) if all(ends) else ''} |"
    yield f"\n{rows}\n" if rows else ""


def _number(name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    return f"{value:.1%}" if names.is_share(name) else f"{value:.4g}"


def _data(record: Record) -> Iterator[str]:
    metrics = record.metrics.get("prepare", {})
    rows, tokens = metrics.get("rows", {}), metrics.get("tokens", {})
    if not rows:
        return
    yield "## Data\n"
    for one in record.datasets:
        yield f"- {one['name']}: {one['rows']:,} rows learned (sha256 begins `{str(one['digest'])[:16]}`)"
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in rows.get("dropped", {}).items() if count)
    yield f"- read {rows['read']:,}, learned from {rows['train']:,}, held out {rows['held_out']:,}"
    yield f"- dropped: {dropped or 'none'}"
    if "trained" in tokens:
        yield f"- {tokens['trained']:,} trained tokens of {tokens['train']:,}"
    yield ""


def _recipe(record: Record) -> Iterator[str]:
    import yaml

    train = record.metrics.get("train", {})
    yield "## Recipe\n"
    if "steps" in train:
        yield f"{train['steps']:,} optimizer steps, final loss {train['loss']:.4f}. Every setting it depends on:\n"
    yield f"```yaml\n{yaml.safe_dump(record.settings, sort_keys=True, allow_unicode=True)}```\n"
    yield "Trained with " + ", ".join(f"{name} {version}" for name, version in record.versions.items()) + ".\n"


def _proofs(record: Record) -> Iterator[str]:
    proof = record.metrics.get("merge", {})
    difference = proof.get("difference", {})
    if not difference:
        return
    yield "## Proofs\n"
    told = [f"largest difference of logits {difference['max']:.2e}"]
    told += [f"KL divergence {difference['kl']:.2e}"] if "kl" in difference else []
    told += [f"equal greedy tokens {difference['equal_greedy']:.1%}"] if "equal_greedy" in difference else []
    yield f"- The merged model, read back from disk, beside the trained one: {', '.join(told)}."
    if proof.get("prompts_checked"):
        yield f"- Its template writes the token ids of training ({proof['prompts_checked']:,} rows checked)."
    if record.settings.get("quantization", {}).get("bits", "none") != "none" and proof.get("base"):
        yield f"- Training saw a quantized base; the adapter was merged into the {proof['base']} weights."
    yield ""


def _terms(licence: Licence) -> Iterator[str]:
    yield "## Licence\n"
    if licence.license == "unknown":
        yield "The base model's folder named no licence; ask its maker before you pass this model on."
    else:
        yield f"That of the base model: {licence.license_name or licence.license}. Its licence files, where it has"
        yield "any, lie in this folder and go along with the weights."
