// The merging at the heart of byte-pair encoding: of all neighbouring symbols that may join, the
// pair of the lowest rank does, the leftmost of equals first, until none may. Short runs are
// scanned again and again (they fit in cache); long ones go over a heap and a linked list, so that
// a hundred thousand equal characters take n log n.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

namespace chorus::text {

struct Symbol {
  int32_t id;
  uint32_t begin, end;  // its bytes in the piece
};

struct Merge {
  static constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();
  uint32_t rank = kNone;
  int32_t id = -1;  // of the joined symbol
};

template <class Lookup>
void merge_by_scanning(std::vector<Symbol>& symbols, const Lookup& lookup) {
  thread_local std::vector<Merge> merges;  // merges[i] joins symbols i and i + 1
  merges.clear();
  for (size_t i = 0; i + 1 < symbols.size(); ++i) {
    merges.push_back(lookup(symbols[i], symbols[i + 1]));
  }
  while (!merges.empty()) {
    size_t best = 0;
    for (size_t i = 1; i < merges.size(); ++i) {
      if (merges[i].rank < merges[best].rank) best = i;
    }
    if (merges[best].rank == Merge::kNone) return;
    symbols[best] = {merges[best].id, symbols[best].begin, symbols[best + 1].end};
    symbols.erase(symbols.begin() + best + 1);
    merges.erase(merges.begin() + best);
    if (best > 0) merges[best - 1] = lookup(symbols[best - 1], symbols[best]);
    if (best < merges.size()) merges[best] = lookup(symbols[best], symbols[best + 1]);
  }
}

template <class Lookup>
void merge_by_heap(std::vector<Symbol>& symbols, const Lookup& lookup) {
  struct Candidate {
    uint32_t rank;
    uint32_t left;
    uint32_t right;
    uint32_t right_end;  // tells a candidate whose right side has since grown
    uint32_t left_end;
    int32_t id;
    bool operator<(const Candidate& other) const {  // the heap's top is the greatest
      return rank != other.rank ? rank > other.rank : left > other.left;
    }
  };
  struct Link {
    uint32_t previous, next;
  };
  const uint32_t none = static_cast<uint32_t>(symbols.size());
  std::vector<Link> links(symbols.size());
  for (uint32_t i = 0; i < none; ++i) links[i] = {i == 0 ? none : i - 1, i + 1};

  std::vector<Candidate> heap;
  auto candidate = [&](uint32_t left, uint32_t right) {
    Merge merge = lookup(symbols[left], symbols[right]);
    return Candidate{merge.rank, left, right, symbols[right].end, symbols[left].end, merge.id};
  };
  auto offer = [&](uint32_t left, uint32_t right) {
    if (left == none || right == none) return;
    Candidate made = candidate(left, right);
    if (made.rank == Merge::kNone) return;
    heap.push_back(made);
    std::push_heap(heap.begin(), heap.end());
  };
  for (uint32_t i = 0; i + 1 < none; ++i) {
    Candidate made = candidate(i, i + 1);
    if (made.rank != Merge::kNone) heap.push_back(made);
  }
  std::make_heap(heap.begin(), heap.end());

  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end());
    Candidate best = heap.back();
    heap.pop_back();
    Symbol& left = symbols[best.left];
    // A joined symbol's id is -1 and its end grows, so a stale candidate is known by either.
    if (left.id < 0 || symbols[best.right].id < 0 || left.end != best.left_end ||
        symbols[best.right].end != best.right_end) {
      continue;
    }
    left = {best.id, left.begin, best.right_end};
    symbols[best.right].id = -1;
    uint32_t next = links[best.right].next;
    links[best.left].next = next;
    if (next != none) links[next].previous = best.left;
    offer(links[best.left].previous, best.left);
    offer(best.left, next);
  }
  std::erase_if(symbols, [](const Symbol& symbol) { return symbol.id < 0; });
}

// `lookup(left, right)` gives the Merge of two neighbours. No id in `symbols` is negative.
template <class Lookup>
void merge_symbols(std::vector<Symbol>& symbols, const Lookup& lookup) {
  constexpr size_t kScanned = 48;
  if (symbols.size() <= kScanned) {
    merge_by_scanning(symbols, lookup);
  } else {
    merge_by_heap(symbols, lookup);
  }
}

}  // namespace chorus::text
