/* Rare events over many shots: in which shots something strikes, without asking every shot.

   Shots are taken in blocks of STRIKE_SHOTS. Within a block the distance to the next strike has a
   geometric distribution, drawn by one word from an exact table; a second word says which of
   several things it is. Both come from the address of the draw and the number of the block, so
   the strikes of a shot do not depend on which other shots run with it. */

#ifndef QMKD_STRIKES_H
#define QMKD_STRIKES_H

#include <assert.h>
#include <string.h>

#include "philox.h"

#define STRIKE_SHOTS 4096
#define STRIKE_SHIFT 12
#define GUIDE_BITS 8
#define GUIDE_SIZE ((1 << GUIDE_BITS) + 1)

/* A table as Python holds it, GAPS_WORDS words: beyond[g] = floor(2^64 (1 - p)^(g + 1)), that is
   `word < beyond[g]` where the gap exceeds g; and guide[b], how many of these exceed b 2^56 - 1,
   that is, the gap of the least word whose leading byte is b (guide[256] = 0). */
#define GAPS_WORDS (STRIKE_SHOTS + GUIDE_SIZE)

/* How many shots are passed over before the one that is struck; STRIKE_SHOTS where none is. */
static inline int32_t gap_of(const uint64_t *gaps, uint64_t word)
{
    if (word < gaps[STRIKE_SHOTS - 1])
        return STRIKE_SHOTS;
    /* Between two guides the table is nearly straight: guess, then look. */
    const uint64_t *guide = gaps + STRIKE_SHOTS + (word >> (64 - GUIDE_BITS));
    uint64_t within = word << GUIDE_BITS >> 32;
    int32_t gap = (int32_t)(guide[0] - ((guide[0] - guide[1]) * within >> 32));
    while (gap > 0 && word >= gaps[gap - 1])
        gap--;
    while (word < gaps[gap])
        gap++;
    return gap;
}

/* The strikes of one block, in order of shots. Words are drawn ahead, ever more at a time, since
   drawing several blocks together takes little longer than drawing one. */
#define AHEAD_MAX 4

typedef struct {
    const place *at;
    const uint64_t *gaps;
    uint64_t position;   /* of the next block of words */
    int32_t shot;        /* of the last strike, within the block; -1 before the first */
    uint32_t next, left; /* strikes in `words`: which comes next, and how many there still are */
    uint32_t ahead;
    philox_block words[AHEAD_MAX]; /* two strikes each */
} striking;

static inline striking strike_block(const place *at, const uint64_t *gaps, uint64_t block)
{
    striking s;
    s.at = at;
    s.gaps = gaps;
    s.position = block << STRIKE_SHIFT;
    s.shot = -1;
    s.next = s.left = 0;
    s.ahead = 1;
    return s;
}

static inline void draw_ahead(striking *s)
{
    for (uint32_t i = 0; i < s->ahead; i++)
        s->words[i] = draw_block(s->at, DOMAIN_STRIKES, s->position + i);
    s->position += s->ahead;
    s->next = 0;
    s->left = 2 * s->ahead;
    if (s->ahead < AHEAD_MAX)
        s->ahead *= 2;
}

/* Go to the next strike; false where there is no other. Then `shot` and `*which` are its own. */
static inline int next_strike(striking *s, uint64_t *which)
{
    if (!s->left)
        draw_ahead(s);
    const uint64_t *words = s->words[s->next >> 1].word + 2 * (s->next & 1);
    s->next++;
    s->left--;
    int32_t shot = s->shot + 1 + gap_of(s->gaps, words[0]);
    if (shot >= STRIKE_SHOTS)
        return 0;
    s->shot = shot;
    *which = words[1];
    return 1;
}

/* Which of `count` things a word picks: the first whose bound exceeds it. bounds[i] is
   floor(2^64 (p_0 + ... + p_i) / p), the last one left out. */
static inline int32_t pick(const uint64_t *bounds, int32_t count, uint64_t word)
{
    /* Where all are equally likely, the guess is right. */
    int32_t which = (int32_t)((unsigned __int128)word * (uint64_t)count >> 64);
    while (which > 0 && word < bounds[which - 1])
        which--;
    while (which < count - 1 && word >= bounds[which])
        which++;
    return which;
}

/* Fill a table for a strike probability of `chance` / 2^64 per shot, or of 1 where that is 0. */
static inline void fill_gaps(uint64_t chance, uint64_t *gaps)
{
    uint64_t spared = chance ? ~chance + 1 : 0;
    uint64_t left = spared;
    for (int32_t g = 0; g < STRIKE_SHOTS; g++) {
        gaps[g] = left;
        left = (uint64_t)((unsigned __int128)left * spared >> 64);
    }
    uint64_t *guide = gaps + STRIKE_SHOTS;
    int32_t count = 0;
    for (int32_t b = 1 << GUIDE_BITS; b >= 0; b--) {
        if (b < 1 << GUIDE_BITS)
            while (count < STRIKE_SHOTS && gaps[count] > ((uint64_t)b << (64 - GUIDE_BITS)))
                count++;
        guide[b] = (uint64_t)count;
    }
}

#endif
