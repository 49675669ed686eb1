// How work on the host is divided among threads.
#pragma once

#include <algorithm>
#include <cstdint>

namespace pb {

// How many rows, of so many operations each, are worth a thread. A parallel region costs microseconds, and where threads share a core
// with others, the time slices that its threads wait for each other.
inline int64_t rows_worth_a_thread(int64_t operations) {
  constexpr int64_t grain = 32768;  // as ATen's own loops
  return std::max<int64_t>(1, grain / std::max<int64_t>(1, operations));
}

// Operations of an eigensolver, about: some sweeps over a matrix of this order.
inline int64_t eigen_operations(int64_t n) { return 10 * n * n * n; }

}  // namespace pb
