/* Frames and groups of shots at large, 64 shots at a time.

   The frames of 64 shots are a block of 64 * width words: word w of shot i is number 64 * w + i of
   its block. Bits go in and out as words, bit i for shot i. */

#ifndef QMKD_SHOTS_H
#define QMKD_SHOTS_H

#include "part.h"

static inline uint64_t *block_of(const part *p, int64_t word)
{
    return p->frames + word * 64 * p->s.width;
}

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

/* Which of the groups that change have shots inside `where`, and which have some outside. */
static void see_sides(const part *p, const uint64_t *where, fates *f)
{
    const uint64_t *all = row_of(p, 0);
    int64_t unseen = 0;
    for (int64_t g = 0; g < p->count; g++) {
        unseen += 2 * (f->verdict[g] == RANDOM);
        f->seen[g] = f->verdict[g] == RANDOM ? 0 : INSIDE | OUTSIDE;
    }
    for (int64_t at = 0; at < p->words && unseen; at++) {
        const uint32_t *groups = p->groups + 64 * at;
        uint64_t sides[2] = {where[at], all[at] & ~where[at]};
        for (int side = 0; side < 2; side++)
            for (; sides[side]; sides[side] &= sides[side] - 1) {
                uint8_t *seen = &f->seen[groups[__builtin_ctzll(sides[side])]];
                unseen -= !(*seen & (INSIDE << side));
                *seen |= (uint8_t)(INSIDE << side);
            }
    }
}

/* Shots of `where` go to the groups that theirs became. */
ALWAYS void move_shots(uint32_t *groups, const fates *f, uint64_t where)
{
    if (f->asked == 1) {
        for (int32_t at = 0; at < 64; at += 32)
            for (uint32_t i = 0, bits = (uint32_t)(where >> at); i < 32; i++)
                groups[at + i] = -(bits >> i & 1) & f->to[0];
        return;
    }
    for (; where; where &= where - 1) {
        int32_t i = __builtin_ctzll(where);
        groups[i] = f->to[groups[i]];
    }
}

/* --- measuring ---------------------------------------------------------------------------------*/

ALWAYS void measure_block(part *p, int32_t width, int64_t at, const measurement *m,
                          const pauli *paulis, const fates *f, alike a, uint64_t coins)
{
    uint64_t live = row_of(p, m->where)[at], *block = block_of(p, at);
    uint32_t *groups = p->groups + 64 * at;
    uint64_t value = coins & live, random = a.all_random ? live : 0;
    if (p->count > f->asked && live)
        move_shots(groups, f, live);
    if (!a.all_random || !m->last) {
        uint64_t said = frames_meet(block, width, paulis[m->pauli].against);
        said ^= a.one_sign ? -(uint64_t)(f->verdict[0] & SAYS_1)
                           : bits_by_group(f->verdict, groups, 0);
        if (a.any_random && !a.all_random)
            random = bits_by_group(f->verdict, groups, 1) & live;
        value = (coins & random) | (said & live & ~random);
        uint64_t differs = (value ^ said) & random;
        if (!m->last && differs) {
            if (a.one_kick)
                take_in(block, width, f->kicks, differs);
            else
                take_in_by_group(block, width, f->kicks, groups, differs);
        }
    }
    if (m->flip >= 0)
        take_in(block, width, paulis[m->flip].bits, value);
    if (m->into)
        row_of(p, m->into)[at] ^= value;
}

ALWAYS void measure_blocks(part *p, int32_t width, const measurement *m, const pauli *paulis,
                           const fates *f, const place *where, uint64_t word)
{
    alike a = compare(p, f);
    uint64_t coins[TILE_WORDS];
    memset(coins, 0, sizeof coins);
    for (int64_t first = 0; first < p->words; first += TILE_WORDS) {
        int64_t count = p->words - first < TILE_WORDS ? p->words - first : TILE_WORDS;
        if (a.any_random)
            fill_coins(where, word + (uint64_t)first, count, coins);
        for (int64_t at = 0; at < count; at++)
            measure_block(p, width, first + at, m, paulis, f, a, coins[at]);
    }
}

/* Word `word` of a draw is that of the part's first block. */
WIDE static void measure_shots(part *p, const measurement *m, const pauli *paulis, const fates *f,
                               const place *where, uint64_t word)
{
    BY_WIDTH(measure_blocks, p, m, paulis, f, where, word)
}

/* --- guarded gates -----------------------------------------------------------------------------*/

ALWAYS void turn_block(part *p, int32_t width, int64_t at, const gate *t, uint64_t live,
                       const fates *f)
{
    uint64_t *block = block_of(p, at), takes[TURNS_MAX];
    uint32_t *groups = p->groups + 64 * at;
    for (int k = 0; k < t->count; k++) {
        takes[k] = frames_meet(block, width, t->turns[k].against);
        if (t->adds)
            takes[k] ^= bits_by_group(t->adds, groups, k);
    }
    for (int k = 0; k < t->count; k++)
        take_in(block, width, t->turns[k].bits, takes[k] & live);
    take_in(block, width, t->turns[t->count].bits, live);
    if (p->count > f->asked)
        move_shots(groups, f, live);
}

ALWAYS void turn_blocks(part *p, int32_t width, const uint64_t *where, const gate *t,
                        const fates *f)
{
    for (int64_t at = 0; at < p->words; at++)
        if (where[at])
            turn_block(p, width, at, t, where[at], f);
}

WIDE static void turn_shots(part *p, const uint64_t *where, const gate *t, const fates *f)
{
    BY_WIDTH(turn_blocks, p, where, t, f)
}

/* --- merging -----------------------------------------------------------------------------------*/

/* Shots of groups that are taken for others go there, their frames taking in `kicks`. numbers: what
   the groups that are left are called from now on. */
WIDE static void regroup_shots(part *p, const int32_t *firsts, const uint32_t *numbers,
                               const uint64_t *kicks)
{
    int32_t width = p->s.width;
    for (int64_t at = 0; at < p->words; at++) {
        uint32_t *groups = p->groups + 64 * at;
        uint64_t *block = block_of(p, at);
        for (int32_t i = 0; i < 64; i++) {
            uint32_t group = groups[i];
            if (firsts[group] != (int32_t)group)
                for (int32_t w = 0; w < width; w++)
                    block[64 * w + i] ^= kicks[(int64_t)group * width + w];
            groups[i] = numbers[firsts[group]];
        }
    }
}

#endif
