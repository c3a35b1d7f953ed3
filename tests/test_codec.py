"""Chunks as they lie in the file: what HDF5's own plug-ins make of them is the answer."""
import subprocess
import sys
import textwrap
import zlib

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ptyprep import codec
from ptyprep.codec import BITSHUFFLE, DEFLATE, LZ4, SHUFFLE, DamagedChunk, Encoder, decode_rows

FILTERS = {BITSHUFFLE: hdf5plugin.Bitshuffle(cname="lz4"), LZ4: hdf5plugin.LZ4()}
DTYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "f4", "u8", "i8", "f8")


@pytest.fixture(params=["fast", "fallback"])
def decoder(request, monkeypatch):
    """Both decoders of bitshuffle-LZ4: the extra `fast`, and what is there without it."""
    if request.param == "fallback":
        monkeypatch.setattr(codec, "fast_decompress", None)
    elif codec.fast_decompress is None:
        pytest.skip("the extra `fast` (dectris-compression) is not installed")
    return request.param


def counts(shape, dtype, seed=0):
    return np.random.default_rng(seed).poisson(5, shape).astype(dtype)


def chunk_of(frames, code, **options):
    """The compressed bytes of an array, made by the filter's own program."""
    made = hdf5plugin.Bitshuffle(cname="lz4", **options) if code == BITSHUFFLE else hdf5plugin.LZ4(**options)
    with h5py.File("made.h5", "w", driver="core", backing_store=False) as file:
        dataset = file.create_dataset("d", data=frames, chunks=frames.shape, **made)
        return dataset.id.read_direct_chunk((0,) * frames.ndim)[1]


