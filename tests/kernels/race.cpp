// The kernels' bodies on real threads, one for each of a block, for ThreadSanitizer to watch: a phase whose items touch each
// other's data, or a barrier that is missing, is a race here as it would be on the device. Results must be the host team's,
// bit by bit. With the argument `broken` a barrier is left out: the check must then fail.
#include "../../kernels/eigh.cuh"
#include "../../kernels/scores.cuh"
#include "../../kernels/step.cuh"

#include <barrier>
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include <vector>

namespace {

bool leave_out_barriers = false;

// What the threads of a block or of a warp share.
struct Ground {
  explicit Ground(int threads) : gate(threads) {}
  std::barrier<> gate;
  alignas(16) char slots[2][1024][16];
};

// One thread of a block (with its warp's ground) or of a warp (without).
class Thread : public pb::Phases<Thread> {
 public:
  Thread(int index, int threads, Ground* ground, Ground* warp) : index_(index), threads_(threads), ground_(ground), warp_(warp) {}
  int threads() const { return threads_; }
  void barrier() {
    if (!leave_out_barriers) ground_->gate.arrive_and_wait();
  }
  template <class F> void open(int n, F f) {
    for (int i = index_; i < n; i += threads_) f(i);
  }
  template <class F> void each(int n, F f) {
    open(n, f);
    barrier();
  }
  template <class T, class F, class Op> T reduce(int n, T zero, F f, Op op) {
    T value = zero;
    for (int i = index_; i < n; i += threads_) value = op(value, f(i));
    auto* slots = ground_->slots[turn_];
    turn_ ^= 1;
    std::memcpy(slots[index_], &value, sizeof value);
    ground_->gate.arrive_and_wait();
    T total = zero, lane[32];
    for (int warp = 0; warp < threads_; warp += 32) {
      for (int l = 0; l < 32; ++l) std::memcpy(&lane[l], slots[warp + l], sizeof value);
      for (int offset = 16; offset > 0; offset /= 2) {
        for (int l = 0; l < offset; ++l) lane[l] = op(lane[l], lane[l + offset]);
      }
      total = op(total, lane[0]);
    }
    return total;
  }
  template <class F> void warps(int n, F f) {
    if (warp_ == nullptr) {
      for (int i = 0; i < n; ++i) f(*this, i);
      return;
    }
    // Of the warp's own slots each pass takes the next, as its reductions do.
    Thread warp(index_ % 32, 32, warp_, nullptr);
    warp.turn_ = warp_turn_;
    for (int i = index_ / 32; i < n; i += threads_ / 32) f(warp, i);
    warp_turn_ = warp.turn_;
    barrier();
  }

