"""What must be on this machine before a plan runs: the card, the data, the base model."""

import os

from sft_runner import hardware
from sft_runner.data import files
from sft_runner.errors import MachineError
from sft_runner.model.files import fetch, locate
from sft_runner.planning import Plan
from sft_runner.planning import plan as make_plan
from sft_runner.stages import STAGES


def check_card(plan: Plan) -> None:
    """Raise `MachineError` where a stage that is still to run counts on a card that is not there."""
    machine = plan.run.config.hardware
    needed = [step.stage for step in plan.steps if step.action != "cached" and STAGES[step.stage].gpu]
    if needed and machine.memory_gb > 0 and not hardware.cards():
        seen = os.environ.get("CUDA_VISIBLE_DEVICES")
        hidden = "" if seen is None else f"; CUDA_VISIBLE_DEVICES={seen!r} leaves those that this process may use"
        raise MachineError(
            f"hardware={machine.name} needs an NVIDIA card for {', '.join(needed)}, and the driver shows none{hidden}",
            "use hardware=cpu or hardware=auto, or see nvidia-smi; dry_run=true plans for any machine",
        )


def with_data(plan: Plan) -> Plan:
    """The plan with all of its data on this machine; raises in one line where it cannot be had."""
    absent = files.missing(plan.run.config.data)
    if not absent or plan.cached:
        return plan
    print(f"  fetching {', '.join(absent)}", flush=True)
    files.fetch(plan.run.config.data)
    return make_plan(plan.asked or plan.run)  # its bytes are known now


def with_model(plan: Plan) -> Plan:
    """The plan with the base model on this machine; raises in one line where it cannot be had."""
    if all(step.action == "cached" or not STAGES[step.stage].model for step in plan.steps):
        return plan
    if locate(plan.run.config.model).folder is not None:
        return plan
    print(f"  fetching {plan.run.config.model.name}", flush=True)
    fetch(plan.run.config.model)
    return make_plan(plan.asked or plan.run)  # its commit is known now
