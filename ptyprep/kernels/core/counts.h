/* Which numbers are counts: those from the smallest to the largest one. Both are subtracted from as unsigned, so that one
   comparison finds a number outside, signed or not. */
#pragma once
#include "base.h"
#include "shuffle.h"

/* 255 for each of 16 numbers that is not among the `many` numbers after the first one, and it. */
#define OUTSIDE(size, type)                                                             \
    INLINE octets outside_##size(const uint8_t *counts, uint64_t first, uint64_t many)  \
    {                                                                                   \
        typedef type lanes __attribute__((vector_size(16)));                            \
        octets y[size];                                                                 \
        for (int i = 0; i < size; i++)                                                  \
            y[i] = (octets)((lanes)load(counts + 16 * i) - (type)first > (type)many);   \
        for (int n = size / 2; n > 0; n /= 2)                                           \
            for (int i = 0; i < n; i++)                                                 \
                y[i] = even(y[2 * i], y[2 * i + 1]);                                    \
        return y[0];                                                                    \
    }

OUTSIDE(1, uint8_t)
OUTSIDE(2, uint16_t)
OUTSIDE(4, uint32_t)
OUTSIDE(8, uint64_t)

INLINE octets outside(int size, const uint8_t *counts, uint64_t first, uint64_t many)
{
    return size == 1 ? outside_1(counts, first, many) : size == 2 ? outside_2(counts, first, many) :
           size == 4 ? outside_4(counts, first, many) : outside_8(counts, first, many);
}

/* Counts are the `many` numbers after the first one, and it. `near` is counted, if there is one; `edge` is `many`, or less
   where `near` is a count too, so that it lies beyond the edge. */
typedef struct {
    uint64_t first, many, edge, near, of_near;
    int has_near;
} Limits;

/* Why a pixel is lost, in bytes of `known` and `lost`. */
enum { OVERFLOW = 1, NEAR = 2 };

/* A row of each: of counts; of bytes that are 1 for pixels of the detector that can be used, and of reasons why pixels
   were lost before; of the mask that is made, and that of the frame before, NULL where there is none; and of reasons that
   pixels have here first. */
typedef struct {
    const uint8_t *counts, *usable, *known, *before;
    uint8_t *good, *lost;
} Row;

/* The counts that are `near`, 255 for each of 16. */
INLINE octets is_near(int size, const uint8_t *counts, const Limits *limits)
{
    return ~outside(size, counts, limits->near, 0);
}

INLINE unsigned how_many(octets yes)
{
    longs bits = (longs)yes;
    return (__builtin_popcountll(bits[0]) + __builtin_popcountll(bits[1])) / 8;
}

/* Adds to `differ` and `new` what is not 0 where the mask differs from that before, and where a pixel is lost first. */
INLINE void judge_from(int size, uint64_t first, Row row, size_t n, Limits *limits, octets *differ, octets *new)
{
    const uint64_t many = limits->many, edge = limits->edge, all = ~(uint64_t)0 >> (64 - 8 * size);
    size_t e = 0;
    for (; e + 16 <= n; e += 16) {
        octets bad = outside(size, row.counts + e * size, first, edge), why = bad & OVERFLOW;
        if (limits->has_near && is_any(bad)) {      /* rarely */
            octets near = is_near(size, row.counts + e * size, limits);
            limits->of_near += how_many(near);
            bad = outside(size, row.counts + e * size, first, many);
            why = bad & ((near & NEAR) | (~near & OVERFLOW));
        }
        octets good = load(row.usable + e) & ~bad, lost = why & ~load(row.known + e);
        if (is_any(lost))       /* rarely */
            store(row.lost + e, load(row.lost + e) | lost);
        store(row.good + e, good);
        *new |= lost;
        if (row.before)
            *differ |= good ^ load(row.before + e);
    }
    for (; e < n; e++) {
        uint64_t count = 0;
        memcpy(&count, row.counts + e * size, size);
        uint8_t near = limits->has_near && count == (limits->near & all), bad = ((count - first) & all) > (many & all);
        uint8_t lost = bad * (near ? NEAR : OVERFLOW) & ~row.known[e];
        limits->of_near += near;
        row.good[e] = row.usable[e] & !bad;
        row.lost[e] |= lost;
        *new |= lost;
        if (row.before) {
            uint8_t other = row.good[e] ^ row.before[e];
            *differ |= other;
        }
    }
}

INLINE void judge_row(int size, Row row, size_t n, Limits *limits, octets *differ, octets *new)
{
    if (limits->first)
        judge_from(size, limits->first, row, n, limits, differ, new);
    else                    /* mostly: nothing to subtract */
        judge_from(size, 0, row, n, limits, differ, new);
}
