"""Rotation of an access key while skopeo pulls with it all the time."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self

import pytest

from tests.support.images import Image, write_layout
from tests.support.server import AccessKey, People, Server

if TYPE_CHECKING:
    from tests.support.programs import ContainersHome

pytestmark = pytest.mark.real
FORMER_SECONDS = 15


class Puller:
    """Runs ``skopeo inspect``, which pulls the manifest and the config, one after another until the block ends.

    ``pulls``: when each began and ended, and what skopeo said if it failed.
    """

    def __init__(self, home: ContainersHome, reference: str, key: AccessKey) -> None:
        self.home, self.reference, self.credentials = home, reference, f"{key.id}:{key.secret}"
        self.pulls: list[tuple[float, float, str]] = []
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.pull)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.thread.join()

    def pull(self) -> None:
        options = ("--tls-verify=false", "--creds", self.credentials)
        while not self.stopped.is_set():
            began = time.time()
            done = self.home.skopeo("inspect", *options, f"docker://{self.reference}", succeeds=None)
            self.pulls.append((began, time.time(), done.errors if done.status else ""))


def test_pulls_go_on_until_the_former_secret_ends(
    home: ContainersHome, other_home: ContainersHome, registry_server: Server, people: People
) -> None:
    made = registry_server.work("keys", "make_service_key")
    former = AccessKey(made["id"], made["secret"])
    reference = f"{registry_server.host}/demo/web/rotated:1"
    layout = home.folder / "layout"
    write_layout(layout, {"made": Image.random("rotated")})
    credentials = ("--dest-creds", f"{former.id}:{former.secret}", "--dest-tls-verify=false")
    home.skopeo("copy", *credentials, f"oci:{layout}:made", f"docker://{reference}")

    with Puller(home, reference, former) as with_former:
        rotated = registry_server.work("keys", "rotate", former.id, str(FORMER_SECONDS))
        ends_at = rotated["former_ends_at"]
        with Puller(other_home, reference, AccessKey(former.id, rotated["secret"])) as with_newer:
            while not any(began > ends_at for began, _, _ in with_former.pulls):
                assert with_former.thread.is_alive()
                time.sleep(0.2)

    before = [said for _, ended, said in with_former.pulls if ended < ends_at]
    after = [said for began, _, said in with_former.pulls if began > ends_at]
    assert before
    assert set(before) == {""}
    assert with_newer.pulls
    assert {said for _, _, said in with_newer.pulls} == {""}
    assert all("has ended: use the newer one" in said for said in after), after
