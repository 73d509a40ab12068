# The agent's image: the one package mk8s_agent and its dependencies, nothing of central, no shell history, no root.
# Build from the checkout: docker build -f deploy/docker/agent.Dockerfile -t mk8s-agent .
FROM python:3.13-slim AS build
COPY pyproject.toml deploy/requirements.lock /build/
# What to install is the extra "agent", in the versions of the lock: the image holds what the tests ran with.
RUN python -m venv /opt/mk8s \
    && sed -e 's/ \\$//' -e '/^ *--hash/d' /build/requirements.lock > /build/constraints.txt \
    && python -c "import tomllib; project = tomllib.load(open('/build/pyproject.toml', 'rb'))['project']; \
                  print(*project['optional-dependencies']['agent'], sep='\n')" > /build/agent.txt \
    && /opt/mk8s/bin/pip install --no-cache-dir -c /build/constraints.txt -r /build/agent.txt
COPY mk8s_agent /opt/mk8s/app/mk8s_agent

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/mk8s-agent --create-home mk8s
COPY --from=build /opt/mk8s /opt/mk8s
ENV PYTHONPATH=/opt/mk8s/app PYTHONUNBUFFERED=1
USER 10001
VOLUME /var/lib/mk8s-agent
ENTRYPOINT ["/opt/mk8s/bin/python", "-m", "mk8s_agent"]
