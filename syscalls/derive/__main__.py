"""`python -m syscalls.derive`: write what is generated; with `--check`, name what is stale.

`--check` writes nothing and exits with 1 if a file is stale, missing, or no longer generated.
"""

import sys
from pathlib import Path

from syscalls.derive.files import WHOLLY_GENERATED, generated

ROOT = Path(__file__).resolve().parents[2]


def stale(root: Path) -> list[str]:
    """Paths, from `root`, of files that are not as they would be generated, sorted."""
    files = generated()
    present = {
        path.relative_to(root).as_posix()
        for folder in WHOLLY_GENERATED
        for path in (root / folder).rglob("*")
        if path.is_file()
    }
    wrong = present - files.keys()
    wrong |= {
        name
        for name, text in files.items()
        if not (root / name).is_file() or (root / name).read_bytes() != text.encode()
    }
    return sorted(wrong)


def write(root: Path) -> list[str]:
    """Bring every generated file up to date; return the paths that changed."""
    files = generated()
    changed = stale(root)
    for name in changed:
        path = root / name
        if name in files:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(files[name].encode())
        else:
            path.unlink()
    return changed


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        names = stale(ROOT)
        for name in names:
            print(f"{name}: stale; run `python -m syscalls.derive`", file=sys.stderr)
        return 1 if names else 0
    if arguments:
        print("usage: python -m syscalls.derive [--check]", file=sys.stderr)
        return 2
    for name in write(ROOT):
        print(name)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
