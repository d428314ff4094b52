// The whole map of squared distances, (N, stride) with zeros on the diagonal and in the padding,
// for kernels over triplets; and a gradient from weights of all pairs.
#pragma once

#include "cpu/laplacian.h"
#include "cpu/map.h"

namespace kdops {

template <class T>
class SquareMap {
 public:
  SquareMap(int64_t rows, const Tensor& like)
      : n(rows), stride((rows + 15) / 16 * 16), values_(like, rows * stride) {
    std::fill_n(values_.data(), n * stride, T(0));
  }
  T* row(int64_t i) const { return values_.data() + i * stride; }
  T* data() const { return values_.data(); }
  void scale(T factor) { scaled_copy(data(), n * stride, factor, data()); }
  int64_t n, stride;

 private:
  Buffer<T> values_;
};

// Squared distances have zeros on the diagonal.
template <class T, class Out = T>
SquareMap<Out> whole_map(const Features<T>& f, MapKind kind, const Tensor& like) {
  SquareMap<Out> map(f.n, like);
  const Blocks blocks(f.n);
  for_each_tile(blocks, [&] {
    return [&, tile = Scratch<Out>(blocks.size * blocks.size), panel = Scratch<T>(f.d * lanes<T>)](
               int64_t a, int64_t b) {
      make_tile(f, kind, blocks, a, b, tile.get(), panel.get());
      const int64_t i0 = blocks.begin(a), j0 = blocks.begin(b);
      for (int64_t i = 0; i < blocks.length(a); ++i)
        for (int64_t j = 0; j < blocks.length(b); ++j)
          map.row(i0 + i)[j0 + j] = map.row(j0 + j)[i0 + i] = tile.get()[i * blocks.size + j];
    };
  });
  if (kind == MapKind::kSquaredDistance)
    for (int64_t i = 0; i < f.n; ++i) map.row(i)[i] = Out(0);
  return map;
}

// The gradient of symmetric weights, written to out in its type S. With the map of squared
// distances at hand, near pairs are taken out of the weights and get theirs by difference.
template <class S, class T>
void weighted_gradient(const Features<T>& f, const SquareMap<T>& weight, Gradient form,
                       const Tensor& out, const SquareMap<T>* squares = nullptr) {
  const Blocks blocks(f.n);
  Laplacian<S, T> side(f, out, form, squares != nullptr);
  for_each_meeting(blocks, [&] {
    return [&, sums = Scratch<T>(2 * blocks.size), panel = Scratch<T>(blocks.size * lanes<T>),
            near = std::vector<NearPair<T>>()](int64_t a, int64_t b) mutable {
      PairTile<T> p;
      p.rows = blocks.length(a), p.columns = blocks.length(b), p.stride = weight.stride;
      p.weight = weight.row(blocks.begin(a)) + blocks.begin(b);
      p.row_sum = sums.get(), p.column_sum = sums.get() + blocks.size;
      if (squares != nullptr) {
        p.self = squares->row(blocks.begin(a)) + blocks.begin(b);
        p.row_limit = side.limit(blocks.begin(a)), p.column_limit = side.limit(blocks.begin(b));
        p.near = &near;
        near.clear();
      }
      sum_tile(p);
      side.add(blocks, a, b, p, panel.get());
    };
  });
  side.finish();
}

}  // namespace kdops
