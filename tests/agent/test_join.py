"""First contact with central, over real TLS on loopback, and every way in which it can fail."""

import asyncio
import datetime
import email.utils
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trustme
from aiohttp import web

from mk8s_agent.identity.join import JoinError, JoinRequest, join
from mk8s_agent.identity.store import AgentIdentity
from mk8s_agent.wire import pki
from tests.agent.central_for_tests import TOKEN, Central
from tests.agent.pki_for_tests import Issuer


class Pauses:
    """Time that passes only by waiting."""

    def __init__(self) -> None:
        self.waited = 0.0
        self.skew = 0.0

    def now(self) -> float:
        return time.time() + self.skew

    def monotonic(self) -> float:
        return self.waited

    async def sleep(self, seconds: float) -> None:
        self.waited += seconds + 0.001
        await asyncio.sleep(0)


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def central(issuer: Issuer) -> Central:
    return Central(trustme.CA(), issuer)


async def joined(request: JoinRequest) -> AgentIdentity:
    return await join(request, lambda _: None, Pauses())


async def refusal(request: JoinRequest, pauses: Pauses | None = None) -> str:
    with pytest.raises(JoinError) as caught:
        await join(request, lambda _: None, pauses or Pauses())
    sentence = str(caught.value)
    assert sentence.isprintable()
    assert TOKEN not in sentence
    return sentence


async def test_join_by_pin(central: Central) -> None:
    async with central.serve():
        identity = await joined(central.request())
    assert (identity.cluster_name, identity.cluster_id) == ("prod", "c-1")
    assert identity.authority_pem == central.issuer.pem
    (body,) = central.joins
    assert (body["token"], body["cluster"]) == (TOKEN, "prod")
    assert "PRIVATE" not in json.dumps(body)
    assert TOKEN not in repr(central.request())


async def test_the_pin_chooses_among_several_certificates(central: Central) -> None:
    garbage = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    central.ca_pem = garbage + trustme.CA().cert_pem.bytes() + central.ca_pem
    async with central.serve():
        assert (await joined(central.request())).cluster_id == "c-1"


async def test_an_intermediate_may_be_what_is_pinned(issuer: Issuer) -> None:
    intermediate = trustme.CA().create_child_ca()
    central = Central(intermediate, issuer)
    async with central.serve():
        assert (await joined(central.request())).cluster_id == "c-1"


async def test_join_by_ca_file(central: Central) -> None:
    async with central.serve():
        request = central.request(ca_pin="", authority_pem=central.authority.cert_pem.bytes())
        assert (await joined(request)).cluster_id == "c-1"


async def test_wrong_pin_sends_no_token(central: Central) -> None:
    async with central.serve():
        said = await refusal(central.request(ca_pin="sha256:" + "0" * 64))
    assert central.pin in said
    assert "check CENTRAL_URL and CA_PIN" in said
    assert central.joins == []


async def test_somebody_in_between_who_shows_the_right_ca(central: Central, issuer: Issuer) -> None:
    """The CA certificate is public: who copies it passes the pin and must fail at the handshake."""
    imposter = Central(trustme.CA(), issuer)
    imposter.ca_pem = central.authority.cert_pem.bytes()
    async with imposter.serve():
        said = await refusal(imposter.request(ca_pin=central.pin))
    assert "is not trusted" in said
    assert imposter.joins == []


async def test_somebody_in_between_who_adds_the_right_ca_to_their_own(
    central: Central, issuer: Issuer
) -> None:
    imposter = Central(trustme.CA(), issuer)
    imposter.ca_pem += central.authority.cert_pem.bytes()
    async with imposter.serve():
        await refusal(imposter.request(ca_pin=central.pin))
    assert imposter.joins == []


async def test_without_a_pin_nothing_is_unverified(central: Central) -> None:
    async with central.serve():
        said = await refusal(central.request(ca_pin=""))
    assert "give the CA_PIN that mk8s admin clusters add printed" in said
    assert central.requests == 0


async def test_a_name_that_is_not_in_the_certificate(central: Central) -> None:
    central.leaf = central.authority.issue_cert("mk8s.example.com")
    async with central.serve():
        said = await refusal(central.request())
    assert "check that CENTRAL_URL has a name that is in central's certificate" in said
    assert central.joins == []


@pytest.mark.parametrize("days", [-1, 1])
async def test_server_certificate_out_of_its_time(central: Central, days: int) -> None:
    now = datetime.datetime.now(datetime.UTC)
    start, end = now + datetime.timedelta(days=days - 0.5), now + datetime.timedelta(days=days)
    central.leaf = central.authority.issue_cert("localhost", not_before=start, not_after=end)
    async with central.serve():
        said = await refusal(central.request())
    assert "check the clock of this machine" in said
    assert central.joins == []


@pytest.mark.parametrize(("skew", "words"), [(600.0, "ahead of"), (-600.0, "behind")])
async def test_clock_ten_minutes_off(central: Central, skew: float, words: str) -> None:
    pauses = Pauses()
    pauses.skew = skew
    async with central.serve():
        said = await refusal(central.request(), pauses)
    assert f"seconds {words} central's: check the clock of both" in said
    assert central.joins == []


async def test_certificate_that_is_not_valid_yet(central: Central) -> None:
    central.starts = time.time() + 600
    async with central.serve():
        assert "check the clock of this machine" in await refusal(central.request())


@pytest.mark.parametrize(
    "make_date", [lambda: "", lambda: "yesterday", lambda: email.utils.formatdate(usegmt=True)],
    ids=["none", "word", "now"],
)  # fmt: skip
async def test_a_date_that_says_nothing_is_no_error(
    central: Central, make_date: Callable[[], str]
) -> None:
    async def answer(body: dict[str, Any]) -> web.Response:
        response = await central.issue(body)
        response.headers["Date"] = make_date()
        return response

    central.answer = answer
    async with central.serve():
        assert (await joined(central.request())).cluster_id == "c-1"


