/* Frames and groups of shots in slices, where qubits and groups are few.

   Plane c < 2n has bit c of all frames, plane 2n + d has digit d of the numbers of all groups; a
   plane is a row of bits, one per shot. A frame fits one word. Everything is done to SLICE_WORDS
   words of all planes before the next. What the functions do is what those of shots.h do. */

#ifndef QMKD_SLICES_H
#define QMKD_SLICES_H

#include "part.h"

#define SLICE_WORDS 16
#define SLICED_PLANES(s) (2 * (s)->qubits + DIGITS)

/* Words [first, first + count) of all planes. groups: of each group the shots that are in it. */
typedef struct {
    const part *p;
    int64_t first;
    int32_t count;
    uint64_t groups[SLICED_GROUPS_MAX][SLICE_WORDS];
} slice;

ALWAYS uint64_t *in_plane(const slice *s, int32_t plane)
{
    return s->p->frames + plane * s->p->words + s->first;
}

/* known: groups that there are. */
ALWAYS void open_slice(slice *s, const part *p, int64_t first, int64_t known)
{
    s->p = p;
    s->first = first;
    s->count = (int32_t)(p->words - first < SLICE_WORDS ? p->words - first : SLICE_WORDS);
    for (int32_t w = 0; w < s->count; w++)
        s->groups[0][w] = ~UINT64_C(0);
    for (int32_t d = 0; 1 << d < known; d++) {
        const uint64_t *digit = in_plane(s, 2 * p->s.qubits + d);
        for (int32_t g = 0; g < 1 << d; g++)
            for (int32_t w = 0; w < s->count; w++) {
                s->groups[g + (1 << d)][w] = s->groups[g][w] & digit[w];
                s->groups[g][w] &= ~digit[w];
            }
    }
}

ALWAYS void add_to(uint64_t *into, const uint64_t *words, int32_t count)
{
    for (int32_t w = 0; w < count; w++)
        into[w] ^= words[w];
}

ALWAYS void slice_meets(const slice *s, uint64_t against, uint64_t *into)
{
    memset(into, 0, SLICE_WORDS * 8);
    for (; against; against &= against - 1)
        add_to(into, in_plane(s, __builtin_ctzll(against)), s->count);
}

ALWAYS void slice_takes_in(const slice *s, uint64_t bits, const uint64_t *where)
{
    for (; bits; bits &= bits - 1)
        add_to(in_plane(s, __builtin_ctzll(bits)), where, s->count);
}

/* The same in shots of one group only. */
ALWAYS void group_takes_in(const slice *s, int64_t group, uint64_t bits, const uint64_t *where)
{
    uint64_t its[SLICE_WORDS];
    for (int32_t w = 0; w < s->count; w++)
        its[w] = where[w] & s->groups[group][w];
    slice_takes_in(s, bits, its);
}

/* into ^= the shots of a group. */
ALWAYS void add_group(const slice *s, int64_t group, uint64_t *into)
{
    add_to(into, s->groups[group], s->count);
}

ALWAYS void move_slice(const slice *s, const fates *f, const uint64_t *where)
{
    for (int64_t g = 0; g < f->asked; g++) {
        uint64_t digits = (uint64_t)g ^ f->to[g];
        group_takes_in(s, g, digits << 2 * s->p->s.qubits, where);
    }
}

static void see_sides_in_slices(const part *p, const uint64_t *where, fates *f)
{
    slice s;
    for (int64_t first = 0; first < p->words; first += SLICE_WORDS) {
        const uint64_t *all = row_of(p, 0) + first;
        open_slice(&s, p, first, f->asked);
        for (int64_t g = 0; g < f->asked; g++) {
            uint64_t inside = 0, outside = 0;
            for (int32_t w = 0; w < s.count; w++) {
                inside |= s.groups[g][w] & where[first + w];
                outside |= s.groups[g][w] & all[w] & ~where[first + w];
            }
            f->seen[g] |= (uint8_t)((inside ? INSIDE : 0) | (outside ? OUTSIDE : 0));
        }
    }
}

/* --- measuring ---------------------------------------------------------------------------------*/