 private:
  int index_, threads_;
  Ground *ground_, *warp_;
  int turn_ = 0, warp_turn_ = 0;
};

// Runs body(team) on `threads` threads.
template <class Body> void in_block(int threads, Body body) {
  Ground ground(threads);
  std::vector<std::unique_ptr<Ground>> warps;
  for (int w = 0; w < threads / 32; ++w) warps.push_back(std::make_unique<Ground>(32));
  std::vector<std::thread> running;
  for (int t = 0; t < threads; ++t) {
    running.emplace_back([&, t] {
      Thread team(t, threads, &ground, threads == 32 ? nullptr : warps[t / 32].get());
      body(team);
    });
  }
  for (auto& thread : running) thread.join();
}

std::mt19937_64 generator(7);

template <class T> std::vector<T> noise(int n) {
  std::normal_distribution<double> normal;
  std::vector<T> v(n);
  for (auto& x : v) x = static_cast<T>(normal(generator));
  return v;
}

template <class T> void same(const char* what, const std::vector<T>& a, const std::vector<T>& b) {
  if (std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0) return;
  std::printf("%s: threads and host differ\n", what);
  std::exit(1);
}

void eigh(pb::Way way, int n, int k, int d, int threads) {
  const auto factor = noise<float>(n * d);
  const auto run = [&](auto& team, std::vector<double>& fast, std::vector<double>& slow, std::vector<double>& out, int* outcome) {
    pb::gram_triangle(team, factor.data(), n, d, fast.data(), fast.data() + pb::triangle_size(n));
    pb::solve_triangle(team, way, pb::jacobi_sweeps, n, k, fast.data(), slow.data(), out.data(), out.data() + n, outcome);
  };
  const auto panels = pb::triangle_size(n) + n * pb::panel_pitch;
  const auto room = std::max<int64_t>(pb::fast_room(way, n, k, threads), panels);
  std::vector<double> fast[2], slow[2], out[2];
  int outcome[2] = {-1, -1};
  for (int i = 0; i < 2; ++i) fast[i].resize(room), slow[i].resize(pb::slow_room(way, n, k)), out[i].resize(n + k * n);
  in_block(threads, [&](Thread& team) { run(team, fast[0], slow[0], out[0], &outcome[0]); });
  pb::Host host(threads);
  run(host, fast[1], slow[1], out[1], &outcome[1]);
  same("eigh", out[0], out[1]);
  if (outcome[0] != pb::solved || outcome[1] != pb::solved) std::exit(1);
}

void gram(int n, int d) {
  const auto factor = noise<float>(n * d);
  std::vector<double> room[2], out[2];
  pb::Host host(64);
  for (int i = 0; i < 2; ++i) room[i].resize(pb::gram_room()), out[i].resize(n * n);
  for (int ti = 0; ti <= (n - 1) / pb::gram_tile; ++ti) {
    for (int tj = 0; tj <= ti; ++tj) {
      in_block(64, [&](Thread& team) { pb::gram_block(team, factor.data(), n, d, ti, tj, out[0].data(), room[0].data()); });
      pb::gram_block(host, factor.data(), n, d, ti, tj, out[1].data(), room[1].data());
    }
  }
  same("gram", out[0], out[1]);
}

void scores(int n) {
  std::vector<double> values(n), out[2];
  for (int i = 0; i < n; ++i) values[i] = 1.0 / (1 + i);
  for (auto& o : out) o.resize(pb::score_count);
  pb::Host host(32);
  in_block(32, [&](Thread& team) { pb::score_spectrum(team, n, values.data(), out[0].data()); });
  pb::score_spectrum(host, n, values.data(), out[1].data());
  same("scores", out[0], out[1]);
}

void ascent(pb::Ball ball, int d) {
  const auto x0 = noise<float>(d), x = noise<float>(d), g = noise<float>(d);
  const pb::Step<float> move{ball, -2.0f, 2.0f, 1.5f, 0.5f};
  std::vector<float> out[2];
  for (auto& o : out) o.resize(d);
  bool stalled = false;
  pb::Host host(64);
  in_block(64, [&](Thread& team) { pb::step_within(team, move, d, x0.data(), x.data(), g.data(), out[0].data(), &stalled); });
  pb::step_within(host, move, d, x0.data(), x.data(), g.data(), out[1].data(), &stalled);
  same("ascent", out[0], out[1]);

  // In place, the best kept.
  const double value = 2.0, lengths[2] = {0.5, 1.5};
  double damage[2] = {1.0, 1.0};
  std::vector<float> moved[2], best[2];
  for (auto& m : moved) m = x;
  for (auto& b : best) b.resize(d);
  const auto job = [&](int i) {
    return pb::StepJob<float>{1, d, move, lengths, &value, x0.data(), g.data(), moved[i].data(), best[i].data(), &damage[i],
                             &stalled};
  };
  in_block(64, [&](Thread& team) { pb::take_step(team, job(0), 0); });
  pb::take_step(host, job(1), 0);
  same("ascent in place", moved[0], moved[1]);
  same("the best of it", best[0], best[1]);
  if (moved[1] != out[1] || best[1] != x || damage[0] != value || damage[1] != value) std::exit(1);
}

}  // namespace

int main(int count, char** arguments) {
  leave_out_barriers = count > 1 && std::strcmp(arguments[1], "broken") == 0;
  for (int n : {1, 2, 5, 8}) eigh(pb::Way::Jacobi, n, 1, 40, 32);
  for (int n : {7, 12}) eigh(pb::Way::Jacobi, n, n, 40, 64);
  for (int n : {1, 2, 5, 9}) eigh(pb::Way::Tridiagonal, n, 1, 40, 32);
  for (int n : {7, 20}) eigh(pb::Way::Tridiagonal, n, n, 40, 64);
  gram(70, 40);
  scores(40);
  for (auto ball : {pb::Ball::L2, pb::Ball::Linf, pb::Ball::L1, pb::Ball::Sphere}) ascent(ball, 150);
  std::puts("no race");
  return 0;
}
