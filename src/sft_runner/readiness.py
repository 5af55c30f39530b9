"""What must be on this machine before a plan runs: the card, the data, the base model."""

import os

from sft_runner import hardware
from sft_runner.data import files, sets
from sft_runner.errors import MachineError
from sft_runner.evaluation import engines, tasks
from sft_runner.exporting import requirements
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


def check_scoring(plan: Plan) -> None:
    """Raise `MachineError` where a package is missing with which a model is still to be scored."""
    if any(step.stage in ("baseline", "evaluate") and step.action != "cached" for step in plan.steps):
        engines.check(plan.run.config)
        tasks.check(plan.run.config)


def check_export(plan: Plan) -> None:
    """Raise `MachineError` where a package is missing with which a model is still to be exported."""
    if any(step.stage == "export" and step.action != "cached" for step in plan.steps):
        requirements.check(plan.run.config)


def with_data(plan: Plan) -> Plan:
    """The plan with all of its data on this machine; raises in one line where it cannot be had."""
    config = plan.run.config
    wanted = {"data": config.data, "sets": sets.as_data(config)}
    needed = {STAGES[step.stage].data for step in plan.steps if step.action != "cached"}
    absent = {kind: files.missing(data) for kind, data in wanted.items() if data and (kind == "data" or kind in needed)}
    if plan.cached or not any(absent.values()):
        return plan
    print(f"  fetching {', '.join(place for places in absent.values() for place in places)}", flush=True)
    for kind, places in absent.items():
        if places and (data := wanted[kind]):
            files.fetch(data)
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
