"""Credentials: who has none, a wrong one, or one for something else gets nothing and learns nothing."""

from __future__ import annotations

import http.client
import itertools
import json
import re
import threading
import time
import urllib.parse
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.hostile.site import HEARTBEAT, Answer, Site, start

pytestmark = pytest.mark.integration

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
CHALLENGE = 'Bearer realm="dockmesh"'
INVALID = f'{CHALLENGE}, error="invalid_token"'

_sources = (f"127.9.{high}.{low}" for high, low in itertools.product(range(1, 250), range(1, 250)))


def checked(text: str) -> str:
    """The text with its checksum, as tokens have it."""
    number, digits = zlib.crc32(text.encode()), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = ALPHABET[digit] + digits
    return f"{text}_{digits}"


def other_secret(token: str) -> str:
    """A token of the same id that was never issued."""
    kind, identity, secret, _ = token.split("_")
    return checked(f"{kind}_{identity}_{'A' * len(secret)}")


def make(site: Site, name: str, role: str = "admin", **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = site.api("POST", "tokens", {"name": name, "role": role, **fields})
    site.secrets.add(made["token"])
    return made


def scrape(site: Site, authorization: str | bytes | None, path: str = "/metrics") -> Answer:
    headers = {} if authorization is None else {"Authorization": authorization}
    return site.ask("GET", path, headers=headers, source=next(_sources))  # type: ignore[arg-type]


def test_the_checksum_here_is_the_servers(site: Site) -> None:
    assert checked(site.scraper.rpartition("_")[0]) == site.scraper


def test_no_credential_is_challenged_and_sees_nothing(site: Site) -> None:
    for authorization in (
        None,
        "",
        "Basic YTpi",
        f"Basic {site.scraper}",
        f"Token {site.scraper}",
        site.scraper,
    ):
        for path in ("/metrics", "/api/v1/hosts", "/api/v1/discovery/prometheus"):
            answer = scrape(site, authorization, path)
            assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, CHALLENGE), (
                authorization,
                path,
            )
            assert b"dockmesh_" not in answer.body


def test_bad_tokens_of_every_kind_get_the_same_bytes(site: Site) -> None:
    past = make(site, "past", expires_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2)))
    revoked, disabled, deleted = (make(site, name) for name in ("revoked", "disabled", "deleted"))
    site.api("POST", f"tokens/{revoked['id']}/revoke")
    site.api("PATCH", f"tokens/{disabled['id']}", {"is_enabled": False})
    site.api("POST", f"tokens/{deleted['id']}/revoke")
    site.api("DELETE", f"tokens/{deleted['id']}")
    good = site.scraper
    enrollment = site.server.enrollmenttoken()
    site.secrets.add(enrollment)
    bad: dict[str, str | bytes] = {
        "wrong secret": other_secret(good),
        "unknown id": checked(f"dmt_{'B' * 12}_{'C' * 40}"),
        "expired": past["token"],
        "revoked": revoked["token"],
        "disabled": disabled["token"],
        "deleted": deleted["token"],
        "an agent's": site.agent.token,
        "an enrollment's": enrollment,
        "bad checksum": good[:-1] + ("A" if good[-1] != "A" else "B"),
        "lower case": good.lower(),
        "too long": good + "A",
        "twice": f"{good} {good}",
        "4 KB": "dmt_" + "A" * 4096,
        "bytes above 127": b"dmt_\xff\xfe" + good[6:].encode(),
        "a digit of another script": b"dmt_\xd9\xa3" + good[5:].encode(),
        "dots": "dmt_" + "." * 60,
        "an SQL text": "dmt_' OR '1'='1_",
    }
    while scrape(site, f"Bearer {past['token']}").status != 401:
        time.sleep(0.2)
    found = {}
    for name, text in bad.items():
        answer = scrape(site, b"Bearer " + text if isinstance(text, bytes) else f"Bearer {text}")
        found[name] = (answer.status, answer.headers["WWW-Authenticate"], answer.body)
    assert set(found.values()) == {(401, INVALID, found["revoked"][2])}, found
    # At the agents' door too.
    for text in (good, other_secret(site.agent.token), enrollment):
        answer = site.ask("POST", HEARTBEAT, "{}", token=text, source=next(_sources))
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, INVALID)
    assert scrape(site, f"Bearer {good}").status == 200


