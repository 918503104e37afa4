/* What happens to frames alone: noise, and guarded Paulis. */

#ifndef QMKD_SCRIPT_H
#define QMKD_SCRIPT_H

#include "shots.h"
#include "slices.h"

/* STRIKE: noise number `one`, its draw at address `two`. TAKE_IN: Pauli number `one`. Both in shots
   of row `where`. */
typedef struct {
    int32_t op, one, two, where;
} instruction;

enum { STRIKE, TAKE_IN };

/* gaps: which table. bounds: where its bounds begin, kinds - 1 of them. support: where, in the
   pool, kinds + 1 ends are, each the place in the pool where the Paulis of a kind begin. */
typedef struct {
    int32_t gaps, bounds, kinds, support;
} noise;

typedef struct {
    const instruction *code;
    int64_t length;
    const noise *noises;
    int64_t noise_count;
    const uint64_t *gaps;
    int64_t gaps_count;
    const uint64_t *bounds;
    int64_t bounds_count;
    const int32_t *pool;
    int64_t pool_count;
    const uint64_t *paulis;
    int64_t pauli_count;
    const address *addresses;
    int64_t address_count;
} script;

static const char *fault_of_noise(const script *c, const noise *n)
{
    if (n->gaps < 0 || ((int64_t)n->gaps + 1) * GAPS_WORDS > c->gaps_count)
        return "no such table of gaps";
    if (n->kinds < 1 || n->bounds < 0 || (int64_t)n->bounds + n->kinds - 1 > c->bounds_count)
        return "bounds out of range";
    if (n->support < 0 || n->support + (int64_t)n->kinds + 1 > c->pool_count)
        return "support out of range";
    const int32_t *ends = c->pool + n->support;
    for (int32_t kind = 0; kind < n->kinds; kind++) {
        if (ends[kind] < 0 || ends[kind] > ends[kind + 1] || ends[kind + 1] > c->pool_count)
            return "support out of range";
        for (int32_t at = ends[kind]; at < ends[kind + 1]; at++)
            if (c->pool[at] < 0 || c->pool[at] >= c->pauli_count)
                return "a strike of no Pauli";
    }
    return NULL;
}

static const char *fault_of_script(const part *p, const script *c)
{
    for (int64_t at = 0; at < c->noise_count; at++) {
        const char *why = fault_of_noise(c, &c->noises[at]);
        if (why)
            return why;
    }
    int32_t past = 2 * p->s.qubits % 64, width = p->s.width;
    for (int64_t at = 0; at < c->pauli_count && past; at++)
        if (c->paulis[at * width + width - 1] >> past)
            return "what is given is no Pauli";
    for (int64_t at = 0; at < c->length; at++) {
        const instruction *i = &c->code[at];
        int strike = i->op == STRIKE;
        if ((!strike && i->op != TAKE_IN) || i->one < 0 || i->two < 0 || i->where < 0 ||
            i->one >= (strike ? c->noise_count : c->pauli_count) ||
            (strike && i->two >= c->address_count) || i->where >= p->row_count)
            return "an instruction out of range";
    }
    return NULL;
}

/* Frames of the shot at `bit` of word `at` take in a Pauli. width: 0 where frames are sliced. */
ALWAYS void strike_shot(part *p, int32_t width, const uint64_t *bits, int64_t at, int32_t bit)
{
    if (width) {
        uint64_t *frame = block_of(p, at) + bit;
        for (int32_t w = 0; w < width; w++)
            frame[64 * w] ^= bits[w];
        return;
    }
    for (uint64_t left = bits[0]; left; left &= left - 1)
        p->frames[__builtin_ctzll(left) * p->words + at] ^= UINT64_C(1) << bit;
}

/* The strikes of one block of STRIKE_SHOTS, `words` words of them from word `first` on. `at` is the
   part's word there. */
ALWAYS void strike_tile(part *p, int32_t width, const script *c, const noise *n, const place *where,
                        uint64_t block, int64_t at, int64_t first, int64_t words,
                        const uint64_t *mask)
{
    striking s = strike_block(where, c->gaps + n->gaps * (int64_t)GAPS_WORDS, block);
    const int32_t *ends = c->pool + n->support;
    uint64_t word;
    while (next_strike(&s, &word)) {
        int64_t here = (s.shot >> 6) - first;
        if (here < 0)
            continue;
        if (here >= words)
            return;
        if (!(mask[at + here] >> (s.shot & 63) & 1))
            continue;
        int32_t kind = pick(c->bounds + n->bounds, n->kinds, word);
        for (int32_t k = ends[kind]; k < ends[kind + 1]; k++)
            strike_shot(p, width, c->paulis + (int64_t)c->pool[k] * p->s.width, at + here,
                        s.shot & 63);
    }
}

ALWAYS void take_in_tile(part *p, int32_t width, const uint64_t *bits, int64_t at, int64_t words,
                         const uint64_t *mask)
{
    if (width)
        for (int64_t here = at; here < at + words; here++)
            take_in(block_of(p, here), width, bits, mask[here]);
    else
        for (uint64_t left = bits[0]; left; left &= left - 1)
            add_to(p->frames + __builtin_ctzll(left) * p->words + at, mask + at, (int32_t)words);
}

ALWAYS void run_tile(part *p, int32_t width, const script *c, uint64_t seed, uint64_t block,
                     int64_t at, int64_t first, int64_t words)
{
    for (const instruction *i = c->code; i < c->code + c->length; i++) {
        const uint64_t *mask = row_of(p, i->where);
        if (i->op == TAKE_IN) {
            take_in_tile(p, width, c->paulis + (int64_t)i->one * p->s.width, at, words, mask);
            continue;
        }
        const address *a = &c->addresses[i->two];
        place where = {seed, a->epoch, a->node, a->draw};
        strike_tile(p, width, c, &c->noises[i->one], &where, block, at, first, words, mask);
    }
}

/* Tile by tile, a tile being the shots whose strikes are drawn together, until `poll` raises. */
ALWAYS void run_tiles(part *p, int32_t width, const script *c, uint64_t seed, uint64_t word,
                      PyObject *poll)
{
    for (int64_t at = 0; at < p->words && go_on(poll);) {
        int64_t first = (int64_t)((word + (uint64_t)at) % TILE_WORDS);
        int64_t words = TILE_WORDS - first;
        uint64_t block = (word + (uint64_t)at) / TILE_WORDS;
        if (words > p->words - at)
            words = p->words - at;
        run_tile(p, width, c, seed, block, at, first, words);
        at += words;
    }
}

WIDE static void run_script(part *p, const script *c, uint64_t seed, uint64_t word, PyObject *poll)
{
    if (p->groups)
        BY_WIDTH(run_tiles, p, c, seed, word, poll)
    else
        run_tiles(p, 0, c, seed, word, poll);
}

#endif
