/* What happens to shots in groups, for ../groups.py, which has the ideas.

   A part of a batch is its tableaus, one per group (tableau.h), and of each shot its group and its
   frame (shots.h). Calls that come to more groups than there is room for change nothing and say how
   many there would be. Group numbers of shots are trusted: they are our own, and checked where a
   saved state comes in. */

#include <stdlib.h>

#include "buffers.h"
#include "shots.h"
#include "strikes.h"

#define LAST_MAX 4096 /* measurements that are related to one another */
#define TILE_WORDS (STRIKE_SHOTS / 64)

typedef struct {
    uint64_t epoch, node, draw;
} address;

/* words: blocks of 64 shots. rows: row_count rows of that many words; row 0 has all shots. */
typedef struct {
    shape s;
    uint64_t *tableaus;
    int64_t count, room;
    uint32_t *groups;
    uint64_t *frames;
    int64_t words;
    uint64_t *rows;
    int64_t row_count;
} part;

static uint64_t *tableau_of(const part *p, int64_t group)
{
    return p->tableaus + group * p->s.stride;
}

static uint64_t *row_of(const part *p, int64_t row)
{
    return p->rows + row * p->words;
}

static uint64_t *block_of(const part *p, int64_t word)
{
    return p->frames + word * 64 * p->s.width;
}

/* Run `function(part, half, ...)` with a `half` that the compiler knows where it is small. */
#define BY_HALF(function, part, ...)                 \
    switch ((part)->s.half) {                        \
    case 1:                                          \
        function((part), 1, __VA_ARGS__);            \
        break;                                       \
    case 2:                                          \
        function((part), 2, __VA_ARGS__);            \
        break;                                       \
    default:                                         \
        function((part), (part)->s.half, __VA_ARGS__); \
    }

/* --- splitting groups --------------------------------------------------------------------------*/

/* What becomes of each of the `asked` groups there are before any is split. verdict: RANDOM where the state changes in shots of `where`. to: the
   group of these shots afterwards. kicks: `width` words for each group there is afterwards. */
typedef struct {
    int64_t asked;
    uint8_t *verdict, *seen;
    uint32_t *to;
    uint64_t *kicks;
} fates;

enum { INSIDE = 1, OUTSIDE = 2 };

static int make_fates(fates *f, const part *p)
{
    size_t count = (size_t)p->count, width = (size_t)p->s.width;
    f->asked = p->count;
    f->verdict = calloc(2 * count, 1);
    f->seen = calloc(count, 1);
    f->to = malloc(count * 4);
    f->kicks = calloc(2 * count * width, 8);
    for (size_t g = 0; f->to && g < count; g++)
        f->to[g] = (uint32_t)g;
    return f->verdict && f->seen && f->to && f->kicks;
}

