/* Measurements and guarded gates: first what they do to groups, then to shots. */

#ifndef QMKD_GROUPS_H
#define QMKD_GROUPS_H

#include "shots.h"
#include "slices.h"

static void see(const part *p, const uint64_t *where, fates *f)
{
    (p->groups ? see_sides : see_sides_in_slices)(p, where, f);
}

/* --- measuring ---------------------------------------------------------------------------------*/

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

/* Returns the number of groups then, as `split` does, or -1 where there is no memory. room:
   SPREAD_WORDS words. */
static int64_t measure_one(part *p, const measurement *m, const pauli *paulis, const place *where,
                           uint64_t word, uint64_t *room)
{
    fates f;
    int64_t count = make_fates(&f, p) ? p->count : -1;
    const pauli spread = spread_out(paulis[m->pauli], &p->s, room), *what = &spread;
    if (count > 0 && m->where) {
        ask_groups(p, what, f.verdict);
        see(p, row_of(p, m->where), &f);
        count = split(p, &f);
        if (count == p->count)
            project_groups(p, what, &f);
    } else if (count > 0 && m->last) {
        ask_groups(p, what, f.verdict);
    } else if (count > 0) {
        ask_and_project_groups(p, what, &f);
    }
    if (count == p->count)
        (p->groups ? measure_shots : measure_slices)(p, m, paulis, &f, where, word);
    free_fates(&f);
    return count;
}

/* --- guarded gates ------------------------------------------------------------------------------

   A Clifford gate is a few rotations exp(-i pi/4 P) that commute, and a Pauli. A frame F that
   anticommutes with P passes a rotation as F P. In a group one rotation does nothing where its P is
   a stabilizer. Of three whose Paulis multiply to one up to sign, where one Pauli is a stabilizer
   of value v the others multiply to a rotation by 0 or by pi/2, which is a Pauli, so the frames of
   the group take in that instead. */

/* Sets verdict[g] to RANDOM where the state of a group turns. */
ALWAYS void find_turns_each(part *p, int32_t half, const pauli *turns, int32_t count, int minus,
                            uint8_t *verdict, uint8_t *adds)
{
    uint64_t met[HALF_MAX];
    for (int64_t g = 0; g < p->count; g++) {
        int certain = -1, says = RANDOM;
        for (int k = 0; k < count && certain < 0; k++) {
            const uint64_t *its = tableau_of(p, g);
            if (count > 1)
                says = ask(its, &p->s, half, &turns[k], met);
            else
                says = find_met(its, &p->s, half, &turns[k], met) ? RANDOM : SAYS_0;
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

/* Returns the number of groups then, as `split` does, or -1 where there is no memory. */
static int64_t turn_all(part *p, gate *t, const uint64_t *where)
{
    fates f;
    uint8_t *adds = calloc((size_t)p->count, 1);
    int64_t groups = make_fates(&f, p) && adds ? p->count : -1;
    if (groups > 0) {
        find_turns(p, t->turns, t->count, t->minus, &f, adds);
        see(p, where, &f);
        groups = split(p, &f);
        if (groups == p->count) {
            for (int64_t g = 0; g < f.asked; g++)
                if (adds[g])
                    t->adds = adds;
            rotate_groups(p, t->turns, t->count, &f);
            (p->groups ? turn_shots : turn_slices)(p, where, t, &f);
        }
    }
    free_fates(&f);
    free(adds);
    return groups;
}

#endif
