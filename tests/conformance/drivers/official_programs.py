"""What programs on the official Python client do all day: an informer, a leader election."""

import threading
from typing import Any

import kubernetes.client
import kubernetes.informer
import kubernetes.leaderelection.electionconfig
import kubernetes.leaderelection.leaderelection
import kubernetes.leaderelection.resourcelock.leaselock

from tests.conformance.drivers.protocol import Notes, restarted, until

informers: Any = kubernetes.informer
leaderelection: Any = kubernetes.leaderelection
client: Any = kubernetes.client


def informer_restart(n: Notes, api: Any, namespace: str) -> None:
    """The library's shared informer lives through the agent's restart."""
    listing = client.CoreV1Api(api).list_namespaced_config_map
    informer = informers.SharedInformer(listing, namespace, label_selector="app=lasting")
    gone: list[str] = []
    informer.add_event_handler("DELETED", lambda found: gone.append(found.metadata.name))
    informer.start()

    def known() -> dict[str, Any]:
        return {found.metadata.name: found.data for found in informer.cache.list()}

    until(lambda: len(known()) == 3, "the informer's first list")
    restarted()
    until(lambda: "last" in known(), "what happened after the restart")
    n.note("known", known())
    n.note("told to be gone", sorted(set(gone)))


class Candidate:
    """One who wants to lead."""

    def __init__(self, name: str, api: Any, namespace: str, told: list[str]) -> None:
        self.name, self.told = name, told
        self.resign = threading.Event()
        lock = leaderelection.resourcelock.leaselock.LeaseLock("chair", namespace, name)
        lock.api_instance = client.CoordinationV1Api(api)
        config = leaderelection.electionconfig.Config(
            lock, lease_duration=4, renew_deadline=3, retry_period=1,
            onstarted_leading=self.lead, onstopped_leading=lambda: told.append(f"{name} stops"),
        )  # fmt: skip
        election = leaderelection.leaderelection.LeaderElection(config)
        threading.Thread(target=election.run, daemon=True).start()

    def lead(self) -> None:
        """Lead until told to resign; the library ends an election by an error of its leader."""
        self.told.append(f"{self.name} leads")
        self.resign.wait()
        raise RuntimeError(f"{self.name} resigns")


def leader_election(n: Notes, api: Any, namespace: str) -> None:
    """Two candidates, of whom the second follows the first."""
    told: list[str] = []
    first = Candidate("one", api, namespace, told)
    until(lambda: "one leads" in told, "a leader")
    second = Candidate("two", api, namespace, told)
    leases = client.CoordinationV1Api(api)
    renewed = leases.read_namespaced_lease("chair", namespace).spec.renew_time
    until(
        lambda: leases.read_namespaced_lease("chair", namespace).spec.renew_time != renewed,
        "a renewal",
    )
    first.resign.set()
    until(lambda: "two leads" in told, "the next leader")
    n.note("told", told)
    spec = leases.read_namespaced_lease("chair", namespace).spec
    n.note("lease", [spec.holder_identity, spec.lease_duration_seconds])
    second.resign.set()
    until(lambda: "two stops" in told, "the end")
    leases.delete_namespaced_lease("chair", namespace)
