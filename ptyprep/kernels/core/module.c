/* ptyprep._core: the loops over pixels, decoding the region of a compressed chunk and encoding prepared frames.

   `ptyprep.codec` says what for, and `ptyprep.codec_numpy` does the same where no compiler was at hand; it is asked
   again about a chunk that fails here, and tells what is wrong with it. Nothing here keeps Python's lock, or believes a
   length that was read from a file. Numbers are bytes: those of a big-endian dataset are shuffled as they lie. */
#include "base.h"
#include "chunks.h"
#include "counts.h"
#include "deflate.h"
#include "shuffle.h"
#include "transpose.h"

typedef struct { int64_t offset, size, skipped; } Place;

static int read_bytes(int file, uint8_t *to, size_t n, off_t from)
{
    for (ssize_t got; n; to += got, from += got, n -= got)
        if ((got = pread(file, to, n, from)) <= 0)
            return -1;
    return 0;
}

typedef struct { int shuffled; Py_ssize_t itemsize, rows, row_bytes, first, left; } Chunks;

/* One chunk, of which *enough bytes are read at first; sets it to what will do for one that is a bit longer. */
static int read_chunk(int file, const Place *place, uint8_t *work, const Chunks *c, const Wanted *wanted, size_t *enough)
{
    size_t there = 0, used = 0, size = place->size;
    int state = DAMAGED;
    for (size_t part = MIN(*enough, size); there < size && (state == DAMAGED || used == there); part = size) {
        if (read_bytes(file, work + there, part - there, place->offset + there))
            return DAMAGED;
        there = part;
        state = decode_chunk(work, there, c->shuffled, c->itemsize, c->rows, wanted, &used);
    }
    *enough = used + used / 16 + 4096;
    return state;
}

/* Whether there is such a region; `wide` bytes of `high` rows. */
static int holds(const Chunks *c, size_t high, size_t wide)
{
    return c->itemsize > 0 && c->itemsize <= 1 << 20 && c->rows >= 0 && c->row_bytes > 0 && c->first >= 0 && c->left >= 0
        && c->row_bytes % c->itemsize == 0 && c->left % c->itemsize == 0 && wide % (size_t)c->itemsize == 0
        && c->rows < PY_SSIZE_T_MAX / c->row_bytes && c->first <= c->rows && c->left <= c->row_bytes
        && high <= (size_t)(c->rows - c->first) && wide <= (size_t)(c->row_bytes - c->left);
}

/* An array (..., h, w) whose columns lie one after the other; -1 with an exception for any other. */
static int rows_of(PyObject *object, Py_buffer *view, int axes, int flags)
{
    if (PyObject_GetBuffer(object, view, PyBUF_STRIDED_RO | flags))
        return -1;
    if (view->ndim == axes && (view->strides[axes - 1] == view->itemsize || view->shape[axes - 1] < 2))
        return 0;
    PyBuffer_Release(view);
    PyErr_Format(PyExc_ValueError, "expected an array of %d axes, its columns one after the other", axes);
    return -1;
}

static Wanted wanted_in(const Py_buffer *view, const Chunks *c)
{
    const Py_ssize_t *shape = view->shape + view->ndim - 2;
    return (Wanted){c->row_bytes, c->first, c->left,
                    {view->buf, shape[0], shape[1] * view->itemsize, view->strides[view->ndim - 2]}};
}

PyDoc_STRVAR(decode_doc, "decode(chunk, shuffled, itemsize, rows, row_bytes, first, left, out)\n--\n\n"
             "Rows from `first` on and bytes from `left` on of a chunk of `rows` rows of `row_bytes`, into out (h, w).\n\n"
             "Returns whether it could be done: False for a damaged chunk.");