@pytest.mark.parametrize("code", [BITSHUFFLE, LZ4])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(40, 50), (64, 64), (1, 1), (3, 5), (61, 67), (7, 1), (129, 33)])
def test_any_rows_equal_those_of_the_whole(decoder, code, dtype, shape):
    frame = counts(shape, dtype)
    chunk, row, size = chunk_of(frame, code), shape[1] * frame.itemsize, frame.itemsize
    h = shape[0]
    for first, last in {(0, h), (0, 1), (h - 1, h), (h // 3, h // 3 + 1), (h // 3, h - h // 4)}:
        decoded = decode_rows(chunk, code, h, row, first, last, size)
        assert np.array_equal(np.frombuffer(decoded, dtype).reshape(-1, shape[1]), frame[first:last]), (first, last)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(h=st.integers(1, 90), w=st.integers(1, 90), dtype=st.sampled_from(DTYPES),
       code=st.sampled_from([BITSHUFFLE, LZ4]),
       blocks=st.sampled_from([0, 128, 1024]), ends=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_any_block_size_and_any_rows(decoder, h, w, dtype, code, blocks, ends):
    frame = counts((h, w), dtype, seed=h * w)
    options = {"nelems": blocks} if code == BITSHUFFLE else {"nbytes": blocks}
    first = min(int(min(ends) * h), h - 1)
    last = max(first + 1, int(max(ends) * h))
    decoded = decode_rows(chunk_of(frame, code, **options), code, h, w * frame.itemsize, first, last, frame.itemsize)
    assert np.array_equal(np.frombuffer(decoded, dtype).reshape(-1, w), frame[first:last])


@pytest.mark.parametrize("code", [BITSHUFFLE, LZ4])
def test_only_the_blocks_that_are_wanted_are_looked_at(decoder, code):
    frame = counts((400, 100), "u4")
    broken = chunk_of(frame, code, **({"nelems": 1024} if code == BITSHUFFLE else {"nbytes": 4096}))
    broken = broken[:-30] + b"\xff" * 30
    assert np.array_equal(np.frombuffer(decode_rows(broken, code, 400, 400, 0, 9, 4), "u4"), frame[:9].ravel())
    with pytest.raises(DamagedChunk):
        decode_rows(broken, code, 400, 400, 390, 400, 4)


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
        decode_rows(change(chunk), code, 64, 512, 0, 64, 4)


MUTATIONS = textwrap.dedent("""
    import sys
    import h5py, hdf5plugin, numpy as np
    from ptyprep import codec

    if sys.argv[1] == "fallback":
        codec.fast_decompress = None
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
        row = int(w) * frame.itemsize
        try:
            got = codec.decode_rows(bytes(chunk), code, int(h), row, first, last, frame.itemsize)
        except codec.DamagedChunk:
            raised += 1
        else:
            assert len(got) == (last - first) * row, (trial, len(got))
            decoded += 1
    print(raised, decoded)
""")


@pytest.mark.parametrize("seed", [1, 2])
def test_no_damage_ends_the_process(decoder, seed):
    job = subprocess.run([sys.executable, "-c", MUTATIONS, decoder, str(seed)], capture_output=True, text=True,
                         timeout=120)
    assert job.returncode == 0, job.stderr
    raised, decoded = map(int, job.stdout.split())
    assert raised + decoded == 1200
    assert raised > 400 and decoded > 100           # both happen, else nothing was tried


@pytest.fixture(params=["native", "NumPy"])
def encoder(request, monkeypatch):
    """Both ways to shuffle: routines in C that come with hdf5plugin, and what is there without them."""
    if request.param == "NumPy":
        monkeypatch.setattr(codec.native, "_routine", lambda *_: None)
    else:
        assert codec.native.shuffle(np.zeros(8, "u2")) is not None, "hdf5plugin has it no more"
        assert codec.native.bitshuffle_lz4(np.zeros(8, "u2"), 8) is not None, "hdf5plugin has it no more"


@pytest.mark.usefixtures("encoder")
@pytest.mark.parametrize("how", Encoder.choices)
@pytest.mark.parametrize("dtype", [*DTYPES, "?"])
@pytest.mark.parametrize("shape", [(4, 16, 24), (3, 5, 7), (1, 1, 1), (2, 130, 131)])
def test_what_is_encoded_is_read_by_plain_h5py(how, dtype, shape, tmp_path):
    frames = counts(shape, dtype)
    encoder = Encoder(how, threads=2)
    with h5py.File(tmp_path / "f.h5", "w") as file:
        dataset = file.create_dataset("d", shape, dtype, chunks=(1, *shape[1:]), **encoder.filters())
        for i, chunk in enumerate(encoder.encode(frames)):
            dataset.id.write_direct_chunk((i, 0, 0), chunk)
    with h5py.File(tmp_path / "f.h5") as file:
        assert file["d"].dtype == frames.dtype
        assert np.array_equal(file["d"][()], frames)


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


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_damaged_deflate_never_decodes_to_other_numbers(data):
    frame = counts((data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))), data.draw(st.sampled_from(DTYPES)))
    with h5py.File("made.h5", "w", driver="core", backing_store=False) as file:
        shuffle = data.draw(st.booleans())
        dataset = file.create_dataset("d", data=frame, chunks=frame.shape, compression="gzip", shuffle=shuffle)
        chunk, filters = bytearray(dataset.id.read_direct_chunk((0, 0))[1]), codec.own_filters(dataset)
    assert filters == ((SHUFFLE, DEFLATE) if shuffle else (DEFLATE,))
    h, row = len(frame), frame.shape[1] * frame.itemsize
    whole = codec.decode(bytes(chunk), filters, 0, h, row, 0, h, frame.itemsize)
    assert np.array_equal(whole, np.frombuffer(frame.tobytes(), "u1"))
    if data.draw(st.booleans()):
        chunk = chunk[:data.draw(st.integers(0, len(chunk) - 1))]
    else:
        for at in data.draw(st.lists(st.integers(0, len(chunk) - 1), min_size=1, max_size=4)):
            chunk[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        got = codec.decode(bytes(chunk), filters, 0, h, row, 0, h, frame.itemsize)
    except DamagedChunk:
        return
    assert np.array_equal(got, whole)       # a bit that says how hard the packer tried


@pytest.mark.parametrize("made, words", [
    (lambda: zlib.compress(bytes(1 << 28)), "more than the 4096 bytes"),
    (lambda: zlib.compress(bytes(4095)), "4095 bytes where the frame has 4096"),
    (lambda: zlib.compress(bytes(4096))[:-2], "ends after 4096 of 4096 bytes"),
    (lambda: b"", "ends after 0 of 4096 bytes"),
])
def test_what_deflate_makes_is_measured(made, words):
    with pytest.raises(DamagedChunk, match=words):
        codec.decode(made(), (DEFLATE,), 0, 32, 128, 0, 32, 4)


def test_filters_that_a_chunk_skipped_are_not_undone():
    frame = counts((4, 8), "u4")
    octets = np.frombuffer(frame.tobytes(), "u1")
    shuffled = octets.reshape(-1, 4).T.tobytes()
    for chunk, skipped in ((shuffled, 0b10), (zlib.compress(frame.tobytes()), 0b01), (frame.tobytes(), 0b11)):
        got = codec.decode(chunk, (SHUFFLE, DEFLATE), skipped, 4, 32, 1, 3, 4)
        assert np.array_equal(got, octets[32:96])


@pytest.mark.parametrize("dtype", DTYPES)
def test_shuffling_without_the_library_is_undone_too(dtype, monkeypatch):
    octets = np.frombuffer(counts((64, 64), dtype).tobytes(), "u1")
    size = np.dtype(dtype).itemsize
    shuffled = np.ascontiguousarray(octets.reshape(-1, size).T).reshape(-1)
    for library in (codec.native.unshuffle, lambda *_: None):
        monkeypatch.setattr(codec.native, "unshuffle", library)
        assert np.array_equal(codec._unshuffle(shuffled, size), octets)
