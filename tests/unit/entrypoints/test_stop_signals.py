"""In processes of their own: they end."""

import signal
import subprocess
import sys

import pytest

_BEGIN = """
import os, signal
from semantic.entrypoints.stop_signals import StopSignals
signals = StopSignals()
"""


def ended(code: str) -> tuple[int, str, str]:
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", _BEGIN + code], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_before_it_serves_a_signal_ends_the_process_at_once(number: signal.Signals) -> None:
    code, out, err = ended(f"os.kill(os.getpid(), {number:d}); print('still here')")
    assert (code, out, err) == (128 + number, "", f"stopped by {number.name}\n")


def test_then_the_first_is_noted_the_second_presses_and_the_third_ends_it() -> None:
    code, out, _ = ended(
        "signals.count()\n"
        "for number in (signal.SIGINT, signal.SIGTERM, signal.SIGTERM):\n"
        "    print(signals.asked, signals.impatient, flush=True)\n"
        "    os.kill(os.getpid(), number)\n"
        "print('still here')\n"
    )
    assert code == 128 + signal.SIGTERM
    assert out.splitlines() == ["False False", "True False", "True True"]


def test_a_closed_terminal_is_a_request_like_another() -> None:
    code, out, _ = ended(
        "signals.count()\nos.kill(os.getpid(), signal.SIGHUP)\nprint(signals.asked)\n"
    )
    assert (code, out) == (0, "True\n")


def test_what_nohup_keeps_away_stays_away() -> None:
    begin = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    code = (
        f"{begin}{_BEGIN}os.kill(os.getpid(), signal.SIGHUP)\nsignals.count()\n"
        "os.kill(os.getpid(), signal.SIGHUP)\nprint(signals.asked)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)  # noqa: S603 - our own code
    assert done.stdout == b"False\n"


def test_where_nobody_can_be_told_it_ends_all_the_same() -> None:
    code, out, _ = ended("os.close(2); os.kill(os.getpid(), signal.SIGTERM); print('still here')")
    assert (code, out) == (128 + signal.SIGTERM, "")