ALWAYS void measure_slice(part *p, const slice *s, const measurement *m, const pauli *paulis,
                          const fates *f, alike a, const uint64_t *coins)
{
    uint64_t said[SLICE_WORDS], random[SLICE_WORDS], value[SLICE_WORDS], differs[SLICE_WORDS];
    const uint64_t *live = row_of(p, m->where) + s->first;
    slice_meets(s, paulis[m->pauli].against[0], said);
    memset(random, 0, sizeof random);
    for (int64_t g = 0; g < f->asked; g++) {
        if (f->verdict[g] == SAYS_1)
            add_group(s, g, said);
        if (f->verdict[g] == RANDOM)
            add_group(s, g, random);
    }
    for (int32_t w = 0; w < s->count; w++) {
        value[w] = live[w] & ((coins[w] & random[w]) | (said[w] & ~random[w]));
        differs[w] = live[w] & random[w] & (coins[w] ^ said[w]);
    }
    if (a.one_kick)
        slice_takes_in(s, f->kicks[0], differs);
    else
        for (int64_t g = 0; g < f->asked; g++)
            group_takes_in(s, g, f->kicks[f->to[g]], differs);
    if (m->flip >= 0)
        slice_takes_in(s, paulis[m->flip].bits[0], value);
    if (m->into)
        add_to(row_of(p, m->into) + s->first, value, s->count);
    if (p->count > f->asked)
        move_slice(s, f, live);
}

WIDE static void measure_slices(part *p, const measurement *m, const pauli *paulis, const fates *f,
                                const place *where, uint64_t word)
{
    alike a = compare(p, f);
    uint64_t coins[SLICE_WORDS];
    slice s;
    memset(coins, 0, sizeof coins);
    for (int64_t first = 0; first < p->words; first += SLICE_WORDS) {
        open_slice(&s, p, first, f->asked);
        if (a.any_random)
            fill_coins(where, word + (uint64_t)first, s.count, coins);
        measure_slice(p, &s, m, paulis, f, a, coins);
    }
}

/* --- guarded gates -----------------------------------------------------------------------------*/

WIDE static void turn_slices(part *p, const uint64_t *where, const gate *t, const fates *f)
{
    slice s;
    uint64_t takes[TURNS_MAX][SLICE_WORDS];
    for (int64_t first = 0; first < p->words; first += SLICE_WORDS) {
        const uint64_t *live = where + first;
        open_slice(&s, p, first, f->asked);
        for (int k = 0; k < t->count; k++) {
            slice_meets(&s, t->turns[k].against[0], takes[k]);
            for (int64_t g = 0; t->adds && g < f->asked; g++)
                if (t->adds[g] >> k & 1)
                    add_group(&s, g, takes[k]);
            for (int32_t w = 0; w < s.count; w++)
                takes[k][w] &= live[w];
        }
        for (int k = 0; k < t->count; k++)
            slice_takes_in(&s, t->turns[k].bits[0], takes[k]);
        slice_takes_in(&s, t->turns[t->count].bits[0], live);
        if (p->count > f->asked)
            move_slice(&s, f, live);
    }
}

/* --- merging -----------------------------------------------------------------------------------*/

WIDE static void regroup_slices(part *p, const int32_t *firsts, const uint32_t *numbers,
                                const uint64_t *kicks)
{
    slice s;
    for (int64_t first = 0; first < p->words; first += SLICE_WORDS) {
        open_slice(&s, p, first, p->count);
        for (int64_t g = 0; g < p->count; g++) {
            uint64_t digits = (uint64_t)g ^ numbers[firsts[g]];
            slice_takes_in(&s, kicks[g] | digits << 2 * p->s.qubits, s.groups[g]);
        }
    }
}

/* --- to and fro --------------------------------------------------------------------------------*/

/* What a sliced part holds, laid out at large. */
WIDE static void unslice_part(const part *p, uint32_t *groups, uint64_t *frames)
{
    for (int64_t at = 0; at < p->words; at++) {
        uint64_t words[64];
        for (int32_t c = 0; c < 64; c++)
            words[c] = c < SLICED_PLANES(&p->s) ? p->frames[c * p->words + at] : 0;
        transpose(words);
        for (int32_t i = 0; i < 64; i++) {
            groups[64 * at + i] = (uint32_t)(words[i] >> 2 * p->s.qubits);
            frames[64 * at + i] = words[i] & ((UINT64_C(1) << 2 * p->s.qubits) - 1);
        }
    }
}

#endif
