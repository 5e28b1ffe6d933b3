#include "router/engine/blocks.h"

#include <catch2/catch.hpp>
#include <set>

#include "tests/router/engine/fake_shard.h"

namespace chorus::engine {
namespace {

shards::ShardInfo sliding_shard(int64_t window, int64_t blocks) {
  shards::ShardInfo info = small_shard();
  info.kv_groups = {
      {.kind = shards::KvKind::sliding, .window = window, .block_bytes = 64, .blocks = blocks}};
  return info;
}

}  // namespace

TEST_CASE("a pool hands out each of its blocks once and takes them back") {
  BlockPool pool(3);
  std::set<int32_t> taken = {pool.take(), pool.take(), pool.take()};
  CHECK(taken == std::set<int32_t>{0, 1, 2});
  CHECK(pool.free_count() == 0);
  pool.give_back(1);
  CHECK(pool.free_count() == 1);
  CHECK(pool.take() == 1);
}

TEST_CASE("a shared block is free when its last owner gave it back") {
  BlockPool pool(1);
  int32_t block = pool.take();
  pool.share(block);
  pool.give_back(block);
  CHECK(pool.free_count() == 0);
  pool.give_back(block);
  CHECK(pool.free_count() == 1);
}

TEST_CASE("opening tables takes blocks for all tokens and one more, or none at all") {
  shards::ShardInfo info = small_shard();
  info.kv_groups[0].blocks = 3;
  BlockPools pools(info, 16);
  CHECK_FALSE(pools.open(12));  // 13 positions: 4 blocks
  CHECK(pools.free_count() == 3);
  std::optional<BlockTables> tables = pools.open(8);
  REQUIRE(tables);
  CHECK(tables->at(0).blocks.size() == 3);
  CHECK(pools.free_count() == 0);
  pools.give_back(BlockPools::live(*tables));
  CHECK(pools.free_count() == 3);
}

TEST_CASE("covering says how far the blocks reach") {
  shards::ShardInfo info = small_shard();
  info.kv_groups[0].blocks = 3;
  BlockPools pools(info, 16);
  BlockTables tables = *pools.open(3);
  CHECK(tables[0].blocks.size() == 1);
  CHECK(pools.cover(tables, 3, 1, true) == 1);
  CHECK(tables[0].blocks.size() == 1);
  CHECK(pools.cover(tables, 4, 100, true) == 8);
  CHECK(pools.cover(tables, 12, 1, true) == 0);
}

TEST_CASE("a sliding table drops the blocks wholly before its window") {
  BlockPools pools(sliding_shard(5, 8), 16);
  BlockTables tables = *pools.open(15);
  pools.announce(tables);
  CHECK_FALSE(pools.droppable(tables, 7));  // sees 3..7
  CHECK(pools.droppable(tables, 8));        // sees 4..8
  std::vector<GroupBlock> dropped = pools.drop(tables, 11);
  REQUIRE(dropped.size() == 1);
  CHECK(dropped[0].block == tables[0].blocks[0]);
  CHECK(tables[0].first_live == 1);
  CHECK(BlockPools::live(tables).size() == 3);
}

TEST_CASE("an idle sequence in an empty pool uses the blocks that its window left") {
  BlockPools pools(sliding_shard(5, 3), 16);
  BlockTables tables = *pools.open(11);
  pools.announce(tables);
  CHECK(pools.free_count() == 0);
  CHECK(pools.cover(tables, 12, 1, false) == 0);
  CHECK(pools.cover(tables, 12, 1, true) == 1);
  CHECK(tables[0].first_live == 1);
  CHECK(tables[0].blocks[3] == tables[0].blocks[0]);
  std::vector<shards::BlockChange> changes = pools.announce(tables);
  REQUIRE(changes.size() == 1);
  CHECK(changes[0].first_live == 1);
  CHECK(changes[0].added == std::vector<int32_t>{tables[0].blocks[3]});
  CHECK(pools.announce(tables).empty());
}

TEST_CASE("the usable context is what one sequence can hold alone") {
  shards::ShardInfo info = small_shard();  // context 128, blocks of 4
  CHECK(BlockPools(info, 16).context_max() == 128);
  info.kv_groups[0].blocks = 10;
  CHECK(BlockPools(info, 16).context_max() == 40);
  // Blocks of 4: a window of 5 is spread over at most two, one of 6 over at most three.
  CHECK(BlockPools(sliding_shard(5, 2), 16).context_max() == 128);
  CHECK(BlockPools(sliding_shard(6, 2), 16).context_max() == 8);
  CHECK(BlockPools(sliding_shard(6, 3), 16).context_max() == 128);
}

}  // namespace chorus::engine
