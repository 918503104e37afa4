/* Arguments from Python: buffers of a known item size, checked before anything touches them. */

#ifndef QMKD_BUFFERS_H
#define QMKD_BUFFERS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

/* Builds of a fixed width exist for the tests; by default the loader picks the widest there is. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(QMKD_ONE_WIDTH)
#define WIDE __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define WIDE
#endif

/* Open a contiguous buffer of whole items; returns how many there are, or -1 with an exception. */
static inline int64_t open_buffer(PyObject *object, Py_buffer *view, Py_ssize_t item, int writable,
                                  const char *name)
{
    if (PyObject_GetBuffer(object, view, PyBUF_C_CONTIGUOUS | (writable ? PyBUF_WRITABLE : 0)))
        return -1;
    if (view->itemsize != item || view->len % item ||
        ((uintptr_t)view->buf % (uintptr_t)item && view->len)) {
        PyErr_Format(PyExc_ValueError, "%s: items of %zd bytes are wanted, not %zd", name, item,
                     view->itemsize);
        PyBuffer_Release(view);
        return -1;
    }
    return view->len / item;
}

#endif
