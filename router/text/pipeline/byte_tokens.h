// The tokens <0x00> to <0xFF>, which spell characters that a vocabulary lacks.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace chorus::text {

class ByteTokens {
 public:
  explicit ByteTokens(const std::vector<std::string>& tokens);

  int32_t of(char byte) const { return ids_[static_cast<unsigned char>(byte)]; }  // -1: none
  bool spell(std::string_view text) const;  // whether all of its bytes have a token

 private:
  std::array<int32_t, 256> ids_;
};

// The byte of "<0x41>", or -1. As in the reference's decoder, digits may be of either case and the
// first may be a plus sign.
int byte_of_token(std::string_view token);

}  // namespace chorus::text
