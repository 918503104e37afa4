/* Shots in groups, for ../groups.py, which has the ideas; part.h says what a part of a batch is.

   Calls that come to more groups than there is room for change nothing and say how many there would
   be. Group numbers of shots are trusted: they are our own, and checked where a saved state comes
   in. */

#include "groups.h"
#include "last.h"
#include "merging.h"
#include "script.h"

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
        int sliced = !items[1], planes = SLICED_PLANES(&p->s);
        p->tableaus = views[0].buf;
        p->count = numbers[1];
        p->room = items[0] / p->s.stride;
        p->groups = sliced ? NULL : views[1].buf;
        p->words = sliced ? items[2] / planes : items[1] / 64;
        p->frames = views[2].buf;
        p->rows = views[3].buf;
        p->row_count = p->words ? items[3] / p->words : 0;
        if (p->count < 1 || p->count > p->room || p->words < 1 || p->row_count < 1 ||
            items[3] % p->words || items[1] % 64 ||
            items[2] != p->words * (sliced ? planes : 64 * p->s.width))
            why = "the buffers of the part do not fit one another";
        else if (sliced && (p->s.qubits > SLICED_QUBITS_MAX || p->room > SLICED_GROUPS_MAX))
            why = "too much for slices";
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
    pauli *paulis = malloc((sizeof *paulis + (size_t)s->width * 8) * (size_t)*count + 1);
    if (!paulis) {
        PyErr_NoMemory();
        return NULL;
    }
    uint64_t *room = (uint64_t *)(paulis + *count);
    for (int64_t at = 0; at < *count; at++) {
        const uint64_t *its = given + at * (s->width + 1);
        if (items % (s->width + 1) || its[s->width] > 3 || (past && its[s->width - 1] >> past)) {
            PyErr_SetString(PyExc_ValueError, "what is given is no Pauli");
            free(paulis);
            return NULL;
        }
        paulis[at] = pauli_of(its, (uint32_t)its[s->width], s, room + at * s->width);
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

/* The number of groups, or the exception that there is; a negative number without one means that
   there was no memory. */
static PyObject *groups_or_exception(int64_t count)
{
    if (PyErr_Occurred())
        return NULL;
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
                            const address *addresses, uint64_t seed, uint64_t word, PyObject *poll)
{
    uint64_t *room = malloc((size_t)SPREAD_WORDS(&p->s) * 8);
    int64_t groups = room ? p->count : -1;
    for (int64_t at = 0; at < count && groups == p->count; at++) {
        const address *a = &addresses[what[at].address];
        place where = {seed, a->epoch, a->node, a->draw};
        groups = go_on(poll) ? measure_one(p, &what[at], paulis, &where, word, room) : -1;
    }
    free(room);
    return groups;
}

/* measure(PART, paulis, what, addresses, seed, shot_first, poll) -> groups. Several only
   unguarded. */
static PyObject *measure(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    (void)self;
    static const field fields[] = {
        PART_FIELDS, {"paulis", 6, 8, 0}, {"what", 7, 4, 0}, {"addresses", 8, 8, 0}};
    Py_buffer views[BUFFERS_MAX];
    int64_t items[BUFFERS_MAX], paulis_count, groups = 0;
    uint64_t seed, word;
    part p;
    if (!wanted(given, 12) || take_place(args + 9, &seed, &word) ||
        open_all(args, fields, 7, views, items))
        return NULL;
    pauli *paulis = NULL;
    if (!take_part(args, views, items, &p))
        paulis = take_paulis(&p, views[4].buf, items[4], &paulis_count);
    if (paulis) {
        const measurement *what = views[5].buf;
        int64_t count = items[5] / 6;
        int whole = !(items[5] % 6 || items[6] % 3);
        const char *why = whole ? NULL : "the buffers do not fit one another";
        for (int64_t at = 0; at < count && !why; at++) {
            why = fault_of_measurement(&p, &what[at], paulis_count, items[6] / 3);
            if (!why && what[at].where && (count > 1 || what[at].last))
                why = "a guarded measurement stands alone";
        }
        if (why)
            PyErr_SetString(PyExc_ValueError, why);
        else
            groups = measure_each(&p, what, count, paulis, views[6].buf, seed, word, args[11]);
        free(paulis);
    }
    close_all(views, 7);
    return groups_or_exception(groups);
}

static int64_t turn_about(part *p, pauli *paulis, int32_t count, int minus, const uint64_t *where)
{
    uint64_t *room = malloc((size_t)(count * SPREAD_WORDS(&p->s)) * 8);
    for (int32_t k = 0; room && k < count; k++)
        paulis[k] = spread_out(paulis[k], &p->s, room + k * SPREAD_WORDS(&p->s));
    gate t = {paulis, count, minus, NULL};
    int64_t groups = room ? turn_all(p, &t, where) : -1;
    free(room);
    return groups;
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
        else
            groups = turn_about(&p, paulis, (int32_t)count - 1, (int)numbers[0],
                                row_of(&p, numbers[1]));
        free(paulis);
    }
    close_all(views, 5);
    return groups_or_exception(groups);
}

