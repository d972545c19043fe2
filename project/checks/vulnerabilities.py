"""Known vulnerabilities of the installed packages: part of `make security`.

pip-audit asks PyPI's vulnerability service. Where that cannot be reached it fails, or calls every
package unknown and succeeds; here both become a plain NOT CHECKED, which passes as no result does:
neither the build fails for a missing network, nor does it claim what nobody has looked at.
"""

import json
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

ANSWER_TIMEOUT_S = 300.0
UNREACHABLE = ("ConnectionError", "ProxyError", "SSLError", "Timeout", "Could not connect")
"""What pip-audit's complaints hold where there is no network."""
SHOWN = 160
"""Characters of a complaint."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to say, and whether the build may go on."""

    text: str
    passes: bool


def not_checked(reason: str) -> Verdict:
    """Nobody has looked."""
    return Verdict(f"vulnerabilities: NOT CHECKED, {reason}", passes=True)


def judge(report: str, complaints: str) -> Verdict:
    """Read what pip-audit wrote: its JSON report, or why there is none."""
    try:
        packages = json.loads(report)["dependencies"]
    except (ValueError, KeyError, TypeError):
        reason = (complaints.strip().splitlines() or ["it said nothing"])[-1][:SHOWN]
        if any(word in complaints for word in UNREACHABLE):
            return not_checked(f"the service cannot be reached: {reason}")
        return Verdict(f"vulnerabilities: pip-audit failed: {reason}", passes=False)
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    known = [package for package in packages if "skip_reason" not in package]
    if not known:
        return not_checked("the service knows none of the packages here")
    found = [
        f"{package['name']} {package['version']}: {flaw['id']}, "
        f"mended in {', '.join(flaw['fix_versions']) or 'no version yet'}"
        for package in known
        for flaw in package["vulns"]
    ]
    if found:
        return Verdict("\n".join(["vulnerabilities:", *found]), passes=False)
    text = f"vulnerabilities: none known in {len(known)} packages"
    return Verdict(f"{text}; not checked: {', '.join(unknown)}" if unknown else text, passes=True)


def ask(pip_audit: Path, packages: Path) -> Verdict:
    """Have the packages in a folder looked at."""
    command = [str(pip_audit), "--path", str(packages), "--skip-editable", "--format", "json"]
    command += ["--progress-spinner", "off", "--cache-dir", str(pip_audit.parent.parent / "cache")]
    try:
        done = subprocess.run(  # noqa: S603 - our own command
            command, capture_output=True, text=True, check=False, timeout=ANSWER_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return not_checked(f"the service did not answer within {ANSWER_TIMEOUT_S:.0f} s")
    return judge(done.stdout, done.stderr)


def main() -> int:
    """Take pip-audit's path; judge the packages of the interpreter that runs this."""
    verdict = ask(Path(sys.argv[1]), Path(sysconfig.get_path("purelib")))
    print(verdict.text)
    return 0 if verdict.passes else 1


if __name__ == "__main__":
    sys.exit(main())