def test_the_scheme_is_in_any_case(site: Site) -> None:
    for scheme in ("Bearer", "bearer", "BEARER", "bEaReR"):
        assert scrape(site, f"{scheme} {site.scraper}").status == 200


def test_a_token_elsewhere_is_no_credential_and_in_no_log(site: Site) -> None:
    quoted = urllib.parse.quote(site.scraper)
    for name in ("token", "access_token", "api_key", "authorization", "credentials"):
        assert scrape(site, None, f"/metrics?{name}={quoted}").status == 401
        assert site.ask("GET", "/metrics", headers={"Cookie": f"{name}={site.scraper}"}).status == 401
        body = urllib.parse.urlencode({name: site.scraper})
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        assert site.ask("POST", "/api/v1/tokens", body, headers=form).status == 401
    for path in (f"/metrics/{quoted}", f"/api/v1/tokens/{quoted}", f"/setup/{quoted}/", f"/{quoted}"):
        assert scrape(site, None, path).status in (401, 404)
    for header in ("X-Auth-Token", "X-Api-Key", "Proxy-Authorization"):
        assert site.ask("GET", "/metrics", headers={header: f"Bearer {site.scraper}"}).status == 401


def test_two_authorization_headers_are_refused(site: Site) -> None:
    line = f"Authorization: Bearer {site.scraper}\r\n".encode()
    assert b" 400 " in site.raw(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n" + line * 2 + b"\r\n")[:20]


def test_a_revoked_token_is_over_for_everybody_at_once(site: Site, request: pytest.FixtureRequest) -> None:
    sites = [site.server.url]
    if "DOCKMESH_DATABASE_URL" in site.server.environment:
        other = start(site.server.data_dir, site.server.environment["DOCKMESH_DATABASE_URL"])
        other.start()
        request.addfinalizer(other.stop)
        sites.append(other.url)
    made = make(site, "for a while", role="viewer")
    ports = [int(url.rpartition(":")[2]) for url in sites]

    def ask(number: int) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", ports[number % len(ports)], timeout=30)
        connection.request("GET", "/api/v1/hosts", headers={"Authorization": f"Bearer {made['token']}"})
        status = connection.getresponse().status
        connection.close()
        return status

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(40))) == {200}
        site.api("POST", f"tokens/{made['id']}/revoke")
        # Over a hundred of these a minute are throttled, and no more let in.
        assert set(pool.map(ask, range(200))) <= {401, 429}


def test_a_role_that_loses_a_permission_loses_it_for_the_next_request(site: Site) -> None:
    role = site.api("POST", "roles", {"name": "reads", "permissions": ["metrics.read"]})
    token = make(site, "reads", role="reads")["token"]
    assert scrape(site, f"Bearer {token}").status == 200
    site.api("PATCH", f"roles/{role['id']}", {"permissions": ["fleet.read"]})
    answer = scrape(site, f"Bearer {token}")
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (
        403,
        f'{CHALLENGE}, error="insufficient_scope"',
    )


def test_nobody_hands_out_what_they_do_not_hold(site: Site) -> None:
    site.api("POST", "roles", {"name": "tokens only", "permissions": ["tokens.manage", "roles.manage"]})
    token = make(site, "tokens only", role="tokens only")["token"]

    def rows() -> tuple[Any, Any]:
        return site.api("GET", "tokens")["count"], site.api("GET", "roles")["count"]

    before = rows()
    json_type = {"Content-Type": "application/json"}
    for path, body in (
        ("tokens", {"name": "up", "role": "admin"}),
        ("tokens", {"name": "up", "role": "viewer"}),
        ("roles", {"name": "up", "permissions": ["metrics.read"]}),
        ("roles", {"name": "up", "permissions": ["tokens.manage", "audit.read"]}),
    ):
        answer = site.ask("POST", f"/api/v1/{path}", json.dumps(body), token=token, headers=json_type)
        assert answer.status == 403, (body, answer.body)
    for permissions in (
        ["nobody.knows"],
        ["metrics.read", "x"],
        ["METRICS.READ"],
        ["*"],
        [["metrics.read"]],
        "x",
        [1],
    ):
        text = json.dumps({"name": "up", "permissions": permissions})
        answer = site.ask("POST", "/api/v1/roles", text, token=site.admin, headers=json_type)
        assert answer.status == 400, (permissions, answer.body)
        assert any(field.startswith("permissions") for field in answer.json()["errors"])
    assert rows() == before


