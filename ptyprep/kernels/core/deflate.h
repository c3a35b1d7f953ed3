/* Deflate (RFC 1950, RFC 1951).

   Counts that are byte-shuffled are noise, or one byte again and again. So no matches are looked for but those with the
   byte before: the rest is a matter of Huffman codes, one set for each 64 kB of literals. */
#pragma once
#include "base.h"
#include "shuffle.h"

#define LITERALS 65535          /* in a block at most: what a block that is stored can hold */
#define TOKENS 8192
#define LIMIT 12                /* bits of a code, so that four literals and what is left of a byte fit into 64 */
#define SYMBOLS 286
#define END 256

typedef struct { uint32_t literals, same; } Token;     /* so many literals, then the last of them so many times again */

typedef struct { uint8_t *at; uint64_t bits; unsigned n; } Writer;

static void put(Writer *w, uint64_t bits, unsigned n)           /* n <= 56 */
{
    w->bits |= bits << w->n;
    w->n += n;
    memcpy(w->at, &w->bits, 8);
    w->at += w->n >> 3;
    w->bits >>= w->n & 56;
    w->n &= 7;
}

typedef struct { uint8_t length[SYMBOLS + 2]; uint32_t code[SYMBOLS + 2]; } Codes;      /* length << 16 | bits */

/* Those of n symbols that occur, by how often (16 bits), the rarest first; at least two. Returns how many. */
static int sorted_symbols(const uint32_t *times, int n, uint16_t *symbols)
{
    uint16_t sorted[SYMBOLS];
    int used = 0;
    for (int i = 0; i < n; i++)
        if (times[i])
            symbols[used++] = i;
    for (int i = 0; used < 2; i++)
        if (!times[i])
            symbols[used++] = i;
    for (int shift = 0; shift < 16; shift += 8) {
        unsigned places[257] = {0};
        for (int i = 0; i < used; i++)
            places[(times[symbols[i]] >> shift & 255) + 1]++;
        for (int i = 0; i < 256; i++)
            places[i + 1] += places[i];
        for (int i = 0; i < used; i++)
            sorted[places[times[symbols[i]] >> shift & 255]++] = symbols[i];
        memcpy(symbols, sorted, used * sizeof *symbols);
    }
    return used;
}

/* In place: from how often n >= 2 symbols occur, the rarest first, to the lengths of their Huffman codes
   (Moffat & Katajainen, WADS 1995). */
static void huffman_lengths(uint32_t *a, int n)
{
    int root = 0, leaf = 2, inner = 1, open = 1, taken = 0;
    if (n == 2) {
        a[0] = a[1] = 1;
        return;
    }
    a[0] += a[1];
    for (; inner < n - 1; inner++) {
        if (leaf >= n || a[root] < a[leaf])
            a[inner] = a[root], a[root++] = inner;
        else
            a[inner] = a[leaf++];
        if (leaf >= n || (root < inner && a[root] < a[leaf]))
            a[inner] += a[root], a[root++] = inner;
        else
            a[inner] += a[leaf++];
    }
    a[n - 2] = 0;
    for (inner = n - 3; inner >= 0; inner--)
        a[inner] = a[a[inner]] + 1;
    root = n - 2, inner = n - 1;
    for (uint32_t depth = 0; open > 0; depth++) {
        for (; root >= 0 && a[root] == depth; root--)
            taken++;
        for (; open > taken; open--)
            a[inner--] = depth;
        open = 2 * taken, taken = 0;
    }
}

/* Huffman codes of at most `limit` bits for n symbols that occur so many times; none for those that do not, but at least
   two. Lengths beyond the limit are given back by Kraft's inequality. */
