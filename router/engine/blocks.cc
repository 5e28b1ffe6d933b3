// The free list and the tables' arithmetic.
// What surprises: a sliding group that holds a whole window of blocks never limits the length of a
// sequence, one with fewer does, and so does a full group with fewer blocks than the context.
#include "router/engine/blocks.h"

#include <algorithm>
#include <cassert>

namespace chorus::engine {

BlockPool::BlockPool(int64_t blocks) : owners_(blocks, 0) {
  free_.reserve(blocks);
  for (int64_t block = blocks - 1; block >= 0; --block) {
    free_.push_back(static_cast<int32_t>(block));
  }
}

int32_t BlockPool::take() {
  assert(!free_.empty());
  int32_t block = free_.back();
  free_.pop_back();
  assert(owners_[block] == 0);
  owners_[block] = 1;
  return block;
}

void BlockPool::share(int32_t block) {
  assert(owners_.at(block) > 0);
  ++owners_[block];
}

void BlockPool::give_back(int32_t block) {
  assert(owners_.at(block) > 0);
  if (--owners_[block] == 0) free_.push_back(block);
}

BlockPools::BlockPools(const shards::ShardInfo& info, int64_t chunk_tokens_max)
    : block_tokens_(info.block_tokens),
      chunk_tokens_max_(chunk_tokens_max),
      context_max_(info.context_max) {
  assert(block_tokens_ > 0 && chunk_tokens_max_ > 0);
  for (const shards::KvGroup& group : info.kv_groups) {
    groups_.push_back({BlockPool(group.blocks), group.kind, group.window});
    // At worst the first position that a window reaches is the last of a block.
    bool endless =
        group.kind == shards::KvKind::sliding && group.blocks >= blocks_for(group.window - 1) + 1;
    if (!endless) context_max_ = std::min(context_max_, group.blocks * block_tokens_);
  }
}

int64_t BlockPools::size() const {
  int64_t sum = 0;
  for (const Group& group : groups_) sum += group.pool.size();
  return sum;
}

int64_t BlockPools::free_count() const {
  int64_t sum = 0;
  for (const Group& group : groups_) sum += group.pool.free_count();
  return sum;
}

int64_t BlockPools::blocks_for(int64_t positions) const {
  return (positions + block_tokens_ - 1) / block_tokens_;
}

// Position p sees (p - window, p], so the row's first token reaches back furthest.
int64_t BlockPools::first_live(const Group& group, int64_t position) const {
  if (group.kind == shards::KvKind::full) return 0;
  return std::max<int64_t>(0, position - group.window + 1) / block_tokens_;
}

std::optional<BlockTables> BlockPools::open(int64_t tokens) {
  std::vector<int64_t> needs;
  for (const Group& group : groups_) {
    int64_t need = blocks_for(tokens + 1);
    if (group.kind == shards::KvKind::sliding) {
      need = std::min({need, blocks_for(group.window + chunk_tokens_max_), group.pool.size()});
    }
    if (need > group.pool.free_count()) return std::nullopt;
    needs.push_back(need);
  }
  BlockTables tables(groups_.size());
  for (size_t g = 0; g < groups_.size(); ++g) {
    for (int64_t i = 0; i < needs[g]; ++i) tables[g].blocks.push_back(groups_[g].pool.take());
  }
  return tables;
}

bool BlockPools::extend(BlockTable& table, Group& group, int64_t drop_before) {
  if (group.pool.free_count() > 0) {
    table.blocks.push_back(group.pool.take());
    return true;
  }
  if (table.first_live >= drop_before) return false;
  table.blocks.push_back(table.blocks[table.first_live++]);
  return true;
}

int64_t BlockPools::cover(BlockTables& tables, int64_t position, int64_t count, bool recycle) {
  int64_t end = position + count;
  for (size_t g = 0; g < groups_.size(); ++g) {
    BlockTable& table = tables[g];
    int64_t drop_before = recycle ? first_live(groups_[g], position) : 0;
    auto covered = [&] { return static_cast<int64_t>(table.blocks.size()) * block_tokens_; };
    while (covered() < position + count && extend(table, groups_[g], drop_before)) {
    }
    end = std::min(end, covered());
  }
  return std::max<int64_t>(0, end - position);
}

bool BlockPools::droppable(const BlockTables& tables, int64_t position) const {
  for (size_t g = 0; g < groups_.size(); ++g) {
    if (tables[g].first_live < first_live(groups_[g], position)) return true;
  }
  return false;
}

std::vector<GroupBlock> BlockPools::drop(BlockTables& tables, int64_t position) const {
  std::vector<GroupBlock> dropped;
  for (size_t g = 0; g < groups_.size(); ++g) {
    BlockTable& table = tables[g];
    int64_t before = first_live(groups_[g], position);
    // A block is written before its window passes, so the shard knows every dropped entry.
    assert(before <= std::max(table.first_live, table.announced));
    for (; table.first_live < before; ++table.first_live) {
      dropped.push_back({static_cast<int>(g), table.blocks[table.first_live]});
    }
  }
  return dropped;
}

std::vector<shards::BlockChange> BlockPools::announce(BlockTables& tables) const {
  std::vector<shards::BlockChange> changes;
  for (size_t g = 0; g < groups_.size(); ++g) {
    BlockTable& table = tables[g];
    int64_t entries = static_cast<int64_t>(table.blocks.size());
    if (table.announced == entries && table.announced_first_live == table.first_live) continue;
    changes.push_back({.group = static_cast<int>(g),
                       .added = {table.blocks.begin() + table.announced, table.blocks.end()},
                       .first_live = table.first_live});
    table.announced = entries;
    table.announced_first_live = table.first_live;
  }
  return changes;
}

std::vector<GroupBlock> BlockPools::live(const BlockTables& tables) {
  std::vector<GroupBlock> blocks;
  for (size_t g = 0; g < tables.size(); ++g) {
    const BlockTable& table = tables[g];
    for (size_t i = table.first_live; i < table.blocks.size(); ++i) {
      blocks.push_back({static_cast<int>(g), table.blocks[i]});
    }
  }
  return blocks;
}

void BlockPools::give_back(const std::vector<GroupBlock>& blocks) {
  for (const GroupBlock& owned : blocks) groups_[owned.group].pool.give_back(owned.block);
}

}  // namespace chorus::engine
