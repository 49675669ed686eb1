// Every symbol of the native code, with its shapes. Each function returns nullptr if it succeeds, otherwise a message that is valid until
// the thread's next call. A `tensor` is a heap-allocated at::Tensor, as tch holds it.
#pragma once
#include <cstdint>


extern "C" {

// Vector-Jacobian products of `out` with respect to `in`, K cotangents in one backward pass.
//   out        [B, R]      requires grad, or the result is zero
//   in         [B, ...]    the leaf that `out` was computed from
//   cotangents [K, B, R]   of way 2 nullptr stands for the R unit vectors, of each sample
//   create_graph           nonzero: the result can be differentiated again
//   result     [K, B, ...] zero where `out` does not depend on `in`
// way 0: one backward pass for each cotangent; 1: one pass under functorch's vmap; 2: folded into the batch (folded.h), on the CPU, for
// common operations, without its own graph; it calls `stops` repeatedly, and ends if that is not 0. The graph of `out` is kept.
// at_stem != 0: with respect to h [B, H] of the stem (below), which must exist; the result is [K, B, H].
const char* pb_vjp(void** result, const void* out, const void* in, const void* cotangents, int way,
                   int create_graph, int at_stem, int (*stops)());
// Whether the graph of `out` has a function that is not libtorch's. A once-differentiable one of Python's raises nothing in a second
// derivative: its part is missing there.
const char* pb_has_custom(int* found, const void* out);

// The Gram matrices [B, R, R] f64 of the per-sample Jacobian of `out` [B, R] f32 with respect to `in`, summed in double, by way 2.
const char* pb_grams(void** grams, const void* out, const void* in, int (*stops)());

// The stem (stem.cpp): M [D, H] and its version, which reveals a change in place, if all of `out` depends on `in` [B, ...] only through
// h = flatten(in) M + c; `map` is not changed if the graph begins in another way.
const char* pb_stem(void** map, int64_t* version, const void* out, const void* in);

// Factorisations of batches [B, ...] on the CPU (lapack.cpp), with parts of the batch on each of libtorch's threads; results are as in
// torch.linalg. eigh: lower triangles of a [B, R, R] -> values [B, R] ascending, vectors [B, R, R] in columns.
// qr_triangle: a [B, M, N] -> triangle [B, min(M, N), N]. spectra: lower triangles of grams [B, R, R] f64 -> values [B, count] descending,
// at least 0; NaN where the diagonal is not finite.
const char* pb_shared_eigh(void** values, void** vectors, const void* a);
const char* pb_shared_qr_triangle(void** triangle, const void* a);
const char* pb_spectra(void** values, const void* grams, int64_t count);
// A A^T [B, P, P] f64 of rows A [B, P, D] f32 on the CPU, summed in double (products.cpp).
const char* pb_gram_of_rows(void** gram, const void* rows);

// Counts the bytes that libtorch allocates on this thread between begin and end; `peak` is the most that was live.
const char* pb_memory_begin();
const char* pb_memory_end(int64_t* peak);

// A CUDA device (device.cpp). Its free bytes, with those that libtorch's allocator holds idle (except memory that graphs keep for
// themselves), and its total bytes.
const char* pb_cuda_memory(int64_t* free_bytes, int64_t* total_bytes, int64_t device);
// Waits only for the work that the thread queued on its current stream of the device; reports an error of that work.
const char* pb_device_wait(int64_t device);

// Process-wide settings for exact derivatives: math attention, no TF32, no graph rewriting of TorchScript.
const char* pb_exact_math();
// TF32 in convolutions and matrix products on CUDA devices, process-wide: on or off.
const char* pb_allow_tf32(int allow);
// Process-wide: only cuDNN convolutions that give the same bits each time, or any convolutions.
const char* pb_deterministic(int always);
// The state of these two settings; tf32 is 1 if either kind of product uses it.
const char* pb_settings(int* tf32, int* deterministic);

// One Adam step in place on `n` parameters (ATen _fused_adam_): params, grads, exp_avgs, exp_avg_sqs are arrays of n tensors of equal
// device; steps are n scalars f32, incremented by the call. lr is a scalar tensor on that device, f32 on CUDA; a captured step reads it
// again in each replay.
const char* pb_fused_adam(void** params, void** grads, void** exp_avgs, void** exp_avg_sqs, void** steps, int64_t n,
                          const void* lr, double beta1, double beta2, double weight_decay, double eps);

// Notes that `n` tensors were changed where libtorch could not see it, as by the replay of a captured step: their versions increase.
const char* pb_changed(void** tensors, int64_t n);

// Forgets the layouts that are kept for weights (weights.h).
void pb_forget_weights();

// A trace (trace.cpp): everything between begin and end, on all threads, and on CUDA devices too if `cuda` is nonzero, goes to the file as
// JSON in Chrome's trace format. One trace at a time.
const char* pb_trace_begin(int cuda);
const char* pb_trace_end(const char* path);
// CUDA graphs (graph.cpp); all calls for one graph come from one thread. Between enter and leave a separate stream of the thread is
// current; it is ordered after earlier work, and later work on the former stream is ordered after it. Within: begin, the work, end; call
// abandon in place of end, in any state, if something failed. replay: on the current stream, once end succeeded.
const char* pb_graph_new(void** result, int64_t device);
const char* pb_graph_enter(void* graph);
const char* pb_graph_leave(void* graph);
const char* pb_graph_begin(void* graph);
const char* pb_graph_end(void* graph);
const char* pb_graph_abandon(void* graph);
const char* pb_graph_replay(void* graph);
void pb_graph_free(void* graph);

// Copies beside the computation (lane.cpp). A lane is a separate stream on a CUDA device; any thread may use it, but only one at a time.
// Each copy gives an event, which the caller must free.
const char* pb_lane_new(void** result, int64_t device);
void pb_lane_free(void* lane);
// host [...] f32 or f64, on the CPU -> result [...] f64 (use_double != 0) or f32, on the device. Returns before the copy is
// done; pb_lane_receive makes the thread's current stream wait for it, and must come before the first use.
const char* pb_lane_upload(void** result, void** done, const void* lane, const void* host, int use_double);
const char* pb_lane_receive(const void* uploaded, const void* done);
// device_tensor, contiguous, after the work on the thread's current stream -> result, pinned on the host; its values are there once
// pb_event_wait has returned.
const char* pb_lane_download(void** result, void** done, const void* lane, const void* device_tensor);
const char* pb_event_wait(const void* done);
void pb_event_free(void* done);

// 1 if the CUDA half of libtorch is in this process.
int pb_has_cuda_build();

// TorchScript models (module.cpp). `path` is loaded onto the CPU (cuda_device < 0) or a CUDA device; its floating-point
// tensors become f64 (use_double != 0) or f32 and need no gradient. Free the result with pb_module_free.
// `tf32` receives the number of traced convolutions that allowed TF32 themselves; they no longer do.
const char* pb_module_load(void** result, int64_t* tf32, const char* path, int64_t cuda_device, int use_double);
void pb_module_free(void* module);
// Another handle on a module, for another thread; refused if a method of the module assigns to an attribute. Free it as well.
const char* pb_module_share(void** result, void* module);
// result: 1 if the module has the method.
const char* pb_module_has(int* result, void* module, const char* method);
// name: a floating-point tensor of the module that holds a NaN or an infinity, or nullptr; valid until the next call.
const char* pb_module_non_finite(const char** name, void* module);
// Calls a method of one tensor argument, without graph rewriting. It should return a tensor or a tuple of at most `capacity` tensors:
// `count` of them go to `results`. Otherwise count = 0 and `kind` names the type (valid until the next call).
const char* pb_module_call(void** results, int64_t capacity, int64_t* count, const char** kind, void* module,
                           const char* method, const void* input);

// Outputs of layers inside a module (taps.cpp). `pb_module_watch` makes the layer at a path of names ("encoder.0") keep what it returns;
// it has no effect on a method that has been called before. found: 0 for no such layer, 1 for one that returns no single tensor, 2 for
// one that is watched now. `pb_module_layers` gives the paths of all layers, one a line, valid until the next call.
const char* pb_module_watch(int* found, void* module, const char* name);
const char* pb_module_layers(const char** names, void* module);
// Between open and close, outputs of watched layers are kept for this thread. `result`: the number-th (from 0) that the layer at this
// path has returned, or nullptr.
void pb_taps_open();
void pb_taps_close();
const char* pb_taps_take(void** result, void* module, const char* name, int64_t number);

// The kernels (kernels.cpp). Inputs are contiguous and lie on one device; results lie there too, and on CUDA the calls
// return before the work is done, on libtorch's current stream. R >= 1; 0 <= top <= R.
// 1 if this build has the device's half; 1 if that device can run it (compute capability 8.0 or later).
int pb_kernels_compiled();
int pb_kernels_run_on(int64_t cuda_device);
// 1 if cusolverDnXsyevBatched can be called.
int pb_has_library_eigh();
// Symmetric eigenproblems. way 0: Jacobi rotations; 1: tridiagonal; 2: cusolverDnXsyevBatched (CUDA only).
// The most sweeps of way 0, which needs 5 to 9.
//   matrices [B, R, R]    f32 or f64, the lower triangle is read
//   values   [B, R]       descending
//   vectors  [B, top, R]  unit rows
//   outcome  [B] i32      0 solved; 1 an entry is not finite; 2 not converged: values and vectors are NaN
const char* pb_eigh(void** values, void** vectors, void** outcome, const void* matrices, int64_t top, int way,
                    int sweeps);
// The same for A A^T of factors [B, R, D], f32 or f64, R <= 64, in one launch and in double. way 0 or 1.
const char* pb_factor_eigh(void** values, void** vectors, void** outcome, const void* factor, int64_t top, int way);
// A A^T [B, R, R] f64, summed in double, of factors [B, R, D], f32 or f64.
const char* pb_gram(void** result, const void* factor);
// All scores [B, 10] f64 of spectra [B, R] f64, descending, >= 0, in the order of src/score/mod.rs.
const char* pb_scores(void** result, const void* values);
// One step of a projected gradient ascent, in place: x, best, x0, gradient [B, ...] of one kind, f32 or f64, all contiguous. x replaces
// best where its damage, value [B] f64, is above damage [B] f64, or is a number while damage is NaN; then x moves. stalled [B] bool becomes
// true where the gradient is 0 or not finite. ball 0: L2; 1: Linf; 2: L1. Pixels stay in [low, high], which may be infinite. lengths [2]
// f64, on the images' device: the length of the step, and the radius of the ball.
const char* pb_take_step(void* x, void* damage, void* best, const void* x0, const void* gradient, const void* value, void* stalled,
                       int ball, const void* lengths, double low, double high);

// Calls work(context, i) for i in 0..count on ATen's threads; operations in a call use only that call's thread. If the caller is itself
// inside such a call, all calls run on its thread, one after the other. `work` throws nothing.
const char* pb_parallel(int64_t count, void (*work)(void*, int64_t), void* context);

// Convolution of images x [B, I, H, W] with weight [O, I, kh, kw] and bias [O], as in libtorch, and differentiable. On a CPU, for f32 and a
// weight without gradient, by the fastest way for the sizes; the result may be channels last.
// rectifies != 0: and its ReLU.
const char* pb_conv2d(void** result, const void* x, const void* weight, const void* bias, int64_t stride, int64_t padding, int rectifies);

// x [B, I] times the transpose of weight [O, I], plus bias [O], as in libtorch, and differentiable. On a CPU, for a few rows of f32 and a
// weight without gradient, by a copy of the weight that is laid out for them. rectifies != 0: and its ReLU.
const char* pb_linear(void** result, const void* x, const void* weight, const void* bias, int rectifies);
}
