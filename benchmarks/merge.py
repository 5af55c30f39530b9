"""How long a merge takes against a copy of the same folder, and how much memory; bare PEFT and LLaMA-Factory beside it.

    python -m benchmarks.merge [--shape 1.5b] [--dora] [--peers ../shared/peers] [--work DIR]

The base is random, in bfloat16 and in shards of 500 MB, the adapter of rank 16 on all linear layers. Copy and merge
take turns, each in a fresh process. Each begins with the base's files thrown out of the page cache (`posix_fadvise`),
or with all of them in it (`--warm`), and ends when its bytes are on the disk. The merge's clock begins after the
imports, its memory is what is above them; "process" is all of it, which is how the peers are measured. Other work on
the machine disturbs seconds more than CPU seconds. LLaMA-Factory needs the environment variable PEERS. The last line
says how many times a copy's time the merge takes.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.large_model import SHAPES, make_adapter, make_model

ROOT = Path(__file__).parents[1]
OURS, COPY = "sft_runner", "cp -r"
SETTLE = 15
"""Seconds of rest before each measurement. A virtual machine gives memory that was freed back to its host, and to touch
it again costs as much as a copy: whoever begins at once after the other finds it still there, and would win by that."""


@dataclass(frozen=True)
class Measured:
    """One run."""

    seconds: float
    """Until all bytes were on the disk; for this project without its imports."""
    process: float
    """Of the whole process."""
    cpu_seconds: float
    """CPU time of all threads and of the kernel; for this project without its imports."""
    memory: int
    """Peak in bytes; for this project what is above the interpreter after its imports."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="1.5b", help="how large a model")
    parser.add_argument("--shard", type=int, default=500, help="MB of a file")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of copy and merge, in turns")
    parser.add_argument("--peer-rounds", type=int, default=1, help="measurements of each peer")
    parser.add_argument("--dora", action="store_true", help="an adapter with DoRA")
    parser.add_argument("--warm", action="store_true", help="begin with the base in the page cache")
    parser.add_argument(
        "--peers", type=Path, default=ROOT.parent / "shared/peers", help="folder with the peers' scripts"
    )
    parser.add_argument(
        "--work", type=Path, help="folder on the disk that is measured; else the one for temporary files"
    )
    parser.add_argument("--merge", type=Path, nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.merge:
        _merge(*asked.merge)
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # so that what it has written goes
    with tempfile.TemporaryDirectory(dir=asked.work) as name:
        work = Path(name)
        base = make_model(asked.shape, work / "base", asked.shard * 1_000_000)
        adapter = make_adapter(base, work / "adapter", use_dora=asked.dora)
        size = sum(path.stat().st_size for path in base.iterdir())
        state = "in the page cache" if asked.warm else "not in the page cache"
        cores = len(os.sched_getaffinity(0))
        print(f"{platform.machine()}, {cores} cores; {size / 1e9:.2f} GB in {len(list(base.glob('*.safetensors')))} "
              f"files, at the beginning {state}", flush=True)  # fmt: skip
        print(f"{'':<14} {'s':>7} {'GB/s':>6} {'CPU s':>7} {'process s':>10} {'memory MB':>10}")
        ways = {COPY: [["cp", "-r", str(base), "OUT"]], OURS: [[sys.executable, "-m", "benchmarks.merge", "--merge",
                str(base), str(adapter), "OUT"]]}  # fmt: skip
        measured: dict[str, list[Measured]] = {way: [] for way in ways}
        for number in range(asked.rounds):
            for way in sorted(ways, reverse=bool(number % 2)):
                measured[way].append(_measure(ways[way][0], base, adapter, work / "out", asked.warm))
                print(_line(way, measured[way][-1], size), flush=True)
        for way, command in _peers(asked.peers, base, adapter, work).items():
            measured[way] = []
            for _ in range(asked.peer_rounds):
                measured[way].append(_measure(command, base, adapter, work / "out", asked.warm))
                print(_line(way, measured[way][-1], size), flush=True)
    _ratios(measured)


def _measure(command: list[str], base: Path, adapter: Path, out: Path, warm: bool) -> Measured:
    """Run a command that writes `OUT` in a fresh process."""
    shutil.rmtree(out, ignore_errors=True)
    os.sync()
    for path in (*base.iterdir(), *adapter.iterdir()):
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED if warm else os.POSIX_FADV_DONTNEED)
            while warm and file.read(1 << 24):
                pass
    ours = "--merge" in command  # which rests behind its imports
    time.sleep(0 if ours else SETTLE)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    start = time.perf_counter()
    process = subprocess.Popen(
        [str(out) if part == "OUT" else part for part in command],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    for path in out.rglob("*"):
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
    seconds = time.perf_counter() - start
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{said}")
    shutil.rmtree(out)
    last = said.strip().splitlines()[-1] if said.strip() else ""
    if last.startswith('{"seconds"'):
        own = json.loads(last)
        return Measured(own["seconds"], seconds - SETTLE, own["cpu_seconds"], own["memory"])
    return Measured(seconds, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def _merge(base: Path, adapter: Path, out: Path) -> None:
    """This project's merge; what it took goes to the output as JSON."""
    import peft  # noqa: F401
    import torch  # noqa: F401
    import transformers  # noqa: F401

    from sft_runner.merging import stream

    time.sleep(SETTLE)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, start, cpu = _memory("VmRSS"), time.perf_counter(), time.process_time()
    change = stream.merge(base, adapter, out)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    assert change.how == "stream", change
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu, "memory": _memory("VmHWM") - before}))


