// The emulated twins of hopper.h. A tensor copy lands at once, or (Copies::late) only when no
// thread can go on without it; a multiplication reads its operands at once, or only when waited
// for. Between the two lies everything the hardware may do, so a missing wait or an early reuse
// shows.
#include "kernels/cuda/hopper.h"

#include <map>
#include <vector>

#include "kernels/half.h"

namespace chorus::kernels::cuda::hopper {
namespace {

// What the 128 opaque bytes of a CUtensorMap hold here.
struct Map {
  Matrix matrix;
  int box_rows;
};
static_assert(sizeof(Map) <= sizeof(CUtensorMap));

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
}

uint32_t swizzle(uint32_t address) {
  return address ^ (address >> 7 & 7) << 4;
}

// Row `row`, column `k` of the operand behind a descriptor.
float element(uint64_t descriptor, DType type, int row, int k) {
  uint32_t start = (descriptor & 0x3fff) << 4, eight_rows = (descriptor >> 32 & 0x3fff) << 4;
  uint32_t address = swizzle(start + row / 8 * eight_rows + row % 8 * 128 + k * 2);
  uint16_t bits;
  std::memcpy(&bits, emulate::dynamic_shared() + address, sizeof bits);
  return type == DType::f16 ? f16_to_f32(bits) : bf16_to_f32(bits);
}

struct Multiplication {
  std::vector<float*> d;  // by thread of the warpgroup
  int columns;
  DType type;
  uint64_t a, b;
  bool add;
  int group;
};
struct Warpgroup {
  std::vector<Multiplication> pending;
  int group = 0;
};
std::map<int, Warpgroup> warpgroups;

// Thread t holds rows 16 * (t / 32) + t % 32 / 4 (+ 8), columns 8j + t % 4 * 2 (+ 1).
void perform(const Multiplication& m) {
  static float a[64][16], b[256][16];
  for (int k = 0; k < 16; ++k) {
    for (int row = 0; row < 64; ++row) a[row][k] = element(m.a, m.type, row, k);
    for (int row = 0; row < m.columns; ++row) b[row][k] = element(m.b, m.type, row, k);
  }
  for (int t = 0; t < 128; ++t) {
    for (int i = 0; i < m.columns / 2; ++i) {
      const int row = t / 32 * 16 + t % 32 / 4 + i / 2 % 2 * 8;
      const int column = i / 4 * 8 + t % 4 * 2 + i % 2;
      float sum = 0;
      for (int k = 0; k < 16; ++k) sum += a[row][k] * b[column][k];
      m.d[t][i] = m.add ? m.d[t][i] + sum : sum;
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
  return warpgroups[emulate::thread_rank() / 128];
}

}  // namespace

CUtensorMap make_tensor_map(const Matrix& matrix, int box_rows) {
  if (matrix.stride % 8 != 0 || reinterpret_cast<uintptr_t>(matrix.data) % 16 != 0) {
    throw std::invalid_argument("make_tensor_map: rows must start at multiples of 16 bytes");
  }
  if (box_rows > 256) throw std::invalid_argument("make_tensor_map: more than 256 rows a box");
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
  emulate::note_progress();
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
  if (shared_address(shared) % 1024 != 0)
    emulate::fail("load_box: a swizzled box starts at 1024 bytes", where);
  Map map;
  std::memcpy(static_cast<void*>(&map), &opaque, sizeof map);
  emulate::note_write(shared, map.box_rows * 128);
  emulate::release(&barrier);
  emulate::when_idle([=, &barrier] {
    const auto* elements = static_cast<const uint16_t*>(map.matrix.data);
    for (int r = 0; r < map.box_rows; ++r) {
      for (int c = 0; c < 64; ++c) {
        const bool inside = row + r < map.matrix.rows && column + c < map.matrix.columns;
        const uint16_t bits =
            inside ? elements[int64_t{row + r} * map.matrix.stride + column + c] : uint16_t{0};
        const uint32_t address = swizzle(shared_address(shared) + r * 128 + c * 2);
        std::memcpy(emulate::dynamic_shared() + address, &bits, sizeof bits);
      }
    }
    state(barrier).bytes -= map.box_rows * 128;
    settle(barrier);
  });
}

void multiply_emulated(float* d, int columns, DType type, uint64_t a, uint64_t b, bool add,
                       Where where) {
  emulate::meet_warpgroup(
      d,
      [=](void* const* operands) {
        Multiplication m{{}, columns, type, a, b, add, mine().group};
        for (int t = 0; t < 128; ++t) m.d.push_back(static_cast<float*>(operands[t]));
        mine().pending.push_back(m);
        if (emulate::settings.copies == emulate::Copies::early)
          perform_before(mine(), mine().group + 1);
      },
      where);
}

void multiply_m64n64k16(float (&d)[32], uint64_t a, uint64_t b, Where where) {
  multiply_emulated(d, 64, DType::bf16, a, b, true, where);
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
