"""Everything that runs at the same time during a benchmark, and fresh instances where needed.

One stub, one product and one of each peer serve all measures of all rounds, so that rounds are
interleaved. Measures of memory ask for instances of their own, since a used heap hides growth.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench.relay import peers
from tests.bench.relay.certificates import Certificates, make_certificates
from tests.bench.relay.goals import GO, GO_400
from tests.bench.relay.launch import Missing, Services
from tests.bench.relay.product import CLUSTER, Product
from tests.bench.relay.results import Results
from tests.bench.relay.stub import TOKEN, Stub, direct, start_stub, write_kubeconfig
from tests.bench.relay.targets import Target


@dataclass(frozen=True, slots=True)
class Options:
    """How much is measured."""

    rounds: int
    quick: bool
    tunnels: int

    @property
    def seconds(self) -> float:
        """Of each closed loop."""
        return 0.7 if self.quick else 3.0

    def amount(self, full: int, quick: int) -> int:
        """A count that depends on --quick."""
        return quick if self.quick else full


class Laboratory:
    """The running world; `close` ends all of it."""

    def __init__(self, folder: Path, options: Options, results: Results) -> None:
        self.options = options
        self.results = results
        self.services = Services(folder)
        self.certificates: Certificates
        self.stub: Stub
        self.upstream: peers.Upstream
        self.product: Product
        self.targets: dict[str, Target] = {}
        self._count = 0

    def start(self) -> None:
        """The stub, the product and every peer that this machine has."""
        folder = self.services.folder
        self.certificates = make_certificates(folder / "tls")
        self.stub = start_stub(self.services, self.certificates)
        self.upstream = peers.Upstream(self.stub.port, self.stub.authority)
        self.kubeconfig = write_kubeconfig(
            folder / "kubeconfig", self.stub.url, self.stub.authority, TOKEN
        )
        self._add(lambda: direct(self.stub))
        self.product = self.new_product("product")
        self._add(self.product.target)
        given = (self.services, self.certificates, self.upstream)
        self._add(lambda: peers.nginx(*given))
        self._add(lambda: peers.haproxy(*given))
        self._add(lambda: peers.go_tunnel(*given, name=GO))
        self._add(lambda: peers.go_tunnel(*given, name=GO_400, gogc=400))
        self._add(lambda: peers.go_proxy(*given))

    def new_product(self, name: str) -> Product:
        """A central with its agent in front of the stub."""
        product = Product(self.services, name, tunnels=self.options.tunnels)
        product.initialise()
        product.start_central()
        product.start_agent(CLUSTER, self.kubeconfig)
        return product

    def _add(self, make: Callable[[], Target]) -> None:
        try:
            target = make()
        except Missing as reason:
            self.results.note(f"a peer is left out: {reason}")
        else:
            self.targets[target.name] = target

    def named(self, *names: str) -> list[Target]:
        """Those of these targets that take part."""
        return [self.targets[name] for name in names if name in self.targets]

    @contextmanager
    def fresh(self, name: str) -> Iterator[Target]:
        """A target of the same kind in new processes, ended with the block.

        Raises:
            Missing: the kind cannot be started here.
        """
        self._count += 1
        folder = self.services.folder / f"fresh-{self._count}"
        folder.mkdir()
        services = Services(folder)
        try:
            if name == "product":
                yield self._fresh_product(services)
            else:
                given = (services, self.certificates, self.upstream)
                yield replace(peers.go_tunnel(*given), name=name)
        finally:
            services.close()

    def _fresh_product(self, services: Services) -> Target:
        product = Product(services, "product", tunnels=self.options.tunnels)
        product.initialise()
        product.start_central()
        product.start_agent(CLUSTER, self.kubeconfig)
        self.last_product = product
        return product.target()

    def close(self) -> None:
        """Ends every process."""
        self.services.close()
