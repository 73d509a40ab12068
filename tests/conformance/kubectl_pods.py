"""What kubectl does in the chapter "Pods"."""

import hashlib
import subprocess
import urllib.request

from tests.conformance.kubectl_session import (
    KubectlSession,
    last_line,
    nothing,
    operation,
)
from tests.conformance.outcome import Unavailable
from tests.conformance.terminal import Terminal

EXEC = ("exec", "web")


def content(size: int) -> bytes:
    """Bytes that no compression or repetition makes easy; the same for each run."""
    return b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(size // 32))


@operation("logs")
def logs(k: KubectlSession) -> None:
    k("logs", "quiet", works=True)
    k("logs", "quiet", "--tail=2")
    k("logs", "quiet", "--timestamps", "--limit-bytes=90")
    k("logs", "-l", "app=quiet", "--prefix")
    k("logs", "quiet", "-c", "absent")
    k("logs", "quiet", "--previous")


@operation("logs-follow")
def logs_follow(k: KubectlSession) -> None:
    k("logs", "-f", "web", "--limit-bytes=200")
    with k.running("logs", "-f", "quiet") as following:
        following.wait_for_line("line 5")
        k.note("logs -f", following.output)


@operation("exec")
def execute(k: KubectlSession) -> None:
    k(*EXEC, "--", "echo", "hello", works=True)
    k(*EXEC, "--", "sh", "-c", "echo broken >&2; echo fine; exit 7")
    k(*EXEC, "--", "absent-program")
    k(*EXEC, "-c", "absent", "--", "true")
    k(*EXEC, "--", "sh", "-c", "echo 'spaces & signs: % + / ?' \"$0\"", "zero=1&b;c")
    k("exec", "deploy/absent", "--", "true")


@operation("exec-stdin")
def exec_stdin(k: KubectlSession) -> None:
    k(*EXEC, "-i", "--", "cat", stdin="typed\n", works=True)
    k(*EXEC, "-i", "--", "wc", "-c", stdin="x" * 3_000_000)
    k(*EXEC, "-i", "--", "cat", stdin="")
    k(*EXEC, "-i", "--", "sh", stdin="echo one; echo two >&2; exit 4\n")


@operation("exec-tty")
def exec_tty(k: KubectlSession) -> None:
    interactive(k)


def interactive(k: KubectlSession, *, resizes: bool = True) -> None:
    """A shell in a terminal: prompt, echo, size, resize, exit code."""
    command = [str(k.binary), "-n", k.namespace, *EXEC, "-it", "--", "sh"]
    with Terminal(command, k.place.environment, k.folder) as terminal:
        prompted = terminal.wait_for(r"# ")
        terminal.type("echo hello world\n")
        said = f"prompt {prompted}, echo {terminal.wait_for('(?m)^hello world')}"
        if resizes:
            terminal.type("stty size\n")
            said += f", size {terminal.wait_for('24 80')}"
            terminal.resize(50, 132)
            terminal.type("sleep 1; stty size\n")
            said += f", resized {terminal.wait_for('50 132')}"
        terminal.type("exit 3\n")
        code = terminal.end()
    k.note("exec -it sh", said, code=code)


@operation("exec-large")
def exec_large(k: KubectlSession) -> None:
    def digest(text: str) -> str:
        return f"{len(text)} {hashlib.sha256(text.encode()).hexdigest()}"

    k(*EXEC, "--", "sh", "-c", "seq 1 1100000", show=digest)


@operation("attach")
def attach(k: KubectlSession) -> None:
    with subprocess.Popen(
        [str(k.binary), "-n", k.namespace, "attach", "-i", "quiet"],
        env=dict(k.place.environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as attached:
        assert attached.stdin
        assert attached.stdout
        attached.stdin.write("said to the pod\n")
        attached.stdin.flush()
        heard = attached.stdout.readline()
        attached.terminate()
        complaint = attached.communicate()[1]
        hint = "If you don't see a command prompt, try pressing enter."
        k.note("attach -i", heard, errors=complaint.replace(hint, ""))
    k("attach", "absent")


@operation("cp")
def copy(k: KubectlSession) -> None:
    copy_both_ways(k, 3 << 20)


def copy_both_ways(k: KubectlSession, size: int) -> None:
    """One file there and back, then a folder."""
    k.write("up", content(size))
    there = f"{k.namespace}/web:/tmp/copied"
    k("cp", "up", there, facts=False, works=True)
    k(*EXEC, "--", "sha256sum", "/tmp/copied")
    k("cp", there, "down", facts=False, works=True)
    down = k.folder / "down"
    found = hashlib.sha256(down.read_bytes()).hexdigest() if down.exists() else "no file"
    k.note("the copy of the copy", found)
    inner = k.folder / "tree/inner"
    inner.mkdir(parents=True, exist_ok=True)
    (inner / "leaf").write_text("green\n")
    k("cp", "tree", f"{k.namespace}/web:/tmp/tree", facts=False)
    k(*EXEC, "--", "cat", "/tmp/tree/inner/leaf")
    # An old kubectl shows tar's complaint or not, as its goroutines happen to run.
    k("cp", f"{k.namespace}/web:/tmp/absent", "nothing", facts=False, show=nothing)


@operation("port-forward")
def port_forward(k: KubectlSession) -> None:
    forward(k, "pod/web")
    k("port-forward", "pod/absent", ":80")


def forward(k: KubectlSession, target: str, *options: str) -> str:
    """Three requests through a forwarded port; what kubectl printed."""
    with k.running(*options, "port-forward", target, ":8080") as forwarding:
        port = forwarding.wait_for_line(r"Forwarding from 127\.0\.0\.1:(\d+)")[1]
        for number in range(3):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer:
                k.note(f"request {number}", answer.read().decode(), code=answer.status)
        return forwarding.output


@operation("run")
def run(k: KubectlSession) -> None:
    image = ("--image=lab/busybox:1", "--image-pull-policy=Never", "--restart=Never")
    told = ("--rm", "-i", "--quiet", "--pod-running-timeout=60s")
    k("run", "once", *image, *told, "--", "sh", "-c", "read x; echo got $x; exit 5",
      stdin="typed\n", facts=False, seconds=90)  # fmt: skip
    k("run", "twice", *image, "--dry-run=server", "-o", "name")


@operation("debug")
def debug(k: KubectlSession) -> None:
    k.needs((1, 27), "`debug` outside alpha")
    words = ("debug", "web", "--image=lab/busybox:1", "--image-pull-policy=Never")
    k(*words, "--profile=general", "--", "true", show=last_line, facts=False)
    k(*words, "--profile=general", "--copy-to=copied", "--", "sleep", "1", facts=False)
    k("get", "pod", "copied", "-o", "jsonpath={.spec.containers[*].image}")
    k.quiet("delete", "pod", "copied", "--now")


@operation("top")
def top(k: KubectlSession) -> None:
    if k.quiet("top", "nodes").returncode:
        raise Unavailable("the cluster has no metrics")
    k("top", "pods", show=nothing)
    k("top", "nodes", show=nothing)


@operation("pod-proxy")
def pod_proxy(k: KubectlSession) -> None:
    base = f"/api/v1/namespaces/{k.namespace}/pods"
    k("get", "--raw", f"{base}/web:8080/proxy/")
    k("get", "--raw", f"{base}/web:8080/proxy/absent?a=b%20c")
    k("get", "--raw", f"{base}/web:8081/proxy/", show=nothing, facts=False)
