"""What travels: a Meta that reads as a mapping, and a Package as PtyPy's engines take it."""
import pickle

import numpy as np
import pytest

from ptyprep.pipeline.batch import EOS, WAIT, Batch, Meta, Package, Signal

META = Meta(version=0.1, num_frames=5, label="s", shape=(2, 3), psize=(1e-6, 2e-6), energy=7.2, center=(1.0, 1.0),
            distance=2.0)


def batch(weight):
    """Rows 1 and 2 of a chunk of four are on this rank."""
    return Batch(index=np.array([6, 7]), frame=np.array([16, 17]), data=np.arange(12, dtype="u2").reshape(2, 2, 3),
                 weight=weight, position=np.array([[3.0, 4.0], [5.0, 6.0]]), chunk=1, points=range(5, 9),
                 chunk_index=np.arange(5, 9), chunk_frame=np.arange(15, 19),
                 chunk_position=np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]]))


def test_signals_are_what_ptypy_compares_with():
    assert (WAIT, EOS) == ("msg1", "msgEOS") and WAIT != EOS
    assert {WAIT: 1}["msg1"] == 1 and f"{WAIT}" == "msg1"
    assert isinstance(WAIT, str) and pickle.loads(pickle.dumps(EOS)) is Signal.EOS      # noqa: S301


def test_meta_reads_as_attributes_and_as_a_mapping():
    assert META["energy"] == META.energy == 7.2
    assert set(META) == {"version", "num_frames", "label", "shape", "psize", "energy", "center", "distance"}
    assert dict(META) == META.asdict() and len(META) == 8
    for absent in ("colour", "asdict_", 3):
        assert absent not in META
    with pytest.raises(KeyError):
        META["colour"]


def test_meta_does_not_take_its_methods_for_items():
    assert "asdict" not in META and META.get("keys") is None


ONE_MASK = np.broadcast_to(np.arange(6).reshape(2, 3) > 1, (2, 2, 3))


@pytest.mark.parametrize("weight", [ONE_MASK, np.arange(12).reshape(2, 2, 3) % 2 > 0])
def test_a_package_has_the_form_of_ptypy(weight):
    b = batch(weight)
    package = Package(META, b)
    assert set(package) == {"common", "chunk", "iterable"}
    assert package["common"] is META
    chunk = package["chunk"]
    assert chunk["indices"] == [5, 6, 7, 8] and chunk["indices_node"] == [6, 7] and chunk["num"] == 1
    assert chunk["positions"].tolist() == [[1, 2], [3, 4], [5, 6], [7, 8]]
    assert {i: d.tolist() for i, d in chunk["data"].items()} == {6: [[0, 1, 2], [3, 4, 5]], 7: [[6, 7, 8], [9, 10, 11]]}
    assert {i: w.tolist() for i, w in chunk["weights"].items()} == {6: weight[0].tolist(), 7: weight[1].tolist()}
    told = package["iterable"]
    assert [t["index"] for t in told] == [5, 6, 7, 8]
    assert [t["position"].tolist() for t in told] == [[1, 2], [3, 4], [5, 6], [7, 8]]
    # A frame that another rank holds has neither data nor mask.
    assert [(t["data"] is None, t["mask"] is None) for t in told] == [(True, True), (False, False),
                                                                          (False, False), (True, True)]
    assert told[2]["data"].tolist() == [[6, 7, 8], [9, 10, 11]] and told[2]["mask"].tolist() == weight[1].tolist()


def test_a_package_copies_no_frame():
    b = batch(ONE_MASK)
    package = Package(META, b)
    for data, weight in ([(package["chunk"]["data"][7], package["chunk"]["weights"][7])]
                         + [(t["data"], t["mask"]) for t in package["iterable"] if t["index"] == 7]):
        assert np.shares_memory(data, b.data[1]) and np.shares_memory(weight, b.weight)
    assert np.shares_memory(package["iterable"][0]["position"], b.chunk_position)


def test_a_package_knows_no_other_name():
    with pytest.raises(KeyError):
        Package(META, batch(ONE_MASK))["data"]


def test_the_length_of_a_batch_is_that_of_this_rank():
    assert len(batch(np.ones((2, 3), bool))) == 2
