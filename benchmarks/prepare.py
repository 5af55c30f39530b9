"""How long `prepare` takes beside tokenizing the same strings in two plain batch calls, and beside TRL's preparation.

    python -m benchmarks.prepare [--data DIR] [--copies 10] [--rounds 3] [--memory] [--trl] [--llamafactory CLI]

The rows are GSM8K's training rows, each copy made different by a prefix; the tokenizer is a byte-level BPE of 32,000
entries trained on the texts in the data folder. `--memory` prepares ten times the rows too and compares the peaks of
memory that belongs to the processes (anonymous pages; the files that are mapped can be dropped at any time). `--trl`
lets TRL's `SFTTrainer` prepare the same rows, `--llamafactory` LLaMA-Factory's command, whose time includes its start
and one step. "two bare calls" are the same two calls of the Rust tokenizer without what transformers makes of their
result. All are measured in one run, in turns; the last line is the ratio.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.base import make_base

ROOT = Path(__file__).parents[1]
VOCABULARY = 32_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data", help="folder with gsm8k_train.jsonl")
    parser.add_argument("--copies", type=int, default=10, help="copies of the rows")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each, in turns")
    parser.add_argument("--memory", action="store_true", help="compare the peak of memory at ten times the rows")
    parser.add_argument("--trl", action="store_true", help="measure TRL's preparation too")
    parser.add_argument("--llamafactory", type=Path, help="measure that `llamafactory-cli` too")
    asked = parser.parse_args()
    if not (asked.data / "gsm8k_train.jsonl").is_file():
        sys.exit(f"{asked.data / 'gsm8k_train.jsonl'} is not there: name its folder with --data")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        model = make_base(asked.data, work / "model", VOCABULARY)
        rows = _rows(asked.data, work / "rows.jsonl", asked.copies)
        measured: dict[str, list[dict[str, float]]] = {}
        ways: dict[str, Callable[..., dict[str, float]]] = {
            "two batch calls": _tokenize,
            "two bare calls": _tokenize_bare,
            "prepare": _prepare,
        }
        if asked.trl:
            ways["TRL"] = _trl
        if asked.llamafactory:
            ways["LLaMA-Factory"] = partial(_llamafactory, asked.llamafactory)
        for number in range(asked.rounds):
            for way, function in ways.items():
                if number and way in ("TRL", "LLaMA-Factory"):
                    continue  # one is enough to see it
                found = _apart(function, model, work / "rows.jsonl", work / "out")
                measured.setdefault(way, []).append(found)
                print(f"{way:<16} {found['seconds']:7.2f} s   peak {found['memory']:7.0f} MB", flush=True)
        floor = statistics.median(found["seconds"] for found in measured["two batch calls"])
        tokens = measured["prepare"][0]["tokens"]
        print(f"\n{rows:,} rows, {tokens:,.0f} tokens, {len(os.sched_getaffinity(0))} cores, median of {asked.rounds}")
        for way, several in measured.items():
            seconds = statistics.median(found["seconds"] for found in several)
            print(f"{way:<16} {seconds:7.2f} s   {seconds / floor:5.2f} x   {tokens / seconds:12,.0f} tokens/s")
        if asked.memory:
            _rows(asked.data, work / "many.jsonl", 10 * asked.copies)
            many = _apart(_prepare, model, work / "many.jsonl", work / "out")
            few = measured["prepare"][0]["memory"]
            print(f"peak memory: {few:.0f} MB, at ten times the rows {many['memory']:.0f} MB")
        ratio = statistics.median(found["seconds"] for found in measured["prepare"]) / floor
        print(f"prepare / two batch calls = {ratio:.2f}")


def _rows(data: Path, target: Path, copies: int) -> int:
    lines = [json.loads(line) for line in (data / "gsm8k_train.jsonl").read_text(encoding="utf-8").splitlines()]
    with open(target, "w", encoding="utf-8") as file:
        for copy in range(copies):
            for row in lines:
                file.write(json.dumps({**row, "question": f"{copy}. {row['question']}"}, ensure_ascii=False) + "\n")
    return copies * len(lines)


def _tokenize(model: Path, rows: Path, target: Path) -> dict[str, float]:
    """The floor: the prompts and the whole texts in one call each."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    prompts, texts = _strings(rows)
    began = time.perf_counter()
    tokenizer(prompts, add_special_tokens=False)
    found = tokenizer(texts, add_special_tokens=False)
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "tokens": sum(map(len, found["input_ids"]))}


