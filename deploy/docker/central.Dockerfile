# Central's image. Data (SQLite, audit journal) lives in /var/lib/mk8s: mount a volume there.
# Build from the checkout: docker build -f deploy/docker/central.Dockerfile -t mk8s-central .
FROM python:3.13-slim AS build
COPY . /build
# Versions come from the lock, so that the image holds what the tests ran with.
RUN python -m venv /opt/mk8s \
    && sed -e 's/ \\$//' -e '/^ *--hash/d' /build/deploy/requirements.lock > /tmp/constraints.txt \
    && /opt/mk8s/bin/pip install --no-cache-dir -c /tmp/constraints.txt "/build[central]"

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/mk8s --create-home mk8s
COPY --from=build /opt/mk8s /opt/mk8s
ENV MK8S_DATA_DIR=/var/lib/mk8s PYTHONUNBUFFERED=1 PATH=/opt/mk8s/bin:$PATH
USER 10001
VOLUME /var/lib/mk8s
EXPOSE 8443
ENTRYPOINT ["mk8s-central"]
CMD ["serve"]
