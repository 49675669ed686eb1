// Every symbol of the native code, with its shapes. Each function returns nullptr where it succeeded, else a message
// that lives until the thread's next call. A `tensor` is what tch holds: a heap-allocated at::Tensor.
#pragma once
#include <cstdint>


extern "C" {

// Vector-Jacobian products of `out` with respect to `in`, K cotangents in one backward pass.
//   out        [B, R]      requires grad, or the result is zero
//   in         [B, ...]    the leaf that `out` was computed from
//   cotangents [K, B, R]
//   create_graph           nonzero: the result can be differentiated again
//   result     [K, B, ...] zero where `out` does not depend on `in`
// vmapped != 0: one pass under functorch's vmap; 0: one backward pass a cotangent. The graph is kept.
const char* pb_vjp(void** result, const void* out, const void* in, const void* cotangents, int vmapped,
                   int create_graph);

// Counts the bytes that libtorch allocates on this thread between begin and end; `peak` is the most that was live.
const char* pb_memory_begin();
const char* pb_memory_end(int64_t* peak);

// Free and total bytes of the current CUDA device's memory.
const char* pb_cuda_memory(int64_t* free_bytes, int64_t* total_bytes);

// Process-wide settings for exact derivatives: math attention, no TF32, no graph rewriting of TorchScript.
const char* pb_exact_math();

// One Adam step in place on `n` parameters (ATen _fused_adam_): params, grads, exp_avgs, exp_avg_sqs are arrays of n
// tensors of equal device; steps are n scalars f32, incremented by the call.
const char* pb_fused_adam(void** params, void** grads, void** exp_avgs, void** exp_avg_sqs, void** steps, int64_t n,
                          double lr, double beta1, double beta2, double weight_decay, double eps);

// 1 if the CUDA half of libtorch is in this process.
int pb_has_cuda_build();
}
