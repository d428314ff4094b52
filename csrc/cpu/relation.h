// A loss between the maps of a batch: student layers against one teacher.
//
// Two passes over tiles of the maps. The first takes what the normalisers need (sums, maxima), the
// second the values, the weights, and the weights' product with the rows. Below 1024 rows the first
// pass keeps its tiles, half a map each; from there on the second makes them again, and no N x N
// exists. A loss without a normaliser needs the second pass alone.
//
// A type Loss describes one loss:
//   Formula<T>                     one pair's value and weight (formulas/relations.h)
//   kStats, kNear                  whether it has a normaliser; whether near pairs need care
//   kind, form                     its map, the form of its gradient
//   features_of<S>(tensor)         the features that it compares
//   measure(self, other)           what the first pass measures
//   formula(stats, self, other)    the formula, once the normalisers are known
//   mean                           whether the value is divided by N^2
#pragma once

#include <memory>

#include "cpu/laplacian.h"
#include "cpu/map.h"
#include "cpu/pair_tile.h"

namespace kdops {

constexpr int64_t kStreamedFrom = 1024;

template <class S, class Loss>
class Relation {
  using T = acc_t<S>;
  using Formula = typename Loss::template Formula<T>;

  // One direction of a comparison: the map that gets a gradient, if `side`, and the one it meets.
  struct Visit {
    size_t self, other;
    Laplacian<S>* side;
    bool counts;  // for the value
    Formula formula;
    double excess = 0;
  };

 public:
  // The teacher is the last of the inputs.
  Relation(const std::vector<Tensor>& inputs, const Loss& loss)
      : inputs_(inputs), loss_(loss), teacher_(inputs.size() - 1), blocks_(inputs[0].size(0)) {
    const bool keep = Loss::kStats && blocks_.rows < kStreamedFrom;
    for (const Tensor& x : inputs)
      maps_.emplace_back(loss.template features_of<S>(x), loss.kind, blocks_, keep, x);
  }

  // The value, then the gradients that are wanted: the students', the teacher's.
  std::vector<Tensor> operator()(bool student_grad, bool teacher_grad) {
    outputs_ = relation_outputs(inputs_, student_grad, teacher_grad);
    size_t output = 0;
    for (size_t i = 0; i < inputs_.size(); ++i)
      if (i == teacher_ ? teacher_grad : student_grad) add_side(i, outputs_[++output]);
    T* value = mutable_data<T>(outputs_[0]);
    if (!finite()) return not_a_number(value);
    plan(statistics(), teacher_grad);
    const double count = loss_.mean ? std::max(1.0, double(blocks_.rows) * blocks_.rows) : 1.0;
    *value = static_cast<T>(evaluate() / count);
    if (correct()) evaluate();
    for (auto& [i, side] : sides_) side->finish();
    return std::move(outputs_);
  }

 private:
  void add_side(size_t i, const Tensor& out) {
    sides_.emplace_back(i, new Laplacian<S>(maps_[i].f, out, loss_.form, Loss::kNear));
  }
  Laplacian<S>* side(size_t i) const {
    for (auto& [j, side] : sides_)
      if (i == j) return side.get();
    return nullptr;
  }

  bool finite() const {
    for (const auto& map : maps_)
      if (!map.f.finite) return false;
    return true;
  }
  std::vector<Tensor> not_a_number(T* value) {
    *value = std::numeric_limits<T>::quiet_NaN();
    for (size_t i = 1; i < outputs_.size(); ++i) fill_nan(outputs_[i]);
    return std::move(outputs_);
  }

  // A thread's tiles and panel, and its view of the two maps of a visit.
  struct Worker {
    explicit Worker(const Relation& r)
        : size(r.blocks_.size),
          tiles(3 * size * size),
          sums(4 * size),
          panel(std::max(r.widest(), size) * lanes<T>) {}
    T* tile(int i) const { return tiles.get() + i * size * size; }
    int64_t size;
    Scratch<T> tiles, sums, panel;
    std::vector<NearPair<T>> near;
  };
  int64_t widest() const {
    int64_t d = 0;
    for (const auto& map : maps_) d = std::max(d, map.f.d);
    return d;
  }

  PairTile<T> pair_tile(int64_t a, int64_t b, const T* self, const T* other) const {
    PairTile<T> p;
    p.self = self, p.other = other;
    p.rows = blocks_.length(a), p.columns = blocks_.length(b);
    p.stride = blocks_.size;
    return p;
  }

