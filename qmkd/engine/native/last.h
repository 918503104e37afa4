/* The last measurements of a part.

   Where nothing comes afterwards, states need not be projected. In each group an outcome is either
   free, so its coin, or the parity of free ones before it and of something in the frame. Only for
   parts at large: where qubits and groups are few, projecting costs next to nothing. */

#ifndef QMKD_LAST_H
#define QMKD_LAST_H

#include "shots.h"

#define LAST_MAX 4096 /* measurements that are related to one another */

/* met: planes of `many` columns, one per measurement: the stabilizers that it meets. across: of
   each measurement, `columns` words, where a tableau is small; else of one. owners: of each
   stabilizer the free outcome that it was used for, or -1. free: whether an outcome is. outcomes:
   one bit per shot and measurement, laid out as frames are. order, ends: as `sort_shots` fills
   them. The rest is to work in. */
typedef struct {
    int32_t many, small;
    uint64_t *met, *across, *hits, *product, *against, *room, *outcomes;
    int32_t *owners;
    uint8_t *free;
    int64_t *ends;
    uint32_t *order;
} workspace;

#define SMALL_HALF 4

static int make_workspace(workspace *w, const part *p, int64_t count)
{
    const shape *s = &p->s;
    w->many = (int32_t)(count + 7) & ~7;
    w->small = s->half <= SMALL_HALF;
    size_t many = (size_t)w->many, columns = (size_t)s->columns;
    w->met = calloc(many * (size_t)s->half, 8);
    w->across = malloc((w->small ? many : 1) * columns * 8);
    w->hits = malloc(many * 8);
    w->product = malloc((size_t)s->width * 8);
    w->against = malloc((size_t)s->width * 8);
    w->room = malloc((size_t)SPREAD_WORDS(s) * 8);
    w->outcomes = malloc((size_t)p->words * 64 * ((many + 63) / 64) * 8);
    w->owners = malloc((size_t)s->qubits * 4);
    w->free = malloc(many);
    w->ends = calloc((size_t)p->count + 1, 8);
    w->order = malloc((size_t)p->words * 64 * 4);
    return w->met && w->across && w->hits && w->product && w->against && w->room && w->outcomes &&
           w->owners && w->free && w->ends && w->order;
}

static void free_workspace(workspace *w)
{
    free(w->met);
    free(w->across);
    free(w->hits);
    free(w->product);
    free(w->against);
    free(w->room);
    free(w->outcomes);
    free(w->owners);
    free(w->free);
    free(w->ends);
    free(w->order);
}

/* Shots in order of their groups; those of group g are order[ends[g - 1]...ends[g]). */
static void sort_shots(const part *p, workspace *w)
{
    int64_t shots = 64 * p->words;
    for (int64_t s = 0; s < shots; s++)
        w->ends[p->groups[s]]++;
    int64_t sum = 0;
    for (int64_t g = 0; g < p->count; g++) {
        int64_t its = w->ends[g];
        w->ends[g] = sum;
        sum += its;
    }
    for (int64_t s = 0; s < shots; s++)
        w->order[w->ends[p->groups[s]]++] = (uint32_t)s;
}

/* Find out which outcomes are free. Where one is not, the stabilizers left of those that it meets
   are owned by the free ones before it that it follows from. */
ALWAYS void relate(const uint64_t *tableau, const shape *s, int32_t half, const pauli *paulis,
                   int64_t count, workspace *w)
{
    uint64_t met[HALF_MAX];
    for (int64_t j = 0; j < count; j++) {
        pauli what = paulis[j];
        what.across = w->across + (w->small ? j * s->columns : 0);
        if (!w->small)
            spread(what.against, s, w->across);
        find_met(tableau, s, half, &what, met);
        for (int32_t k = 0; k < half; k++)
            w->met[k * w->many + j] = met[k];
    }
    eliminate(w->met, w->many, half, s->qubits, w->owners, w->hits, NULL, s);
    memset(w->free, 0, (size_t)count);
    for (int32_t row = 0; row < s->qubits; row++)
        if (w->owners[row] >= 0)
            w->free[w->owners[row]] = 1;
}

/* product *= other. Returns the phase to be added. */
static uint32_t multiply(uint64_t *product, const pauli *other, const shape *s)
{
    uint64_t crossed = 0; /* Z bits of the one that meet X bits of the other. */
    for (int32_t w = s->qubits >> 6; w < s->width; w++) {
        int32_t x_bits = s->qubits - 64 * w;
        crossed ^= product[w] & other->against[w] & -(x_bits > 0 ? UINT64_C(1) << x_bits : 1);
    }
    for (int32_t w = 0; w < s->width; w++)
        product[w] ^= other->bits[w];
    return other->phase + 2 * (uint32_t)__builtin_popcountll(crossed);
}

