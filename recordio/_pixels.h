/* Functions of the kernels for pixels, for the table in _kernels.c. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

extern const char channel_sums_doc[], resize_rgb_doc[];
PyObject *channel_sums(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *resize_rgb(PyObject *module, PyObject *const *args, Py_ssize_t count);
