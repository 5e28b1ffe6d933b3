// The emulated twins of hopper.h. A tensor copy lands at once, or (Copies::late) only when no
// thread can go on without it; a multiplication reads its operands at once, or only when waited
// for. Between the two lies everything the hardware may do, so a missing wait or an early reuse
// shows.
#include "kernels/cuda/hopper.h"

#include <map>
#include <stdexcept>
#include <vector>

namespace chorus::kernels::cuda::hopper {
namespace {

// What the 128 opaque bytes of a CUtensorMap hold here.
struct Map {
  Matrix matrix;
  int box_rows;
};
static_assert(sizeof(Map) <= sizeof(CUtensorMap));

Map read(const CUtensorMap& opaque) {
  Map map;
  std::memcpy(static_cast<void*>(&map), &opaque, sizeof map);
  return map;
}

// What the 64 opaque bits of an mbarrier hold here. `bytes` is what is still expected.
struct State {
  uint32_t phase : 1, count : 11, missing : 11;
  int32_t bytes;
};
static_assert(sizeof(State) == sizeof(Barrier));

State& state(Barrier& barrier) {
  return reinterpret_cast<State&>(barrier);
}

void settle(Barrier& barrier) {
  State& s = state(barrier);
  if (s.missing == 0 && s.bytes == 0) s.phase ^= 1, s.missing = s.count;
  emulate::note_progress();
}

uint32_t swizzle(uint32_t address) {
  return address ^ (address >> 7 & 7) << 4;
}

// Calls action(place in shared memory, element of the matrix, bytes) for each 16 bytes of a box;
// the element is null outside the matrix, and `bytes` says how many of the 16 lie inside.
template <typename Action>
void each_piece(const Map& map, int column, int row, unsigned char* shared, uint32_t box,
                const Action& action) {
  for (int r = 0; r < map.box_rows; ++r) {
    for (int c = 0; c < 64; c += 8) {
      const int64_t left = map.matrix.columns - (column + c);
      const bool inside = row + r >= 0 && row + r < map.matrix.rows && left > 0;
      const auto* data = static_cast<const uint16_t*>(map.matrix.data);
      action(shared + swizzle(box + r * 128 + c * 2),
             inside ? data + (row + r) * map.matrix.stride + column + c : nullptr,
             inside ? int(left < 8 ? left : 8) * 2 : 0);
    }
  }
}

void check_box(const void* shared, int column, Where where) {
  if (shared_address(shared) % 1024 != 0)
    emulate::fail("a swizzled box starts at 1024 bytes", where);
  if (column < 0 || column % 8 != 0)
    emulate::fail("boxes start at a column that is a multiple of 8", where);
}

// Where row `row`, column `k` of the operand behind a descriptor stands.
uint32_t place(uint64_t descriptor, int row, int k) {
  const uint32_t start = (descriptor & 0x3fff) << 4, eight_rows = (descriptor >> 32 & 0x3fff) << 4;
  return swizzle(start + row / 8 * eight_rows + row % 8 * 128 + k * 2);
}
uint32_t place_transposed(uint64_t descriptor, int row, int k) {
  const uint32_t start = (descriptor & 0x3fff) << 4, box_bytes = (descriptor >> 16 & 0x3fff) << 4,
                 eight_rows = (descriptor >> 32 & 0x3fff) << 4;
  return swizzle(start + row / 64 * box_bytes + k / 8 * eight_rows + k % 8 * 128 + row % 64 * 2);
}

float number(uint16_t bits, bool bf16) {
  return bf16 ? float(std::bit_cast<__nv_bfloat16>(bits)) : float(std::bit_cast<__half>(bits));
}

struct Operand {
  float* d;
  const ptx::Fragment4* a;
};
struct Multiplication {
  std::vector<float*> d;          // by thread of the warpgroup
  std::vector<ptx::Fragment4> a;  // the same, or empty where a is in shared memory
  uint64_t a_shared = 0, b = 0;
  int n = 0;
  bool bf16 = true, transposed_b = false, accumulate = true;
  const unsigned char* shared = nullptr;
  int group = 0;
};
struct Warpgroup {
  std::vector<Multiplication> pending;
  int group = 0;
};

// Thread t holds rows 16 * (t / 32) + t % 32 / 4 (+ 8), columns 8j + t % 4 * 2 (+ 1).
void perform(const Multiplication& m) {
  float a[64][16], b[16][256], d[256];
  const auto at = [&](uint32_t address) {
    return number(*reinterpret_cast<const uint16_t*>(m.shared + address), m.bf16);
  };
  for (int k = 0; k < 16; ++k) {
    for (int row = 0; row < 64; ++row) {
      if (m.a.empty()) {
        a[row][k] = at(place(m.a_shared, row, k));
      } else {
        const uint32_t word =
            m.a[row / 16 * 32 + row % 8 * 4 + k % 8 / 2].x[row % 16 / 8 + k / 8 * 2];
        a[row][k] = number(uint16_t(k % 2 ? word >> 16 : word), m.bf16);
      }
    }
    for (int column = 0; column < m.n; ++column) {
      b[k][column] = at(m.transposed_b ? place_transposed(m.b, column, k) : place(m.b, column, k));
    }
  }
  for (int row = 0; row < 64; ++row) {
    std::fill(d, d + m.n, 0.0f);
    for (int k = 0; k < 16; ++k) {
      for (int column = 0; column < m.n; ++column) d[column] += a[row][k] * b[k][column];
    }
    for (int column = 0; column < m.n; ++column) {
      const int t = row / 16 * 32 + row % 8 * 4 + column % 8 / 2;
      float& sum = m.d[t][column / 8 * 4 + row % 16 / 8 * 2 + column % 2];
      sum = m.accumulate ? sum + d[column] : d[column];
    }
  }
}

void perform_before(Warpgroup& warpgroup, int group) {
  std::erase_if(warpgroup.pending, [&](const Multiplication& m) {
    if (m.group >= group) return false;
    perform(m);
    return true;
  });
}

Warpgroup& mine() {
  return emulate::block_local<std::map<int, Warpgroup>>()[emulate::thread_rank() / 128];
}

}  // namespace

CUtensorMap make_tensor_map(const Matrix& matrix, int box_rows) {
  if (matrix.stride % 8 != 0 || reinterpret_cast<uintptr_t>(matrix.data) % 16 != 0 ||
      matrix.stride < matrix.columns || matrix.rows < 1 || matrix.columns < 1) {
    throw std::invalid_argument("make_tensor_map: rows must be multiples of 16 bytes");
  }
  if (box_rows < 1 || box_rows > 256)
    throw std::invalid_argument("make_tensor_map: a box has 1 to 256 rows");
  CUtensorMap opaque{};
  const Map map{matrix, box_rows};
  std::memcpy(&opaque, &map, sizeof map);
  return opaque;
}

uint32_t shared_address(const void* pointer) {
  return uint32_t(static_cast<const unsigned char*>(pointer) - emulate::dynamic_shared());
}

void init(Barrier& barrier, int count) {
  state(barrier) = {0, uint32_t(count), uint32_t(count), 0};
}

void arrive(Barrier& barrier) {
  arrive_expecting(barrier, 0);
}

void arrive_expecting(Barrier& barrier, int bytes) {
  emulate::release(&barrier);
  state(barrier).bytes += bytes;
  --state(barrier).missing;
  settle(barrier);
}

void wait(Barrier& barrier, int parity, Where where) {
  emulate::wait_until([&] { return state(barrier).phase != uint32_t(parity); }, where);
  emulate::acquire(&barrier);
}

void load_box(void* shared, const CUtensorMap& opaque, int column, int row, Barrier& barrier,
              Where where) {
  check_box(shared, column, where);
  const Map map = read(opaque);
  const auto base = emulate::dynamic_shared();
  const uint32_t box = shared_address(shared);
  emulate::note_write(shared, map.box_rows * 128);
  each_piece(map, column, row, base, box, [](unsigned char*, const uint16_t* element, int bytes) {
    emulate::note_read(element, bytes);
  });
  emulate::release(&barrier);
  emulate::when_idle([=, &barrier] {
    each_piece(map, column, row, base, box,
               [](unsigned char* to, const uint16_t* element, int bytes) {
                 std::memset(to, 0, 16);
                 if (bytes) std::memcpy(to, element, bytes);
               });
    state(barrier).bytes -= map.box_rows * 128;
    settle(barrier);
  });
}

void multiply(float* d, int n, bool bf16, const uint64_t* a_shared, const ptx::Fragment4* a,
              uint64_t b, bool transposed_b, bool accumulate, Where where) {
  Operand operand{d, a};
  emulate::meet_warpgroup(
      &operand,
      [&](void* const* operands) {
        Multiplication m;
        m.a_shared = a_shared ? *a_shared : 0;
        m.b = b;
        m.n = n;
        m.bf16 = bf16;
        m.transposed_b = transposed_b;
        m.accumulate = accumulate;
        m.shared = emulate::dynamic_shared();
        m.group = mine().group;
        for (int t = 0; t < 128; ++t) {
          const auto* other = static_cast<const Operand*>(operands[t]);
          m.d.push_back(other->d);
          if (other->a) m.a.push_back(*other->a);
        }
        mine().pending.push_back(std::move(m));
        if (emulate::settings.copies == emulate::Copies::early)
          perform_before(mine(), mine().group + 1);
      },
      where);
}

void commit_multiply(Where where) {
  emulate::meet_warpgroup(
      nullptr, [](void* const*) { ++mine().group; }, where);
}

void wait_multiplies(int groups_left, Where where) {
  emulate::meet_warpgroup(
      nullptr, [&](void* const*) { perform_before(mine(), mine().group - groups_left); }, where);
}

}  // namespace chorus::kernels::cuda::hopper
