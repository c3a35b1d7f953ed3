"""Chunks as they lie in the file: what HDF5's own plug-ins make of them is the answer."""
import os
import shutil
import subprocess
import sys
import sysconfig
import textwrap
import zlib
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ptyprep.hdf5 import codec
from ptyprep.hdf5.codec import BITSHUFFLE, DEFLATE, LZ4, SHUFFLE, DamagedChunk, Encoder
from ptyprep.kernels import compiled, in_numpy

DTYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "f4", "u8", "i8", "f8")


def test_the_compiled_loops_are_there():
    """Without them all the rest is tried on NumPy alone."""
    assert compiled.core is not None or shutil.which("cc") is None, "kernels/core was not built: pip install -e . -v"


@pytest.fixture(params=["compiled", "NumPy"])
def decoder(request, monkeypatch):
    """Both ways: the compiled loops, and what is there without them."""
    if request.param == "NumPy":
        monkeypatch.setattr(compiled, "core", None)
    elif compiled.core is None:
        pytest.skip("no compiler")
    return request.param


def counts(shape, dtype, seed=0):
    return np.random.default_rng(seed).poisson(5, shape).astype(dtype)


def chunk_of(frames, code, **options):
    """The compressed bytes of an array, made by the filter's own program."""
    made = hdf5plugin.Bitshuffle(cname="lz4", **options) if code == BITSHUFFLE else hdf5plugin.LZ4(**options)
    with h5py.File("made.h5", "w", driver="core", backing_store=False) as file:
        dataset = file.create_dataset("d", data=frames, chunks=frames.shape, **made)
        return dataset.id.read_direct_chunk((0,) * frames.ndim)[1]


def region(chunk, filters, shape, dtype, rows=slice(None), cols=slice(None), skipped=0):
    """Rows and columns of a chunk of numbers (h, w) that is decoded into a part of a larger array."""
    (first, last, _), (left, right, _) = rows.indices(shape[0]), cols.indices(shape[1])
    around = np.full((last - first + 2, right - left + 5), 77, dtype)
    out = around[1:-1, 2:-3]
    codec.decode(chunk, filters, skipped, *shape, first, left, out)
    assert (around[[0, -1]] == 77).all() and (around[:, :2] == 77).all() and (around[:, -3:] == 77).all()
    return out


@pytest.mark.parametrize("code", [BITSHUFFLE, LZ4])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(40, 50), (64, 64), (1, 1), (3, 5), (61, 67), (7, 1), (129, 33)])
def test_any_rows_equal_those_of_the_whole(decoder, code, dtype, shape):
    frame = counts(shape, dtype)
    chunk, h = chunk_of(frame, code), shape[0]
    for first, last in {(0, h), (0, 1), (h - 1, h), (h // 3, h // 3 + 1), (h // 3, h - h // 4)}:
        rows = slice(first, last)
        assert np.array_equal(region(chunk, (code,), shape, dtype, rows), frame[rows]), rows


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), h=st.integers(1, 90), w=st.integers(1, 300), dtype=st.sampled_from(DTYPES),
       code=st.sampled_from([BITSHUFFLE, LZ4]), blocks=st.sampled_from([0, 128, 1024]))
def test_any_block_size_and_any_region(decoder, data, h, w, dtype, code, blocks):
    frame = counts((h, w), dtype, seed=h * w)
    options = {"nelems": blocks} if code == BITSHUFFLE else {"nbytes": blocks}
    ends = [sorted(data.draw(st.tuples(*[st.integers(0, n)] * 2), label="ends")) for n in (h, w)]
    rows, cols = (slice(first, max(first, last)) for first, last in ends)
    assert np.array_equal(region(chunk_of(frame, code, **options), (code,), (h, w), dtype, rows, cols),
                          frame[rows, cols])