static void make_codes(const uint32_t *times, int n, int limit, Codes *codes)
{
    uint32_t a[SYMBOLS], lengths[33] = {0}, next[33] = {0}, total = 0;
    uint16_t symbols[SYMBOLS];
    int used = sorted_symbols(times, n, symbols);
    for (int i = 0; i < used; i++)
        a[i] = times[symbols[i]];
    huffman_lengths(a, used);
    for (int i = 0; i < used; i++) {
        int length = MIN(a[i], (uint32_t)limit);
        lengths[length]++;
        total += 1u << (limit - length);
    }
    for (; total > 1u << limit; total--) {
        int shorter = limit - 1;
        while (!lengths[shorter])
            shorter--;
        lengths[limit]--;
        lengths[shorter]--;
        lengths[shorter + 1] += 2;
    }
    memset(codes, 0, sizeof *codes);
    for (int i = 0, length = limit; length; length--)
        for (uint32_t k = 0; k < lengths[length]; k++)
            codes->length[symbols[i++]] = length;
    for (int length = 1; length <= limit; length++)
        next[length] = (next[length - 1] + lengths[length - 1]) << 1;
    for (int i = 0; i < n; i++) {
        int length = codes->length[i];
        uint32_t code = length ? next[length]++ : 0, reversed = 0;
        for (int bit = 0; bit < length; bit++)
            reversed |= (code >> bit & 1) << (length - 1 - bit);
        codes->code[i] = (uint32_t)length << 16 | reversed;
    }
}

#define LONGEST 258             /* bytes of a match */

/* The symbol of a match of 3 to 258 bytes, and how many bits more say which. */
static int symbol_of(unsigned length, unsigned *extra)
{
    if (length == LONGEST)
        return *extra = 0, 285;
    unsigned x = length - 3;
    if (x < 8)
        return *extra = 0, 257 + x;
    *extra = 29 - __builtin_clz(x);
    return 257 + 4 * *extra + (x >> *extra);
}

/* The lengths of all codes as a block begins with them; with a writer of NULL only how many bits that takes. */
static size_t put_lengths(Writer *writer, const Codes *codes)
{
    static const uint8_t order[19] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    uint8_t all[SYMBOLS + 2], said[SYMBOLS + 2], more[SYMBOLS + 2];
    uint32_t times[19] = {0};
    int n = SYMBOLS, count = 0;
    memcpy(all, codes->length, SYMBOLS);
    while (!all[n - 1])
        n--;
    all[n] = all[n + 1] = 1;                    /* two distances, of which only the first, 1, is used */
    for (int i = 0; i < n + 2;) {
        int zeros = 0;
        while (i + zeros < n + 2 && zeros < 138 && !all[i + zeros])
            zeros++;
        said[count] = zeros < 3 ? all[i] : zeros < 11 ? 17 : 18;
        more[count] = zeros < 3 ? 0 : zeros < 11 ? zeros - 3 : zeros - 11;
        times[said[count++]]++;
        i += zeros < 3 ? 1 : zeros;
    }
    Codes few;
    make_codes(times, 19, 7, &few);
    int told = 19;
    while (!few.length[order[told - 1]])
        told--;
    size_t bits = 3 + 5 + 5 + 4 + 3 * told;
    for (int i = 0; i < count; i++)
        bits += few.length[said[i]] + (said[i] == 17 ? 3 : said[i] == 18 ? 7 : 0);
    if (writer) {
        put(writer, (n - 257) | 1 << 5 | (told - 4) << 10, 14);
        for (int i = 0; i < told; i++)
            put(writer, few.length[order[i]], 3);
        for (int i = 0; i < count; i++) {
            put(writer, few.code[said[i]] & 0xffff, few.length[said[i]]);
            if (said[i] > 16)
                put(writer, more[i], said[i] == 17 ? 3 : 7);
        }
    }
    return bits;
}

/* How often each symbol occurs in the bytes that the tokens tell of, at most 65535 times; and how many bits say more
   than the symbols do. */
