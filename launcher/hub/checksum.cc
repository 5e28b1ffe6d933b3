#include "launcher/hub/checksum.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <memory>
#include <system_error>
#include <vector>

#include "launcher/processes/descriptor.h"

namespace chorus::launcher {
namespace {

constexpr size_t kSliceBytes = 1 << 20;

bool is_hexadecimal(const std::string& text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

class Digest {
 public:
  explicit Digest(const EVP_MD* kind) : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
    check(context_ != nullptr && EVP_DigestInit_ex(context_.get(), kind, nullptr) == 1);
  }
  void add(const void* bytes, size_t size) {
    check(EVP_DigestUpdate(context_.get(), bytes, size) == 1);
  }
  std::string hexadecimal() {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
    unsigned size = 0;
    check(EVP_DigestFinal_ex(context_.get(), digest.data(), &size) == 1);
    std::string text;
    for (unsigned i = 0; i < size; ++i) text += fmt::format("{:02x}", digest[i]);
    return text;
  }

 private:
  static void check(bool ok) {
    if (!ok) throw std::runtime_error("OpenSSL cannot compute a checksum");
  }
  std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context_;
};

}  // namespace

ChecksumKind checksum_kind(const std::string& etag) {
  if (!is_hexadecimal(etag)) return ChecksumKind::none;
  if (etag.size() == 64) return ChecksumKind::sha256;
  return etag.size() == 40 ? ChecksumKind::git_sha1 : ChecksumKind::none;
}

std::string checksum_of(const std::filesystem::path& file, int64_t size, ChecksumKind kind,
                        const std::atomic<bool>& stop) {
  assert(kind != ChecksumKind::none);
  const Descriptor fd(open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.open()) throw std::system_error(errno, std::generic_category(), file.string());
  Digest digest(kind == ChecksumKind::sha256 ? EVP_sha256() : EVP_sha1());
  if (kind == ChecksumKind::git_sha1) {
    const std::string head = fmt::format("blob {}", size);
    digest.add(head.c_str(), head.size() + 1);  // git hashes the closing zero too
  }
  std::vector<char> slice(kSliceBytes);
  for (int64_t at = 0; at < size;) {
    if (stop) return "";
    const auto wanted = std::min<int64_t>(size - at, static_cast<int64_t>(slice.size()));
    const ssize_t got = pread(fd.get(), slice.data(), static_cast<size_t>(wanted), at);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0)
      throw std::system_error(got < 0 ? errno : EIO, std::generic_category(), file.string());
    digest.add(slice.data(), static_cast<size_t>(got));
    at += got;
  }
  return digest.hexadecimal();
}

}  // namespace chorus::launcher
