"""Empty images: not in the list of a repository, but on a linked page."""

from django.urls import reverse

from console.queries import projects
from registry.models import Image as StoredImage
from tests.support.factories import found, make_report
from tests.support.images import Image
from tests.support.pages import see


def test_empty_images_are_on_a_page_of_their_own(console, docker, world):
    member = docker("member")
    for name in ("full", "emptied"):
        member.push(f"web/{name}", "v1", Image(layers=[name.encode()]))
    member.delete(f"web/emptied/manifests/{Image(layers=[b'emptied']).digest}", 202)
    browser, address = console("owner"), reverse("console:repository", args=["demo", "web"])

    page = see(browser, address)
    assert page.row_links == ["/projects/demo/repositories/web/full/"]
    assert "1 image without tags and digests" in page.text
    (link,) = [link.href for link in page.links if "contents=none" in link.href]

    home = see(browser, "/?all=1")
    assert [link.text for link in home.links if link.href.endswith(("/full/", "/emptied/"))] == ["demo/web/full"]
    suggested = see(browser, "/search/suggestions?q=web/")
    assert [link.text for link in suggested.links if link.href.endswith(("/full/", "/emptied/"))] == ["demo/web/full"]
    (full,) = StoredImage.objects.filter(name="full")
    make_report(full.manifests.get(), [found("CVE-2026-1")])
    assert "of 1, in 1 project" in see(browser, "/cves/CVE-2026-1").text

    page = see(browser, link)
    assert page.row_links == ["/projects/demo/repositories/web/emptied/"]
    assert "Each is deleted 14 days after its last digest" in page.text

    assert projects.overview(world.projects["demo"]).images == 1