static size_t count_symbols(const uint8_t *in, const Token *tokens, int n, uint32_t *times)
{
    uint32_t counted[8][256] = {{0}};
    size_t bits = 0;
    memset(times, 0, SYMBOLS * sizeof *times);
    for (int t = 0; t < n; t++) {
        size_t literals = tokens[t].literals, i = 0;
        uint32_t whole = tokens[t].same / LONGEST, rest = tokens[t].same % LONGEST;
        for (; i + 8 <= literals; i += 8) {     /* eight counts, so that one does not wait for another */
            uint64_t x = get64(in + i);
            #pragma GCC unroll 8
            for (int k = 0; k < 8; k++)
                counted[k][x >> 8 * k & 255]++;
        }
        for (; i < literals; i++)
            counted[0][in[i]]++;
        in += literals + tokens[t].same;
        times[SYMBOLS - 1] = MIN(times[SYMBOLS - 1] + whole, 65535);
        bits += whole;
        if (rest) {
            unsigned extra;
            int symbol = symbol_of(rest, &extra);
            times[symbol] = MIN(times[symbol] + 1, 65535);
            bits += 1 + extra;
        }
    }
    for (int i = 0; i < 256; i++)
        for (int k = 0; k < 8; k++)
            times[i] += counted[k][i];
    times[END] = 1;
    return bits;
}

static void put_match(Writer *w, const Codes *codes, uint32_t length)
{
    unsigned extra;
    uint32_t code = codes->code[symbol_of(length, &extra)];
    put(w, code & 0xffff, code >> 16);
    put(w, (length - 3) & ((1u << extra) - 1), extra + 1);     /* and the first distance, a single 0 */
}

static void put_symbols(Writer *writer, const Codes *codes, const uint8_t *in, const Token *tokens, int n)
{
    Writer w = *writer;                         /* in registers */
    for (int t = 0; t < n; t++) {
        size_t literals = tokens[t].literals, i = 0;
        for (; i + 4 <= literals; i += 4) {
            uint64_t a = codes->code[in[i]], b = codes->code[in[i + 1]], c = codes->code[in[i + 2]],
                     d = codes->code[in[i + 3]];
            unsigned first = a >> 16, third = c >> 16, half = first + (b >> 16);
            put(&w, (a & 0xffff) | (b & 0xffff) << first | ((c & 0xffff) | (d & 0xffff) << third) << half,
                half + third + (d >> 16));
        }
        for (; i < literals; i++)
            put(&w, codes->code[in[i]] & 0xffff, codes->code[in[i]] >> 16);
        in += literals + tokens[t].same;
        for (uint32_t whole = tokens[t].same / LONGEST; whole; whole--)
            put_match(&w, codes, LONGEST);
        if (tokens[t].same % LONGEST)
            put_match(&w, codes, tokens[t].same % LONGEST);
    }
    put(&w, codes->code[END] & 0xffff, codes->code[END] >> 16);
    *writer = w;
}

/* One block, of at least one byte: the bytes from `in` on that the tokens tell of, `size` in all. */
static void put_block(Writer *writer, const uint8_t *in, size_t size, const Token *tokens, int n, int last)
{
    uint32_t times[SYMBOLS];
    Codes codes;
    size_t bits = count_symbols(in, tokens, n, times);
    make_codes(times, SYMBOLS, LIMIT, &codes);
    for (int i = 0; i < SYMBOLS; i++)
        bits += (size_t)times[i] * codes.length[i];
    if (bits + put_lengths(NULL, &codes) <= 8 * size) {
        put(writer, last | 2 << 1, 3);
        put_lengths(writer, &codes);
        put_symbols(writer, &codes, in, tokens, n);
        return;
    }
    for (size_t some; size; size -= some, in += some) {         /* nothing is won: stored as they are */
        some = MIN(size, 65535);
        put(writer, last && some == size, 3);
        put(writer, 0, -writer->n & 7);
        put(writer, some | (uint64_t)(some ^ 0xffff) << 16, 32);
        memcpy(writer->at, in, some);
        writer->at += some;
    }
}