@pytest.mark.parametrize("code", [BITSHUFFLE, LZ4])
def test_only_the_blocks_that_are_wanted_are_looked_at(decoder, code):
    frame = counts((400, 100), "u4")
    broken = chunk_of(frame, code, **({"nelems": 1024} if code == BITSHUFFLE else {"nbytes": 4096}))
    broken = broken[:-30] + b"\xff" * 30
    assert np.array_equal(region(broken, (code,), (400, 100), "u4", slice(0, 9)), frame[:9])
    with pytest.raises(DamagedChunk):
        region(broken, (code,), (400, 100), "u4", slice(390, 400))


@pytest.mark.parametrize("change, words", [
    (lambda c: c[:11], "too short for a header"),
    (lambda c: b"", "too short for a header"),
    (lambda c: c[:7] + b"\1" + c[8:], "header says 32769 bytes where the frame has 32768"),
    (lambda c: c[:8] + b"\xff\xff\xff\xff" + c[12:], "blocks of 4294967295 bytes"),
    (lambda c: c[:8] + b"\0\0\0\x07" + c[12:],
     "blocks of 7 bytes|reaches beyond|bytes more|ends before|does not decode"),
    (lambda c: c[:12] + b"\x7f\xff\xff\xff" + c[16:], "block 0 of .* reaches beyond its end"),
    (lambda c: c[:-1], "reaches beyond its end"),
    (lambda c: c + b"\0", "1 bytes more"),
    (lambda c: c[:16], "beyond its end|does not decode"),
])
@pytest.mark.parametrize("code", [BITSHUFFLE, LZ4])
def test_damage_is_named(decoder, code, change, words):
    chunk = chunk_of(counts((64, 128), "u4"), code)
    with pytest.raises(DamagedChunk, match=words):
        region(change(chunk), (code,), (64, 128), "u4")