/* Outcome j of some shots. It follows from free ones: those that own a stabilizer that it meets. */
ALWAYS void settle(part *p, int32_t half, int64_t group, const pauli *paulis, int64_t count,
                   int32_t j, const uint32_t *shots, int64_t shot_count, workspace *w)
{
    const shape *s = &p->s;
    uint64_t sources[LAST_MAX / 64], unmet[HALF_MAX];
    int64_t columns = (count + 63) / 64;
    uint32_t phase = 0;
    memset(sources, 0, sizeof sources);
    memset(w->product, 0, (size_t)s->width * 8);
    for (int32_t k = 0; k < half; k++)
        for (uint64_t met = w->met[k * w->many + j]; met; met &= met - 1) {
            int32_t source = w->owners[64 * k + __builtin_ctzll(met)];
            sources[source >> 6] |= UINT64_C(1) << (source & 63);
            phase += multiply(w->product, &paulis[source], s);
        }
    phase += multiply(w->product, &paulis[j], s);
    pauli product = pauli_of(w->product, phase & 3, s, w->against);
    product = spread_out(product, s, w->room);
    uint64_t says = (uint64_t)ask(tableau_of(p, group), s, half, &product, unmet);
    for (int64_t k = 0; k < shot_count; k++) {
        uint32_t shot = shots[k];
        const uint64_t *frame = block_of(p, shot >> 6) + (shot & 63);
        uint64_t *outcomes = w->outcomes + (int64_t)(shot >> 6) * 64 * columns + (shot & 63);
        uint64_t common = 0;
        for (int32_t at = 0; at < s->width; at++)
            common ^= frame[64 * at] & w->against[at];
        for (int64_t at = 0; at < columns; at++)
            common ^= outcomes[64 * at] & sources[at];
        uint64_t value = says ^ (uint64_t)(__builtin_popcountll(common) & 1);
        uint64_t *its = outcomes + 64 * (j >> 6);
        *its = (*its & ~(UINT64_C(1) << (j & 63))) | value << (j & 63);
    }
}

ALWAYS void settle_each(part *p, int32_t half, int64_t first, int64_t end, const pauli *paulis,
                        int64_t count, workspace *w)
{
    for (int64_t g = first; g < end; g++) {
        const uint32_t *shots = w->order + (g ? w->ends[g - 1] : 0);
        relate(tableau_of(p, g), &p->s, half, paulis, count, w);
        for (int32_t j = 0; j < count; j++)
            if (!w->free[j])
                settle(p, half, g, paulis, count, j, shots, w->order + w->ends[g] - shots, w);
    }
}

/* Groups [first, end). */
WIDE static void settle_groups(part *p, int64_t first, int64_t end, const pauli *paulis,
                               int64_t count, workspace *w)
{
    BY_HALF(settle_each, p, first, end, paulis, count, w)
}

/* Coins of all shots, a word per shot and 64 measurements, laid out as frames are. */
WIDE static void toss(const part *p, const place *at, int64_t count, uint64_t word, uint64_t *into)
{
    int64_t columns = (count + 63) / 64;
    memset(into, 0, (size_t)(p->words * 64 * columns) * 8);
    for (int64_t j = 0; j < count; j++)
        for (int64_t first = 0; first < p->words; first += TILE_WORDS) {
            uint64_t coins[TILE_WORDS];
            int64_t many = p->words - first < TILE_WORDS ? p->words - first : TILE_WORDS;
            fill_coins(&at[j], word + (uint64_t)first, many, coins);
            for (int64_t k = 0; k < many; k++)
                into[((first + k) * columns + (j >> 6)) * 64 + (j & 63)] = coins[k];
        }
    for (int64_t at_block = 0; at_block < p->words * columns; at_block++)
        transpose(into + 64 * at_block);
}

/* Outcomes into rows. */
WIDE static void write_outcomes(part *p, const int32_t *into, int64_t count, uint64_t *outcomes)
{
    int64_t columns = (count + 63) / 64;
    const uint64_t *all = row_of(p, 0);
    for (int64_t at = 0; at < p->words; at++)
        for (int64_t column = 0; column < columns; column++) {
            uint64_t *words = outcomes + 64 * (at * columns + column);
            transpose(words);
            for (int64_t j = 64 * column; j < count && j < 64 * (column + 1); j++)
                if (into[j])
                    row_of(p, into[j])[at] ^= words[j & 63] & all[at];
        }
}

/* Returns the number of groups; -1 where there is no memory, or `poll` raised. */
static int64_t measure_last(part *p, const pauli *paulis, const int32_t *into,
                            const address *addresses, int64_t count, uint64_t seed, uint64_t word,
                            PyObject *poll)
{
    workspace w;
    place *at = malloc((size_t)count * sizeof *at + 1);
    int good = make_workspace(&w, p, count) && at;
    if (good) {
        for (int64_t j = 0; j < count; j++) {
            at[j] = (place){seed, addresses[j].epoch, addresses[j].node, addresses[j].draw};
            if (w.small)
                spread(paulis[j].against, &p->s, w.across + j * p->s.columns);
        }
        toss(p, at, count, word, w.outcomes);
        sort_shots(p, &w);
        int64_t step = groups_per_poll(&p->s);
        for (int64_t g = 0; g < p->count && good; g += step) {
            settle_groups(p, g, g + step < p->count ? g + step : p->count, paulis, count, &w);
            good = go_on(poll);
        }
    }
    if (good)
        write_outcomes(p, into, count, w.outcomes);
    free_workspace(&w);
    free(at);
    return good ? p->count : -1;
}

#endif
