// The search of reference_rounding.cpp for several rows at once, one row per lane.
//
// Lanes go through all candidates together; a lane whose search would have ended earlier takes no
// better candidate any more, which gives the same choice.
#pragma once

#include "kernels/lanes_rounding_block.h"

namespace lapidary::lanes {

template <class V>
struct Choice {
  typename V::Floats scale, error;
  typename V::Floats multipliers[kMostGroups];
};

// --- one scale per block ---

template <class V, class Levels>
static void try_step(const RowBlock<V>& b, typename V::Floats step, typename V::Mask among,
                     const Levels& levels, Choice<V>* best) {
  const auto scale = V::round_to_f16(step);
  const auto error = error_at<V>(b.x, b.n, scale, levels);
  const auto better = V::both(V::both(among, is_f16_scale<V>(scale)), V::less(error, best->error));
  best->scale = V::select(better, scale, best->scale);
  best->error = V::select(better, error, best->error);
}

// Lanes among `lanes` whose block is a lattice of this step, to the last bit that squares keep.
template <class V, class Levels>
static typename V::Mask exact_at(const RowBlock<V>& b, typename V::Floats step,
                                 typename V::Mask lanes, const Levels& levels) {
  for (int k = 0; k < b.n && V::any(lanes); k += 8) {
    const int n = b.n - k < 8 ? b.n - k : 8;
    const auto error = error_at<V>(b.x + k * V::kLanes, n, step, levels);
    lanes = V::both(lanes, V::equal(error, V::set(0.0f)));
  }
  return lanes;
}

template <class V, class Levels>
static void try_lattices(const RowBlock<V>& b, typename V::Floats extreme, int outer,
                         const Levels& levels, Choice<V>* best) {
  auto open = V::all();  // lanes without a lattice so far
  for (int level = outer; level >= 1; --level) {
    const auto l = V::set(static_cast<float>(level));
    const auto step = V::round_to_f16(V::divide(extreme, l));  // of sign +; - has the negative
    const auto possible = V::both(V::both(open, V::not_equal(step, V::set(0.0f))),
                                  V::equal(V::multiply(step, l), extreme));
    if (!V::any(possible)) continue;
    const typename V::Floats signed_steps[] = {V::negate(step), step};
    for (const auto& signed_step : signed_steps) {
      const auto exact = exact_at<V>(b, signed_step, V::both(possible, open), levels);
      best->scale = V::select(exact, signed_step, best->scale);
      best->error = V::select(exact, V::set(0.0f), best->error);
      open = V::without(open, exact);
    }
  }
}

template <class V, class Levels>
static void search_one_level(const RowBlock<V>& b, float low, float high, bool lattices,
                             const Levels& levels, Choice<V>* best) {
  best->scale = V::set(0.0f);
  best->error = error_at<V>(b.x, b.n, V::set(0.0f), levels);
  const auto extreme = extreme_of<V>(b.x, b.n);
  if (lattices) try_lattices<V>(b, extreme, static_cast<int>(-low), levels, best);
  if (!V::any(V::not_equal(best->error, V::set(0.0f)))) return;
  const auto to_low = V::divide(extreme, V::set(low)), to_high = V::divide(extreme, V::set(high));
  for (const float clip : kClips) {
    try_step<V>(b, V::multiply(V::set(clip), to_low), V::all(), levels, best);
    if (low != -high) try_step<V>(b, V::multiply(V::set(clip), to_high), V::all(), levels, best);
  }
  auto open = V::not_equal(best->error, V::set(0.0f));
  for (int i = 0; i < kRefits && V::any(open); ++i) {
    Sums<V> xt, tt;
    // A scale of zero has no levels to fit.
    const auto factor = V::select(V::equal(best->scale, V::set(0.0f)), V::set(0.0f), V::set(1.0f));
    add_fit<V>(b.x, b.n, best->scale, factor, levels, &xt, &tt);
    const auto before = best->error, divisor = tt.fold();
    open = V::both(open, V::not_equal(divisor, V::set(0.0f)));
    try_step<V>(b, V::divide(xt.fold(), divisor), open, levels, best);
    open = V::both(open, V::not_equal(best->error, before));
  }
}

// --- a scale per block times a small integer per group ---

template <class V>
static const float* group_of(const RowBlock<V>& b, int g) {
  return b.x + g * kGroupK * V::kLanes;
}
template <class V>
static int length_of(const RowBlock<V>& b, int g) {
  return b.n - g * kGroupK < kGroupK ? b.n - g * kGroupK : kGroupK;
}

template <class V, class Levels>
static typename V::Floats free_step(const float* x, int n, float low, const Levels& levels) {
  const auto whole = V::divide(extreme_of<V>(x, n), V::set(low));
  auto best_step = V::set(0.0f), best_error = V::set(__builtin_inff());
  for (const float clip : kClips) {
    const auto step = V::multiply(V::set(clip), whole);
    const auto error = error_at<V>(x, n, step, levels);
    const auto better = V::both(V::not_equal(step, V::set(0.0f)), V::less(error, best_error));
    best_step = V::select(better, step, best_step);
    best_error = V::select(better, error, best_error);
  }
  return best_step;
}

template <class V, class Levels>
static void try_multiplier(const float* x, int n, typename V::Floats scale,
                           typename V::Floats multiplier, typename V::Mask among,
                           const Levels& levels, typename V::Floats* best,
                           typename V::Floats* best_error) {
  const auto error = error_at<V>(x, n, V::multiply(scale, multiplier), levels);
  const auto better = V::both(among, V::less(error, *best_error));
  *best = V::select(better, multiplier, *best);
  *best_error = V::select(better, error, *best_error);
}

template <class V>
static void take_if_better(const Choice<V>& trial, typename V::Mask among, int n_groups,
                           Choice<V>* best) {
  const auto better = V::both(among, V::less(trial.error, best->error));
  best->scale = V::select(better, trial.scale, best->scale);
  best->error = V::select(better, trial.error, best->error);
  for (int g = 0; g < n_groups; ++g)
    best->multipliers[g] = V::select(better, trial.multipliers[g], best->multipliers[g]);
}

// Every group takes the better of the two multipliers around its free step.
template <class V, class Levels>
static void try_scale(const RowBlock<V>& b, const typename V::Floats* steps, int most,
                      const Levels& levels, typename V::Floats scale, Choice<V>* best) {
  const auto zero = V::set(0.0f), largest = V::set(static_cast<float>(most));
  Choice<V> trial;
  trial.scale = scale;
  trial.error = zero;
  for (int g = 0; g < b.n_groups; ++g) {
    const auto sign = V::select(V::less(steps[g], zero), V::set(-1.0f), V::set(1.0f));
    const auto below = V::min(V::truncate(V::divide(V::abs(steps[g]), scale)), largest);
    const auto above = V::add(below, V::set(1.0f));
    auto error = V::set(__builtin_inff());
    trial.multipliers[g] = zero;
    try_multiplier<V>(group_of(b, g), length_of(b, g), scale, V::multiply(sign, below), V::all(),
                      levels, &trial.multipliers[g], &error);
    try_multiplier<V>(group_of(b, g), length_of(b, g), scale, V::multiply(sign, above),
                      V::less(below, largest), levels, &trial.multipliers[g], &error);
    trial.error = V::add(trial.error, error);
  }
  take_if_better<V>(trial, is_f16_scale<V>(scale), b.n_groups, best);
}

// Every group takes the best multiplier of either sign next to the one it has.
template <class V, class Levels>
static void try_refit(const RowBlock<V>& b, int most, const Levels& levels,
                      typename V::Floats scale, typename V::Mask among, Choice<V>* best) {
  const auto zero = V::set(0.0f), largest = V::set(static_cast<float>(most));
  Choice<V> trial;
  trial.scale = scale;
  trial.error = zero;
  for (int g = 0; g < b.n_groups; ++g) {
    const auto m = V::abs(best->multipliers[g]);
    auto error = V::set(__builtin_inff());
    trial.multipliers[g] = zero;
    for (int distance = -1; distance <= 1; ++distance) {
      const auto near = V::add(m, V::set(static_cast<float>(distance)));
      const auto allowed = V::both(V::not_less(near, zero), V::not_greater(near, largest));
      const typename V::Floats signs[] = {near, V::negate(near)};
      for (const auto& signed_near : signs)
        try_multiplier<V>(group_of(b, g), length_of(b, g), scale, signed_near, allowed, levels,
                          &trial.multipliers[g], &error);
    }
    trial.error = V::add(trial.error, error);
  }
  take_if_better<V>(trial, among, b.n_groups, best);
}

template <class V, class Levels>
static void search_two_level(const RowBlock<V>& b, float low, int most, const Levels& levels,
                             Choice<V>* best) {
  const auto zero = V::set(0.0f), largest_multiplier = V::set(static_cast<float>(most));
  typename V::Floats steps[kMostGroups];
  auto largest = zero;
  for (int g = 0; g < b.n_groups; ++g) {
    steps[g] = free_step<V>(group_of(b, g), length_of(b, g), low, levels);
    largest = V::max(largest, V::abs(steps[g]));
  }
  best->scale = zero;
  best->error = error_at<V>(b.x, b.n, zero, levels);
  for (int g = 0; g < b.n_groups; ++g) best->multipliers[g] = zero;
  for (const float ratio : kScaleRatios)
    try_scale<V>(
        b, steps, most, levels,
        V::round_to_f16(V::divide(V::multiply(largest, V::set(ratio)), largest_multiplier)), best);
  auto open = V::all();
  for (int i = 0; i < kRefits; ++i) {
    Sums<V> xt, tt;
    for (int g = 0; g < b.n_groups; ++g)
      add_fit<V>(group_of(b, g), length_of(b, g), V::multiply(best->scale, best->multipliers[g]),
                 best->multipliers[g], levels, &xt, &tt);
    const auto divisor = tt.fold(), before = best->error;
    const auto scale = V::round_to_f16(V::divide(xt.fold(), divisor));
    open = V::both(V::both(open, V::not_equal(divisor, zero)),
                   V::both(V::greater(scale, zero), is_f16_scale<V>(scale)));
    if (!V::any(open)) return;
    try_refit<V>(b, most, levels, scale, open, best);
    open = V::both(open, V::less(best->error, before));
    if (!V::any(open)) return;
  }
}

// --- integers out ---

template <class V, class Levels>
static void emit(const RowBlock<V>& b, const Choice<V>& choice, bool has_multipliers,
                 const Levels& levels, int first_row, RoundedRows* out) {
  for (int g = 0; g < b.n_groups; ++g) {
    auto step = choice.scale;
    if (has_multipliers) {
      step = V::multiply(step, choice.multipliers[g]);
      V::store_bytes(&out->multipliers[g][first_row], choice.multipliers[g]);
    }
    const auto inverse = inverse_or_zero<V>(step);
    const int end = g * kGroupK + length_of(b, g);
    for (int k = g * kGroupK; k < end; k += 4) {  // beyond n the block has zeros
      const float* x = b.x + k * V::kLanes;
      typename V::Floats line[4];
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j)
        line[j] = levels.index(V::multiply(V::load(x + j * V::kLanes), inverse));
      V::store_line(out->indices + (k / 4 * kPanelRows + first_row) * 4, line);
    }
  }
  V::store_f16(out->scales + first_row, choice.scale);
  V::store(out->errors + first_row, choice.error);
  V::store(out->energies + first_row, error_at<V>(b.x, b.n, V::set(0.0f), levels));
}

template <class V, class Levels>
static void round_with(const RoundingRule& rule, const Levels& levels, const float* x, int64_t ldx,
                       int n, RoundedRows* out) {
  RowBlock<V> b;
  b.n = n;
  b.n_groups = (n + kGroupK - 1) / kGroupK;
  for (int row = 0; row < kPanelRows; row += V::kLanes) {
    transpose_rows<V>(x + row * ldx, ldx, n, b.x);
    Choice<V> choice;
    if (rule.has_multipliers)
      search_two_level<V>(b, rule.low, rule.most, levels, &choice);
    else
      search_one_level<V>(b, rule.low, rule.high, rule.lattices, levels, &choice);
    emit<V>(b, choice, rule.has_multipliers, levels, row, out);
  }
}

template <class V>
static void round_rows(const RoundingRule& rule, const float* x, int64_t ldx, int n,
                       RoundedRows* out) {
  if (rule.is_w3)
    round_with<V>(rule, W3Levels<V>{}, x, ldx, n, out);
  else
    round_with<V>(rule, UniformLevels<V>{V::set(rule.low), V::set(rule.high)}, x, ldx, n, out);
}

}  // namespace lapidary::lanes
