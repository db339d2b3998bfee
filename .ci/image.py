"""Carry out the lines of the Dockerfile in a root file system, on a machine without a hub: image.py ROOT [COMMAND…]

ROOT has what the base image has: ``python``, pip and certificates, for instance from
``debootstrap --variant=minbase --include=python-is-python3,python3-pip,ca-certificates bookworm ROOT``. Needs root.
Afterwards ROOT is what a container would have. COMMAND, or the health check of the image beside its CMD, is run there
as by docker-compose.yml: as the user of the image, on a read-only file system with /data and /tmp.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1]
#: Run first in a mount namespace of its own: $1 is the root, $2 its data directory.
CONFINED = (
    'mount --rbind "$1" "$1" && mount --rbind /proc "$1/proc" && mount --bind "$2" "$1/data"'
    ' && mount --options remount,bind,ro "$1" && mount --types tmpfs tmpfs "$1/tmp" && root=$1 && user=$3 && shift 3'
    ' && exec chroot --userspec="$user" "$root" env --chdir=/app "$@"'
)


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile and their words; lines that go on are joined."""
    lines = [line for line in (SOURCE / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(name, words) for name, _, words in (line.partition(" ") for line in joined.splitlines() if line)]


def copy(words: list[str], root: Path, folder: str) -> None:
    """COPY: files of the context, without what .dockerignore leaves out, owned by root."""
    *sources, target = [word for word in words if not word.startswith("--")]
    place = root / folder.lstrip("/") / target
    for source in (SOURCE / name for name in sources):
        if source.is_dir():
            shutil.copytree(source, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, place / source.name if len(sources) > 1 or target == "." else place)


def build(root: Path) -> dict[str, str]:
    """Carry out every instruction. Return what CMD, HEALTHCHECK, USER and ENV say."""
    environment, folder, told = {"PATH": os.environ["PATH"], "PIP_BREAK_SYSTEM_PACKAGES": "1"}, "/", {}
    for name, words in instructions():
        print(name, words[:100], flush=True)
        if name == "ENV":
            environment |= dict(word.split("=", 1) for word in shlex.split(words))
        elif name == "WORKDIR":
            folder = words
            (root / words.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif name == "COPY":
            copy(words.split(), root, folder)
        elif name == "RUN":
            command = ["chroot", root, "env", f"--chdir={folder}", "sh", "-ec", words]
            subprocess.run(command, env=environment, check=True)
        elif name not in {"FROM", "VOLUME", "EXPOSE"}:
            told[name] = words
    return told | {"ENV": json.dumps(environment)}


def main(root: Path, command: list[str]) -> None:
    """Build, then run the command, or wait until the health check succeeds beside CMD."""
    told = build(root)
    data = root.with_name(f"{root.name}-data")
    data.mkdir(mode=0o700, exist_ok=True)
    user, environment = told["USER"], json.loads(told["ENV"])
    os.chown(data, *map(int, user.split(":")))
    prefix = ["unshare", "--mount", "--propagation=private", "sh", "-ec", CONFINED, "image", root, data, user]
    if command:
        sys.exit(subprocess.run([*prefix, *command], env=environment, check=False).returncode)
    subprocess.run([*prefix, "python", "manage.py", "migrate", "--no-input"], env=environment, check=True)
    with subprocess.Popen([*prefix, *json.loads(told["CMD"])], env=environment) as server:
        check = json.loads(told["HEALTHCHECK"].partition(" CMD ")[2])
        for _ in range(30):
            time.sleep(1)
            healthy = subprocess.run([*prefix, *check], env=environment, check=False, stderr=subprocess.DEVNULL)
            if not healthy.returncode:
                break
        server.terminate()
    print("healthy" if not healthy.returncode else "not healthy", "- ended with status", server.returncode)
    sys.exit(healthy.returncode or server.returncode)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2:])
