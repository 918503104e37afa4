/* Groups whose states differ by a Pauli become one. */

#ifndef QMKD_MERGING_H
#define QMKD_MERGING_H

#include "shots.h"
#include "slices.h"

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
   the two states. Others are taken for themselves. Returns 0 where `poll` raised. */
static int compare_groups(part *p, int32_t *firsts, uint64_t *kicks, reduced *one, reduced *two,
                          PyObject *poll)
{
    const shape *s = &p->s;
    int64_t reduced_group = -1;
    for (int64_t g = 0; g < p->count; g++) {
        if (g % groups_per_poll(s) == 0 && !go_on(poll))
            return 0;
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
    return 1;
}

/* Leave one group of those that are the same. Returns how many there are; -1 where there is no
   memory, or `poll` raised. */
static int64_t merge_groups(part *p, int32_t *firsts, PyObject *poll)
{
    reduced one, two;
    uint64_t *kicks = calloc((size_t)(p->count * p->s.width), 8);
    uint32_t *numbers = malloc((size_t)p->count * 4);
    int64_t kept = -1;
    if ((make_reduced(&one, &p->s) & make_reduced(&two, &p->s)) && kicks && numbers &&
        compare_groups(p, firsts, kicks, &one, &two, poll)) {
        kept = 0;
        for (int64_t g = 0; g < p->count; g++)
            if (firsts[g] == g) {
                memmove(tableau_of(p, kept), tableau_of(p, g), (size_t)p->s.stride * 8);
                numbers[g] = (uint32_t)kept++;
            }
        (p->groups ? regroup_shots : regroup_slices)(p, firsts, numbers, kicks);
    }
    free_reduced(&one);
    free_reduced(&two);
    free(kicks);
    free(numbers);
    return kept;
}

#endif
