"""Libraries that travel inside wheels, which no package's licence tells of: `make licenses`.

Tools that repair wheels put foreign libraries into `<package>.libs` (Linux) or `.dylibs` (macOS).
One that is not known here fails the check, until somebody has read its licence.
"""

import re
import sys
import sysconfig
from pathlib import Path

KNOWN = {
    "blas": "BSD-3-Clause (reference LAPACK)",
    "lapack": "BSD-3-Clause (reference LAPACK)",
    "scipy_openblas": "BSD-3-Clause (OpenBLAS)",
    "gfortran": "GPL-3.0 with the GCC Runtime Library Exception",
    "gomp": "GPL-3.0 with the GCC Runtime Library Exception",
    "gcc_s": "GPL-3.0 with the GCC Runtime Library Exception",
    "quadmath": "LGPL-2.1, of numpy's and MLX's own wheels: see docs/licenses.md",
}


def bundled(packages: Path) -> dict[str, str]:
    """Libraries by path, relative to the folder of packages; the value is the bare name."""
    folders = (*packages.glob("*.libs"), *packages.rglob(".dylibs"))
    found = {}
    for file in sorted(file for folder in folders for file in folder.iterdir()):
        name = re.match(r"(?:lib)?([a-zA-Z_]+)", file.name)
        found[str(file.relative_to(packages))] = name[1].rstrip("_") if name else file.name
    return found


def main() -> int:
    """Judge a folder of packages: the one given, or that of the interpreter that runs this."""
    packages = Path(sys.argv[1] if len(sys.argv) > 1 else sysconfig.get_path("purelib"))
    libraries = bundled(packages)
    for path, name in libraries.items():
        print(f"{path}: {KNOWN.get(name, 'UNKNOWN: read its licence, and enter it')}")
    return 0 if set(libraries.values()) <= set(KNOWN) else 1


if __name__ == "__main__":
    sys.exit(main())