static void free_fates(fates *f)
{
    free(f->verdict);
    free(f->seen);
    free(f->to);
    free(f->kicks);
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

/* Of the groups that change, split those that have shots on both sides. Returns the number of
   groups then; where that is more than there is room for, nothing was done. */
static int64_t split(part *p, fates *f)
{
    int64_t count = p->count;
    for (int64_t g = 0; g < p->count; g++)
        if (f->verdict[g] == RANDOM && f->seen[g] == (INSIDE | OUTSIDE))
            f->to[g] = (uint32_t)count++;
    if (count > p->room)
        return count;
    for (int64_t g = 0; g < p->count; g++)
        if (f->to[g] != g) {
            memcpy(tableau_of(p, f->to[g]), tableau_of(p, g), (size_t)p->s.stride * 8);
            f->verdict[f->to[g]] = f->verdict[g];
        }
    p->count = count;
    return count;
}

/* Shots of `where` go to the groups that theirs became; `asked` groups there were. */
ALWAYS void move_shots(uint32_t *groups, const uint32_t *to, int64_t asked, uint64_t where)
{
    if (asked == 1) {
        for (int32_t at = 0; at < 64; at += 32)
            for (uint32_t i = 0, bits = (uint32_t)(where >> at); i < 32; i++)
                groups[at + i] = -(bits >> i & 1) & to[0];
        return;
    }
    for (; where; where &= where - 1) {
        int32_t i = __builtin_ctzll(where);
        groups[i] = to[groups[i]];
    }
}

/* --- measuring ---------------------------------------------------------------------------------*/

/* Measure a Pauli in the shots of row `where` into row `into`, unless that is 0; where the outcome
   is 1, frames take in Pauli `flip`, unless that is -1. last: no frame matters afterwards. */
typedef struct {
    int32_t pauli, into, where, address, flip, last;
} measurement;

ALWAYS void ask_each(part *p, int32_t half, const pauli *what, uint8_t *verdict)
{
    uint64_t met[HALF_MAX];
    for (int64_t g = 0; g < p->count; g++)
        verdict[g] = (uint8_t)ask(tableau_of(p, g), &p->s, half, what, met);
}

WIDE static void ask_groups(part *p, const pauli *what, uint8_t *verdict)
{
    BY_HALF(ask_each, p, what, verdict)
}

ALWAYS void project_each(part *p, int32_t half, const pauli *what, fates *f)
{
    uint64_t met[HALF_MAX];
    for (int64_t g = 0; g < f->asked; g++) {
        int64_t to = f->to[g];
        uint64_t *its = tableau_of(p, to);
        if (f->verdict[g] != RANDOM || !(f->seen[g] & INSIDE))
            continue;
        find_met(its, &p->s, half, what, met);
        int32_t pivot = first_of(met, half);
        copy_stabilizer(its, &p->s, half, pivot, f->kicks + to * p->s.width);
        project(its, &p->s, half, what, met, pivot);
    }
}

WIDE static void project_groups(part *p, const pauli *what, fates *f)
{
    BY_HALF(project_each, p, what, f)
}

ALWAYS void ask_and_project_each(part *p, int32_t half, const pauli *what, fates *f)
{
    uint64_t met[HALF_MAX];
    for (int64_t g = 0; g < p->count; g++) {
        uint64_t *its = tableau_of(p, g);
        f->verdict[g] = (uint8_t)ask(its, &p->s, half, what, met);
        if (f->verdict[g] != RANDOM)
            continue;
        int32_t pivot = first_of(met, half);
        copy_stabilizer(its, &p->s, half, pivot, f->kicks + g * p->s.width);
        project(its, &p->s, half, what, met, pivot);
    }
}

WIDE static void ask_and_project_groups(part *p, const pauli *what, fates *f)
{
    BY_HALF(ask_and_project_each, p, what, f)
}

/* What groups have in common, so that shots need not be asked for theirs. */
typedef struct {
    int any_random, all_random, one_sign, one_kick;
} alike;

static alike compare(const part *p, const fates *f)
{
    alike a = {0, 1, 1, 1};
    int32_t width = p->s.width;
    for (int64_t g = 0; g < p->count; g++) {
        int random = f->verdict[g] == RANDOM;
        a.any_random |= random;
        a.all_random &= random;
        a.one_sign &= (f->verdict[g] & SAYS_1) == (f->verdict[0] & SAYS_1);
        a.one_kick &= !memcmp(f->kicks + g * width, f->kicks, (size_t)width * 8);
    }
    return a;
}

ALWAYS void measure_block(part *p, int32_t width, int64_t at, const measurement *m,
                          const pauli *paulis, const fates *f, alike a, uint64_t coins)
{
    uint64_t live = row_of(p, m->where)[at], *block = block_of(p, at);
    uint32_t *groups = p->groups + 64 * at;
    uint64_t value = coins & live, random = a.all_random ? live : 0;
    if (p->count > f->asked && live)
        move_shots(groups, f->to, f->asked, live);
    if (!a.all_random || !m->last) {
        uint64_t said = frames_meet(block, width, paulis[m->pauli].against);
        said ^= a.one_sign ? -(uint64_t)(f->verdict[0] & SAYS_1) : bits_by_group(f->verdict, groups, 0);
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

/* Word `word` of a draw is that of the part's first block. */
WIDE static void measure_shots(part *p, const measurement *m, const pauli *paulis, const fates *f,
                               const place *where, uint64_t word)
{
    alike a = compare(p, f);
    uint64_t coins[TILE_WORDS];
    memset(coins, 0, sizeof coins);
    for (int64_t first = 0; first < p->words; first += TILE_WORDS) {
        int64_t count = p->words - first < TILE_WORDS ? p->words - first : TILE_WORDS;
        if (a.any_random)
            fill_coins(where, word + (uint64_t)first, count, coins);
        for (int64_t at = 0; at < count; at++)
            switch (p->s.width) {
            case 1:
                measure_block(p, 1, first + at, m, paulis, f, a, coins[at]);
                break;
            case 2:
                measure_block(p, 2, first + at, m, paulis, f, a, coins[at]);
                break;
            default:
                measure_block(p, p->s.width, first + at, m, paulis, f, a, coins[at]);
            }
    }
}

/* Returns the number of groups then, as `split` does, or -1 where there is no memory. */
static int64_t measure_one(part *p, const measurement *m, const pauli *paulis, const place *where,
                           uint64_t word)
{
    fates f;
    int64_t count = make_fates(&f, p) ? p->count : -1;
    const pauli *what = &paulis[m->pauli];
    if (count > 0 && m->where) {
        ask_groups(p, what, f.verdict);
        see_sides(p, row_of(p, m->where), &f);
        count = split(p, &f);
        if (count == p->count)
            project_groups(p, what, &f);
    } else if (count > 0 && m->last) {
        ask_groups(p, what, f.verdict);
    } else if (count > 0) {
        ask_and_project_groups(p, what, &f);
    }
    if (count == p->count)
        measure_shots(p, m, paulis, &f, where, word);
    free_fates(&f);
    return count;
}

/* --- guarded gates ------------------------------------------------------------------------------

   A Clifford gate is a few rotations exp(-i pi/4 P) that commute, and a Pauli. A frame F that
   anticommutes with P passes a rotation as F P. In a group one rotation does nothing where its P is
   a stabilizer. Of three whose Paulis multiply to one up to sign, where one Pauli is a stabilizer
   of value v the others multiply to a rotation by 0 or by pi/2, which is a Pauli, so the frames of
   the group take in that instead. */

#define TURNS_MAX 3

/* adds: of each group, bit k where frames take in Pauli k. minus: the product of the three is -1.
   Sets verdict[g] to RANDOM where the state turns. */
ALWAYS void find_turns_each(part *p, int32_t half, const pauli *turns, int32_t count, int minus,
                            uint8_t *verdict, uint8_t *adds)
{
    uint64_t met[HALF_MAX];
    for (int64_t g = 0; g < p->count; g++) {
        int certain = -1, says = RANDOM;
        for (int k = 0; k < count && certain < 0; k++) {
            says = ask(tableau_of(p, g), &p->s, half, &turns[k], met);
            if (says != RANDOM)
                certain = k;
        }
        verdict[g] = certain < 0 ? RANDOM : SAYS_0;
        if (count > 1 && certain >= 0 && says == minus)
            adds[g] = (uint8_t)(1 << (certain ? 0 : 1));
    }
}

WIDE static void find_turns(part *p, const pauli *turns, int32_t count, int minus, fates *f,
                            uint8_t *adds)
{
    BY_HALF(find_turns_each, p, turns, count, minus, f->verdict, adds)
}

ALWAYS void rotate_each(part *p, int32_t half, const pauli *turns, int32_t count, const fates *f)
{
    for (int64_t g = 0; g < f->asked; g++)
        if (f->verdict[g] == RANDOM && f->seen[g] & INSIDE)
            for (int k = 0; k < count; k++)
                rotate(tableau_of(p, f->to[g]), &p->s, half, &turns[k]);
}

WIDE static void rotate_groups(part *p, const pauli *turns, int32_t count, const fates *f)
{
    BY_HALF(rotate_each, p, turns, count, f)
}

/* What a guarded gate is: `count` rotations, and the Pauli turns[count]. minus: the product of
   three is -1. adds: NULL where no group has anything to add. */
typedef struct {
    const pauli *turns;
    int32_t count;
    int minus;
    const uint8_t *adds;
} gate;

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
        move_shots(groups, f->to, f->asked, live);
}

WIDE static void turn_shots(part *p, const uint64_t *where, const gate *t, const fates *f)
{
    for (int64_t at = 0; at < p->words; at++)
        switch (where[at] ? p->s.width : 0) {
        case 0:
            break;
        case 1:
            turn_block(p, 1, at, t, where[at], f);
            break;
        case 2:
            turn_block(p, 2, at, t, where[at], f);
            break;
        default:
            turn_block(p, p->s.width, at, t, where[at], f);
        }
}

/* Returns the number of groups then, as `split` does, or -1 where there is no memory. */
static int64_t turn_all(part *p, gate *t, const uint64_t *where)
{
    fates f;
    uint8_t *adds = calloc((size_t)p->count, 1);
    int64_t groups = make_fates(&f, p) && adds ? p->count : -1;
    if (groups > 0) {
        find_turns(p, t->turns, t->count, t->minus, &f, adds);
        see_sides(p, where, &f);
        groups = split(p, &f);
        if (groups == p->count) {
            for (int64_t g = 0; g < f.asked; g++)
                if (adds[g])
                    t->adds = adds;
            rotate_groups(p, t->turns, t->count, &f);
            turn_shots(p, where, t, &f);
        }
    }
    free_fates(&f);
    free(adds);
    return groups;
}

/* --- noise and guarded Paulis ------------------------------------------------------------------*/

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
    if (n->gaps < 0 || (n->gaps + 1) * (int64_t)GAPS_WORDS > c->gaps_count)
        return "no such table of gaps";
    if (n->kinds < 1 || n->bounds < 0 || n->bounds + n->kinds - 1 > c->bounds_count)
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
        uint64_t *frame = block_of(p, at + here) + (s.shot & 63);
        int32_t kind = pick(c->bounds + n->bounds, n->kinds, word);
        for (int32_t k = ends[kind]; k < ends[kind + 1]; k++) {
            const uint64_t *bits = c->paulis + (int64_t)c->pool[k] * width;
            for (int32_t w = 0; w < width; w++)
                frame[64 * w] ^= bits[w];
        }
    }
}

