"""Pages of public repositories, as anonymous visitors see them."""

from __future__ import annotations

import pytest

from tests.support.images import image_of
from tests.support.pages import Page, see

PUBLIC = "/public/demo/public/"
APP = f"{PUBLIC}team/app/"
CONSOLE = "/projects/demo/repositories/public/"
PRIVATE = (
    *("/public/demo/web/", "/public/demo/nothing/", "/public/nothing/web/", "/public/lab/secret/"),
    *("/public/demo/web/app/", "/public/demo/web/nothing/", f"{PUBLIC}nothing/"),
)


@pytest.fixture
def images(docker, scanned):
    docker("owner").push("public/team/app", "1.0", image_of("public"))
    docker("owner").push("public/team/app", "2.0", image_of("other"))


@pytest.mark.parametrize("person", [None, "outsider", "viewer", "owner"])
def test_strangers_see_images_tags_and_commands(console, images, person):
    browser = console(person)
    page = see(browser, PUBLIC)
    assert page.headings == ["demo/public Public"]
    assert [(row["Image"], row["Tags"]) for row in page.table("Image", "Tags")] == [("team/app", "2")]
    assert page.row_links == [APP]
    tags = see(browser, APP)
    assert [row["Tag"] for row in tags.table("Tag", "Digest")] == ["2.0", "1.0"]
    text = browser.get(APP).content.decode()
    assert 'data-copy="docker pull localhost:8080/demo/public/team/app:1.0"' in text


def test_public_pages_name_no_person_and_nothing_private(console, images):
    for path in (PUBLIC, APP):
        answer = console(None).get(path)
        text = answer.content.decode()
        assert answer.headers["X-Robots-Tag"] == "noindex"
        for secret in ("acme", "@", "web", "member", "secret", "Critical", "/projects/"):
            assert secret not in text.partition("<main")[2].partition("</main>")[0], secret


@pytest.mark.parametrize("person", [None, "outsider"])
def test_private_and_absent_repositories_get_the_same_answer(console, images, django_assert_num_queries, person):
    answers = [console(person).get(path) for path in PRIVATE]
    assert {answer.status_code for answer in answers} == {404}
    assert len({Page(answer.content.decode()).text for answer in answers}) == 1


def test_public_page_costs_few_queries(console, images, django_assert_num_queries):
    with django_assert_num_queries(4):
        console(None).get(PUBLIC)
    with django_assert_num_queries(4):
        console(None).get(APP)
    for path in ("/public/demo/web/", "/public/demo/nothing/"):
        with django_assert_num_queries(1):
            console(None).get(path)


@pytest.mark.parametrize(
    ("path", "page"),
    [
        (CONSOLE, PUBLIC),
        (f"{CONSOLE}team/app/", APP),
        (f"{CONSOLE}team/app/-/manifests/1.0", APP),
        (f"{CONSOLE}-/settings", f"/sign-in?next={CONSOLE}-/settings"),
        ("/projects/demo/repositories/web/", "/sign-in?next=/projects/demo/repositories/web/"),
        ("/projects/demo/repositories/nothing/", "/sign-in?next=/projects/demo/repositories/nothing/"),
    ],
)
def test_strangers_are_redirected_to_the_public_page_or_the_sign_in(console, images, path, page):
    answer = console(None).get(path)
    assert (answer.status_code, answer.url) == (302, page)


def test_the_address_of_a_public_image_opens_its_page_for_strangers(console, images):
    assert console(None).get("/demo/public/team/app:1.0", follow=True).redirect_chain[-1][0] == APP
    assert console("owner").get("/demo/public/team/app:1.0", follow=True).redirect_chain[-1][0].startswith(CONSOLE)


def test_repository_made_private_is_not_found_by_strangers(console, world, images):
    world.repository("public").__class__.objects.filter(name="public").update(is_public=False)
    assert console(None).get(PUBLIC).status_code == 404
    assert console(None).get(APP).status_code == 404