static PyObject *decode(PyObject *self, PyObject *args)
{
    Py_buffer chunk, view;
    PyObject *out;
    Chunks c;
    size_t used;
    int state = DAMAGED, fits = -1;
    if (!PyArg_ParseTuple(args, "y*pnnnnnO", &chunk, &c.shuffled, &c.itemsize, &c.rows, &c.row_bytes, &c.first, &c.left,
                          &out))
        return NULL;
    if (!rows_of(out, &view, 2, PyBUF_WRITABLE)) {
        Wanted wanted = wanted_in(&view, &c);
        if ((fits = holds(&c, wanted.out.high, wanted.out.wide))) {
            Py_BEGIN_ALLOW_THREADS
            state = decode_chunk(chunk.buf, chunk.len, c.shuffled, c.itemsize, c.rows, &wanted, &used);
            Py_END_ALLOW_THREADS
        }
        PyBuffer_Release(&view);
    }
    PyBuffer_Release(&chunk);
    if (!fits)
        return PyErr_Format(PyExc_ValueError, "no such region in a chunk of %zd rows of %zd bytes", c.rows, c.row_bytes);
    return fits < 0 ? NULL : state == NO_MEMORY ? PyErr_NoMemory() : PyBool_FromLong(state == OK);
}

PyDoc_STRVAR(read_doc, "read(file, places, work, shuffled, itemsize, rows, row_bytes, first, left, out)\n--\n\n"
             "The same of chunks in a file, by its descriptor, into out (n, h, w).\n\n"
             "places : int64 (n, 3), where each begins, its bytes, and 0\nwork : room for the largest\n\n"
             "Returns how many could be read before the first that could not.");

static PyObject *read_chunks(PyObject *self, PyObject *args)
{
    Py_buffer places, work, view;
    PyObject *out;
    Chunks c;
    int file, state = OK, fits = -1;
    Py_ssize_t done = 0;
    size_t enough = SIZE_MAX;
    struct stat told;
    if (!PyArg_ParseTuple(args, "iy*w*pnnnnnO", &file, &places, &work, &c.shuffled, &c.itemsize, &c.rows, &c.row_bytes,
                          &c.first, &c.left, &out))
        return NULL;
    if (!rows_of(out, &view, 3, PyBUF_WRITABLE)) {
        const Place *place = places.buf;
        Wanted wanted = wanted_in(&view, &c);
        Py_ssize_t n = view.shape[0];
        if ((fits = holds(&c, wanted.out.high, wanted.out.wide) && places.len == n * (Py_ssize_t)sizeof *place)) {
            Py_BEGIN_ALLOW_THREADS
            int64_t end = fstat(file, &told) ? 0 : told.st_size;
            for (; state == OK && done < n; done += state == OK, place++) {
                wanted.out.at = (uint8_t *)view.buf + done * view.strides[0];
                state = place->skipped || place->offset < 0 || place->size < 0 || place->size > work.len
                    || place->offset > end - place->size ? DAMAGED
                    : read_chunk(file, place, work.buf, &c, &wanted, &enough);
            }
            Py_END_ALLOW_THREADS
        }
        PyBuffer_Release(&view);
    }
    PyBuffer_Release(&places);
    PyBuffer_Release(&work);
    if (!fits)
        return PyErr_Format(PyExc_ValueError, "no such regions in chunks of %zd rows of %zd bytes", c.rows, c.row_bytes);
    return fits < 0 ? NULL : state == NO_MEMORY ? PyErr_NoMemory() : PyLong_FromSsize_t(done);
}

PyDoc_STRVAR(judge_doc, "judge(frames, first, most, near, usable, known, good, lost, before)\n--\n\n"
             "Where integers (n, h, w) are `first` to `most` and pixels usable: into good (n, h, w), whose first masks are\n"
             "those of frames that do not have the mask of the frame before. Where one is outside, and was not before: why,\n"
             "in lost (h, w), 2 for the number `near` (or None) and 1 for others; `known` has those before. Masks are\n"
             "bytes, of frames or (h, w). Before the first frame there is the mask `before` (h, w), or None.\n\n"
             "Returns (n bytes, 0 where a frame's mask is that of the frame before; whether any is lost; how many numbers\n"
             "are `near`).");