ALWAYS void run_tile(part *p, int32_t width, const script *c, uint64_t seed, uint64_t block,
                     int64_t at, int64_t first, int64_t words)
{
    for (const instruction *i = c->code; i < c->code + c->length; i++) {
        const uint64_t *mask = row_of(p, i->where);
        if (i->op == TAKE_IN) {
            for (int64_t here = at; here < at + words; here++)
                take_in(block_of(p, here), width, c->paulis + (int64_t)i->one * width, mask[here]);
            continue;
        }
        const address *a = &c->addresses[i->two];
        place where = {seed, a->epoch, a->node, a->draw};
        strike_tile(p, width, c, &c->noises[i->one], &where, block, at, first, words, mask);
    }
}

/* Tile by tile, a tile being the shots whose strikes are drawn together. */
WIDE static void run_script(part *p, const script *c, uint64_t seed, uint64_t word)
{
    for (int64_t at = 0; at < p->words;) {
        int64_t first = (int64_t)((word + (uint64_t)at) % TILE_WORDS);
        int64_t words = TILE_WORDS - first;
        uint64_t block = (word + (uint64_t)at) / TILE_WORDS;
        if (words > p->words - at)
            words = p->words - at;
        switch (p->s.width) {
        case 1:
            run_tile(p, 1, c, seed, block, at, first, words);
            break;
        case 2:
            run_tile(p, 2, c, seed, block, at, first, words);
            break;
        default:
            run_tile(p, p->s.width, c, seed, block, at, first, words);
        }
        at += words;
    }
}

