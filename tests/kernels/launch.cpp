// The launchers of the kernels and the blocks that they start, carried out on the host (device/cuda_runtime.h), against the
// host's instances: results must agree bit by bit, in whatever order the threads of a block come, in shared memory and out of it.
// With the argument `broken` barriers do nothing: the check must then fail.
#include <cuda_runtime.h>

#include "../../kernels/jobs.h"

#include <random>
#include <string>

namespace {

std::mt19937_64 generator(7);

template <class T> std::vector<T> noise(int64_t n) {
  std::normal_distribution<double> normal;
  std::vector<T> v(static_cast<size_t>(n));
  for (auto& x : v) x = static_cast<T>(normal(generator));
  return v;
}

[[noreturn]] void fail(const std::string& what) {
  std::puts(what.c_str());
  std::exit(1);
}

template <class Job> concept HasRoom = requires(Job job) { job.room; };

// Starts the job as kernels.cpp does, in memory of exactly the size that it names.
template <class Job> void on_device(Job job, const std::string& what) {
  std::vector<double> room;
  if constexpr (HasRoom<Job>) {
    const auto bytes = static_cast<size_t>(pb::device_room(job)) * sizeof(*job.room);
    room.resize((bytes + sizeof(double) - 1) / sizeof(double));
    job.room = reinterpret_cast<decltype(job.room)>(room.data());
  }
  // As in a process of its own, in which somebody left an error behind.
  emulated::asked.clear();
  emulated::last_error = cudaErrorInvalidValue;
  if (const char* error = pb::launch(job, nullptr)) fail(what + ": " + error);
}

template <class T> void same(const std::string& what, const std::vector<T>& a, const std::vector<T>& b) {
  if (a.empty() && b.empty()) return;
  if (a.size() != b.size() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) != 0) fail(what + ": device and host differ");
}

// Calls run(i) for the host's instance (0) and for the device's, threads forwards (1) and backwards (2).
template <class Run> void thrice(Run run) {
  for (int i = 0; i < 3; ++i) {
    emulated::backwards = i == 2;
    run(i);
  }
}

// Symmetric matrices: one with a NaN, one of zeros, and as many random ones.
template <class T> std::vector<T> matrices(int64_t batch, int n) {
  auto a = noise<T>(batch * n * n);
  for (int64_t b = 0; b < batch; ++b) {
    for (int i = 0; i < n; ++i) {
      for (int j = 0; j < i; ++j) a[b * n * n + j * n + i] = a[b * n * n + i * n + j];
    }
  }
  if (batch > 2) {
    a[n * n] = NAN;
    for (int i = 0; i < n * n; ++i) a[2 * n * n + i] = 0;
  }
  return a;
}

template <class T> void eigh(pb::Way way, int64_t batch, int n, int k) {
  const auto what = "eigh " + std::to_string(static_cast<int>(way)) + ", order " + std::to_string(n);
  const auto gram = matrices<T>(batch, n);
  std::vector<T> values[3], vectors[3];
  std::vector<int> outcome[3];
  thrice([&](int i) {
    values[i].resize(batch * n), vectors[i].resize(batch * k * n), outcome[i].resize(batch);
    const pb::Eigh<T> job{way, pb::jacobi_sweeps, batch, n, k, gram.data(), values[i].data(), vectors[i].data(),
                          outcome[i].data(), nullptr};
    if (i == 0) return pb::run_on_host(job);
    on_device(job, what);
    same(what, values[0], values[i]), same(what, vectors[0], vectors[i]), same(what, outcome[0], outcome[i]);
  });
  if (outcome[0][0] != 0 || (batch > 2 && (outcome[0][1] != 1 || outcome[0][2] != 0))) fail(what + ": outcome");
}

// A launch beside another: nothing is reset before it.
void eigh_meanwhile(int n) {
  const auto gram = matrices<double>(1, n);
  std::vector<double> values(n), room(n);
  int outcome = -1;
  pb::Eigh<double> job{pb::Way::Tridiagonal, pb::jacobi_sweeps, 1, n, 0, gram.data(), values.data(), nullptr, &outcome, nullptr};
  room.resize(static_cast<size_t>(pb::device_room(job)));
  job.room = room.data();
  if (const char* error = pb::launch(job, nullptr)) fail(std::string("a launch between: ") + error);
  if (outcome != 0) fail("a launch between: outcome");
}

template <class F> void factors(pb::Way way, int64_t batch, int n, int d, int k) {
  const auto what = "factors " + std::to_string(static_cast<int>(way)) + ", order " + std::to_string(n);
  const auto factor = noise<F>(batch * n * d);
  std::vector<double> values[3], vectors[3];
  std::vector<int> outcome[3];
  thrice([&](int i) {
    values[i].resize(batch * n), vectors[i].resize(batch * k * n), outcome[i].resize(batch);
    const pb::FactorEigh<F> job{way, batch, n, k, d, factor.data(), values[i].data(), vectors[i].data(), outcome[i].data(),
                                nullptr};
    if (i == 0) return pb::run_on_host(job);
    on_device(job, what);
    same(what, values[0], values[i]), same(what, vectors[0], vectors[i]), same(what, outcome[0], outcome[i]);
  });
  if (outcome[0][0] != 0) fail(what + ": outcome");
}

