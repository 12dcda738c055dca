"""100 random inputs of each kind; `make fuzz` tries more."""

import pytest
from fuzz import TARGETS, fuzz


@pytest.mark.parametrize("name", TARGETS)
def test_no_crash_but_user_error(name):
    fuzz(name, 100)


def test_a_crash_is_found():
    """The loop that finds nothing does look."""

    def broken(draw, directory):
        from hypothesis import strategies as st

        if draw.draw(st.integers(0, 100)) > 90:
            raise KeyError

    TARGETS["broken"] = broken
    try:
        with pytest.raises(KeyError):
            fuzz("broken", 150)
    finally:
        del TARGETS["broken"]
