"""The objects of a fresh demo API; loaded by `app` from `samples.yaml`."""

from pathlib import Path

import yaml

from mk8s_cli.demo_api import defaults
from mk8s_cli.demo_api.state import ApiState


def load(api: ApiState) -> None:
    """Stores the samples, in the order of the file."""
    text = Path(__file__).with_name("data").joinpath("samples.yaml").read_text()
    for item in yaml.safe_load_all(text):
        group, _, version = item["apiVersion"].rpartition("/")
        kind = next(
            one for one in api.catalogue.in_version(group, version) if one.kind == item["kind"]
        )
        if kind.namespaced:
            item["metadata"].setdefault("namespace", "shop")
        stored = api.store.create(kind.resource, defaults.complete(api, kind, item))
        defaults.stored(api, kind, stored)
