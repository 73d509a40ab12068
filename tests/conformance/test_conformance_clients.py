"""Which clients a run has: what is wanted is made, what is absent is told with its reason."""

import pytest

from tests.conformance import clients
from tests.conformance.http_client import HttpClient


@pytest.mark.parametrize(
    ("title", "wanted", "is_wanted"),
    [
        ("helm 4", [], True),
        ("helm 4", ["helm"], True),
        ("helm 4", ["helm 4.3"], True),
        ("helm 4", ["helm 3"], False),
        ("Python", ["Python 37.0.2"], True),
        ("kubectl 1.33", ["1.33"], True),
        ("kubectl 1.33", ["1.3"], True),
        ("k9s", ["1.33", "python"], False),
    ],
)
def test_words_choose_clients(title: str, wanted: list[str], is_wanted: bool) -> None:
    assert clients.is_wanted(title, wanted) == is_wanted


def test_a_client_that_is_not_wanted_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def make(title: str) -> str:
        made.append(title)
        return "its compiler is absent"

    factories = {title: lambda title=title: make(title) for title in ("k9s", "fabric8")}
    monkeypatch.setattr(clients, "FACTORIES", factories)
    monkeypatch.setattr(clients.kubectl_client, "found", list)
    found, missing = clients.all_clients(["fabric8"])
    assert (found, made) == ([], ["fabric8"])
    assert missing == {"fabric8": "left out: fabric8: its compiler is absent"}


def test_a_client_that_is_there_is_a_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "FACTORIES", {"HTTP": HttpClient})
    monkeypatch.setattr(clients.kubectl_client, "found", list)
    found, missing = clients.all_clients()
    assert ([client.name for client in found], missing) == (["HTTP/1.1 by hand"], {})
