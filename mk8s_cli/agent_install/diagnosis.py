"""Why an agent does not come: what the cluster says of its Deployment, pods and logs, in words.

Pure: `install` reads the objects. The order is the one in which things go wrong: no pod is made, no
node takes it, no image comes, it does not start, it ends, it waits for central.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from mk8s_cli.central.api import Document
from mk8s_cli.terminal.screen import one_line

_REVISION: Final = "deployment.kubernetes.io/revision"
_NO_IMAGE: Final = {"ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"}
_NOT_STARTED: Final = {
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "StartError",
}
_ENDED: Final = "mk8s-agent: "
"""How the line begins that an agent ends with."""
_SANDBOX: Final = {"FailedMount", "FailedCreatePodSandBox", "FailedAttachVolume"}


@dataclass(frozen=True, slots=True)
class Observed:
    """One look at the agent in its cluster."""

    deployment: Document = field(default_factory=dict)
    replica_sets: Sequence[Document] = ()
    pods: Sequence[Document] = ()
    events: Sequence[Document] = ()
    log: str = ""
    """The last lines of the newest pod; of its run before, where that has ended."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What is told of one look."""

    sentence: str
    hopeless: bool = False
    """Whether waiting is of no use: somebody has to change something."""
    ready: bool = False
    """Whether the newest pod says that it serves."""


def examine(observed: Observed) -> Finding:
    """Return what the look tells."""
    newest = newest_of(observed.replica_sets)
    if (refusal := _no_pod(observed.deployment, newest)) is not None:
        return refusal
    pod = pod_of(newest, observed.pods)
    if pod is None:
        return Finding("the cluster makes the agent's pod")
    status = _container(pod)
    if status is None:
        return _not_placed(pod, observed.events)
    return _of_container(pod, status, observed)


def newest_of(replica_sets: Sequence[Document]) -> Document | None:
    """Return the one that the Deployment's last change has made."""
    return max(replica_sets, key=_revision, default=None)


def pod_of(replica_set: Document | None, pods: Sequence[Document]) -> Document | None:
    """Return the newest pod of a replica set."""
    if replica_set is None:
        return None
    owner = _metadata(replica_set).get("uid")
    owned = [
        pod
        for pod in pods
        if any(it.get("uid") == owner for it in _metadata(pod).get("ownerReferences") or ())
    ]
    return max(owned, key=lambda it: str(_metadata(it).get("creationTimestamp", "")), default=None)


def has_ended_before(pod: Document) -> bool:
    """Whether the log to read is the one of the run before: now it waits to be started again."""
    status = _container(pod) or {}
    return "waiting" in _state(status) and bool(status.get("restartCount"))


def _of_container(pod: Document, status: Document, observed: Observed) -> Finding:
    state = _state(status)
    waiting = _part(state, "waiting")
    reason = str(waiting.get("reason", ""))
    if reason in _NO_IMAGE or reason == "ErrImagePull":
        return _no_image(status, waiting, hopeless=reason in _NO_IMAGE)
    if reason in _NOT_STARTED:
        return Finding(f"the agent's container cannot be made: {_message(waiting)}", hopeless=True)
    ended = _part(state, "terminated") or _part(_part(status, "lastState"), "terminated")
    if "running" not in state and ended:
        return _of_end(ended, observed.log)
    if status.get("ready") is True:
        return Finding("the agent serves", ready=True)
    if "running" in state:
        waits = _waits_for(observed.log)
        return Finding(f"the agent runs and {waits or 'joins central'}")
    return _not_placed(pod, observed.events)


def _no_pod(deployment: Document, replica_set: Document | None) -> Finding | None:
    """Return why no pod is made: quota, admission, Pod Security."""
    for owner in (replica_set or {}, deployment):
        for condition in _conditions(owner):
            if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
                return Finding(_refused_pod(_message(condition)), hopeless=True)
    return None


def _refused_pod(message: str) -> str:
    if "exceeded quota" in message or "must specify" in message:
        why = "the namespace's quota leaves no room for the agent's pod"
    elif "violates PodSecurity" in message:
        why = "Pod Security of the namespace does not admit the agent's pod"
    elif "admission webhook" in message or "ValidatingAdmissionPolicy" in message:
        why = "an admission rule of the cluster refuses the agent's pod"
    elif "serviceaccount" in message:
        why = "the agent's ServiceAccount is not there"
    else:
        why = "the cluster refuses the agent's pod"
    return f"{why}: {message}"


def _not_placed(pod: Document, events: Sequence[Document]) -> Finding:
    for condition in _conditions(pod):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return Finding(f"no node takes the agent's pod: {_message(condition)}")
    name = _metadata(pod).get("name")
    troubles = [
        event
        for event in events
        if event.get("reason") in _SANDBOX and _part(event, "involvedObject").get("name") == name
    ]
    if troubles:
        return Finding(f"the agent's pod cannot be set up: {_message(troubles[-1])}")
    return Finding("a node pulls the agent's image and starts it")


def _no_image(status: Document, waiting: Mapping[str, Any], *, hopeless: bool) -> Finding:
    image = one_line(str(status.get("image", "")))
    return Finding(
        f"the node cannot pull the image {image}: {_message(waiting)}; "
        "give one that it can, with --image",
        hopeless=hopeless,
    )


def _of_end(ended: Mapping[str, Any], log: str) -> Finding:
    if ended.get("reason") == "OOMKilled":
        return Finding("the agent took more memory than its limit and was ended", hopeless=True)
    lines = [line for line in log.splitlines() if line.startswith(_ENDED)]
    code = ended.get("exitCode")
    if not lines:
        last = one_line(log.strip().rpartition("\n")[2]) or "it printed nothing"
        return Finding(f"the agent ended with exit code {code}: {last}", hopeless=True)
    said = one_line(lines[-1].removeprefix(_ENDED))
    if "clock" in said:
        why = "a clock is wrong"
    elif "cannot join at" in said or "is not trusted" in said:
        why = "the agent does not reach central from inside the cluster"
    elif "refused to let" in said:
        why = "central refuses the agent"
    else:
        why = "the agent ended"
    return Finding(f"{why}: {said}", hopeless=True)


def _waits_for(log: str) -> str:
    """Return what the agent's last warning says that it waits for, "" where there is none."""
    for line in reversed(log.splitlines()):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and row.get("level") in {"warning", "error"}:
            reason = one_line(str(row.get("reason", "")))
            return f"waits for central: {reason}" if reason else ""
    return ""


def _container(pod: Document) -> Document | None:
    statuses = _part(pod, "status").get("containerStatuses")
    return statuses[0] if isinstance(statuses, list) and statuses else None


def _state(status: Mapping[str, Any]) -> Mapping[str, Any]:
    return _part(status, "state")


def _conditions(owner: Document) -> list[Document]:
    conditions = _part(owner, "status").get("conditions")
    return conditions if isinstance(conditions, list) else []


def _message(of: Mapping[str, Any]) -> str:
    return one_line(str(of.get("message") or of.get("reason") or "no reason given"))


def _metadata(of: Document) -> Mapping[str, Any]:
    return _part(of, "metadata")


def _revision(replica_set: Document) -> int:
    annotations = _metadata(replica_set).get("annotations") or {}
    told = str(annotations.get(_REVISION, "0"))
    return int(told) if told.isdigit() else 0


def _part(of: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = of.get(key)
    return found if isinstance(found, Mapping) else {}