def _memory(name: str) -> int:
    """A figure of this process in bytes, as Linux counts it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024


def _peers(folder: Path, base: Path, adapter: Path, work: Path) -> dict[str, list[str]]:
    """The commands of the peers that are here; says which are not."""
    found = {}
    if (script := folder / "peft_merge.py").is_file():
        found["PEFT"] = [sys.executable, str(script.resolve()), str(base), str(adapter), "OUT"]
    if (script := folder / "llamafactory.sh").is_file() and os.environ.get("PEERS"):
        settings = {
            "model_name_or_path": str(base), "adapter_name_or_path": str(adapter), "template": "qwen",
            "export_dir": str(work / "out"), "export_device": "cpu", "export_size": 1, "trust_remote_code": False,
        }  # fmt: skip
        (work / "export.yaml").write_text(json.dumps(settings))  # JSON is YAML
        found["LLaMA-Factory"] = ["bash", str(script.resolve()), "export", str(work / "export.yaml")]
    for name in ("PEFT", "LLaMA-Factory"):
        if name not in found:
            print(f"{name} is not here, so it is not measured", flush=True)
    return found


def _line(way: str, found: Measured, size: int) -> str:
    rate = size / 1e9 / found.seconds
    memory = "" if way == COPY else f"{found.memory / 1e6:10,.0f}"
    return f"{way:<14} {found.seconds:7.2f} {rate:6.2f} {found.cpu_seconds:7.2f} {found.process:10.2f} {memory}"


def _ratios(measured: dict[str, list[Measured]]) -> None:
    median = {way: statistics.median(one.seconds for one in runs) for way, runs in measured.items()}
    cpu = {way: statistics.median(one.cpu_seconds for one in runs) for way, runs in measured.items()}
    whole = {way: statistics.median(one.process for one in runs) for way, runs in measured.items()}
    memory = max(one.memory for one in measured[OURS])
    print()
    for way in sorted(median.keys() - {OURS, COPY}):
        print(f"{way} / {OURS} = {whole[way] / whole[OURS]:.2f}, of whole processes")
    print(f"{OURS} needs {memory / 1e6:,.0f} MB above the interpreter after its imports")
    print(f"{OURS} / {COPY} = {cpu[OURS] / cpu[COPY]:.2f} in CPU seconds")
    print(f"{OURS} / {COPY} = {whole[OURS] / whole[COPY]:.2f} with the start of Python and all imports")
    print(f"{OURS} / {COPY} = {median[OURS] / median[COPY]:.2f}, medians of {len(measured[OURS])}")


if __name__ == "__main__":
    main()
