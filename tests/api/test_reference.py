"""The OpenAPI document, the page about it and docs/reference/api.md agree with the code.

After a change: ``KCR_TEST_WRITE_BASELINE=1 .venv/bin/python -m pytest tests/api/test_reference.py``
"""

from __future__ import annotations

import os
import re

from drf_spectacular.validation import validate_schema

from api import openapi, problems, reference
from tests.support.server import SOURCE

REFERENCE = SOURCE / "docs" / "reference" / "api.md"


def test_the_reference_is_that_of_the_code():
    if os.environ.get("KCR_TEST_WRITE_BASELINE") == "1":
        REFERENCE.write_text(reference.markdown())
    assert REFERENCE.read_text() == reference.markdown()


def test_the_document_is_valid_openapi_3_1(db):
    document = openapi.generate()
    assert document["openapi"] == "3.1.0"
    validate_schema(document)
    found = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(found) == len(set(found)) == sum(len(view().allowed()) for *_, view in openapi.routes())


def test_enumerations_have_names_of_their_own(db, capsys):
    """drf-spectacular warns of a name that it has to make of a hash, such as StateCacEnum."""
    document = openapi.generate()
    assert capsys.readouterr().err == ""
    schemas = document["components"]["schemas"]
    assert schemas["KeyStateEnum"]["enum"] == ["alive", "revoked", "expired", "inactive"]
    assert schemas["ScanJson"]["properties"]["state"] == {"$ref": "#/components/schemas/ScanStateEnum"}


def test_every_path_resolves_to_its_view(db):
    from api.handler import ROUTES

    for _route, path, name, view in openapi.routes():
        there = re.sub(
            r"\{\w+\}",
            "app",
            re.sub(r"\{(run|scan|event|acceptance|notification|delivery|deletion|rule|issuer)\}", "7", path).replace(
                "{upload}", "00000000-0000-4000-8000-000000000000"
            ),
        )
        match = ROUTES.resolve(there)
        assert (match.url_name, match.func.cls) == (name, view)


def test_what_is_refused_as_unknown_is_so_in_the_document(db):
    schemas = openapi.generate()["components"]["schemas"]
    wanted = [name for name in schemas if name.endswith(("Wanted", "Changes"))]
    assert len(wanted) > 10
    assert all(schemas[name]["additionalProperties"] is False for name in wanted)


def test_every_status_of_a_problem_is_explained(client, db):
    page = client.get("/api/v1/docs").content.decode()
    for problem in problems.PROBLEMS.values():
        assert f'id="problem-{problem.code}"' in page


def test_the_page_needs_no_script_and_nothing_from_elsewhere(client, db):
    answer = client.get("/api/v1/docs")
    page = answer.content.decode()
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "<script" not in page
    assert "style=" not in page
    assert not re.search(r'(src|href)="(https?:)?//', page)
    for anchor in re.findall(r'href="#([^"]+)"', page):
        assert f'id="{anchor}"' in page