MUTATIONS = textwrap.dedent("""
    import sys
    import h5py, hdf5plugin, numpy as np
    from ptyprep.hdf5 import codec
    from ptyprep.kernels import in_numpy
    from ptyprep.kernels import compiled

    if sys.argv[1] == "NumPy":
        compiled.core = None
    core = compiled.core
    random = np.random.default_rng(int(sys.argv[2]))
    raised = decoded = 0
    for trial in range(1200):
        code = (codec.BITSHUFFLE, codec.LZ4)[trial % 2]
        dtype = random.choice(["u1", "u2", "u4", "f8"])
        h, w = random.integers(1, 70, 2)
        frame = random.poisson(3, (h, w)).astype(dtype)
        made = hdf5plugin.Bitshuffle(cname="lz4") if code == codec.BITSHUFFLE else hdf5plugin.LZ4()
        with h5py.File("m.h5", "w", driver="core", backing_store=False) as file:
            dataset = file.create_dataset("d", data=frame, chunks=(h, w), **made)
            chunk = bytearray(dataset.id.read_direct_chunk((0, 0))[1])
        how = trial // 2 % 5
        if how == 0:                                    # flipped bits
            for at in random.integers(0, len(chunk), random.integers(1, 6)):
                chunk[at] ^= 1 << random.integers(8)
        elif how == 1:                                  # cut short
            chunk = chunk[:random.integers(0, len(chunk))]
        elif how == 2:                                  # the header
            at = random.integers(0, min(16, len(chunk)))
            chunk[at] = random.integers(256)
        elif how == 3:                                  # rubbish in the middle
            at = random.integers(0, len(chunk))
            piece = random.bytes(random.integers(1, 40))
            chunk[at:at + len(piece)] = piece
        else:                                           # another length of a block
            chunk[12:16] = int(random.integers(0, 2 * len(chunk))).to_bytes(4, "big")
        first = int(random.integers(0, h))
        last = int(random.integers(first + 1, h + 1))
        left = int(random.integers(0, w))
        out = np.empty((last - first, int(random.integers(left + 1, w + 1)) - left), frame.dtype)
        whole, args = int(w) * frame.itemsize, (bytes(chunk), code == codec.BITSHUFFLE, frame.itemsize, int(h))
        fails = core and not core.decode(*args, whole, first, left * frame.itemsize, out)
        try:
            slow = in_numpy.decode(bytes(chunk), code, int(h), whole, first, last, frame.itemsize)
            assert slow.dtype == np.uint8 and len(slow) == (last - first) * whole, (trial, len(slow))
            slow = slow.view(frame.dtype).reshape(-1, w)[:, left:left + out.shape[1]]
            assert core is None or not fails and np.array_equal(out.view("V1"), slow.copy().view("V1")), trial
            decoded += 1
        except codec.DamagedChunk:
            assert core is None or fails, trial
            raised += 1
    print(raised, decoded)
""")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_no_damage_ends_the_process(decoder, seed):
    job = subprocess.run([sys.executable, "-c", MUTATIONS, decoder, str(seed)], capture_output=True, text=True,
                         timeout=120)
    assert job.returncode == 0, job.stderr
    raised, decoded = map(int, job.stdout.split())
    assert raised + decoded == 1200
    assert raised > 400 and decoded > 100           # both happen, else nothing was tried


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize("how", Encoder.choices)
@pytest.mark.parametrize("dtype", [*DTYPES, "?"])
@pytest.mark.parametrize("shape", [(4, 16, 24), (3, 5, 7), (1, 1, 1), (2, 130, 131)])
def test_what_is_encoded_is_read_by_plain_h5py(how, dtype, shape, tmp_path):
    frames = counts(shape, dtype)
    encoder = Encoder(how)
    with h5py.File(tmp_path / "f.h5", "w") as file:
        dataset = file.create_dataset("d", shape, dtype, chunks=(1, *shape[1:]), **encoder.filters(dtype))
        for i, chunk in enumerate(encoder.encode(frames)):
            dataset.id.write_direct_chunk((i, 0, 0), chunk)
    with h5py.File(tmp_path / "f.h5") as file:
        assert file["d"].dtype == frames.dtype
        assert np.array_equal(file["d"][()], frames)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_bitshuffle_is_declared_as_its_plug_in_does(dtype, tmp_path):
    """In a process that has not loaded it."""
    job = f"""if True:
        import sys, h5py
        from ptyprep.hdf5.codec import Encoder
        with h5py.File({str(tmp_path / 'f.h5')!r}, "w") as file:
            file.create_dataset("ours", (2, 8, 8), {dtype!r}, chunks=(1, 8, 8), **Encoder("bslz4").filters({dtype!r}))
        sys.exit("hdf5plugin" in sys.modules)
    """
    subprocess.run([sys.executable, "-c", job], check=True, timeout=60)
    with h5py.File(tmp_path / "f.h5", "a") as file:
        file.create_dataset("theirs", (2, 8, 8), dtype, chunks=(1, 8, 8), **hdf5plugin.Bitshuffle(cname="lz4"))
        (*ours, _), (*theirs, _) = (file[name].id.get_create_plist().get_filter(0) for name in ("ours", "theirs"))
        assert ours == theirs


def test_frames_need_not_be_contiguous():
    frames = counts((3, 20, 30), "u2")
    for how in Encoder.choices:
        assert [bytes(c) for c in Encoder(how).encode(frames[:, ::2, 3:9])] == \
            [bytes(c) for c in Encoder(how).encode(frames[:, ::2, 3:9].copy())]


