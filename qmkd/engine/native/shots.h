/* Pauli frames of shots, 64 at a time, for groups.py.

   A frame is a vector of 2n bits as in tableau.h, `width` words. The frames of 64 shots are a block
   of 64 * width words: word w of shot i is number 64 * w + i. A word of bits, one per shot of the
   block, goes in and out. Groups of shots are numbers, one per shot. */

#ifndef QMKD_SHOTS_H
#define QMKD_SHOTS_H

#include "tableau.h"

/* Bit i becomes the parity of word i. Destroys the words. */
ALWAYS uint64_t parities_of(uint64_t *words)
{
    uint64_t mask = UINT64_C(0x00000000FFFFFFFF);
    for (int32_t step = 32; step; step >>= 1, mask ^= mask << step)
        for (int32_t i = 0; i < step; i++)
            words[i] = ((words[i] ^ words[i] >> step) & mask) |
                       ((words[i + step] ^ words[i + step] << step) & ~mask);
    return words[0];
}

/* In which shots the frame anticommutes with a Pauli. */
ALWAYS uint64_t frames_meet(const uint64_t *block, int32_t width, const uint64_t *against)
{
    uint64_t common[64];
    for (int32_t i = 0; i < 64; i++)
        common[i] = block[i] & against[0];
    for (int32_t w = 1; w < width; w++)
        if (against[w])
            for (int32_t i = 0; i < 64; i++)
                common[i] ^= block[64 * w + i] & against[w];
    return parities_of(common);
}

/* The frames of some shots take in a Pauli. */
ALWAYS void take_in(uint64_t *block, int32_t width, const uint64_t *bits, uint64_t where)
{
    for (int32_t w = 0; w < width; w++)
        if (bits[w])
            for (int32_t i = 0; i < 64; i++)
                block[64 * w + i] ^= bits[w] & -(where >> i & 1);
}

/* The frames of some shots take in the Pauli of their group: `width` words per group. */
ALWAYS void take_in_by_group(uint64_t *block, int32_t width, const uint64_t *table,
                             const uint32_t *groups, uint64_t where)
{
    for (; where; where &= where - 1) {
        int32_t i = __builtin_ctzll(where);
        const uint64_t *bits = table + (int64_t)groups[i] * width;
        for (int32_t w = 0; w < width; w++)
            block[64 * w + i] ^= bits[w];
    }
}

/* Bit number `bit` of what the table says of each shot's group. */
ALWAYS uint64_t bits_by_group(const uint8_t *table, const uint32_t *groups, int32_t bit)
{
    uint64_t found = 0;
    for (int32_t i = 0; i < 64; i++)
        found |= (uint64_t)(table[groups[i]] >> bit & 1) << i;
    return found;
}

#endif
