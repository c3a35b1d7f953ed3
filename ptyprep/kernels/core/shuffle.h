/* Shuffling.

   Byte shuffle puts the first bytes of all numbers together, then the second ones … Bitshuffle does so with bits, in
   blocks of n numbers: plane i, of n / 8 bytes, holds bit i of each, number 8 k + j at bit j of byte k
   (Masui et al., Astronomy and Computing 12 (2015) 181). */
#pragma once
#include "base.h"

#define GROUP 128               /* numbers that are shuffled together */

static octets zip_low(octets a, octets b)
{
    return PICK(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}

static octets zip_high(octets a, octets b)
{
    return PICK(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}

static octets even(octets a, octets b)
{
    return PICK(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
}

static octets odd(octets a, octets b)
{
    return PICK(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
}

/* 2 n vectors, n <= 4: the bytes of the first half between those of the other, and back */
INLINE void zip(octets *x, int n)
{
    octets y[8];
    #pragma GCC unroll 8
    for (int i = 0; i < n; i++) {
        y[2 * i] = zip_low(x[i], x[n + i]);
        y[2 * i + 1] = zip_high(x[i], x[n + i]);
    }
    #pragma GCC unroll 8
    for (int i = 0; i < 2 * n; i++)
        x[i] = y[i];
}

INLINE void unzip(octets *x, int n)
{
    octets y[8];
    #pragma GCC unroll 8
    for (int i = 0; i < n; i++) {
        y[i] = even(x[2 * i], x[2 * i + 1]);
        y[n + i] = odd(x[2 * i], x[2 * i + 1]);
    }
    #pragma GCC unroll 8
    for (int i = 0; i < 2 * n; i++)
        x[i] = y[i];
}

INLINE void swap_bits(octets *a, octets *b, int by, uint8_t mask)
{
    octets m = mask - (octets){0};
    octets t = ((octets)((longs)*a >> by) ^ *b) & m;
    *b ^= t;
    *a ^= (octets)((longs)t << by);
}

/* Bit i of the bytes in x[j] becomes bit j of those in x[i]: 16 matrices of 8 x 8 bits, transposed
   (Warren, Hacker's Delight, 7-3). */
INLINE void turn(octets x[8])
{
    #pragma GCC unroll 8
    for (int i = 0; i < 8; i += 2)
        swap_bits(&x[i], &x[i + 1], 1, 0x55);
    for (int i = 0; i < 8; i++)
        if (!(i & 2))
            swap_bits(&x[i], &x[i + 2], 2, 0x33);
    for (int i = 0; i < 4; i++)
        swap_bits(&x[i], &x[i + 4], 4, 0x0f);
}

/* The same for one matrix: eight bytes that lie `step` apart, to eight that lie `out_step` apart. */
static void turn_one(const uint8_t *in, size_t step, uint8_t *out, size_t out_step)
{
    uint64_t x = 0, t;
    for (int i = 0; i < 8; i++)
        x |= (uint64_t)in[i * step] << 8 * i;
    t = (x ^ x >> 7) & 0x00aa00aa00aa00aa;
    x ^= t ^ t << 7;
    t = (x ^ x >> 14) & 0x0000cccc0000cccc;
    x ^= t ^ t << 14;
    t = (x ^ x >> 28) & 0x00000000f0f0f0f0;
    x ^= t ^ t << 28;
    for (int i = 0; i < 8; i++)
        out[i * out_step] = x >> 8 * i;
}

/* One byte of a group of numbers from its eight planes, which lie `step` bytes apart. */
INLINE void bytes_of_planes(const uint8_t *planes, size_t step, octets x[8])
{
    octets any = {0};
    for (int i = 0; i < 8; i++)
        any |= x[i] = load(planes + i * step);
    if (is_any(any)) {        /* the upper bytes of counts are mostly 0, and stay so */
        turn(x);
        zip(x, 4);
        zip(x, 4);
        zip(x, 4);
    }
}

INLINE void planes_of_bytes(octets x[8], uint8_t *planes, size_t step)
{
    octets any = {0};
    for (int i = 0; i < 8; i++)
        any |= x[i];
    if (is_any(any)) {
        unzip(x, 4);
        unzip(x, 4);
        unzip(x, 4);
        turn(x);
    }
    for (int i = 0; i < 8; i++)
        store(planes + i * step, x[i]);
}

/* A group of numbers of `size` bytes (1, 2, 4, 8) from x, which holds their first bytes in eight vectors, then their second
   ones …, and back. */
INLINE void join(const octets *x, int size, uint8_t *out)
{
    for (int i = 0; i < 8; i++) {
        octets y[8];
        #pragma GCC unroll 8
        for (int k = 0; k < size; k++)
            y[k] = x[8 * k + i];
        #pragma GCC unroll 8
        for (int n = size; n > 1; n /= 2)
            zip(y, size / 2);
        memcpy(out + 16 * size * i, y, 16 * size);
    }
}

INLINE void part(const uint8_t *in, int size, octets *x)
{
    for (int i = 0; i < 8; i++) {
        octets y[8];
        memcpy(y, in + 16 * size * i, 16 * size);
        #pragma GCC unroll 8
        for (int n = size; n > 1; n /= 2)
            unzip(y, size / 2);
        #pragma GCC unroll 8
        for (int k = 0; k < size; k++)
            x[8 * k + i] = y[k];
    }
}

static int is_usual(size_t size) { return size == 1 || size == 2 || size == 4 || size == 8; }

/* f(size, ...) with a size that the compiler knows: so its loops over the bytes of a number become none. */
#define BY_SIZE(f, size, ...)                   \
    switch (size) {                             \
    case 1: f(1, __VA_ARGS__); break;           \
    case 2: f(2, __VA_ARGS__); break;           \
    case 4: f(4, __VA_ARGS__); break;           \
    default: f(8, __VA_ARGS__);                 \
    }

INLINE void unshuffle_groups(int size, const uint8_t *planes, size_t n, size_t e, size_t end, uint8_t *out)
{
    for (; e + GROUP <= end; e += GROUP) {
        octets x[64];
        for (int k = 0; k < size; k++)
            bytes_of_planes(planes + k * n + e / 8, n / 8, x + 8 * k);
        join(x, size, out + e * size);
    }
}

INLINE void shuffle_groups(int size, const uint8_t *in, size_t n, uint8_t *planes)
{
    for (size_t e = 0; e + GROUP <= n; e += GROUP) {
        octets x[64];
        part(in + e * size, size, x);
        for (int k = 0; k < size; k++)
            planes_of_bytes(x + 8 * k, planes + k * n + e / 8, n / 8);
    }
}

/* Numbers e to end of a block of n, both multiples of 8, to their places in `out`. */
static void unshuffle_bits(const uint8_t *planes, size_t n, size_t size, size_t e, size_t end, uint8_t *out)
{
    if (is_usual(size)) {
        BY_SIZE(unshuffle_groups, size, planes, n, e, end, out)
        e += (end - e) / GROUP * GROUP;
    }
    for (; e < end; e += 8)
        for (size_t k = 0; k < size; k++)
            turn_one(planes + k * n + e / 8, n / 8, out + e * size + k, size);
}

/* The same of any numbers, to `out`, by way of a buffer that holds the block where groups of them are cut. */
static void unshuffle_some(const uint8_t *planes, size_t n, size_t size, size_t first, size_t last, uint8_t *buffer,
                           uint8_t *out)
{
    size_t from = (first + GROUP - 1) / GROUP * GROUP, to = last / GROUP * GROUP;
    size_t low = first / GROUP * GROUP, high = MIN((last + GROUP - 1) / GROUP * GROUP, n);
    if (from >= to) {
        unshuffle_bits(planes, n, size, low, high, buffer);
        memcpy(out, buffer + first * size, (last - first) * size);
        return;
    }
    unshuffle_bits(planes, n, size, low, from, buffer);
    memcpy(out, buffer + first * size, (from - first) * size);
    unshuffle_bits(planes, n, size, from, to, out - first * size);
    unshuffle_bits(planes, n, size, to, high, buffer);
    memcpy(out + (to - first) * size, buffer + to * size, (last - to) * size);
}

/* n numbers, a multiple of 8, of a usual size. */
static void shuffle_bits(const uint8_t *in, size_t n, size_t size, uint8_t *planes)
{
    BY_SIZE(shuffle_groups, size, in, n, planes)
    for (size_t e = n / GROUP * GROUP; e < n; e += 8)
        for (size_t k = 0; k < size; k++)
            turn_one(in + e * size + k, size, planes + k * n + e / 8, n / 8);
}

INLINE void shuffle_bytes(int size, const uint8_t *in, size_t n, uint8_t *out)
{
    size_t e = 0;
    for (; e + GROUP <= n; e += GROUP) {
        octets x[64];
        part(in + e * size, size, x);
        for (int k = 0; k < size; k++)
            memcpy(out + k * n + e, x + 8 * k, GROUP);
    }
    for (; e < n; e++)
        for (int k = 0; k < size; k++)
            out[k * n + e] = in[e * size + k];
}

/* Numbers e to end of n. */
INLINE void unshuffle_bytes(int size, const uint8_t *in, size_t n, size_t e, size_t end, uint8_t *out)
{
    for (; e + GROUP <= end; e += GROUP) {
        octets x[64];
        for (int k = 0; k < size; k++)
            memcpy(x + 8 * k, in + k * n + e, GROUP);
        join(x, size, out);
        out += GROUP * size;
    }
    for (; e < end; e++)
        for (int k = 0; k < size; k++)
            *out++ = in[k * n + e];
}