@pytest.mark.parametrize("filters, expected", [
    (dict(hdf5plugin.Bitshuffle(cname="lz4")), (BITSHUFFLE,)),
    (dict(hdf5plugin.LZ4()), (LZ4,)),
    (dict(hdf5plugin.Bitshuffle(cname="none")), None),
    (dict(hdf5plugin.Bitshuffle(cname="zstd")), None),
    ({"compression": "gzip"}, (DEFLATE,)),
    ({"compression": "gzip", "shuffle": True}, (SHUFFLE, DEFLATE)),
    ({"compression": "gzip", "fletcher32": True}, None),
    ({"compression": "lzf"}, None),
    ({"shuffle": True, **hdf5plugin.LZ4()}, None),
    ({}, ()),
])
def test_only_filters_that_are_undone_here_are_claimed(filters, expected, tmp_path):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        chunked = file.create_dataset("d", data=np.zeros((2, 8, 8), "u2"), chunks=(1, 8, 8), **filters)
        assert codec.own_filters(chunked) == expected
        assert codec.own_filters(file.create_dataset("plain", data=np.zeros(3))) == ()


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_damaged_deflate_never_decodes_to_other_numbers(data):
    frame = counts((data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))), data.draw(st.sampled_from(DTYPES)))
    with h5py.File("made.h5", "w", driver="core", backing_store=False) as file:
        shuffle = data.draw(st.booleans())
        dataset = file.create_dataset("d", data=frame, chunks=frame.shape, compression="gzip", shuffle=shuffle)
        chunk, filters = bytearray(dataset.id.read_direct_chunk((0, 0))[1]), codec.own_filters(dataset)
    assert filters == ((SHUFFLE, DEFLATE) if shuffle else (DEFLATE,))
    assert np.array_equal(region(bytes(chunk), filters, frame.shape, frame.dtype), frame)
    if data.draw(st.booleans()):
        chunk = chunk[:data.draw(st.integers(0, len(chunk) - 1))]
    else:
        for at in data.draw(st.lists(st.integers(0, len(chunk) - 1), min_size=1, max_size=4)):
            chunk[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        got = region(bytes(chunk), filters, frame.shape, frame.dtype)
    except DamagedChunk:
        return
    assert np.array_equal(got, frame)       # a bit that says how hard the packer tried


@pytest.mark.parametrize("made, words", [
    (lambda: zlib.compress(bytes(1 << 28)), "more than the 4096 bytes"),
    (lambda: zlib.compress(bytes(4095)), "4095 bytes where the frame has 4096"),
    (lambda: zlib.compress(bytes(4096))[:-2], "ends after 4096 of 4096 bytes"),
    (lambda: b"", "ends after 0 of 4096 bytes"),
])
def test_what_deflate_makes_is_measured(made, words):
    with pytest.raises(DamagedChunk, match=words):
        region(made(), (DEFLATE,), (32, 32), "u4")


@pytest.mark.usefixtures("decoder")
def test_filters_that_a_chunk_skipped_are_not_undone():
    frame = counts((4, 8), "u4")
    shuffled = np.frombuffer(frame.tobytes(), "u1").reshape(-1, 4).T.tobytes()
    for chunk, skipped in ((shuffled, 0b10), (zlib.compress(frame.tobytes()), 0b01), (frame.tobytes(), 0b11)):
        got = region(chunk, (SHUFFLE, DEFLATE), (4, 8), "u4", slice(1, 3), slice(2, 7), skipped=skipped)
        assert np.array_equal(got, frame[1:3, 2:7])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(64, 64), (3, 7), (129, 131)])
@pytest.mark.usefixtures("decoder")
def test_byte_shuffle_is_undone(dtype, shape):
    frame = counts(shape, dtype)
    shuffled = np.frombuffer(frame.tobytes(), "u1").reshape(-1, frame.itemsize).T.tobytes()
    for rows, cols in ((slice(None), slice(None)), (slice(1, 3), slice(2, 5)), (slice(2, 3), slice(0, 0))):
        assert np.array_equal(region(shuffled, (SHUFFLE,), shape, dtype, rows, cols), frame[rows, cols])


