"""`msctl sim` finds the shop's fault, replays it to the byte, and holds once it is mended."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from msctl.testing import simulate
from tests.support.cli import Msctl

MENDED = """            if any(paid["order"] == order["order"] for paid in app[PAID]):
                return
"""


@pytest.fixture
def shop(tmp_path: Path) -> Msctl:
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    Msctl(tmp_path, runtime, {}).ok("init", "shop", "--example", "shop")
    return Msctl(tmp_path / "shop", runtime, {})


def test_the_planted_fault_is_found_replayed_and_mended(shop: Msctl) -> None:
    found = shop.run("sim", "--seeds", "100")
    assert found.returncode == 1, found.stdout + found.stderr
    assert "happened more than once" in found.stdout
    assert len(re.findall(r"payments: receive payments", found.stdout)) == 2
    assert "not acknowledged: it is delivered again" in found.stdout
    assert re.search(r"faults \(\d of \d+ (is|are) enough\)", found.stdout)
    (seed,) = re.findall(r"replay: msctl sim .*--seed (\d+)", found.stdout)

    digests = set()
    for hashseed in ("0", "1", "2", "4294967295", "random"):
        again = shop.run("sim", "--seed", seed, "--json", env={"PYTHONHASHSEED": hashseed})
        assert again.returncode == 1
        document = json.loads(again.stdout)["data"]
        assert "more than once" in document["failure"]
        digests.add(document["digest"])
    assert len(digests) == 1

    file = shop.folder / "payments.py"
    text = file.read_text()
    file.write_text(text.replace("            app[PAID].append(", f"{MENDED}            app[PAID].append("))
    assert "everything held" in shop.ok("sim", "--seeds", "15")
    simulate(shop.folder, seeds=3)
    file.write_text(text)
    with pytest.raises(AssertionError, match="more than once"):
        simulate(shop.folder, seeds=100)


def test_without_a_scenario_every_route_is_asked(shop: Msctl) -> None:
    (shop.folder / "scenario.py").unlink()
    refused = shop.run("sim", "--seeds", "1")
    assert refused.returncode == 1
    assert "users" in refused.stderr
    for wrong in (["--faults", "rain"], ["--seeds", "0"], ["nowhere.py"]):
        assert shop.run("sim", *wrong).returncode in (1, 2)
    course = Msctl(shop.folder.parent, shop.runtime, {})
    assert "everything held" in course.ok("sim", "--seeds", "3")


def test_faults_are_named_and_a_mistyped_one_has_a_hint(shop: Msctl) -> None:
    assert "everything held" in shop.ok("sim", "--seeds", "2", "--faults", "none")
    crashed = shop.run("sim", "--seed", "2", "--faults", "reorder,broker-crash").stdout
    assert "the broker crashes" in crashed
    assert "the broker starts again" in crashed
    wrong = shop.run("sim", "--faults", "cut,broker-crsh")
    assert wrong.returncode == 2
    assert "'broker-crsh'" in wrong.stderr
    assert "did you mean 'broker-crash'?" in wrong.stderr