template <class F> void gram(int64_t batch, int n, int d) {
  const auto what = "gram, order " + std::to_string(n);
  const auto factor = noise<F>(batch * n * d);
  std::vector<double> out[3];
  thrice([&](int i) {
    out[i].resize(batch * n * n);
    const pb::Gram<F> job{batch, n, d, factor.data(), out[i].data()};
    if (i == 0) return pb::run_on_host(job);
    on_device(job, what);
    same(what, out[0], out[i]);
  });
}

void scores(int64_t batch, int n) {
  std::vector<double> values(batch * n), out[3];
  for (int64_t i = 0; i < batch * n; ++i) values[i] = 1.0 / static_cast<double>(1 + i % n);
  thrice([&](int i) {
    out[i].resize(batch * 10);
    const pb::Scores job{batch, n, values.data(), out[i].data()};
    if (i == 0) return pb::run_on_host(job);
    on_device(job, "scores");
    same("scores", out[0], out[i]);
  });
}

template <class T> void ascent(pb::Ball ball, int64_t batch, int d) {
  const auto x0 = noise<T>(batch * d), x = noise<T>(batch * d), g = noise<T>(batch * d);
  const auto value = noise<double>(batch), before = noise<double>(batch);
  const double lengths[2] = {0.5, 1.5};
  std::vector<T> moved[3], best[3];
  std::vector<double> damage[3];
  thrice([&](int i) {
    moved[i] = x, best[i] = x0, damage[i] = before;
    std::unique_ptr<bool[]> stalled(new bool[batch]());
    const pb::StepJob<T> job{batch, d, {ball, T(-2), T(2), T(0), T(0)}, lengths, value.data(), x0.data(), g.data(),
                            moved[i].data(), best[i].data(), damage[i].data(), stalled.get()};
    if (i == 0) return pb::run_on_host(job);
    on_device(job, "ascent");
    same("ascent", moved[0], moved[i]), same("ascent", best[0], best[i]), same("ascent", damage[0], damage[i]);
  });
}

}  // namespace

int main(int count, char** arguments) {
  emulated::without_barriers = count > 1 && std::strcmp(arguments[1], "broken") == 0;
  using pb::Way;
  // One warp a matrix, the last block not full; one block a matrix.
  for (int n : {1, 2, 7, 32}) eigh<double>(Way::Jacobi, 5, n, n < 3 ? n : 3);
  eigh<float>(Way::Jacobi, 6, 31, 2), eigh<double>(Way::Jacobi, 3, 33, 2), eigh<float>(Way::Jacobi, 1, 40, 0);
  for (int n : {1, 2, 7, 33, 65}) eigh<double>(Way::Tridiagonal, 3, n, n < 3 ? n : 3);
  eigh<float>(Way::Tridiagonal, 3, 32, 0), eigh<float>(Way::Tridiagonal, 1, 70, 5);
  // With their Gram matrices, also of more rows than columns.
  for (auto way : {Way::Jacobi, Way::Tridiagonal}) {
    factors<float>(way, 2, 1, 70, 1), factors<double>(way, 2, 6, 3, 2), factors<float>(way, 2, 32, 50, 3);
    factors<double>(way, 1, 33, 50, 0), factors<float>(way, 1, 64, 20, 2);
  }
  // Orders whose dynamic shared memory is just below 48 KB, which static memory exceeds.
  for (int n : {152, 153}) eigh<float>(Way::Jacobi, 1, n, 0);
  eigh<float>(Way::Jacobi, 1, 89, 2), eigh<double>(Way::Jacobi, 1, 107, 0);
  for (int n : {149, 150}) eigh<float>(Way::Tridiagonal, 1, n, 1);
  eigh<double>(Way::Tridiagonal, 1, 103, 1);
  // Somebody launches a smaller job between another's asking for shared memory and its launch.
  emulated::after_asking = [] { eigh_meanwhile(110); };
  eigh<double>(Way::Tridiagonal, 1, 130, 1);
  // Too little shared memory: the same in global memory.
  emulated::shared_limit = 3000;
  for (auto way : {Way::Jacobi, Way::Tridiagonal}) eigh<double>(way, 3, 34, 2), eigh<float>(way, 1, 40, 1);
  emulated::shared_limit = 163 * 1024;
  for (int n : {1, 40, 64, 65, 130}) gram<float>(2, n, 70), gram<double>(1, n, 33);
  scores(11, 1), scores(11, 40), scores(3, 100);
  for (auto ball : {pb::Ball::L2, pb::Ball::Linf, pb::Ball::L1}) {
    for (int d : {1, 255, 784}) ascent<float>(ball, 3, d), ascent<double>(ball, 2, d);
  }
  std::puts("device and host agree");
  return 0;
}
