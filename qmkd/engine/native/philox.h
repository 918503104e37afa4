/* Philox4x64-10, the counter-based generator of all chance.

   Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC'11). A block of
   four 64-bit words is a pure function of a key of two words and a counter of four. Tested against
   the known answers of the authors' Random123 library and against NumPy's generator. */

#ifndef QMKD_PHILOX_H
#define QMKD_PHILOX_H

#include <stdint.h>

typedef struct {
    uint64_t word[4];
} philox_block;

/* Where a draw stands: all of its address but the position within it. */
typedef struct {
    uint64_t seed, epoch, node, draw;
} place;

/* What a stream is for is part of its key, so that no two kinds of draw ever share a word. The
   middle byte is the version of this numbering: "qmkd", 2, purpose. */
#define DOMAIN_COINS UINT64_C(0x716D6B6400000200)
#define DOMAIN_WORDS UINT64_C(0x716D6B6400000201)
#define DOMAIN_STRIKES UINT64_C(0x716D6B6400000202)

static inline void philox_round(uint64_t c[4], uint64_t k0, uint64_t k1)
{
    unsigned __int128 p0 = (unsigned __int128)UINT64_C(0xD2E7470EE14C6C93) * c[0];
    unsigned __int128 p1 = (unsigned __int128)UINT64_C(0xCA5A826395121157) * c[2];
    uint64_t one = (uint64_t)(p1 >> 64) ^ c[1] ^ k0;
    uint64_t three = (uint64_t)(p0 >> 64) ^ c[3] ^ k1;
    c[0] = one;
    c[1] = (uint64_t)p1;
    c[2] = three;
    c[3] = (uint64_t)p0;
}

static inline philox_block philox(uint64_t key0, uint64_t key1, const uint64_t counter[4])
{
    uint64_t c[4] = {counter[0], counter[1], counter[2], counter[3]};
    for (int round = 0; round < 10; round++) {
        philox_round(c, key0, key1);
        key0 += UINT64_C(0x9E3779B97F4A7C15);
        key1 += UINT64_C(0xBB67AE8584CAA73B);
    }
    philox_block block = {{c[0], c[1], c[2], c[3]}};
    return block;
}

/* The block at a position of a draw. */
static inline philox_block draw_block(const place *at, uint64_t domain, uint64_t position)
{
    uint64_t counter[4] = {position, at->draw, at->node, at->epoch};
    return philox(at->seed, domain, counter);
}

/* --- fair coins: one bit per shot ---------------------------------------------------------------

   Shot s has bit s % 64 of word (s / 64) % 4 of the block at position s / 256. */

static inline uint64_t coin_word(const place *at, uint64_t word)
{
    return draw_block(at, DOMAIN_COINS, word >> 2).word[word & 3];
}

/* The coins of shots [64 * word, 64 * (word + count)), packed. */
static inline void fill_coins(const place *at, uint64_t word, int64_t count, uint64_t *into)
{
    int64_t done = 0;
    while (done < count) {
        philox_block block = draw_block(at, DOMAIN_COINS, (word + (uint64_t)done) >> 2);
        for (uint64_t i = (word + (uint64_t)done) & 3; i < 4 && done < count; i++)
            into[done++] = block.word[i];
    }
}

/* --- words: 64 bits per shot --------------------------------------------------------------------

   The leading bit of a shot's word is its coin turned over, so that `word < 2^63` is the coin; the
   others are the low 63 bits of word s % 4 of the block at position s / 4. */

static inline uint64_t whole_word(uint64_t coin, uint64_t low)
{
    return (coin ^ 1) << 63 | low >> 1;
}

#endif