KINDS = {"noise": lambda random, n: random.integers(0, 1 << 62, n),
         "counts": lambda random, n: random.poisson(random.choice([0.01, 0.3, 5, 300]), n),
         "runs": lambda random, n: np.repeat(random.integers(0, 300, n), random.integers(1, 1200, n))[:n],
         "one": lambda random, n: np.full(n, random.choice([0, 1, 255, (1 << 62) - 1])),
         "ramp": lambda random, n: np.arange(n) // random.integers(1, 9),
         "copies": lambda random, n: np.tile(random.poisson(3, random.integers(1, 400)), n)[:n]}


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(kind=st.sampled_from(sorted(KINDS)), dtype=st.sampled_from(("u1", "u2", "u4", "u8")),
       seed=st.integers(0, 1 << 32), h=st.integers(1, 60), edge=st.integers(0, 300),
       w=st.one_of(st.integers(1, 300), st.sampled_from([255, 256, 258, 259, 260, 2048, 8192])))
def test_what_is_encoded_is_decoded_by_others(kind, dtype, seed, h, w, edge):
    """Deflate by zlib, bitshuffle-LZ4 by NumPy and lz4: nothing of it was written together."""
    random = np.random.default_rng(seed)
    frame = KINDS[kind](random, h * w).astype("u8").astype(dtype)
    frame[random.integers(0, h * w, edge)] = np.iinfo(dtype).max
    (chunk,), size = Encoder("portable").encode(frame.reshape(1, h, w)), frame.itemsize
    octets = np.frombuffer(zlib.decompress(chunk), "u1")
    assert octets.reshape(size, -1).T.tobytes() == frame.tobytes()
    assert len(chunk) < frame.nbytes + frame.nbytes // 1000 + 100
    (chunk,) = Encoder("bslz4").encode(frame.reshape(1, h, w))
    assert in_numpy.decode(chunk, BITSHUFFLE, h, w * size, 0, h, size).tobytes() == frame.tobytes()
    assert len(chunk) < frame.nbytes + frame.nbytes // 200 + 100


@pytest.mark.parametrize("run", [*range(1, 12), *range(254, 264), *range(514, 522), 65535, 65536, 1 << 20])
@pytest.mark.parametrize("before", [0, 1, 65534, 65535, 70000])
def test_runs_of_any_length_at_any_place(run, before):
    random = np.random.default_rng(run)
    frame = np.concatenate([random.integers(1, 255, before), np.zeros(run), random.integers(1, 255, 99)]).astype("u1")
    for how, decode in (("portable", zlib.decompress), ("bslz4", lambda chunk: in_numpy.decode(
            chunk, BITSHUFFLE, 1, frame.size, 0, 1, 1).tobytes())):
        (chunk,) = Encoder(how).encode(frame.reshape(1, 1, -1))
        assert decode(chunk) == frame.tobytes(), how


def test_codes_stay_short_where_counts_differ_most():
    """Fibonacci numbers of each count make the longest Huffman codes: 24 bits here, which is 12 too many."""
    times = [1, 1]
    while len(times) < 24:
        times.append(times[-1] + times[-2])
    frame = np.repeat(np.arange(24, dtype="u1"), times)
    frame = np.random.default_rng(0).permutation(frame)[:65535]
    (chunk,) = Encoder("portable").encode(frame.reshape(1, 1, -1))
    assert zlib.decompress(chunk) == frame.tobytes()


@pytest.mark.parametrize("mean", [0.001, 0.03, 0.3, 3, 30, 3000])
@pytest.mark.parametrize("dtype", ["u2", "u4"])
@pytest.mark.parametrize("how", ["portable", "bslz4"])
def test_files_are_hardly_larger_than_those_of_others(how, dtype, mean):
    if compiled.core is None:
        pytest.skip("no compiler")
    frame = np.random.default_rng(0).poisson(mean, (1, 256, 256)).astype(dtype)
    frame[0, 100:110] = np.iinfo(dtype).max
    (ours,) = Encoder(how).encode(frame)
    theirs = getattr(in_numpy, {"portable": "shuffle_deflate", "bslz4": "bitshuffle_lz4"}[how])(frame.ravel())
    assert len(ours) < 1.1 * len(theirs) + 200


