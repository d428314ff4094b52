// A batch's map of squared distances or inner products, tile by tile.
#pragma once

#include <memory>
#include <new>

#include "cpu/blocks.h"
#include "cpu/features.h"
#include "cpu/tiles.h"

namespace kdops {

// Tiles of maps computed since the library was loaded: how tests see that nothing is built twice.
inline std::atomic<int64_t> map_tiles_built{0};

constexpr size_t kAlignment = 64;

// A thread's own memory, aligned for whole vectors.
template <class T>
class Scratch {
 public:
  explicit Scratch(int64_t n)
      : data_(static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t{kAlignment}))) {}
  T* get() const { return data_.get(); }

 private:
  struct Delete {
    void operator()(T* p) const { ::operator delete(p, std::align_val_t{kAlignment}); }
  };
  std::unique_ptr<T, Delete> data_;
};

// Tile (a, b), (length(a), blocks.size) values, into out.
template <class T, class Out>
void make_tile(const Features<T>& f, MapKind kind, const Blocks& blocks, int64_t a, int64_t b,
               Out* out, T* panel) {
  MapTile<T, Out> tile;
  tile.rows = f.row(blocks.begin(a));
  tile.columns = f.row(blocks.begin(b));
  tile.n_rows = blocks.length(a);
  tile.n_columns = blocks.length(b);
  tile.d = f.d;
  tile.diagonal = a == b;
  tile.out = out;
  tile.stride = blocks.size;
  tile.panel = panel;
  map_tiles_built.fetch_add(1, std::memory_order_relaxed);
  if constexpr (std::is_same_v<T, Out>)
    if (kind == MapKind::kInnerProduct) return inner_product_tile(tile);
  squared_distance_tile(tile);
}

// Tiles that are kept from the first visit on, or made at each.
template <class T>
class Map {
 public:
  Map(Features<T> rows, MapKind kind, const Blocks& blocks, bool keep, const Tensor& like)
      : f(std::move(rows)), kind_(kind), blocks_(blocks) {
    if (keep) kept_.emplace(like, blocks.tiles() * blocks.size * blocks.size);
  }

  T* make(int64_t a, int64_t b, T* scratch, T* panel) const {
    T* out = kept_ ? slot(a, b) : scratch;
    make_tile(f, kind_, blocks_, a, b, out, panel);
    return out;
  }
  T* get(int64_t a, int64_t b, T* scratch, T* panel) const {
    return kept_ ? slot(a, b) : make(a, b, scratch, panel);
  }

  Features<T> f;

 private:
  T* slot(int64_t a, int64_t b) const {
    return kept_->data() + blocks_.tile(a, b) * blocks_.size * blocks_.size;
  }

  MapKind kind_;
  Blocks blocks_;
  std::optional<Buffer<T>> kept_;
};

}  // namespace kdops