/* How many bytes from `at` to `end` are the one at `at`. */
static size_t run_of(const uint8_t *at, const uint8_t *end)
{
    octets same = *at - (octets){0};
    const uint8_t *p = at;
    for (; p + 32 <= end; p += 32) {
        longs differ = (longs)((load(p) ^ same) | (load(p + 16) ^ same));
        if (differ[0] | differ[1])
            break;
    }
    while (p < end && *p == *at)
        p++;
    return p - at;
}

typedef struct { uint64_t a, b; } Adler;

static Adler adler_of(Adler sums, const uint8_t *in, size_t n)
{
    typedef uint16_t shorts __attribute__((vector_size(16)));
    uint64_t a = sums.a, b = sums.b;
    while (n >= 16) {           /* each byte counts in b as often as bytes follow, itself included */
        size_t lines = MIN(n / 16, 21);         /* 255 (1 + 2 + ... + 21) fits into 16 bits */
        shorts sum[2] = {{0}}, after[2] = {{0}};        /* of each column; and those after each line, added */
        for (size_t i = 0; i < lines; i++, in += 16) {
            octets x = load(in), none = {0};
            after[0] += sum[0] += (shorts)zip_low(x, none);
            after[1] += sum[1] += (shorts)zip_high(x, none);
        }
        uint64_t total = 0, weighted = 0;
        for (int j = 0; j < 16; j++) {
            total += sum[j / 8][j % 8];
            weighted += 16 * after[j / 8][j % 8] - j * sum[j / 8][j % 8];
        }
        b = (b + 16 * lines * a + weighted) % 65521;
        a = (a + total) % 65521;
        n -= 16 * lines;
    }
    for (; n; n--)
        b += a += *in++;
    return (Adler){a % 65521, b % 65521};
}

/* n bytes that are all the same, fewer than 2^32 of them */
static Adler adler_of_run(Adler sums, uint8_t byte, uint64_t n)
{
    uint64_t m = n % 65521, half = n % 2 ? n % 65521 * ((n + 1) / 2 % 65521) : n / 2 % 65521 * ((n + 1) % 65521);
    return (Adler){(sums.a + m * byte) % 65521, (sums.b + m * sums.a + half % 65521 * byte) % 65521};
}

static size_t deflate_bound(size_t n) { return n + (n / 32768 + 2) * 16 + SLACK; }

/* n bytes as a stream with its checksum, to `out`, which holds deflate_bound(n); its length. tokens : room for TOKENS */
static size_t deflate(const uint8_t *in, size_t n, uint8_t *out, Token *tokens)
{
    const uint8_t *at = in, *done = in, *begun = in, *end = in + n;     /* done: that far tokens tell */
    size_t literals = 0;
    int count = 0;
    Adler sums = {1, 0};
    Writer writer = {out + 2, 0, 0};
    memcpy(out, "\x78\x01", 2);
    for (;;) {
        size_t same = 0, room = LITERALS - literals;
        for (; at + 8 <= end && (size_t)(at - done) < room; at += 8)
            if (get64(at) == *at * UINT64_C(0x0101010101010101)) {
                while (at > done && at[-1] == *at)
                    at--;
                same = run_of(at, end) - 1;     /* after the first of them */
                break;
            }
        if (!same)
            at = MIN(done + room, end);
        else
            at++;
        /* what remains after the longest matches may be too short for one */
        if (same % LONGEST == 1 || same % LONGEST == 2)
            same -= same % LONGEST;
        same = MIN(same, (size_t)LONGEST << 16);
        tokens[count++] = (Token){at - done, same};
        literals += at - done;
        sums = adler_of_run(adler_of(sums, done, at - done), same ? at[-1] : 0, same);
        done = at += same;
        if (done == end || literals >= LITERALS || count == TOKENS) {
            put_block(&writer, begun, done - begun, tokens, count, done == end);
            begun = done, literals = 0, count = 0;
            if (done == end)
                break;
        }
    }
    put(&writer, 0, -writer.n & 7);
    put_big32(writer.at, (uint32_t)(sums.b << 16 | sums.a));
    return writer.at + 4 - out;
}