def _tokenize_bare(model: Path, rows: Path, target: Path) -> dict[str, float]:
    """The same two calls, of the Rust tokenizer itself."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model).backend_tokenizer
    prompts, texts = _strings(rows)
    began = time.perf_counter()
    tokenizer.encode_batch_fast(prompts, add_special_tokens=False)
    found = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "tokens": sum(len(one.ids) for one in found)}


def _strings(rows: Path) -> tuple[list[str], list[str]]:
    """The prompts, and the whole texts."""
    prompts, texts = [], []
    with open(rows, encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            prompt = f"<|im_start|>user\n{row['question']}<|im_end|>\n<|im_start|>assistant\n"
            prompts.append(prompt)
            texts.append(f"{prompt}{row['answer']}<|im_end|>\n")
    return prompts, texts


def _prepare(model: Path, rows: Path, target: Path) -> dict[str, float]:
    """The stage itself, with its imports done as the warm worker has them."""
    import datasets  # noqa: F401
    import torch  # noqa: F401
    from transformers import AutoTokenizer, PreTrainedTokenizerFast  # noqa: F401

    from sft_runner import load
    from sft_runner.stages.prepare import Prepare

    config = load("hardware=cpu", f"model.name={model}", f"data.path={rows}", "data.max_length=2048").config
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    began = time.perf_counter()
    found = Prepare().execute(config, {}, target, lambda **_: None)
    seconds = time.perf_counter() - began
    shutil.rmtree(target)
    return {"seconds": seconds, "tokens": found.metrics["tokens"]["train"] + found.metrics["tokens"]["held_out"]}


def _trl(model: Path, rows: Path, target: Path) -> dict[str, float]:
    """What `SFTTrainer` does with the same rows before it trains."""
    from datasets import disable_progress_bars, load_dataset
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    disable_progress_bars()
    dataset = load_dataset("json", data_files=str(rows), split="train", cache_dir=str(target))
    network = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model))
    arguments = SFTConfig(
        str(target), max_length=2048, report_to="none", use_cpu=True, bf16=False,
        dataset_num_proc=len(os.sched_getaffinity(0)),
    )  # fmt: skip
    began = time.perf_counter()
    dataset = dataset.map(_as_messages, remove_columns=dataset.column_names, num_proc=len(os.sched_getaffinity(0)))
    trainer = SFTTrainer(
        network, arguments, train_dataset=dataset, processing_class=AutoTokenizer.from_pretrained(model)
    )
    return {"seconds": time.perf_counter() - began, "rows": len(trainer.train_dataset)}


def _llamafactory(command: Path, model: Path, rows: Path, target: Path) -> dict[str, float]:
    """A whole process of LLaMA-Factory: start, the same rows, one step."""
    work = target.with_name("llamafactory")
    work.mkdir(exist_ok=True)
    with open(rows, encoding="utf-8") as file:
        values = [json.loads(line) for line in file]
    alpaca = [{"instruction": row["question"], "input": "", "output": row["answer"]} for row in values]
    (work / "rows.json").write_text(json.dumps(alpaca))
    (work / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": "rows.json"}}))
    settings: dict[str, Any] = {
        "model_name_or_path": str(model), "template": "qwen", "stage": "sft", "do_train": True,
        "finetuning_type": "lora", "lora_rank": 8, "lora_target": "all", "dataset": "rows", "dataset_dir": str(work),
        "cutoff_len": 2048, "overwrite_cache": True, "preprocessing_num_workers": len(os.sched_getaffinity(0)),
        "output_dir": str(work / "out"), "overwrite_output_dir": True, "save_strategy": "no", "report_to": "none",
        "per_device_train_batch_size": 1, "max_steps": 1, "use_cpu": True, "fp16": False, "bf16": False,
    }  # fmt: skip
    (work / "train.yaml").write_text(json.dumps(settings))  # JSON is YAML
    began = time.perf_counter()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "DISABLE_VERSION_CHECK": "1", "HF_HOME": str(work / "cache")}
    ended = subprocess.run([str(command), "train", str(work / "train.yaml")], env=environment, capture_output=True)
    if ended.returncode:
        raise SystemExit(ended.stderr.decode()[-2000:])
    return {"seconds": time.perf_counter() - began}


def _as_messages(row: dict[str, str]) -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": row["question"]}],
        "completion": [{"role": "assistant", "content": row["answer"]}],
    }


def _apart(function: Callable[..., dict[str, float]], *arguments: Path) -> dict[str, float]:
    """Run in a process of its own, and watch the memory of it and its children."""
    receive, send = multiprocessing.get_context("spawn").Pipe(False)
    process = multiprocessing.get_context("spawn").Process(target=_child, args=(send, function, arguments))
    process.start()
    send.close()
    peak = [0.0]
    ended = threading.Event()

    def watch() -> None:
        import psutil

        root = psutil.Process(process.pid)
        while not ended.wait(0.1):
            total = 0
            for one in [root, *root.children(recursive=True)]:
                try:
                    text = Path(f"/proc/{one.pid}/smaps_rollup").read_text()
                except (OSError, psutil.Error):
                    continue
                total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss_Anon:"))
            peak[0] = max(peak[0], total / 1000)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        found: dict[str, float] = receive.recv()
    except EOFError:
        raise SystemExit("a measurement failed") from None
    finally:
        ended.set()
        thread.join()
        process.join()
    return {**found, "memory": peak[0]}


def _child(send: Any, function: Callable[..., dict[str, float]], arguments: tuple[Path, ...]) -> None:
    send.send(function(*arguments))


if __name__ == "__main__":
    main()