/* run(PART, code, noises, gaps, bounds, pool, paulis, addresses, seed, shot_first, poll); here
   Paulis are `width` words, without phases. */
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
    if (!wanted(given, 16) || take_place(args + 13, &seed, &word) ||
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
            run_script(&p, &c, seed, word, args[15]);
    }
    close_all(v, 11);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

/* The same as `measure_last`, for slices. */
static int64_t measure_in_turn(part *p, const pauli *paulis, const int32_t *into,
                               const address *addresses, int64_t count, uint64_t seed,
                               uint64_t word, PyObject *poll)
{
    int64_t groups = p->count;
    for (int32_t j = 0; j < count && groups == p->count; j++) {
        measurement m = {j, into[j], 0, j, -1, j == count - 1};
        groups = measure_each(p, &m, 1, paulis, addresses, seed, word, poll);
    }
    return groups;
}

/* last(PART, paulis, into, addresses, seed, shot_first, poll): measurements after which nothing
   comes, one per Pauli, at most LAST_MAX, each into a row, unless that is 0. */
static PyObject *last(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    (void)self;
    static const field fields[] = {
        PART_FIELDS, {"paulis", 6, 8, 0}, {"into", 7, 4, 0}, {"addresses", 8, 8, 0}};
    Py_buffer views[BUFFERS_MAX];
    int64_t items[BUFFERS_MAX], count, groups = 0;
    uint64_t seed, word;
    part p;
    if (!wanted(given, 12) || take_place(args + 9, &seed, &word) ||
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
        else
            groups = (p.groups ? measure_last : measure_in_turn)(
                &p, paulis, into, views[6].buf, count, seed, word, args[11]);
        free(paulis);
    }
    close_all(views, 7);
    return groups_or_exception(groups);
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

static void hash_some(part *p, reduced *r, const uint32_t *which, int64_t count, uint64_t *into,
                      PyObject *poll)
{
    int64_t step = groups_per_poll(&p->s);
    for (int64_t at = 0; at < count && go_on(poll); at += step)
        hash_groups(p, r, which + at, count - at < step ? count - at : step, into + at);
}

/* hashes(PART, which, into, poll): of some groups a word each that is the same where their
   stabilizers are, up to sign. */
static PyObject *hashes(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    (void)self;
    static const field fields[] = {PART_FIELDS, {"which", 6, 4, 0}, {"into", 7, 8, 1}};
    Py_buffer views[BUFFERS_MAX];
    int64_t items[BUFFERS_MAX];
    part p;
    if (!wanted(given, 9) || open_all(args, fields, 6, views, items))
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
            hash_some(&p, &r, which, items[4], views[5].buf, args[8]);
        free_reduced(&r);
    }
    close_all(views, 6);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

/* merge(PART, firsts, poll) -> groups. firsts: of each group one that may be the same, itself or
   one that comes before it; changed to those that are. */
static PyObject *merge(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    (void)self;
    static const field fields[] = {PART_FIELDS, {"firsts", 6, 4, 1}};
    Py_buffer views[BUFFERS_MAX];
    int64_t items[BUFFERS_MAX], groups = 0;
    part p;
    if (!wanted(given, 8) || open_all(args, fields, 5, views, items))
        return NULL;
    if (!take_part(args, views, items, &p)) {
        int32_t *firsts = views[4].buf;
        int fits = items[4] == p.count;
        for (int64_t g = 0; g < p.count && fits; g++)
            fits = firsts[g] >= 0 && firsts[g] <= g && firsts[firsts[g]] == firsts[g];
        if (!fits)
            PyErr_SetString(PyExc_ValueError, "a group comes first or is one that does");
        else
            groups = merge_groups(&p, firsts, args[7]);
    }
    close_all(views, 5);
    return groups_or_exception(groups);
}

/* unslice(PART, groups, frames): the groups and frames of a part in slices, laid out at large. */
static PyObject *unslice(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    (void)self;
    static const field fields[] = {PART_FIELDS, {"groups", 6, 4, 1}, {"frames", 7, 8, 1}};
    Py_buffer views[BUFFERS_MAX];
    int64_t items[BUFFERS_MAX];
    part p;
    if (!wanted(given, 8) || open_all(args, fields, 6, views, items))
        return NULL;
    if (!take_part(args, views, items, &p)) {
        if (p.groups || items[4] != 64 * p.words || items[5] != items[4])
            PyErr_SetString(PyExc_ValueError, "the buffers do not fit one another");
        else
            unslice_part(&p, views[4].buf, views[5].buf);
    }
    close_all(views, 6);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

#define METHOD(name) {#name, (PyCFunction)(void (*)(void))name, METH_FASTCALL, NULL}

static PyMethodDef methods[] = {
    METHOD(begin),  METHOD(run),   METHOD(measure), METHOD(turn),           METHOD(last),
    METHOD(hashes), METHOD(merge), METHOD(unslice), {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_groups", NULL, 0, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__groups(void)
{
    return PyModule_Create(&module);
}
