// Checksums as the hub names them: SHA-256 of large files, git's SHA-1 of small ones.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <string>

namespace chorus::launcher {

enum class ChecksumKind { sha256, git_sha1, none };

// By its form: 64 hexadecimal digits, 40, or something that is no checksum.
ChecksumKind checksum_kind(const std::string& etag);

// Of the file's first `size` bytes, in hexadecimal; empty once `stop` is set. Any thread. Throws
// std::system_error where the file cannot be read that far.
std::string checksum_of(const std::filesystem::path& file, int64_t size, ChecksumKind kind,
                        const std::atomic<bool>& stop);

}  // namespace chorus::launcher
