"""`sft-runner verify` on a run that really happened: whole as it is left, and no byte of it can change unseen."""

from pathlib import Path

import pytest

from command import SMALL, sft
from light_runs import files, of
from sft_runner.review.verify import Verified, verify
from sft_runner.review.verify.finding import DAMAGE


def damaged(found: Verified) -> set[str]:
    return {Path(finding.place).name for finding in found.of(DAMAGE)}


def test_a_finished_run_is_whole(small: Path) -> None:
    ended = sft("verify", "quickstart", cwd=small)
    assert ended.code == 0, ended.said
    assert ended.out.splitlines()[-1].startswith("whole: ")
    assert not ended.err
    found = verify(of(small))
    assert [part.name for part in found.parts[-3:]] == ["run", "data", "base model"]
    assert all(part.state == "whole" and part.files for part in found.parts)
    count = sum(part.files for part in found.parts[:-2])
    assert count == len(list(files(small))) - 1, "each once, but for the run's seal, which is only read"


def test_it_stays_whole_with_a_report_a_cached_command_and_elsewhere(copied: Path) -> None:
    assert sft("report", "quickstart", cwd=copied).code == 0
    again = sft(*SMALL, cwd=copied)
    assert again.code == 0, again.said
    assert not verify(of(copied)).of(DAMAGE)
    (copied / "outputs").rename(copied / "kept")
    ended = sft("verify", "quickstart", "--output-dir", "kept", cwd=copied)
    assert ended.code == 0
    assert ended.out.splitlines()[-1].startswith("whole: ")


def test_a_damaged_weight_ends_it_with_one(copied: Path) -> None:
    (path,) = (copied / "outputs" / "stages" / "merge").glob("*/model/model.safetensors")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    ended = sft("verify", "quickstart", cwd=copied)
    assert ended.code == 1
    first, second = ended.out.splitlines()[1:3]
    assert first == f"damaged: {path.relative_to(copied)}: other bytes than were written"
    assert second.startswith(f"  expected {len(content)} bytes, sha256 ")
    assert "'force=[merge]'   makes it anew" in ended.out
    assert ended.out.splitlines()[-1].startswith("DAMAGED: 1 place; ")


@pytest.mark.slow
def test_one_flipped_byte_is_found_in_every_file(copied: Path) -> None:
    for path in list(files(copied)):
        content = path.read_bytes()
        for place in {0, len(content) // 2, len(content) - 1} if content else ():
            changed = bytearray(content)
            changed[place] ^= 1
            path.write_bytes(changed)
            assert damaged(verify(of(copied))) == {path.name}, (path, place)
        path.write_bytes(content)
    assert not verify(of(copied)).of(DAMAGE)