/* --- the last measurements ----------------------------------------------------------------------

   Where nothing comes afterwards, states need not be projected. In each group an outcome is either
   free, so its coin, or the parity of free ones before it and of something in the frame. */

/* met: planes of `many` columns, one per measurement: the stabilizers that it meets. owners: of each
   stabilizer the free outcome that it was used for, or -1. free: whether an outcome is. */
typedef struct {
    int32_t many;
    uint64_t *met, *hits, *product, *room, *outcomes;
    int32_t *owners;
    uint8_t *free;
    int64_t *ends;
    uint32_t *order;
} workspace;

static int make_workspace(workspace *w, const part *p, int64_t count)
{
    const shape *s = &p->s;
    w->many = (int32_t)(count + 7) & ~7;
    size_t many = (size_t)w->many;
    w->met = calloc(many * (size_t)s->half, 8);
    w->hits = malloc(many * 8);
    w->product = malloc((size_t)s->width * 8);
    w->room = malloc((size_t)PAULI_WORDS(s) * 8);
    w->outcomes = malloc((size_t)p->words * 64 * ((many + 63) / 64) * 8);
    w->owners = malloc((size_t)s->qubits * 4);
    w->free = malloc(many);
    w->ends = calloc((size_t)p->count + 1, 8);
    w->order = malloc((size_t)p->words * 64 * 4);
    return w->met && w->hits && w->product && w->room && w->outcomes && w->owners && w->free &&
           w->ends && w->order;
}

static void free_workspace(workspace *w)
{
    free(w->met);
    free(w->hits);
    free(w->product);
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
        find_met(tableau, s, half, &paulis[j], met);
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

/* Outcome j of some shots, which follows from free ones: those that own a stabilizer that it meets. */
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
    pauli product = look_through(w->product, phase & 3, s, w->room);
    uint64_t says = (uint64_t)ask(tableau_of(p, group), s, half, &product, unmet);
    for (int64_t k = 0; k < shot_count; k++) {
        uint32_t shot = shots[k];
        const uint64_t *frame = block_of(p, shot >> 6) + (shot & 63);
        uint64_t *outcomes = w->outcomes + (int64_t)(shot >> 6) * 64 * columns + (shot & 63);
        uint64_t common = 0;
        for (int32_t at = 0; at < s->width; at++)
            common ^= frame[64 * at] & product.against[at];
        for (int64_t at = 0; at < columns; at++)
            common ^= outcomes[64 * at] & sources[at];
        uint64_t value = says ^ (uint64_t)(__builtin_popcountll(common) & 1);
        uint64_t *its = outcomes + 64 * (j >> 6);
        *its = (*its & ~(UINT64_C(1) << (j & 63))) | value << (j & 63);
    }
}

ALWAYS void settle_each(part *p, int32_t half, const pauli *paulis, int64_t count, workspace *w)
{
    for (int64_t g = 0; g < p->count; g++) {
        int64_t first = g ? w->ends[g - 1] : 0;
        relate(tableau_of(p, g), &p->s, half, paulis, count, w);
        for (int32_t j = 0; j < count; j++)
            if (!w->free[j])
                settle(p, half, g, paulis, count, j, w->order + first, w->ends[g] - first, w);
    }
}

