"""Where the tests of this folder write their params.json."""

import pytest


@pytest.fixture
def path(tmp_path):
    return tmp_path / "params.json"