def test_a_secret_is_shown_once(site: Site) -> None:
    made = make(site, "shown once")
    secret = made["token"].split("_")[2]
    rotated = site.api("POST", f"tokens/{made['id']}/rotate", {"overlap_seconds": 60})
    site.secrets.add(rotated["token"])
    for path in ("tokens", f"tokens/{made['id']}", "audit?page_size=500"):
        text = json.dumps(site.api("GET", path))
        assert secret not in text
        assert rotated["token"].split("_")[2] not in text


def test_a_rotation_keeps_the_old_secret_for_its_overlap_alone(site: Site) -> None:
    made = make(site, "rotated")
    new = site.api("POST", f"tokens/{made['id']}/rotate", {"overlap_seconds": 3})["token"]
    site.secrets.add(new)
    assert [scrape(site, f"Bearer {token}").status for token in (made["token"], new)] == [200, 200]
    deadline = time.monotonic() + 30
    while scrape(site, f"Bearer {made['token']}").status != 401:
        assert time.monotonic() < deadline
        time.sleep(0.3)
    assert scrape(site, f"Bearer {new}").status == 200


def test_a_hundred_bad_tokens_are_enough_and_a_good_one_still_works(site: Site) -> None:
    source = "127.8.8.8"
    bad = checked(f"dmt_{'D' * 12}_{'E' * 40}")
    statuses = []
    while 429 not in statuses:
        answer = site.ask("GET", "/metrics", token=bad, source=source)
        statuses.append(answer.status)
        assert len(statuses) < 250
    assert int(answer.headers["Retry-After"]) > 0
    assert set(statuses) == {401, 429}
    assert site.ask("GET", "/metrics", token=site.scraper, source=source).status == 200
    assert site.ask("GET", "/metrics", token=bad, source="127.8.8.9").status == 401


def test_no_header_moves_a_client_into_an_allow_list(site: Site) -> None:
    token = make(site, "from the lan", allowed_cidrs=["10.1.2.0/24"])["token"]
    for name in ("X-Forwarded-For", "X_Forwarded_For", "Forwarded", "X-Real-IP", "X_Real_IP", "Client-IP"):
        for value in ("10.1.2.3", "10.1.2.3, 10.1.2.3", "for=10.1.2.3", "127.0.0.1, 10.1.2.3"):
            headers = {"Authorization": f"Bearer {token}", name: value}
            assert site.ask("GET", "/metrics", headers=headers).status == 403, (name, value)


