/* Functions of the kernels for pixels, for the table in _kernels.c; hidden from other libraries, which may have such names. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif
extern const char channel_sums_doc[], resize_rgb_doc[];
PyObject *channel_sums(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *resize_rgb(PyObject *module, PyObject *const *args, Py_ssize_t count);
int has_pixels(void); /* whether this processor has what both need; else they decline */
#if defined(__GNUC__)
#pragma GCC visibility pop
#endif
