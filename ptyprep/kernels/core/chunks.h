/* Chunks of HDF5 filters 32008 (bitshuffle-LZ4) and 32004 (LZ4), as ptyprep.codec_numpy tells: header and blocks. */
#pragma once
#include "base.h"
#include "lz4.h"
#include "shuffle.h"

#define BLOCK 8192              /* bytes; what the HDF5 filter takes by itself */

typedef struct {                /* rows of bytes in an array */
    uint8_t *at;
    size_t high, wide;
    Py_ssize_t step;
} Region;

enum { OK, DAMAGED, NO_MEMORY };

/* What is wanted of a chunk: of rows of row_bytes those from `first` on, from byte `left` on. */
typedef struct {
    size_t row_bytes, first, left;
    Region out;
} Wanted;

/* The next piece of it in the bytes from *to to `end`: sets *from and *to, and returns where it goes; NULL after the
   last. */
static uint8_t *next_piece(const Wanted *w, size_t *from, size_t *to, size_t end)
{
    size_t begin = *to;
    for (size_t r = MAX(begin / w->row_bytes, w->first); r < w->first + w->out.high; r++) {
        size_t row_at = r * w->row_bytes + w->left;
        *from = MAX(row_at, begin);
        *to = MIN(row_at + w->out.wide, end);
        if (*from < *to)
            return w->out.at + (Py_ssize_t)(r - w->first) * w->out.step + (*from - row_at);
        if (row_at >= end)
            break;
    }
    return NULL;
}

/* The pieces of it in the bytes begin to end, which lie at `plain`. */
static void copy_pieces(const Wanted *w, const uint8_t *plain, size_t begin, size_t end)
{
    uint8_t *target;
    for (size_t from, to = begin; (target = next_piece(w, &from, &to, end));)
        memcpy(target, plain + (from - begin), to - from);
}

/* Where the next block begins; 0 where the chunk ends before. */
static size_t skip_block(const uint8_t *chunk, size_t length, size_t at)
{
    if (length - at < 4 || length - at - 4 < big32(chunk + at))
        return 0;
    return at + 4 + big32(chunk + at);
}

/* What is wanted of a chunk of `length` bytes; sets *used to how many of them that took. */
static int decode_chunk(const uint8_t *chunk, size_t length, int shuffled, size_t itemsize, size_t rows, const Wanted *w,
                        size_t *used)
{
    size_t size = rows * w->row_bytes, unit = 8 * itemsize;
    if (length < 12 || big64(chunk) != size)
        return DAMAGED;
    size_t block = big32(chunk + 8);
    if (block == 0 && shuffled)
        block = BLOCK;
    if (block == 0 || block > 1 << 30 || (shuffled && block % unit))
        return DAMAGED;
    size_t tail = shuffled ? size % unit : 0, packed = size - tail, blocks = (packed + block - 1) / block, at = 12;
    size_t low = MIN(w->first * w->row_bytes / block, blocks ? blocks - 1 : 0);
    size_t high = MIN(((w->first + w->out.high) * w->row_bytes + block - 1) / block, blocks);
    for (size_t i = 0; i < low; i++)
        if (!(at = skip_block(chunk, length, at)))
            return DAMAGED;
    size_t room = MIN(block, packed) + SLACK;
    uint8_t *decoded = malloc(2 * room), *plain;
    if (decoded == NULL)
        return NO_MEMORY;
    plain = decoded + room;
    int damaged = 0;
    for (size_t i = low; i < high && !damaged; i++) {
        size_t begin = i * block, end = MIN(begin + block, packed), next = skip_block(chunk, length, at);
        const uint8_t *content = chunk + at + 4;
        if (!next)
            damaged = 1;
        else if (!shuffled && next - at - 4 == end - begin)
            copy_pieces(w, content, begin, end);
        else if (lz4_decode(content, next - at - 4, decoded, end - begin))
            damaged = 1;
        else if (!shuffled)
            copy_pieces(w, decoded, begin, end);
        else {
            uint8_t *target;
            for (size_t from, to = begin; (target = next_piece(w, &from, &to, end));) {
                size_t n = (end - begin) / itemsize, first = (from - begin) / itemsize, last = (to - begin) / itemsize;
                unshuffle_some(decoded, n, itemsize, first, last, plain, target);
            }
        }
        at = next;
    }
    free(decoded);
    if (!damaged && high == blocks) {
        damaged = length - at != tail;
        if (!damaged)
            copy_pieces(w, chunk + at, packed, size);
    }
    *used = high == blocks ? length : at;
    return damaged ? DAMAGED : OK;
}

static size_t encode_bound(size_t size) { return 12 + size + (size / BLOCK + 1) * (4 + BLOCK / 255 + 16) + SLACK; }

static size_t encode_chunk(const uint8_t *in, size_t size, size_t itemsize, uint8_t *start)
{
    uint8_t planes[BLOCK + SLACK], *out = start + 12;
    size_t packed = size - size % (8 * itemsize);
    put_big64(start, size);
    put_big32(start + 8, BLOCK);
    for (size_t at = 0; at < packed; at += BLOCK) {
        size_t n = MIN(BLOCK, packed - at);
        shuffle_bits(in + at, n / itemsize, itemsize, planes);
        size_t stored = lz4_encode(planes, n, out + 4);
        put_big32(out, stored);
        out += 4 + stored;
    }
    memcpy(out, in + packed, size - packed);
    return out + (size - packed) - start;
}