def error(status: int, message: object) -> Callable[[dict[str, Any]], Awaitable[web.Response]]:
    async def answer(_: dict[str, Any]) -> web.Response:
        return web.json_response({"status": status, "detail": message}, status=status)

    return answer


async def test_the_words_of_an_older_central_are_read(central: Central) -> None:
    async def answer(_: dict[str, Any]) -> web.Response:
        return web.json_response({"error": {"code": 403, "message": "expired"}}, status=403)

    central.answer = answer
    async with central.serve():
        with pytest.raises(JoinError, match="expired"):
            await joined(central.request())


@pytest.mark.parametrize("reason", ["used already", "expired", "of another cluster"])
async def test_refused_join_token_is_not_tried_again(central: Central, reason: str) -> None:
    central.answer = error(403, f"the join token is {reason}\x1b[2J")
    async with central.serve():
        said = await refusal(central.request())
    assert f"the join token is {reason}" in said
    assert said.endswith("get a new join token: mk8s admin clusters join-token prod")
    assert len(central.joins) == 1


@pytest.mark.parametrize("message", [None, 7, ["x"]])
async def test_other_refusals(central: Central, message: object) -> None:
    central.answer = error(422, message)
    async with central.serve():
        said = await refusal(central.request())
    assert "status 422; check CENTRAL_URL and CLUSTER_NAME" in said


async def test_redirects_are_not_followed(central: Central) -> None:
    async def answer(_: dict[str, Any]) -> web.Response:
        return web.Response(status=307, headers={"Location": "https://evil.example.com/join"})

    central.answer = answer
    async with central.serve():
        assert "status 307" in await refusal(central.request())


async def test_an_address_that_is_not_central(central: Central) -> None:
    async with central.serve():
        said = await refusal(central.request(central_url=central.url + "/elsewhere/"))
    assert "/elsewhere/ca.pem answered 404" in said


async def test_central_that_restarts_is_tried_again_with_the_same_key(central: Central) -> None:
    told: list[str] = []

    async def first(body: dict[str, Any]) -> web.Response:
        central.answer = second
        return await error(503, "starting")(body)

    async def second(body: dict[str, Any]) -> web.Response:
        central.answer = central.issue
        return await error(429, None)(body)

    central.answer = first
    async with central.serve():
        identity = await join(central.request(), told.append, Pauses())
    assert identity.cluster_id == "c-1"
    assert len({body["csr"] for body in central.joins}) == 1
    assert "central answered 503: starting; trying for another 60 seconds" in told[0]
    assert "central answered 429;" in told[1]


async def test_central_that_is_down(central: Central) -> None:
    async with central.serve():
        pass
    told: list[str] = []
    pauses = Pauses()
    with pytest.raises(JoinError, match=r"cannot join at localhost:\d+: cannot connect") as caught:
        await join(central.request(seconds=20.0), told.append, pauses)
    assert "check CENTRAL_URL and that mk8s-central runs" in str(caught.value)
    assert len(told) > 3
    assert pauses.waited >= 20


async def test_a_port_that_speaks_no_tls(central: Central) -> None:
    async with central.serve(tls=False):
        assert "cannot join at" in await refusal(central.request(seconds=0.0))


async def test_a_lost_answer_explains_a_used_token(central: Central) -> None:
    async def cut(request: web.Request) -> web.Response:
        body = await request.json()
        central.joins.append(body)
        if len(central.joins) == 1:
            assert request.transport
            request.transport.abort()
        return await error(403, "the join token was used")(body)

    central._join = cut  # type: ignore[method-assign]
    async with central.serve():
        said = await refusal(central.request())
    assert "an earlier try, whose answer was lost, may have used the token" in said


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b"{}",
        b'{"certificate": 1}',
        b'{"certificate": "x", "ca_certificate": "x", "cluster_id": "c"}',
    ],
)
async def test_an_answer_that_is_no_identity(central: Central, answer: bytes) -> None:
    async def give(_: dict[str, Any]) -> web.Response:
        return web.Response(body=answer)

    central.answer = give
    async with central.serve():
        assert "is not understood" in await refusal(central.request())


async def test_an_endless_answer_is_cut(central: Central) -> None:
    central.ca_pem = b"x" * 300_000
    async with central.serve():
        said = await refusal(central.request(seconds=0.0))
    assert "longer than 262144 bytes" in said


async def test_certificate_for_another_key(central: Central) -> None:
    async def swap(body: dict[str, Any]) -> web.Response:
        return await central.issue(body | {"csr": pki.csr(pki.new_key(), "prod").decode()})

    central.answer = swap
    async with central.serve():
        assert "is not understood" in await refusal(central.request())


async def test_certificate_of_another_cluster(central: Central) -> None:
    central.cluster_id = "c-2"
    async with central.serve():
        assert "certificate of another cluster" in await refusal(central.request())


async def test_a_ca_file_that_holds_none(central: Central) -> None:
    request = central.request(central_url="https://localhost:1", ca_pin="", authority_pem=b"x")
    assert "check --ca-file" in await refusal(request)


async def test_time_is_the_machines_own_by_default(central: Central) -> None:
    async def first(body: dict[str, Any]) -> web.Response:
        central.answer = central.issue
        return await error(500, None)(body)

    central.answer = first
    async with central.serve():
        identity = await join(central.request(), lambda _: None)
    assert identity.cluster_id == "c-1"