static PyObject *judge(PyObject *self, PyObject *args)
{
    enum { FRAMES, USABLE, KNOWN, GOOD, LOST, BEFORE, ALL };
    static const int axes[ALL] = {3, 2, 2, 3, 2, 2}, flags[ALL] = {0, 0, 0, PyBUF_WRITABLE, PyBUF_WRITABLE, 0};
    PyObject *given[ALL], *near, *differ = NULL, *result = NULL;
    unsigned long long first, most;     /* K takes negative numbers as what they are in two's complement */
    if (!PyArg_ParseTuple(args, "OKKOOOOOO", &given[FRAMES], &first, &most, &near, &given[USABLE], &given[KNOWN],
                          &given[GOOD], &given[LOST], &given[BEFORE]))
        return NULL;
    Limits limits = {first, most - first, 0, 0, 0, near != Py_None};
    if (limits.has_near) {
        limits.near = PyLong_AsUnsignedLongLongMask(near);
        if (PyErr_Occurred())
            return NULL;
    }
    Py_buffer views[ALL];
    int got = 0, all = given[BEFORE] == Py_None ? BEFORE : ALL;
    while (got < all && !rows_of(given[got], &views[got], axes[got], flags[got]))
        got++;
    if (got == all) {
        const Py_ssize_t *shape = views[FRAMES].shape, size = views[FRAMES].itemsize, h = shape[1], w = shape[2];
        int fits = is_usual(size) && views[GOOD].shape[0] == shape[0];
        for (int i = USABLE; i < all; i++)
            fits = fits && views[i].itemsize == 1 && views[i].shape[axes[i] - 2] == h
                && views[i].shape[axes[i] - 1] == w;
        if (!fits)
            PyErr_SetString(PyExc_ValueError, "masks and frames of different sizes");
        else if ((differ = PyBytes_FromStringAndSize(NULL, shape[0]))) {
            char *told = PyBytes_AsString(differ);
            octets new = {0};
            if (size < 8)
                limits.many = MIN(limits.many, ((uint64_t)1 << 8 * size) - 1);
            /* where `near` is a count too, look beyond the number before it */
            limits.edge = limits.has_near && limits.near - first <= limits.many ? limits.near - first - 1 : limits.many;
            Py_BEGIN_ALLOW_THREADS
            for (Py_ssize_t y = 0; y < h; y++)
                memset((uint8_t *)views[LOST].buf + y * views[LOST].strides[0], 0, w);
            Py_ssize_t made = 0;
            for (Py_ssize_t i = 0; i < shape[0]; made += told[i++]) {
                octets any = {i == 0 && all < ALL};
                for (Py_ssize_t y = 0; y < h; y++) {
                    #define AT(k) ((uint8_t *)views[k].buf + y * views[k].strides[axes[k] - 2])
                    uint8_t *good = AT(GOOD) + made * views[GOOD].strides[0];
                    Row row = {AT(FRAMES) + i * views[FRAMES].strides[0], AT(USABLE), AT(KNOWN),
                               made ? good - views[GOOD].strides[0] : all == ALL ? AT(BEFORE) : NULL, good, AT(LOST)};
                    BY_SIZE(judge_row, size, row, w, &limits, &any, &new)
                }
                told[i] = is_any(any);
            }
            Py_END_ALLOW_THREADS
            result = Py_BuildValue("(OOK)", differ, is_any(new) ? Py_True : Py_False,
                                   (unsigned long long)limits.of_near);
        }
    }
    while (got)
        PyBuffer_Release(&views[--got]);
    Py_XDECREF(differ);
    return result;
}

PyDoc_STRVAR(transpose_doc, "transposed(frames, out)\n--\n\n"
             "Frames (n, h, w) whose rows, up or down, lie one number after the other, into out, whose columns do.");