  // Of each student against the teacher.
  std::vector<PairStats> statistics() {
    std::vector<PairStats> total(teacher_);
    if constexpr (Loss::kStats) {
      std::vector<PairStats> parts(blocks_.tiles() * teacher_);
      for_each_tile(blocks_, [&] {
        return [&, w = Worker(*this)](int64_t a, int64_t b) {
          const T* t = maps_[teacher_].make(a, b, w.tile(0), w.panel.get());
          for (size_t i = 0; i < teacher_; ++i) {
            const T* s = maps_[i].make(a, b, w.tile(1), w.panel.get());
            parts[blocks_.tile(a, b) * teacher_ + i] =
                stats_tile(pair_tile(a, b, s, t), loss_.measure(maps_[i].f, maps_[teacher_].f));
          }
        };
      });
      for (int64_t b = 0; b < blocks_.count; ++b)
        for (int64_t a = 0; a <= b; ++a)
          for (size_t i = 0; i < teacher_; ++i)
            total[i].add(parts[blocks_.tile(a, b) * teacher_ + i], a == b ? 1 : 2);
    }
    return total;
  }

  void plan(const std::vector<PairStats>& stats, bool teacher_grad) {
    const auto& t = maps_[teacher_].f;
    for (size_t i = 0; i < teacher_; ++i) {
      const auto& s = maps_[i].f;
      visits_.push_back({i, teacher_, side(i), true, loss_.formula(stats[i], s, t)});
      if (teacher_grad)
        visits_.push_back(
            {teacher_, i, side(teacher_), false, loss_.formula(stats[i].swapped(), t, s)});
    }
  }

  // All visits over all tiles; returns the sum of the values.
  double evaluate() {
    std::vector<PairSums> parts(blocks_.tiles() * visits_.size());
    for_each_meeting(blocks_, [&] {
      return [&, w = Worker(*this)](int64_t a, int64_t b) mutable {
        const T* t = maps_[teacher_].get(a, b, w.tile(0), w.panel.get());
        const T* s = nullptr;
        for (size_t v = 0; v < visits_.size(); ++v) {
          const Visit& visit = visits_[v];
          if (visit.self != teacher_) s = maps_[visit.self].get(a, b, w.tile(1), w.panel.get());
          const bool teachers = visit.self == teacher_;
          PairTile<T> p = pair_tile(a, b, teachers ? t : s, teachers ? s : t);
          parts[blocks_.tile(a, b) * visits_.size() + v] = meet(p, visit, a, b, w);
        }
      };
    });
    double value = 0;
    for (int64_t b = 0; b < blocks_.count; ++b) {
      for (int64_t a = 0; a <= b; ++a) {
        for (size_t v = 0; v < visits_.size(); ++v) {
          const PairSums& part = parts[blocks_.tile(a, b) * visits_.size() + v];
          const double times = a == b ? 1 : 2;
          if (visits_[v].counts) value += times * part.value;
          visits_[v].excess += times * part.excess;
        }
      }
    }
    return value;
  }

  PairSums meet(PairTile<T>& p, const Visit& visit, int64_t a, int64_t b, Worker& w) {
    if (visit.side == nullptr) return weight_tile(p, visit.formula);
    p.weight = w.tile(2);
    p.row_sum = w.sums.get(), p.column_sum = w.sums.get() + w.size;
    if constexpr (Loss::kNear) {
      p.row_limit = visit.side->limit(blocks_.begin(a));
      p.column_limit = visit.side->limit(blocks_.begin(b));
      p.near = &w.near;
      w.near.clear();
    }
    const PairSums sums = weight_tile(p, visit.formula);
    visit.side->add(blocks_, a, b, p, w.panel.get());
    return sums;
  }

  // The normaliser's gradient took no slope as clipped. Where one was, a second evaluation adds the
  // difference, which is linear in what was left out.
  bool correct() {
    bool any = false;
    for (Visit& visit : visits_) {
      any = any || (visit.side != nullptr && visit.excess != 0);
      visit.formula = loss_.correction(visit.formula, visit.excess, blocks_.rows);
      visit.excess = 0;
    }
    return any;
  }

  const std::vector<Tensor>& inputs_;
  const Loss& loss_;
  size_t teacher_;
  Blocks blocks_;
  std::vector<Map<T>> maps_;
  std::vector<Tensor> outputs_;
  std::vector<std::pair<size_t, std::unique_ptr<Laplacian<S>>>> sides_;
  std::vector<Visit> visits_;
};

// Checks the inputs of a relation's op, then evaluates it in their type.
template <class Loss>
std::vector<Tensor> relation(const char* name, const std::vector<Tensor>& features,
                             const Loss& loss, bool student_grad, bool teacher_grad) {
  const std::vector<Tensor> inputs = checked_features(name, features);
  return dispatch_float(inputs[0].scalar_type(), [&](auto tag) {
    return Relation<typename decltype(tag)::type, Loss>(inputs, loss)(student_grad, teacher_grad);
  });
}

}  // namespace kdops
