"""Everything that runs at the same time during a benchmark, and fresh instances where needed.

One stub, one product and one of each peer serve all measures of all rounds, so that rounds are
interleaved. Measures of memory ask for instances of their own, since a used heap hides growth.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench.relay import peers
from tests.bench.relay.certificates import Certificates, make_certificates
from tests.bench.relay.goals import DIRECT, GO, GO_400, PRODUCT
from tests.bench.relay.kube import api_server
from tests.bench.relay.launch import Missing, Services
from tests.bench.relay.product import CLUSTER, Product
from tests.bench.relay.results import Results
from tests.bench.relay.stub import TOKEN, Stub, direct, start_stub, write_kubeconfig
from tests.bench.relay.targets import Target

KUBE = "kube"
"""The product's name for the real cluster."""


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
        self.last_product: Product
        self.last_go: peers.GoTunnel
        self._count = 0
        self._kube: dict[str, Target] | None = None
        self._stack = ExitStack()

    def start(self, *, with_peers: bool) -> None:
        """The stub, the product and, if wanted, every peer that this machine has."""
        folder = self.services.folder
        self.certificates = make_certificates(folder / "tls")
        self.stub = start_stub(self.services, self.certificates)
        self.upstream = peers.Upstream(self.stub.port, self.stub.authority)
        self.kubeconfig = write_kubeconfig(
            folder / "kubeconfig", self.stub.url, self.stub.authority, TOKEN
        )
        self._add(lambda: direct(self.stub))
        self.product = self.new_product(self.services)
        self._add(self.product.target)
        if with_peers:
            self._start_peers()

    def _start_peers(self) -> None:
        given = (self.services, self.certificates, self.upstream)
        self._add(lambda: peers.nginx(*given))
        self._add(lambda: peers.haproxy(*given))
        self._add(lambda: self._go(GO, 100))
        self._add(lambda: self._go(GO_400, 400))
        self._add(lambda: peers.go_proxy(*given))

    def new_product(
        self, services: Services, settings: Mapping[str, str] | None = None, **size: int
    ) -> Product:
        """A central with its agent in front of the stub."""
        product = Product(services, PRODUCT, tunnels=self.options.tunnels, settings=settings)
        product.initialise(**size)
        product.start_central()
        product.start_agent(CLUSTER, self.kubeconfig)
        return product

    def _go(self, name: str, gogc: int) -> Target:
        made = peers.go_tunnel(
            self.services, self.certificates, self.upstream, name=name, gogc=gogc
        )
        return made.target

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
    def fresh(self, name: str, **settings: str) -> Iterator[Target]:
        """A target of the same kind in new processes, ended with the block.

        Args:
            name: the product or the Go tunnel.
            settings: environment variables of the product's central.

        Raises:
            Missing: the kind cannot be started here.
        """
        self._count += 1
        folder = self.services.folder / f"fresh-{self._count}"
        folder.mkdir()
        services = Services(folder)
        try:
            if name == PRODUCT:
                self.last_product = self.new_product(services, settings)
                yield self.last_product.target()
            else:
                self.last_go = peers.go_tunnel(
                    services, self.certificates, self.upstream, name=name
                )
                yield self.last_go.target
        finally:
            services.close()

    @property
    def kube(self) -> dict[str, Target]:
        """Direct, product and Go tunnel in front of a real API server, started on first use.

        Raises:
            Missing: there is none.
        """
        if self._kube is None:
            upstream = self._stack.enter_context(api_server())
            self._kube = self._before_kube(upstream)
        return self._kube

    def _before_kube(self, upstream: peers.Upstream) -> dict[str, Target]:
        url = f"https://127.0.0.1:{upstream.port}"
        file = self.services.folder / "kube-kubeconfig"
        write_kubeconfig(file, url, upstream.authority, upstream.token)
        self.product.start_agent(KUBE, file)
        address = ("127.0.0.1", upstream.port)
        straight = Target(DIRECT, address, upstream.authority, (upstream.token,))
        targets = [straight, self.product.target(KUBE)]
        try:
            go = peers.go_tunnel(self.services, self.certificates, upstream, name="kube-go")
            targets.append(replace(go.target, name=GO))
        except Missing as reason:
            self.results.note(f"a peer is left out: {reason}")
        return {target.name: target for target in targets}

    def close(self) -> None:
        """Ends every process."""
        try:
            self.services.close()
        finally:
            self._stack.close()
