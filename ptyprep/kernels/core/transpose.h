/* Transposed frames, a square of 16 bytes by as many numbers at a time. */
#pragma once
#include "base.h"
#include "shuffle.h"

/* The numbers of the first halves of two vectors in turns, and those of their second halves. */
#define BETWEEN(size, low, high)                                                        \
    INLINE octets low_##size(octets a, octets b) { return PICK(a, b, low); }            \
    INLINE octets high_##size(octets a, octets b) { return PICK(a, b, high); }
#define LIST(...) __VA_ARGS__
BETWEEN(2, LIST(0, 1, 16, 17, 2, 3, 18, 19, 4, 5, 20, 21, 6, 7, 22, 23),
        LIST(8, 9, 24, 25, 10, 11, 26, 27, 12, 13, 28, 29, 14, 15, 30, 31))
BETWEEN(4, LIST(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23),
        LIST(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31))
BETWEEN(8, LIST(0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23),
        LIST(8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31))

INLINE octets low(int size, octets a, octets b)
{
    return size == 1 ? zip_low(a, b) : size == 2 ? low_2(a, b) : size == 4 ? low_4(a, b) : low_8(a, b);
}

INLINE octets high(int size, octets a, octets b)
{
    return size == 1 ? zip_high(a, b) : size == 2 ? high_2(a, b) : size == 4 ? high_4(a, b) : high_8(a, b);
}

/* n = 16 / size rows of n numbers to as many columns: a matrix whose halves are put between each other log2(n) times is
   transposed. */
INLINE void transpose_square(int size, const uint8_t *in, Py_ssize_t in_step, uint8_t *out, Py_ssize_t out_step)
{
    int n = 16 / size;
    octets x[16], y[16];
    #pragma GCC unroll 16
    for (int i = 0; i < n; i++)
        x[i] = load(in + i * in_step);
    #pragma GCC unroll 4
    for (int step = n; step > 1; step /= 2) {
        #pragma GCC unroll 8
        for (int i = 0; i < n / 2; i++) {
            y[2 * i] = low(size, x[i], x[n / 2 + i]);
            y[2 * i + 1] = high(size, x[i], x[n / 2 + i]);
        }
        #pragma GCC unroll 16
        for (int i = 0; i < n; i++)
            x[i] = y[i];
    }
    #pragma GCC unroll 16
    for (int i = 0; i < n; i++)
        store(out + i * out_step, x[i]);
}

#define LINE 64                 /* bytes that a processor fetches together: so many of each row are taken at once */

/* w rows of h numbers, in_step bytes apart, to h rows of w numbers. */
INLINE void transpose(int size, const uint8_t *in, Py_ssize_t in_step, uint8_t *out, Py_ssize_t out_step, Py_ssize_t h,
                      Py_ssize_t w)
{
    int n = 16 / size;
    for (Py_ssize_t top = 0; top < h; top += LINE / size) {
        Py_ssize_t bottom = MIN(top + LINE / size, h), x = 0;
        for (; x + n <= w; x += n) {
            Py_ssize_t y = top;
            for (; y + n <= bottom; y += n)
                transpose_square(size, in + x * in_step + y * size, in_step, out + y * out_step + x * size, out_step);
            for (; y < bottom; y++)
                for (int i = 0; i < n; i++)
                    memcpy(out + y * out_step + (x + i) * size, in + (x + i) * in_step + y * size, size);
        }
        for (; x < w; x++)
            for (Py_ssize_t y = top; y < bottom; y++)
                memcpy(out + y * out_step + x * size, in + x * in_step + y * size, size);
    }
}