FUZZ = textwrap.dedent("""
    import sys, zlib
    import numpy as np
    sys.path.insert(0, sys.argv[1])
    import _core
    random = np.random.default_rng(int(sys.argv[2]))
    failed = 0
    for trial in range(int(sys.argv[3])):
        size, h, w = int(random.choice([1, 2, 4, 8])), int(random.integers(1, 40)), int(random.integers(1, 400))
        frame = random.poisson(random.choice([0.05, 2, 1000]), (h, w)).astype(f"u{size}")
        frame[random.random(frame.shape) < random.choice([0, 0.01])] = np.iinfo(frame.dtype).max
        room = np.empty((2, _core.room(frame.nbytes)), "u1")
        packed, deflated = (made[:how(frame, 1, size, made)[0]].tobytes() for made, how in
                            zip(room, (_core.bitshuffle_lz4, _core.shuffle_deflate)))
        assert np.frombuffer(zlib.decompress(deflated), "u1").reshape(size, -1).T.tobytes() == frame.tobytes()
        usable, good, lost = np.ones((h, w), "u1"), np.empty((1, h, w), "u1"), np.full((h, w), 7, "u1")
        _core.judge(frame[None], 0, 1000, None, usable, np.zeros((h, w), "u1"), good, lost, None)
        assert np.array_equal(good[0], frame <= 1000) and np.array_equal(lost, frame > 1000)
        twice = np.stack([frame, frame]), 0, 1000, None, usable, lost, np.empty((2, h, w), "u1"), lost
        told = [list(_core.judge(*twice, before)[0]) for before in (good[0], 1 - good[0], None)]
        assert told == [[0, 0], [1, 0], [1, 0]]
        turned, flip = np.empty((1, w, h), frame.dtype), random.choice([1, -1], 2)
        _core.transposed(frame.T[None, ::flip[0], ::flip[1]], turned)
        assert np.array_equal(turned[0], frame.T[::flip[0], ::flip[1]])
        for change in range(6):
            chunk = bytearray(packed)
            for at in random.integers(0, len(chunk), random.integers(0, 5)) if change else ():
                chunk[at] = random.integers(256)
            if change > 3:
                del chunk[int(random.integers(0, len(chunk))):]
            first, left = int(random.integers(0, h)), int(random.integers(0, w))
            out = np.zeros((int(random.integers(0, h - first + 1)), int(random.integers(0, w - left + 1))), frame.dtype)
            well = _core.decode(bytes(chunk), change % 2 == 0, size, h, w * size, first, left * size, out)
            failed += not well
            assert change or np.array_equal(out, frame[first:first + len(out), left:left + out.shape[1]])
    print(failed)
""")


@pytest.mark.slow
def test_no_byte_beside_a_buffer_is_touched(tmp_path):
    """The compiled loops under the address and undefined-behaviour sanitizers, with whole and with damaged chunks."""
    compiler, source = shutil.which("gcc"), Path(compiled.__file__).parent / "core" / "module.c"
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs gcc on Linux")
    flags = "-O1 -g -shared -fPIC -fsanitize=address,undefined -fno-sanitize-recover=undefined".split()
    subprocess.run([compiler, *flags, f"-I{sysconfig.get_path('include')}", source, "-o", tmp_path / "_core.abi3.so"],
                   check=True, timeout=120)
    preload = [subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True,
                              timeout=60).stdout.strip() for name in ("libasan.so", "libstdc++.so")]
    env = {**os.environ, "LD_PRELOAD": ":".join(preload), "ASAN_OPTIONS": "detect_leaks=0",
           "PYTHONMALLOC": "malloc"}        # else Python's own small objects hide what lies beside them
    done = subprocess.run([sys.executable, "-c", FUZZ, tmp_path, "1", "400"], capture_output=True, text=True,
                          timeout=300, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) > 300           # of 2,400, of which 400 are whole
