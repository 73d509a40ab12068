# The agent's image: the one package mk8s_agent, compiled, and its dependencies by the lock's hashes;
# nothing of central, no shell history, no root. Build from the checkout:
#
#   docker build -f deploy/docker/agent.Dockerfile -t mk8s-agent .
#
# For an image that is built twice the same, and from what you have looked at, give the base with its digest:
# --build-arg PYTHON_IMAGE=python:3.13-slim@sha256:...
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY deploy/requirements.lock deploy/requirements.lock
COPY deploy/docker/locked.py deploy/docker/locked.py
RUN python deploy/docker/locked.py release > release.txt \
    && python -m venv /opt/build && /opt/build/bin/pip install --no-cache-dir --require-hashes -r release.txt \
    && python deploy/docker/locked.py agent > agent.txt \
    && python -m venv /opt/mk8s && /opt/mk8s/bin/pip install --no-cache-dir --require-hashes -r agent.txt
COPY deploy/wheel deploy/wheel
# The other packages are not here, so the wheel has this one only.
COPY mk8s_agent mk8s_agent
RUN MK8S_COMPILE=1 /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation -w /wheels . \
    && /opt/mk8s/bin/pip install --no-cache-dir --no-deps --no-index /wheels/*.whl

FROM ${PYTHON_IMAGE}
# The folder is for whoever the container runs as: on one machine that is the owner of the kubeconfig.
RUN useradd --system --uid 10001 --home-dir /var/lib/mk8s-agent --create-home mk8s && chmod 1777 /var/lib/mk8s-agent
COPY --from=build /opt/mk8s /opt/mk8s
ENV MK8S_AGENT_HEALTH_LISTEN=127.0.0.1:8082 PYTHONUNBUFFERED=1
USER 10001
VOLUME /var/lib/mk8s-agent
HEALTHCHECK --interval=10s --timeout=5s --start-period=90s CMD ["/opt/mk8s/bin/python", "-c", \
    "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8082/livez', timeout=4)"]
ENTRYPOINT ["/opt/mk8s/bin/python", "-m", "mk8s_agent"]
