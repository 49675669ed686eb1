// Tensors of Python as tensors of C++ and back: the same tensor, with its place in autograd's graph.

#include <torch/csrc/autograd/python_variable.h>

extern "C" {

// A heap-allocated at::Tensor for a torch.Tensor; null for any other object. The caller holds the GIL and owns the result.
void* pb_tensor_of(PyObject* object) noexcept {
  try {
    return THPVariable_Check(object) ? new at::Tensor(THPVariable_Unpack(object)) : nullptr;
  } catch (...) {
    return nullptr;
  }
}

// A new reference to the torch.Tensor of an at::Tensor, or null with Python's error set. The caller holds the GIL.
PyObject* pb_object_of(const void* tensor) noexcept {
  try {
    return THPVariable_Wrap(*static_cast<const at::Tensor*>(tensor));
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
    return nullptr;
  }
}
}