static PyObject *transposed(PyObject *self, PyObject *args)
{
    Py_buffer in, view;
    PyObject *frames, *out;
    int fits = 0;
    if (!PyArg_ParseTuple(args, "OO", &frames, &out) || PyObject_GetBuffer(frames, &in, PyBUF_STRIDED_RO))
        return NULL;
    if (rows_of(out, &view, 3, PyBUF_WRITABLE)) {
        PyBuffer_Release(&in);
        return NULL;
    }
    Py_ssize_t size = view.itemsize, h = view.shape[1], w = view.shape[2];
    fits = in.ndim == 3 && in.itemsize == size && is_usual(size) && in.shape[0] == view.shape[0] && in.shape[1] == h
        && in.shape[2] == w && (h < 2 || in.strides[1] == size || in.strides[1] == -size);
    if (fits) {
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t i = 0; i < view.shape[0]; i++) {
            const uint8_t *from = (uint8_t *)in.buf + i * in.strides[0];
            uint8_t *to = (uint8_t *)view.buf + i * view.strides[0];
            Py_ssize_t step = view.strides[1];
            if (in.strides[1] < 0) {            /* the last row lies first */
                from -= (h - 1) * size;
                to += (h - 1) * step;
                step = -step;
            }
            BY_SIZE(transpose, size, from, in.strides[2], to, step, h, w)
        }
        Py_END_ALLOW_THREADS
    }
    else
        PyErr_SetString(PyExc_ValueError, "expected arrays of one shape, and rows of the first without gaps");
    PyBuffer_Release(&in);
    PyBuffer_Release(&view);
    if (!fits)
        return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(unshuffle_doc, "unshuffle(octets, itemsize, rows, row_bytes, first, left, out)\n--\n\n"
             "Rows from `first` on and bytes from `left` on of numbers that were byte-shuffled, into out (h, w).");

