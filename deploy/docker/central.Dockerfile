# Central's image: the compiled wheel, and what the lock says, by hashes. Data (SQLite, the journal of
# the audit) is in /var/lib/mk8s: mount a volume there. Build from the checkout:
#
#   docker build -f deploy/docker/central.Dockerfile -t mk8s-central .
#
# For an image that is built twice the same, and from what you have looked at, give the base with its digest:
# --build-arg PYTHON_IMAGE=python:3.13-slim@sha256:...
#
# With a stock kubectl in it, for commands that central runs itself: --target with-kubectl, and in
# KUBECTL_IMAGE an image that has one at /bin/kubectl.
ARG PYTHON_IMAGE=python:3.13-slim
ARG KUBECTL_IMAGE=scratch

FROM ${PYTHON_IMAGE} AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY deploy/requirements.lock deploy/requirements.lock
COPY deploy/docker/locked.py deploy/docker/locked.py
RUN python deploy/docker/locked.py release > release.txt \
    && python -m venv /opt/build && /opt/build/bin/pip install --no-cache-dir --require-hashes -r release.txt \
    && python deploy/docker/locked.py base central > central.txt \
    && python -m venv /opt/mk8s && /opt/mk8s/bin/pip install --no-cache-dir --require-hashes -r central.txt
COPY deploy/wheel deploy/wheel
COPY mk8s_agent mk8s_agent
COPY mk8s_proxy mk8s_proxy
COPY mk8s_cli mk8s_cli
RUN MK8S_COMPILE=1 /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation -w /wheels . \
    && /opt/mk8s/bin/pip install --no-cache-dir --no-deps --no-index /wheels/*.whl

FROM ${PYTHON_IMAGE} AS base
RUN useradd --system --uid 10001 --home-dir /var/lib/mk8s --create-home mk8s
COPY --from=build /opt/mk8s /opt/mk8s
ENV MK8S_DATA_DIR=/var/lib/mk8s PYTHONUNBUFFERED=1 PATH=/opt/mk8s/bin:$PATH
USER 10001
VOLUME /var/lib/mk8s
EXPOSE 8443
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["/opt/mk8s/bin/python", "-c", \
    "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8081/livez', timeout=4)"]
ENTRYPOINT ["mk8s-central"]
CMD ["serve"]

FROM ${KUBECTL_IMAGE} AS kubectl

FROM base AS with-kubectl
COPY --from=kubectl /bin/kubectl /usr/local/bin/kubectl

FROM base AS central
