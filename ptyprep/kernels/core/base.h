/* What all files of this folder use: bytes, and vectors of them. */
#pragma once
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "written for little-endian processors; ptyprep works without this"
#endif

#define SLACK 64                /* bytes that may be written beyond the end of a buffer of ours */
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

typedef uint8_t octets __attribute__((vector_size(16)));
typedef uint64_t longs __attribute__((vector_size(16)));

#define INLINE static inline __attribute__((always_inline))

#if defined(__clang__) || __GNUC__ >= 12
#define PICK(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define PICK(a, b, ...) __builtin_shuffle(a, b, (octets){__VA_ARGS__})
#endif

static uint32_t get32(const uint8_t *p) { uint32_t x; memcpy(&x, p, 4); return x; }
static uint64_t get64(const uint8_t *p) { uint64_t x; memcpy(&x, p, 8); return x; }
static uint32_t big32(const uint8_t *p) { return __builtin_bswap32(get32(p)); }
static uint64_t big64(const uint8_t *p) { return __builtin_bswap64(get64(p)); }
static void put_big32(uint8_t *p, uint32_t x) { x = __builtin_bswap32(x); memcpy(p, &x, 4); }
static void put_big64(uint8_t *p, uint64_t x) { x = __builtin_bswap64(x); memcpy(p, &x, 8); }
static octets load(const uint8_t *p) { octets x; memcpy(&x, p, 16); return x; }
static void store(uint8_t *p, octets x) { memcpy(p, &x, 16); }
static int is_any(octets x) { return (((longs)x)[0] | ((longs)x)[1]) != 0; }
