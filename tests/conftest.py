"""Which tests run beside each other: `make test` and `make check` start two workers (pytest-xdist)."""
import pytest


def pytest_collection_modifyitems(items):
    """One job of MPI at a time: a rank polls while it waits, so that two jobs on two cores slow each other down."""
    for item in items:
        if item.get_closest_marker("mpi"):
            item.add_marker(pytest.mark.xdist_group("mpi"))
