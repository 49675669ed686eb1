// The Gram matrix A A^T of each factor A [R, D], summed in double. The product of two singles is exact in double, so an f32 factor loses no
// accuracy here.
//
// A block makes one tile of 64 x 64 entries (or the whole lower triangle if R <= 64) from panels of 32 columns, which are converted to
// double once, when they are copied into fast memory, and then used up to 64 times. In a phase, a thread computes a patch of side x side
// entries whose rows are far apart: neighbouring threads then read neighbouring rows of the panel, which lie in different banks
// (tests/kernels/banks.cpp counts them). Sums run over the columns in order, panel by panel, so that they are the same for any number of
// threads.
#pragma once
#include "triangle.cuh"

namespace pb {

constexpr int panel = 32;             // columns
constexpr int panel_pitch = panel + 1;  // one more, so that a column of the panel lies in all banks
constexpr int gram_tile = 64;

// The number of patches among which `rows` rows are shared.
PB_SIZE int patches_of(int rows, int side) { return (rows + side - 1) / side; }

// Row `s` of patch `patch` of `patches`; it may lie beyond the last row.
PB_SIZE int patch_row(int patch, int s, int patches) { return patch + s * patches; }

// The two patches of rows that make `item` of a tile on the diagonal, first >= second: every unordered pair once, as in jacobi.cuh.
PB_BODY void patch_pair(int item, int patches, int& first, int& second) {
  const int apart = item / patches, one = item - apart * patches;
  const int two = one + apart < patches ? one + apart : one + apart - patches;
  first = larger(one, two), second = smaller(one, two);
}

// Adds to at(i, j), i < rows, j < columns, the products of rows first_i + i and first_j + j of `factor` [., d]. On a tile of
// the diagonal only i >= j is touched. `left`, `right`: room for rows (columns) x panel_pitch numbers each; `right` is not
// used on the diagonal.
template <int side, class F, class At, class Team>
PB_BODY void gram_panels(Team& team, const F* factor, int d, int first_i, int rows, int first_j, int columns,
                         double* left, double* right, At at) {
  const bool diagonal = first_i == first_j;
  const auto fill = [&](double* to, int first, int count, int c0) {
    team.open(count * panel, [&](int item) {
      const int row = item / panel, c = item % panel;
      to[row * panel_pitch + c] = c0 + c < d ? static_cast<double>(factor[int64_t{first + row} * d + c0 + c]) : 0.0;
    });
  };
  const double* other = diagonal ? left : right;
  const int across = patches_of(columns, side), down = patches_of(rows, side);
  const int patches = diagonal ? down * (down + 1) / 2 : down * across;
  for (int c0 = 0; c0 < d; c0 += panel) {
    fill(left, first_i, rows, c0);
    if (!diagonal) fill(right, first_j, columns, c0);
    team.barrier();
    team.each(patches, [&](int item) {
      int pi, pj;
      if (diagonal) {
        patch_pair(item, down, pi, pj);
      } else {
        pi = item / across, pj = item - pi * across;
      }
      double sum[side][side] = {};
      for (int c = 0; c < panel; ++c) {
        double x[side], y[side];
        // A row beyond the last is read as the last, and is not stored.
        for (int s = 0; s < side; ++s) x[s] = left[smaller(patch_row(pi, s, down), rows - 1) * panel_pitch + c];
        for (int s = 0; s < side; ++s) y[s] = other[smaller(patch_row(pj, s, across), columns - 1) * panel_pitch + c];
        for (int s = 0; s < side; ++s) {
          for (int r = 0; r < side; ++r) sum[s][r] += x[s] * y[r];
        }
      }
      for (int s = 0; s < side; ++s) {
        for (int r = 0; r < side; ++r) {
          const int i = patch_row(pi, s, down), j = patch_row(pj, r, across);
          // A patch with itself contains each entry twice.
          if (i >= rows || j >= columns || (diagonal && pi == pj && r > s)) continue;
          double& entry = diagonal ? at(larger(i, j), smaller(i, j)) : at(i, j);
          entry = c0 == 0 ? sum[s][r] : entry + sum[s][r];
        }
      }
    });
  }
}

// Patches of 2 x 2 keep more threads busy, 4 x 4 read less; with few rows only 2 x 2 is possible.
PB_SIZE int patch_side(int rows) { return rows < 48 ? 2 : 4; }

// The packed lower triangle `a` of the Gram matrix of `factor` [n, d], n <= gram_tile; `room`: n x panel_pitch.
template <class F, class Team> PB_BODY void gram_triangle(Team& team, const F* factor, int n, int d, double* a, double* room) {
  const auto at = [&](int i, int j) -> double& { return a[packed(i, j)]; };
  if (patch_side(n) == 2) {
    gram_panels<2>(team, factor, d, 0, n, 0, n, room, room, at);
  } else {
    gram_panels<4>(team, factor, d, 0, n, 0, n, room, room, at);
  }
}

// Tile (ti, tj), ti >= tj, of `gram` [n, n] and its mirror image. `room`: a tile of sums and two panels.
PB_SIZE int gram_room() { return gram_tile * gram_tile + 2 * gram_tile * panel_pitch; }

template <class F, class Team>
PB_BODY void gram_block(Team& team, const F* factor, int n, int d, int ti, int tj, double* gram, double* room) {
  const int i0 = ti * gram_tile, j0 = tj * gram_tile;
  const int rows = smaller(gram_tile, n - i0), columns = smaller(gram_tile, n - j0);
  double* left = room + gram_tile * gram_tile;
  gram_panels<4>(team, factor, d, i0, rows, j0, columns, left, left + gram_tile * panel_pitch,
                 [&](int i, int j) -> double& { return room[i * gram_tile + j]; });
  team.each(rows * columns, [&](int item) {
    const int i = item / columns, j = item - i * columns;
    if (i0 + i < j0 + j) return;
    gram[int64_t{i0 + i} * n + j0 + j] = gram[int64_t{j0 + j} * n + i0 + i] = room[i * gram_tile + j];
  });
}

}  // namespace pb
