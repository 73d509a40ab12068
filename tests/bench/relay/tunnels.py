"""Many connected clusters: a fleet for the product, more tunnels for the Go peer; their memory."""

import json

from mk8s_agent.wire import pki
from tests.bench.relay.laboratory import Laboratory
from tests.bench.relay.launch import Services
from tests.bench.relay.measures import Sample
from tests.bench.relay.measures_memory import growth, settled
from tests.bench.relay.product import Product
from tests.support.processes import Program

_KIB = 1024


def start_fleet(product: Product, services: Services, count: int, *, first: int = 0) -> Program:
    """Registers clusters and connects an agent of each, certified by the product's own CA."""
    names = [f"fleet-{number}" for number in range(first, first + count)]
    ids = product.add_clusters(names)
    authorities = product.authorities()
    key = pki.new_key()
    request = pki.csr(key, "fleet")
    signed = {it: authorities.agent_ca.sign_agent(request, it) for it in ids.values()}
    product.record_certificates(signed)
    plan = {
        "port": product.port,
        "authority": authorities.server_ca.certificate_pem.decode(),
        "key": pki.key_to_pem(key).decode(),
        "certificates": [it.certificate_pem.decode() for it in signed.values()],
    }
    file = product.folder / f"fleet-{first}.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps(plan))
    program = services.python("fleet", "fleet", str(file))
    program.wait_for_line("^ready", seconds=120)
    return program


def product_tunnels(laboratory: Laboratory, _name: str, count: int) -> Sample:
    """KiB at central for each tunnel of another cluster."""
    with laboratory.fresh("product") as target:
        before = settled(target.memory)
        cpu = target.cpu()["central"]
        product = laboratory.last_product
        start_fleet(product, product.services, count)
        spent = target.cpu()["central"] - cpu
        after = settled(target.memory)
    return _sample(before, after, count, spent)


def go_tunnels(laboratory: Laboratory, name: str, count: int) -> Sample:
    """The same of the Go tunnel."""
    with laboratory.fresh(name) as target:
        before = settled(target.memory)
        cpu = target.cpu()["central"]
        more = laboratory.last_go.dial("more tunnels", count)
        after = settled(target.memory, pause=1.5)
        spent = target.cpu()["central"] - cpu
        assert more.running, more.output
    return _sample(before, after, count, spent)


def _sample(before: dict[str, int], after: dict[str, int], count: int, cpu: float) -> Sample:
    whole = growth(before, after, _KIB * count, "kib")
    return {"kib.central": whole["kib.central"], "accept_cpu_us": cpu / count * 1e6}
