/* Which counts are measurements: those up to a limit, for a detector's marks are the largest numbers; negative ones are
   larger still, taken as unsigned. */
#pragma once
#include "base.h"
#include "shuffle.h"

/* 255 for each of 16 counts that is above the limit. */
#define ABOVE(size, type)                                                               \
    INLINE octets above_##size(const uint8_t *counts, uint64_t limit)                   \
    {                                                                                   \
        typedef type lanes __attribute__((vector_size(16)));                            \
        octets y[size];                                                                 \
        for (int i = 0; i < size; i++)                                                  \
            y[i] = (octets)((lanes)load(counts + 16 * i) > (type)limit);                \
        for (int n = size / 2; n > 0; n /= 2)                                           \
            for (int i = 0; i < n; i++)                                                 \
                y[i] = even(y[2 * i], y[2 * i + 1]);                                    \
        return y[0];                                                                    \
    }

ABOVE(1, uint8_t)
ABOVE(2, uint16_t)
ABOVE(4, uint32_t)
ABOVE(8, uint64_t)

INLINE octets above(int size, const uint8_t *counts, uint64_t limit)
{
    return size == 1 ? above_1(counts, limit) : size == 2 ? above_2(counts, limit) :
           size == 4 ? above_4(counts, limit) : above_8(counts, limit);
}

/* A row of each: of counts; of bytes that are 1 for pixels of the detector that can be used, and that were lost before;
   of the mask that is made, and that of the frame before, NULL where there is none; and of pixels lost here first. */
typedef struct {
    const uint8_t *counts, *usable, *known, *before;
    uint8_t *good, *lost;
} Row;

/* Adds to `differ` and `new` what is not 0 where the mask differs from that before, and where a pixel is lost first. */
INLINE void judge_row(int size, Row row, size_t n, uint64_t limit, octets *differ, octets *new)
{
    size_t e = 0;
    for (; e + 16 <= n; e += 16) {
        octets bad = above(size, row.counts + e * size, limit), good = load(row.usable + e) & ~bad;
        octets lost = bad & ~load(row.known + e) & 1;
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
        uint8_t bad = count > limit, lost = bad & !row.known[e];
        row.good[e] = row.usable[e] & !bad;
        row.lost[e] |= lost;
        *new |= lost;
        if (row.before) {
            uint8_t other = row.good[e] ^ row.before[e];
            *differ |= other;
        }
    }
}