class Browser:
    """A session with cookies, from an address of its own."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.source = next(_sources)
        self.cookies: dict[str, str] = {}

    def ask(self, method: str, path: str, form: dict[str, str] | None = None, **headers: str) -> Answer:
        sent = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items()), **headers}
        body = None
        if form is not None:
            sent["Content-Type"] = "application/x-www-form-urlencoded"
            body = urllib.parse.urlencode(form)
        answer = self.site.ask(method, path, body, headers=sent, source=self.source)
        for line in answer.headers.get_all("Set-Cookie", []):
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies[name] = value
        return answer

    def form(self, path: str, **fields: str) -> Answer:
        """Load the page, then send its form."""
        page = self.ask("GET", path).body.decode()
        found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        assert found, page[:500]
        return self.ask("POST", path, {"csrfmiddlewaretoken": found[1], **fields})

    def sign_in(self, name: str, password: str, after: str = "") -> Answer:
        return self.form(f"/sign-in/{after}", username=name, password=password)


PASSWORD = "correct horse battery staple"


@pytest.fixture(scope="module")
def users(site: Site) -> None:
    site.server.manage(
        "shell",
        "-v0",
        "-c",
        "from tokens.models import Role, User\n"
        "role = Role.objects.get(name='admin')\n"
        "for name in ('ada', 'eve', 'bob', 'off'):\n"
        f"    user = User(username=name, role=role, is_active=name != 'off'); user.set_password({PASSWORD!r})\n"
        "    user.save()",
    )


def test_an_old_cookie_opens_nothing_after_signing_out(site: Site, users: None) -> None:
    browser = Browser(site)
    assert browser.sign_in("ada", PASSWORD).status == 302
    assert browser.ask("GET", "/").status == 200
    old = dict(browser.cookies)
    found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', browser.ask("GET", "/").body.decode())
    assert found
    assert browser.ask("POST", "/sign-out/", {"csrfmiddlewaretoken": found[1]}).status == 302
    browser.cookies = old
    assert browser.ask("GET", "/").headers["Location"].startswith("/sign-in/")
    assert browser.ask("GET", "/api/v1/hosts").status == 401


def test_a_session_needs_the_csrf_token_and_a_bearer_does_not(site: Site, users: None) -> None:
    browser = Browser(site)
    browser.sign_in("ada", PASSWORD)
    body = json.dumps({"name": "by session", "role": "viewer"})
    json_type = {"Content-Type": "application/json"}
    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    for headers in ({}, {"X-CSRFToken": "A" * 64}, {"Origin": "https://evil.example"}):
        answer = site.ask("POST", "/api/v1/tokens", body, headers={"Cookie": cookies, **json_type, **headers})
        assert answer.status == 403
    assert browser.ask("POST", "/settings/tokens/new/", {"name": "by session"}).status == 403
    answer = site.ask("POST", "/api/v1/tokens", body, token=site.admin, headers=json_type)
    assert answer.status == 201
    site.secrets.add(answer.json()["token"])


ELSEWHERE = ("//evil.example", "/\\evil.example", "https://evil.example/", "javascript:alert(1)", "\t//evil")


def test_signing_in_leads_nowhere_else(site: Site, users: None) -> None:
    for target in ELSEWHERE:
        answer = Browser(site).sign_in("eve", PASSWORD, f"?next={urllib.parse.quote(target)}")
        assert (answer.status, answer.headers["Location"]) == (302, "/"), target


def test_cookies_and_pages_limit_what_a_browser_may_do(site: Site, users: None) -> None:
    browser = Browser(site)
    answer = browser.sign_in("ada", PASSWORD)
    lines = answer.headers.get_all("Set-Cookie")
    assert lines
    for line in lines:
        assert "HttpOnly" in line
        assert "SameSite" in line
    for path in ("/", "/sign-in/", "/nope", "/settings/tokens/", "/api/v1/docs"):
        page = browser.ask("GET", path)
        policy = page.headers["Content-Security-Policy"]
        for rule in ("object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"):
            assert rule in policy
        assert "unsafe-inline" not in policy
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        assert not re.search(rb"<script(?![^>]*\ssrc=)", page.body)


def test_a_hosts_name_is_text(site: Site, users: None) -> None:
    name = "<script>alert('x')</script>"
    site.agent.server = site.server
    host = site.api("GET", f"hosts/{site.agent.host_id}")["name"]
    site.api("PATCH", f"hosts/{site.agent.host_id}", {"name": name})
    try:
        browser = Browser(site)
        browser.sign_in("ada", PASSWORD)
        for path in ("/", "/hosts/", f"/hosts/{site.agent.host_id}/"):
            page = browser.ask("GET", path).body
            assert b"<script>alert" not in page
            assert b"&lt;script&gt;alert" in page
        assert f'dockmesh_agent_last_seen_seconds{{host="{name}"}}' in site.scrape()
    finally:
        site.api("PATCH", f"hosts/{site.agent.host_id}", {"name": host})


def test_an_address_that_guesses_is_refused(site: Site, users: None) -> None:
    guesser = Browser(site)
    statuses = [guesser.sign_in("bob", f"wrong {number}").status for number in range(21)]
    assert statuses[-1] == 429
    assert {guesser.sign_in(name, "wrong").status for name in ("ada", "eve", "nobody")} == {429}


def test_of_many_rotations_at_once_one_succeeds(site: Site) -> None:
    made = make(site, "rotated at once")
    barrier = threading.Barrier(6)

    def rotate(_: int) -> int:
        barrier.wait(30)
        answer = site.ask(
            "POST",
            f"/api/v1/tokens/{made['id']}/rotate",
            '{"overlap_seconds": 60}',
            token=site.admin,
            headers={"Content-Type": "application/json"},
        )
        if answer.status in (200, 201):
            site.secrets.add(answer.json()["token"])
        return answer.status

    with ThreadPoolExecutor(6) as pool:
        statuses = sorted(pool.map(rotate, range(6)))
    assert set(statuses) == {201, 409}, statuses
