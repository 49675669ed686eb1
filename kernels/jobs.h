// The job of a kernel, with its shapes; the same for the host's instance (<op>.cpp) and the device's launcher (<op>.cu). Pointers are host
// or device memory accordingly, contiguous. Launchers take the stream last, return before the work is done, and throw nothing: they return
// CUDA's error as text, or nullptr.
#pragma once
#include <cstdint>

struct CUstream_st;

namespace pb {

using Stream = CUstream_st*;

enum class Way : int { Jacobi = 0, Tridiagonal = 1 };
// Jacobi converges quadratically, in 5 to 9 sweeps; if this many are needed, something is wrong.
constexpr int jacobi_sweeps = 40;

// Sphere: the surface of the L2 ball, as far as the box lets a step reach it.
enum class Ball : int { L2 = 0, Linf = 1, L1 = 2, Sphere = 3 };

// Eigenvalues, and eigenvectors to the k leading ones, of symmetric matrices. T: float, double.
template <class T> struct Eigh {
  Way way;
  int sweeps;  // the most sweeps of Jacobi
  int64_t batch;
  int n, k;
  const T* gram;   // [batch, n, n], only the lower triangle is read
  T* values;       // [batch, n] descending
  T* vectors;      // [batch, k, n] unit rows
  int* outcome;    // [batch] 0: solved; 1: an entry is not finite; 2: not converged (values and vectors are NaN)
  T* room;         // [device_room], device only
};

// The same for the Gram matrices of factors; the matrices stay on the chip. F: float, double. n <= 64.
template <class F> struct FactorEigh {
  Way way;
  int64_t batch;
  int n, k, d;
  const F* factor;  // [batch, n, d]
  double* values;   // as in Eigh
  double* vectors;
  int* outcome;
  double* room;
};

// Gram matrices. F: float, double.
template <class F> struct Gram {
  int64_t batch;
  int n, d;
  const F* factor;  // [batch, n, d]
  double* gram;     // [batch, n, n]
};

// All ten scores, in the order of src/score/mod.rs.
struct Scores {
  int64_t batch;
  int n;
  const double* values;  // [batch, n] descending, >= 0
  double* scores;        // [batch, 10]
};

// The settings that all samples of a step share.
template <class T> struct Step {
  Ball ball;
  T low, high;  // the box; infinite if there is none
  T radius, reach;  // of the ball; length of the step
};

// One step of a projected gradient ascent. T: float, double.
template <class T> struct StepJob {
  int64_t batch;
  int d;
  Step<T> move;             // except its two lengths,
  const double* lengths;    // [2] reach and radius, which may have changed when a captured step is replayed
  const double* value;      // [batch] damage of x
  const T *x0, *gradient;   // [batch, d]
  T* x;                     // [batch, d] the iterate, in place
  T* best;                  // [batch, d] becomes x before the step if its damage is larger,
  double* damage;           // [batch] changes with best; NaN while there is no best
  bool* stalled;            // [batch], set if the gradient is 0 everywhere or not finite somewhere; otherwise unchanged
};

template <class Job> void run_on_host(const Job& job);
template <class Job> const char* launch(const Job& job, Stream stream);

// The size of the global memory that a job needs on the current device, in numbers.
template <class Job> int64_t device_room(const Job& job);

}  // namespace pb
