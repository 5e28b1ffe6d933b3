// KV blocks as the planner sees them: numbers to hand out. A pool per KV group knows which blocks
// are free; a table per sequence and group says which block holds which positions. A sliding group
// needs only the blocks that its window still reaches: entries before it are dropped, so that a
// long sequence lives on a fixed number of blocks. Nothing here knows about steps: when it is safe
// to give a block back is the planner's business.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "router/shards/link.h"

namespace chorus::engine {

// The blocks of one KV group. Each has one owner today; counts let a prefix cache share them.
class BlockPool {
 public:
  explicit BlockPool(int64_t blocks);
  int64_t size() const { return static_cast<int64_t>(owners_.size()); }
  int64_t free_count() const { return static_cast<int64_t>(free_.size()); }
  int32_t take();                 // a free block, now with one owner; free_count() must be > 0
  void share(int32_t block);      // one owner more
  void give_back(int32_t block);  // free again once its last owner gave it back

 private:
  std::vector<int32_t> free_;  // a stack: the block that was freed last is taken first
  std::vector<int32_t> owners_;
};

struct GroupBlock {
  int group = 0;
  int32_t block = 0;
};

// A sequence's blocks in one KV group. Entry i holds positions [i * block_tokens, (i + 1) * ...).
struct BlockTable {
  std::vector<int32_t> blocks;
  int64_t first_live = 0;            // entries before it are no longer this sequence's
  int64_t announced = 0;             // entries that the shard was told of
  int64_t announced_first_live = 0;  // and the first_live it was told
};
using BlockTables = std::vector<BlockTable>;  // by group

// All groups together, and the arithmetic of positions, windows and blocks.
class BlockPools {
 public:
  // `chunk_tokens_max`: the most tokens that one row computes at once.
  BlockPools(const shards::ShardInfo& info, int64_t chunk_tokens_max);

  // Positions that one sequence can use when it has the pools for itself, at most the model's.
  int64_t context_max() const { return context_max_; }
  int64_t size() const;
  int64_t free_count() const;

  // Tables for a sequence that takes a seat with `tokens` tokens to compute: the blocks of all of
  // them and of one more, in sliding groups as many as a window and a chunk can use. Nothing where
  // a group has too few free.
  std::optional<BlockTables> open(int64_t tokens);
  // Extends the tables towards positions [position, position + count); returns how many of `count`
  // they cover now. `recycle`: no step in flight reads this sequence's blocks, so that those
  // before the window of `position` may become its new ones where the pool is empty.
  int64_t cover(BlockTables& tables, int64_t position, int64_t count, bool recycle);
  // Are there blocks that a row at `position` no longer reads?
  bool droppable(const BlockTables& tables, int64_t position) const;
  // Takes them out of the tables. They are still owned: hand them to give_back when it is safe.
  std::vector<GroupBlock> drop(BlockTables& tables, int64_t position) const;
  // What changed since the last call, for the row that is about to be sent.
  std::vector<shards::BlockChange> announce(BlockTables& tables) const;
  static std::vector<GroupBlock> live(const BlockTables& tables);
  void give_back(const std::vector<GroupBlock>& blocks);

 private:
  struct Group {
    BlockPool pool;
    shards::KvKind kind;
    int64_t window;
  };
  int64_t blocks_for(int64_t positions) const;
  int64_t first_live(const Group& group, int64_t position) const;
  bool extend(BlockTable& table, Group& group, int64_t drop_before);

  int64_t block_tokens_;
  int64_t chunk_tokens_max_;
  int64_t context_max_;
  std::vector<Group> groups_;
};

}  // namespace chorus::engine
