/* LZ4 blocks (lz4_Block_format.md of LZ4).

   Sequences of a token, literals, and a match: two bytes that say how far back, and a length. The last sequence is
   literals only; the last five bytes are literals, and the last match begins 12 bytes before the end or earlier. */
#pragma once
#include "base.h"

/* More of a length that did not fit into its half of the token; -1 where the input ends before it. */
static int read_length(const uint8_t **in, const uint8_t *end, size_t *length)
{
    unsigned more;
    do {
        if (*in >= end)
            return -1;
        *length += more = *(*in)++;
    } while (more == 255);
    return 0;
}

#define LONG 64

/* The last `back` bytes again and again; up to SLACK bytes beyond the end.

   A processor waits where it reads across what it has just written: so a long one is written in pieces that double. */
static void repeat(uint8_t *out, uint8_t *end, size_t back)
{
    const uint8_t *from = out - back;
    if (end - out > LONG) {
        if (back == 1)
            memset(out, *from, end - out);
        else
            for (size_t n; out < end; out += n) {
                n = MIN(out - from, end - out);
                memcpy(out, from, n);
            }
    }
    else if (back < 8) {
        static const uint64_t times[8] = {0, 0x0101010101010101, 0x0001000100010001, 0x0001000001000001,
                                          0x0000000100000001, 0x0000010000000001, 0x0001000000000001,
                                          0x0100000000000001};
        uint64_t x = (get64(from) & (((uint64_t)1 << 8 * back) - 1)) * times[back];
        for (; out < end; out += 8 - 8 % back)
            memcpy(out, &x, 8);
    }
    else if (back < 16)
        for (; out < end; out += 8, from += 8)
            memcpy(out, from, 8);
    else
        for (; out < end; out += 16, from += 16)
            store(out, load(from));
}

/* n bytes that decode to exactly `size`; -1 where they do not. Writes up to SLACK bytes more. */
static int lz4_decode(const uint8_t *in, size_t n, uint8_t *start, size_t size)
{
    const uint8_t *in_end = in + n;
    uint8_t *out = start, *out_end = start + size;
    for (;;) {
        if (in >= in_end)
            return -1;
        unsigned token = *in++;
        size_t length = token >> 4;
        if (length == 15 && read_length(&in, in_end, &length))
            return -1;
        if (length > (size_t)(in_end - in) || length > (size_t)(out_end - out))
            return -1;
        if (length <= 16 && in_end - in >= 16)
            store(out, load(in));
        else
            memcpy(out, in, length);
        out += length;
        in += length;
        if (out_end - out < 12 || in_end - in < 8)
            return in == in_end && out == out_end ? 0 : -1;
        size_t back = in[0] | in[1] << 8;
        in += 2;
        if (back == 0 || back > (size_t)(out - start))
            return -1;
        length = token & 15;
        if (length == 15 && read_length(&in, in_end, &length))
            return -1;
        length += 4;
        if (length > (size_t)(out_end - out) - 5)
            return -1;
        uint8_t *end = out + length;
        repeat(out, end, back);
        out = end;
    }
}

#define HASH_BITS 12
#define PATIENCE 32             /* misses in a row after which steps get longer: what is noise stays noise */

static unsigned hash(const uint8_t *p) { return get32(p) * 2654435761u >> (32 - HASH_BITS); }

static uint8_t *write_length(uint8_t *out, size_t length)
{
    for (; length >= 255; length -= 255)
        *out++ = 255;
    *out++ = length;
    return out;
}

static uint8_t *write_literals(uint8_t *out, const uint8_t *from, size_t length, uint8_t **token)
{
    *token = out++;
    **token = MIN(length, 15) << 4;
    if (length >= 15)
        out = write_length(out, length - 15);
    for (size_t i = 0; i < length; i += 16)             /* up to SLACK bytes beyond both */
        store(out + i, load(from + i));
    return out + length;
}

/* n bytes, at most 64 KiB and with SLACK behind them, to at most n + n / 255 + 16. */
static size_t lz4_encode(const uint8_t *in, size_t n, uint8_t *start)
{
    uint16_t seen[1 << HASH_BITS] = {0};
    const uint8_t *at = in, *done = in, *end = in + n, *last_match = end - 12, *last_same = end - 5;
    uint8_t *out = start, *token;
    at++;
    while (n > 12) {
        const uint8_t *from;
        unsigned misses = 2 * PATIENCE;
        for (;; at += misses++ / PATIENCE) {
            if (at > last_match)
                goto rest;
            unsigned h = hash(at);
            from = in + seen[h];
            seen[h] = at - in;
            if (get32(from) == get32(at))
                break;
        }
        while (at > done && from > in && at[-1] == from[-1])
            at--, from--;
        out = write_literals(out, done, at - done, &token);
        size_t back = at - from;
        *out++ = back;
        *out++ = back >> 8;
        const uint8_t *same = at + 4;
        while (same + 32 <= last_same && !is_any((load(same) ^ load(same - back)) |
                                                 (load(same + 16) ^ load(same + 16 - back))))
            same += 32;
        for (; same + 8 <= last_same; same += 8) {
            uint64_t differ = get64(same) ^ get64(same - back);
            if (differ) {
                same += __builtin_ctzll(differ) >> 3;
                goto found;
            }
        }
        while (same < last_same && *same == same[-back])
            same++;
    found:;
        size_t length = same - at - 4;
        *token |= MIN(length, 15);
        if (length >= 15)
            out = write_length(out, length - 15);
        done = at = same;
        if (at > last_match)
            break;
        seen[hash(at - 2)] = at - 2 - in;
    }
rest:
    return write_literals(out, done, end - done, &token) - start;
}