WIDE static void settle_groups(part *p, const pauli *paulis, int64_t count, workspace *w)
{
    BY_HALF(settle_each, p, paulis, count, w)
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

/* --- merging -----------------------------------------------------------------------------------*/

static int make_reduced(reduced *r, const shape *s)
{
    size_t n = (size_t)s->qubits, half = (size_t)s->half, width = (size_t)s->width;
    r->rows = malloc(n * width * 8);
    r->raw = malloc(64 * half * width * 8);
    r->planes = malloc(half * (size_t)s->columns * 8);
    r->hits = malloc((size_t)s->columns * 8);
    r->raw_phases = malloc(2 * half * 8);
    r->phases = malloc(n);
    r->pivots = malloc(n * 4);
    r->owners = malloc(n * 4);
    r->place = malloc(2 * n * 4);
    return r->rows && r->raw && r->planes && r->hits && r->raw_phases && r->phases && r->pivots &&
           r->owners && r->place;
}

static void free_reduced(reduced *r)
{
    free(r->rows);
    free(r->raw);
    free(r->planes);
    free(r->hits);
    free(r->raw_phases);
    free(r->phases);
    free(r->pivots);
    free(r->owners);
    free(r->place);
}

ALWAYS void hash_each(part *p, int32_t half, reduced *r, const uint32_t *which, int64_t count,
                      uint64_t *into)
{
    for (int64_t at_group = 0; at_group < count; at_group++) {
        reduce(tableau_of(p, which[at_group]), &p->s, half, r, 0);
        uint64_t hash = 0;
        for (int64_t at = 0; at < p->s.qubits * p->s.width; at++) {
            hash = (hash ^ r->rows[at]) * UINT64_C(0x9E3779B97F4A7C15);
            hash ^= hash >> 32;
        }
        into[at_group] = hash;
    }
}

WIDE static void hash_groups(part *p, reduced *r, const uint32_t *which, int64_t count,
                             uint64_t *into)
{
    BY_HALF(hash_each, p, r, which, count, into)
}

ALWAYS void reduce_half(part *p, int32_t half, int64_t group, reduced *r)
{
    reduce(tableau_of(p, group), &p->s, half, r, 1);
}

WIDE static void reduce_group(part *p, int64_t group, reduced *r)
{
    BY_HALF(reduce_half, p, group, r)
}

/* Groups that are those that they are taken for up to signs: `kicks` is to have the Pauli between
   the two states. Others are taken for themselves. */
static void compare_groups(part *p, int32_t *firsts, uint64_t *kicks, reduced *one, reduced *two)
{
    const shape *s = &p->s;
    int64_t reduced_group = -1;
    for (int64_t g = 0; g < p->count; g++) {
        if (firsts[g] == g)
            continue;
        if (reduced_group != firsts[g])
            reduce_group(p, reduced_group = firsts[g], one);
        reduce_group(p, g, two);
        if (memcmp(one->rows, two->rows, (size_t)(s->qubits * s->width) * 8)) {
            firsts[g] = (int32_t)g;
            continue;
        }
        /* Row i alone has a bit in its pivot's column, so it alone meets the bit across. */
        for (int32_t row = 0; row < s->qubits; row++)
            if (one->phases[row] != two->phases[row]) {
                int32_t pivot = one->pivots[row];
                int32_t across = pivot < s->qubits ? pivot + s->qubits : pivot - s->qubits;
                kicks[g * s->width + (across >> 6)] |= UINT64_C(1) << (across & 63);
            }
    }
}

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

/* Leave one group of those that are the same. Returns how many there are, -1 without memory. */
static int64_t merge_groups(part *p, int32_t *firsts)
{
    reduced one, two;
    uint64_t *kicks = calloc((size_t)(p->count * p->s.width), 8);
    uint32_t *numbers = malloc((size_t)p->count * 4);
    int64_t kept = -1;
    if ((make_reduced(&one, &p->s) & make_reduced(&two, &p->s)) && kicks && numbers) {
        compare_groups(p, firsts, kicks, &one, &two);
        kept = 0;
        for (int64_t g = 0; g < p->count; g++)
            if (firsts[g] == g) {
                memmove(tableau_of(p, kept), tableau_of(p, g), (size_t)p->s.stride * 8);
                numbers[g] = (uint32_t)kept++;
            }
        regroup_shots(p, firsts, numbers, kicks);
    }
    free_reduced(&one);
    free_reduced(&two);
    free(kicks);
    free(numbers);
    return kept;
}

/* --- from Python -------------------------------------------------------------------------------*/

#define BUFFERS_MAX 12

typedef struct {
    const char *name;
    int argument, item, writable;
} field;

/* Opens the buffers that the fields name; returns 0, or -1 with an exception and none open. */
static int open_all(PyObject *const *args, const field *fields, int count, Py_buffer *views,
                    int64_t *items)
{
    for (int open = 0; open < count; open++) {
        const field *f = &fields[open];
        items[open] = open_buffer(args[f->argument], &views[open], f->item, f->writable, f->name);
        if (items[open] < 0) {
            while (open--)
                PyBuffer_Release(&views[open]);
            return -1;
        }
    }
    return 0;
}

static void close_all(Py_buffer *views, int count)
{
    while (count--)
        PyBuffer_Release(&views[count]);
}

static int take_integers(PyObject *const *args, int count, int64_t *into)
{
    for (int at = 0; at < count; at++) {
        into[at] = PyLong_AsLongLong(args[at]);
        if (into[at] == -1 && PyErr_Occurred())
            return -1;
    }
    return 0;
}

/* The arguments of a part: qubits, count, tableaus, groups, frames, rows. */
#define PART_ARGUMENTS 6
#define PART_BUFFERS 4
#define PART_FIELDS                                                                        \
    {"tableaus", 2, 8, 1}, {"groups", 3, 4, 1}, {"frames", 4, 8, 1}, {"rows", 5, 8, 1}

static int take_part(PyObject *const *args, const Py_buffer *views, const int64_t *items, part *p)
{
    int64_t numbers[2];
    if (take_integers(args, 2, numbers))
        return -1;
    const char *why = NULL;
    memset(p, 0, sizeof *p);
    if (numbers[0] < 1 || numbers[0] > QUBITS_MAX)
        why = "qubits out of range";
    else {
        p->s = shape_of((int32_t)numbers[0]);
        p->tableaus = views[0].buf;
        p->count = numbers[1];
        p->room = items[0] / p->s.stride;
        p->groups = views[1].buf;
        p->words = items[1] / 64;
        p->frames = views[2].buf;
        p->rows = views[3].buf;
        p->row_count = p->words ? items[3] / p->words : 0;
        if (p->count < 1 || p->count > p->room || p->words < 1 || items[1] % 64 ||
            items[2] != items[1] * p->s.width || p->row_count < 1 || items[3] % p->words)
            why = "the buffers of the part do not fit one another";
    }
    if (why)
        PyErr_SetString(PyExc_ValueError, why);
    return why ? -1 : 0;
}

/* Paulis from Python, `width` words and the phase each. Returns what to free, or NULL with an
   exception. */
static pauli *take_paulis(const part *p, const uint64_t *given, int64_t items, int64_t *count)
{
    const shape *s = &p->s;
    int32_t past = 2 * s->qubits % 64;
    *count = items / (s->width + 1);
    pauli *paulis = malloc((sizeof *paulis + (size_t)PAULI_WORDS(s) * 8) * (size_t)*count + 1);
    if (!paulis) {
        PyErr_NoMemory();
        return NULL;
    }
    uint64_t *room = (uint64_t *)(paulis + *count);
    for (int64_t at = 0; at < *count; at++, room += PAULI_WORDS(s)) {
        const uint64_t *its = given + at * (s->width + 1);
        if (items % (s->width + 1) || its[s->width] > 3 || (past && its[s->width - 1] >> past)) {
            PyErr_SetString(PyExc_ValueError, "what is given is no Pauli");
            free(paulis);
            return NULL;
        }
        paulis[at] = look_through(its, (uint32_t)its[s->width], s, room);
    }
    return paulis;
}

static int wanted(Py_ssize_t given, Py_ssize_t expected)
{
    if (given != expected)
        PyErr_Format(PyExc_TypeError, "%zd arguments are wanted, not %zd", expected, given);
    return given == expected;
}

static int take_place(PyObject *const *args, uint64_t *seed, uint64_t *word)
{
    *seed = PyLong_AsUnsignedLongLong(args[0]);
    if (PyErr_Occurred())
        return -1;
    uint64_t shot_first = PyLong_AsUnsignedLongLong(args[1]);
    if (PyErr_Occurred())
        return -1;
    *word = shot_first / 64;
    if (shot_first % 64)
        PyErr_SetString(PyExc_ValueError, "shot_first is no multiple of 64");
    return shot_first % 64 ? -1 : 0;
}

static PyObject *count_or_no_memory(int64_t count)
{
    return count < 0 ? PyErr_NoMemory() : PyLong_FromLongLong(count);
}

static const char *fault_of_measurement(const part *p, const measurement *m, int64_t paulis,
                                        int64_t addresses)
{
    if (m->pauli < 0 || m->pauli >= paulis || m->flip < -1 || m->flip >= paulis || m->into < 0 ||
        m->into >= p->row_count || m->where < 0 || m->where >= p->row_count || m->address < 0 ||
        m->address >= addresses)
        return "a measurement out of range";
    return NULL;
}

static int64_t measure_each(part *p, const measurement *what, int64_t count, const pauli *paulis,
                            const address *addresses, uint64_t seed, uint64_t word)
{
    int64_t groups = p->count;
    for (int64_t at = 0; at < count && groups == p->count; at++) {
        const address *a = &addresses[what[at].address];
        place where = {seed, a->epoch, a->node, a->draw};
        groups = measure_one(p, &what[at], paulis, &where, word);
    }
    return groups;
}

/* measure(PART, paulis, what, addresses, seed, shot_first) -> groups. Several only unguarded. */
static PyObject *measure(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    (void)self;
    static const field fields[] = {
        PART_FIELDS, {"paulis", 6, 8, 0}, {"what", 7, 4, 0}, {"addresses", 8, 8, 0}};
    Py_buffer views[BUFFERS_MAX];
    int64_t items[BUFFERS_MAX], paulis_count, groups = 0;
    uint64_t seed, word;
    part p;
    if (!wanted(given, 11) || take_place(args + 9, &seed, &word) ||
        open_all(args, fields, 7, views, items))
        return NULL;
    pauli *paulis = NULL;
    if (!take_part(args, views, items, &p))
        paulis = take_paulis(&p, views[4].buf, items[4], &paulis_count);
    if (paulis) {
        const measurement *what = views[5].buf;
        int64_t count = items[5] / 6;
        const char *why = items[5] % 6 || items[6] % 3 ? "the buffers do not fit one another" : NULL;
        for (int64_t at = 0; at < count && !why; at++) {
            why = fault_of_measurement(&p, &what[at], paulis_count, items[6] / 3);
            if (!why && what[at].where && (count > 1 || what[at].last))
                why = "a guarded measurement stands alone";
        }
        if (why)
            PyErr_SetString(PyExc_ValueError, why);
        else
            groups = measure_each(&p, what, count, paulis, views[6].buf, seed, word);
        free(paulis);
    }
    close_all(views, 7);
    return PyErr_Occurred() ? NULL : count_or_no_memory(groups);
}

/* turn(PART, paulis, minus, where) -> groups. paulis: those of the rotations, and what follows. */
static PyObject *turn(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    (void)self;
    static const field fields[] = {PART_FIELDS, {"paulis", 6, 8, 0}};
    Py_buffer views[BUFFERS_MAX];
    int64_t items[BUFFERS_MAX], numbers[2], count, groups = 0;
    part p;
    if (!wanted(given, 9) || take_integers(args + 7, 2, numbers) ||
        open_all(args, fields, 5, views, items))
        return NULL;
    pauli *paulis = NULL;
    if (!take_part(args, views, items, &p))
        paulis = take_paulis(&p, views[4].buf, items[4], &count);
    if (paulis) {
        if ((count != 2 && count != TURNS_MAX + 1) || numbers[0] >> 1 || numbers[1] < 1 ||
            numbers[1] >= p.row_count)
            PyErr_SetString(PyExc_ValueError, "no such turn");
        else {
            gate t = {paulis, (int32_t)count - 1, (int)numbers[0], NULL};
            groups = turn_all(&p, &t, row_of(&p, numbers[1]));
        }
        free(paulis);
    }
    close_all(views, 5);
    return PyErr_Occurred() ? NULL : count_or_no_memory(groups);
}

/* run(PART, code, noises, gaps, bounds, pool, paulis, addresses, seed, shot_first); here Paulis are
   `width` words, without phases. */
static PyObject *run(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    (void)self;
    static const field fields[] = {PART_FIELDS,         {"code", 6, 4, 0},   {"noises", 7, 4, 0},
                                   {"gaps", 8, 8, 0},   {"bounds", 9, 8, 0}, {"pool", 10, 4, 0},
                                   {"paulis", 11, 8, 0}, {"addresses", 12, 8, 0}};
    Py_buffer v[BUFFERS_MAX];
    int64_t items[BUFFERS_MAX];
    uint64_t seed, word;
    part p;
    if (!wanted(given, 15) || take_place(args + 13, &seed, &word) ||
        open_all(args, fields, 11, v, items))
        return NULL;
    if (!take_part(args, v, items, &p)) {
        script c = {v[4].buf, items[4] / 4,           v[5].buf,  items[5] / 4, v[6].buf,
                    items[6], v[7].buf,               items[7],  v[8].buf,     items[8],
                    v[9].buf, items[9] / p.s.width,   v[10].buf, items[10] / 3};
        const char *why = items[4] % 4 || items[5] % 4 || items[9] % p.s.width || items[10] % 3
                              ? "the buffers do not fit one another"
                              : fault_of_script(&p, &c);
        if (why)
            PyErr_SetString(PyExc_ValueError, why);
        else
            run_script(&p, &c, seed, word);
    }
    close_all(v, 11);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

static int measure_last(part *p, const pauli *paulis, const int32_t *into, const address *addresses,
                        int64_t count, uint64_t seed, uint64_t word)
{
    workspace w;
    place *at = malloc((size_t)count * sizeof *at + 1);
    int made = make_workspace(&w, p, count) && at;
    if (made) {
        for (int64_t j = 0; j < count; j++)
            at[j] = (place){seed, addresses[j].epoch, addresses[j].node, addresses[j].draw};
        toss(p, at, count, word, w.outcomes);
        sort_shots(p, &w);
        settle_groups(p, paulis, count, &w);
        write_outcomes(p, into, count, w.outcomes);
    }
    free_workspace(&w);
    free(at);
    return made;
}

/* last(PART, paulis, into, addresses, seed, shot_first): measurements after which nothing comes,
   one per Pauli, at most LAST_MAX, each into a row, unless that is 0. */
static PyObject *last(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    (void)self;
    static const field fields[] = {
        PART_FIELDS, {"paulis", 6, 8, 0}, {"into", 7, 4, 0}, {"addresses", 8, 8, 0}};
    Py_buffer views[BUFFERS_MAX];
    int64_t items[BUFFERS_MAX], count;
    uint64_t seed, word;
    part p;
    if (!wanted(given, 11) || take_place(args + 9, &seed, &word) ||
        open_all(args, fields, 7, views, items))
        return NULL;
    pauli *paulis = NULL;
    if (!take_part(args, views, items, &p))
        paulis = take_paulis(&p, views[4].buf, items[4], &count);
    if (paulis) {
        const int32_t *into = views[5].buf;
        int fits = items[5] == count && items[6] == 3 * count && count <= LAST_MAX;
        for (int64_t at = 0; at < count && fits; at++)
            fits = into[at] >= 0 && into[at] < p.row_count;
        if (!fits)
            PyErr_SetString(PyExc_ValueError, "the buffers do not fit one another");
        else if (!measure_last(&p, paulis, into, views[6].buf, count, seed, word))
            PyErr_NoMemory();
        free(paulis);
    }
    close_all(views, 7);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

/* begin(PART): one group, all qubits |0>. */
static PyObject *begin(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    (void)self;
    static const field fields[] = {PART_FIELDS};
    Py_buffer views[BUFFERS_MAX];
    int64_t items[BUFFERS_MAX];
    part p;
    if (!wanted(given, PART_ARGUMENTS) || open_all(args, fields, PART_BUFFERS, views, items))
        return NULL;
    if (!take_part(args, views, items, &p))
        set_zero(p.tableaus, &p.s);
    close_all(views, PART_BUFFERS);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

/* hashes(PART, which, into): of some groups a word each that is the same where their stabilizers
   are, up to sign. */
static PyObject *hashes(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    (void)self;
    static const field fields[] = {PART_FIELDS, {"which", 6, 4, 0}, {"into", 7, 8, 1}};
    Py_buffer views[BUFFERS_MAX];
    int64_t items[BUFFERS_MAX];
    part p;
    if (!wanted(given, 8) || open_all(args, fields, 6, views, items))
        return NULL;
    if (!take_part(args, views, items, &p)) {
        const uint32_t *which = views[4].buf;
        reduced r;
        int fits = items[4] == items[5], made = make_reduced(&r, &p.s);
        for (int64_t at = 0; at < items[4] && fits; at++)
            fits = which[at] < p.count;
        if (!fits)
            PyErr_SetString(PyExc_ValueError, "a word for each of some groups is wanted");
        else if (!made)
            PyErr_NoMemory();
        else
            hash_groups(&p, &r, which, items[4], views[5].buf);
        free_reduced(&r);
    }
    close_all(views, 6);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

/* merge(PART, firsts) -> groups. firsts: of each group one that may be the same, itself or one that
   comes before it; changed to those that are. */
static PyObject *merge(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    (void)self;
    static const field fields[] = {PART_FIELDS, {"firsts", 6, 4, 1}};
    Py_buffer views[BUFFERS_MAX];
    int64_t items[BUFFERS_MAX], groups = 0;
    part p;
    if (!wanted(given, 7) || open_all(args, fields, 5, views, items))
        return NULL;
    if (!take_part(args, views, items, &p)) {
        int32_t *firsts = views[4].buf;
        int fits = items[4] == p.count;
        for (int64_t g = 0; g < p.count && fits; g++)
            fits = firsts[g] >= 0 && firsts[g] <= g && firsts[firsts[g]] == firsts[g];
        if (!fits)
            PyErr_SetString(PyExc_ValueError, "a group comes first or is one that does");
        else
            groups = merge_groups(&p, firsts);
    }
    close_all(views, 5);
    return PyErr_Occurred() ? NULL : count_or_no_memory(groups);
}

#define METHOD(name) {#name, (PyCFunction)(void (*)(void))name, METH_FASTCALL, NULL}

static PyMethodDef methods[] = {
    METHOD(begin),  METHOD(run),   METHOD(measure),      METHOD(turn),
    METHOD(last),   METHOD(hashes), METHOD(merge), {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_groups", NULL, 0, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__groups(void)
{
    return PyModule_Create(&module);
}
