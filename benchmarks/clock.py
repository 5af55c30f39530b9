"""What `Trainer.train` takes, whoever calls it; needs nothing but transformers.

As a script it is LLaMA-Factory's command with this clock running, for the interpreter of its environment:

    python benchmarks/clock.py MEASURED.json train CONFIG.yaml
"""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any


def watch(target: Path) -> None:
    """From now on `Trainer.train` writes what it took to `target`, as JSON.

    `seconds` and `cpu_seconds` (of all threads), `steps`, `loss` (the mean of all steps), and `device_memory`,
    the most bytes that the card held, 0 without one.
    """
    from transformers import Trainer

    train = Trainer.train

    def timed(self: Any, *arguments: Any, **named: Any) -> Any:
        import torch

        on_card = torch.cuda.is_available() and self.args.device.type == "cuda"
        if on_card:
            torch.cuda.reset_peak_memory_stats()
        seconds, cpu_seconds = time.perf_counter(), time.process_time()
        found = train(self, *arguments, **named)
        if on_card:
            torch.cuda.synchronize()
        measured = {
            "seconds": time.perf_counter() - seconds,
            "cpu_seconds": time.process_time() - cpu_seconds,
            "steps": self.state.global_step,
            "loss": found.training_loss,
            "device_memory": torch.cuda.max_memory_allocated() if on_card else 0,
        }
        target.write_text(json.dumps(measured))
        return found

    Trainer.train = timed


def peak_memory() -> int:
    """The most bytes of this machine that the process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    measured, *sys.argv[1:] = sys.argv[1:]
    sys.path.pop(0)  # this folder; its modules are not LLaMA-Factory's
    watch(Path(measured))
    from llamafactory.cli import main  # type: ignore[import-not-found]

    main()
