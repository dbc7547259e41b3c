"""Who is running while the client tests run: one model server, and gateways in front of it."""

import pytest

from gateway import Gateway
from model import Model


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """The real model, alone on its server: one request at a time."""
    with Model(tmp_path_factory.mktemp("model") / "model.log") as running:
        yield running


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """`freellmapi demo`."""
    with Gateway.demo(tmp_path_factory.mktemp("demo")) as running:
        yield running


@pytest.fixture(scope="session")
def gateway(model, tmp_path_factory):
    """A gateway whose only provider is the real model; shared, so its statistics are anybody's."""
    with Gateway.serve(tmp_path_factory.mktemp("gateway"), model.provider()) as running:
        yield running


@pytest.fixture
def own_gateway(model, tmp_path):
    """The same, of this test alone and with an empty store."""
    with Gateway.serve(tmp_path, model.provider()) as running:
        yield running