static PyObject *unshuffle(PyObject *self, PyObject *args)
{
    Py_buffer in, view;
    PyObject *out;
    Chunks c;
    int fits = -1;
    if (!PyArg_ParseTuple(args, "y*nnnnnO", &in, &c.itemsize, &c.rows, &c.row_bytes, &c.first, &c.left, &out))
        return NULL;
    if (!rows_of(out, &view, 2, PyBUF_WRITABLE)) {
        Region region = wanted_in(&view, &c).out;
        fits = holds(&c, region.high, region.wide) && in.len == c.rows * c.row_bytes && is_usual(c.itemsize);
        if (fits) {
            Py_BEGIN_ALLOW_THREADS
            for (size_t r = 0; r < region.high; r++) {
                size_t e = ((c.first + r) * c.row_bytes + c.left) / c.itemsize;
                BY_SIZE(unshuffle_bytes, c.itemsize, in.buf, in.len / c.itemsize, e, e + region.wide / c.itemsize,
                        region.at + (Py_ssize_t)r * region.step)
            }
            Py_END_ALLOW_THREADS
        }
        PyBuffer_Release(&view);
    }
    PyBuffer_Release(&in);
    if (!fits)
        return PyErr_Format(PyExc_ValueError, "no such region in %zd rows of %zd bytes", c.rows, c.row_bytes);
    if (fits < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* A way to encode a frame of `size` bytes: to out, at most bound(size) bytes, in so much room for work. */
typedef struct {
    size_t (*encode)(const uint8_t *in, size_t size, size_t itemsize, uint8_t *out, uint8_t *work);
    size_t (*bound)(size_t size), (*work)(size_t size);
} Encoding;

static size_t bslz4(const uint8_t *in, size_t size, size_t itemsize, uint8_t *out, uint8_t *work)
{
    return encode_chunk(in, size, itemsize, out);
}

static size_t no_work(size_t size) { return 0; }

/* The tokens, and behind them the shuffled numbers. */
static size_t portable_work(size_t size) { return TOKENS * sizeof(Token) + size; }

static size_t portable(const uint8_t *in, size_t size, size_t itemsize, uint8_t *out, uint8_t *work)
{
    uint8_t *shuffled = work + TOKENS * sizeof(Token);
    BY_SIZE(shuffle_bytes, itemsize, in, size / itemsize, shuffled)
    return deflate(shuffled, size, out, (Token *)work);
}

/* The chunks of n frames (C-contiguous, given by their bytes), one after the other into out; a list of their lengths. */
static PyObject *encoded(PyObject *args, Encoding how)
{
    Py_buffer in, out;
    Py_ssize_t itemsize, n;
    PyObject *list = NULL;
    if (!PyArg_ParseTuple(args, "y*nnw*", &in, &n, &itemsize, &out))
        return NULL;
    if (itemsize < 1 || !is_usual(itemsize) || n < 1 || n > in.len / itemsize || in.len % (n * itemsize))
        PyErr_Format(PyExc_ValueError, "%zd bytes are not %zd frames of numbers of %zd bytes", in.len, n, itemsize);
    else if ((size_t)(out.len / n) < how.bound(in.len / n))
        PyErr_Format(PyExc_ValueError, "%zd bytes may be too few for %zd chunks", out.len, n);
    else {
        size_t size = in.len / n, *made = malloc(n * sizeof *made);
        uint8_t *work = malloc(how.work(size) + 1);
        if (!made || !work)
            PyErr_NoMemory();
        else {
            Py_BEGIN_ALLOW_THREADS
            uint8_t *at = out.buf;
            for (Py_ssize_t i = 0; i < n; at += made[i++])
                made[i] = how.encode((uint8_t *)in.buf + i * size, size, itemsize, at, work);
            Py_END_ALLOW_THREADS
            list = PyList_New(n);
            for (Py_ssize_t i = 0; list && i < n; i++) {
                PyObject *length = PyLong_FromSize_t(made[i]);
                if (length == NULL || PyList_SetItem(list, i, length))
                    Py_CLEAR(list);
            }
        }
        free(work);
        free(made);
    }
    PyBuffer_Release(&in);
    PyBuffer_Release(&out);
    return list;
}

PyDoc_STRVAR(room_doc, "room(size)\n--\n\nBytes that are enough for the chunk of a frame of so many, however it is encoded.");

static PyObject *room(PyObject *self, PyObject *size)
{
    size_t n = PyLong_AsSize_t(size);
    return PyErr_Occurred() ? NULL : PyLong_FromSize_t(MAX(encode_bound(n), deflate_bound(n)));
}

PyDoc_STRVAR(bitshuffle_lz4_doc, "bitshuffle_lz4(frames, n, itemsize, out)\n--\n\n"
             "The chunks that HDF5 filter 32008 makes of n frames, one after the other into out, of n times their `room`.\n\n"
             "Returns the list of their lengths.");

static PyObject *bitshuffle_lz4(PyObject *self, PyObject *args)
{
    return encoded(args, (Encoding){bslz4, encode_bound, no_work});
}

PyDoc_STRVAR(shuffle_deflate_doc, "shuffle_deflate(frames, n, itemsize, out)\n--\n\n"
             "The same of HDF5's filters shuffle and deflate.");

static PyObject *shuffle_deflate(PyObject *self, PyObject *args)
{
    return encoded(args, (Encoding){portable, deflate_bound, portable_work});
}

static PyMethodDef methods[] = {
    {"decode", decode, METH_VARARGS, decode_doc},
    {"read", read_chunks, METH_VARARGS, read_doc},
    {"judge", judge, METH_VARARGS, judge_doc},
    {"transposed", transposed, METH_VARARGS, transpose_doc},
    {"unshuffle", unshuffle, METH_VARARGS, unshuffle_doc},
    {"room", room, METH_O, room_doc},
    {"bitshuffle_lz4", bitshuffle_lz4, METH_VARARGS, bitshuffle_lz4_doc},
    {"shuffle_deflate", shuffle_deflate, METH_VARARGS, shuffle_deflate_doc},
    {NULL}
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static PyModuleDef module = {PyModuleDef_HEAD_INIT, "_core", "The loops over pixels; see codec.", 0, methods, slots};

PyMODINIT_FUNC PyInit__core(void) { return PyModuleDef_Init(&module); }
