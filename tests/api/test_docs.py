"""The page that shows the document needs nothing but this host."""

from __future__ import annotations

import re
from urllib.parse import urljoin, urlsplit

from flask.testing import FlaskClient

NAMED = re.compile(r"""(?:src|href)=["']([^"']+)["']""")
IN_STYLES = re.compile(r"url\(\s*[\"']?([^\"')]+)")


def test_the_page_and_every_file_it_names_come_from_here(client: FlaskClient) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    assert page.mimetype == "text/html"
    named = [urljoin("/docs", each) for each in NAMED.findall(page.text)]
    assert len(named) == 4
    for url in named:
        assert not urlsplit(url).netloc
        answer = client.get(url)
        assert answer.status_code == 200, url
        assert answer.content_length, url
        answer.close()


def test_styles_fetch_nothing_from_elsewhere(client: FlaskClient) -> None:
    page = client.get("/docs").text
    sheet = next(each for each in NAMED.findall(page) if each.endswith(".css"))
    answer = client.get(sheet)
    fetched = IN_STYLES.findall(answer.text)
    answer.close()
    assert fetched
    assert all(each.startswith("data:") for each in fetched)


def test_the_page_shows_our_document_and_asks_no_validator(client: FlaskClient) -> None:
    page = client.get("/docs").text
    assert 'new URL("/openapi.json"' in page
    assert '"validatorUrl":null' in page.replace(" ", "")


def test_a_browser_is_told_to_load_from_this_host_only(client: FlaskClient) -> None:
    policy = client.get("/docs").headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'self';")
    assert "http" not in policy


def test_the_document_is_the_same_bytes_at_every_request(client: FlaskClient) -> None:
    assert client.get("/openapi.json").data == client.get("/openapi.json").data
