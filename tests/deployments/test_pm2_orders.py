"""The sandbox's orders to PM2: one process carries them out, and whatever ends it, the next order works."""

import json
import time
from pathlib import Path

import psutil
import pytest

from deployments.sandbox.applications import INVOICE
from deployments.sandbox.errors import SandboxError
from deployments.sandbox.pm2_orders import PROGRAM
from deployments.sandbox.stack import Sandbox


def carriers() -> list[psutil.Process]:
    """Who carries out orders of this process."""
    return [child for child in psutil.Process().children() if str(PROGRAM) in child.cmdline()]


def test_one_process_carries_out_all_orders_and_another_does_when_it_was_killed(sandbox: Sandbox) -> None:
    assert sandbox.pm2.statuses()[INVOICE] == ["online"]
    (first,) = carriers()
    assert sandbox.pm2.statuses()[INVOICE] == ["online"]
    assert carriers() == [first]
    first.kill()
    first.wait()
    assert sandbox.pm2.statuses()[INVOICE] == ["online"]
    (second,) = carriers()
    assert second != first


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (["restart", "nobody"], "not found"),
        (["start", "/nowhere/ecosystem.config.json"], "no such file"),
        (["save"], "is no order"),
    ],
)
def test_what_pm2_refuses_is_an_error_in_its_words_and_the_next_order_works(
    sandbox: Sandbox, order: list[str], words: str
) -> None:
    with pytest.raises(SandboxError, match=f"pm2 {order[0]} failed: .*{words}"):
        sandbox.pm2.run(*order)
    assert sandbox.pm2.statuses()[INVOICE] == ["online"]


def test_an_order_that_does_not_end_is_given_up_and_the_next_one_works(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.pm2.statuses()
    (carrier,) = carriers()
    carrier.suspend()
    monkeypatch.setattr("deployments.sandbox.pm2_orders.ORDER_SECONDS", 0.2)
    with pytest.raises(SandboxError, match=r"pm2 jlist did not finish in 0\.2 s\."):
        sandbox.pm2.statuses()
    monkeypatch.undo()
    assert sandbox.pm2.statuses()[INVOICE] == ["online"]


def test_what_pm2_was_starting_again_when_it_was_told_to_forget_it_does_not_come_back(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    # Ready after a while, ended soon after that, whoever wants it to stop meanwhile.
    (tmp_path / "loops.js").write_text(
        "process.on('SIGINT', () => {});"
        "setTimeout(() => process.send('ready'), 300);"
        "setTimeout(() => process.exit(1), 500);"
    )
    described = {"name": "loops", "script": str(tmp_path / "loops.js"), "wait_ready": True}
    ecosystem = tmp_path / "loops.config.json"
    ecosystem.write_text(json.dumps({"apps": [described | {"restart_delay": 700, "min_uptime": 5000}]}))
    sandbox.pm2.run("start", str(ecosystem))
    while not sandbox.pm2.unstable_restarts("loops") or sandbox.pm2.statuses()["loops"] != ["launching"]:
        time.sleep(0.01)
    sandbox.pm2.delete("loops")
    time.sleep(1)
    assert "loops" not in sandbox.pm2.statuses()
