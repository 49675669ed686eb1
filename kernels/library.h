// The library's batched eigensolver, called directly: torch.linalg.eigh loops over the matrices of a batch above order 32.
#pragma once
#include <ATen/core/Tensor.h>

#include <tuple>

namespace pb {

// True where cusolverDnXsyevBatched can be called in this process.
bool has_library_eigh();

// (values [B, n] ascending, vectors, outcome [B] i32, 0 if solved) of CUDA matrices [B, n, n], f32 or f64, which are overwritten; with
// `want_vectors` row i of [B, n, n] becomes the eigenvector of the i-th value.
std::tuple<at::Tensor, at::Tensor, at::Tensor> library_eigh(at::Tensor matrices, bool want_vectors);

}  // namespace pb
