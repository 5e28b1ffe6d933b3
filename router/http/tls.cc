// OpenSSL on the socket itself: SSL_read and SSL_write do what they can at once and say what they
// wait for, so a session need not know whether its bytes are encrypted. TLS 1.2 and 1.3 with
// forward secrecy and authenticated ciphers, no renegotiation, no compression; the only
// application protocol is http/1.1.
#include "router/http/tls.h"

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <sys/socket.h>

#include <algorithm>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <utility>

#include "process/exit_codes.h"
#include "process/log.h"

namespace chorus::http {
namespace {

using process::ExitCode;
using process::StartError;

constexpr size_t kFileBytesMax = 1 << 20;
constexpr size_t kRecordBytesMax = 16 * 1024;

template <auto Free>
struct Freed {
  template <class T>
  void operator()(T* object) const {
    Free(object);
  }
};
using Bio = std::unique_ptr<BIO, Freed<BIO_free_all>>;
using X509Owner = std::unique_ptr<X509, Freed<X509_free>>;
using KeyOwner = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;
using SslOwner = std::unique_ptr<SSL, Freed<SSL_free>>;

// The last reason of OpenSSL's queue, which is emptied.
std::string reason() {
  const char* text = nullptr;
  while (const unsigned long code = ERR_get_error()) text = ERR_reason_error_string(code);
  return text == nullptr ? "unknown reason" : text;
}

[[noreturn]] void corrupt(std::string_view flag, const std::string& path, const std::string& why) {
  throw StartError(ExitCode::model_corrupt, fmt::format("{}: {}: {}", flag, path, why));
}

std::string read_pem(std::string_view flag, const std::string& path) {
  try {
    return process::read_whole(path, kFileBytesMax);
  } catch (const std::system_error& error) {
    throw StartError(ExitCode::model_missing, fmt::format("{}: {}", flag, error.what()));
  }
}

Bio over(const std::string& text) {
  return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

void use_chain(SSL_CTX* context, const std::string& path) {
  constexpr std::string_view kFlag = "--tls-cert";
  const std::string pem = read_pem(kFlag, path);
  const Bio bio = over(pem);
  const X509Owner own(PEM_read_bio_X509_AUX(bio.get(), nullptr, nullptr, nullptr));
  if (!own) corrupt(kFlag, path, "there is no PEM certificate in it: " + reason());
  if (SSL_CTX_use_certificate(context, own.get()) != 1) corrupt(kFlag, path, reason());
  while (X509* next = PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr)) {
    if (SSL_CTX_add0_chain_cert(context, next) != 1) {
      X509_free(next);
      corrupt(kFlag, path, reason());
    }
  }
  const unsigned long last = ERR_peek_last_error();
  if (last != 0 && ERR_GET_REASON(last) != PEM_R_NO_START_LINE) corrupt(kFlag, path, reason());
  ERR_clear_error();
}

// An encrypted key is refused: nobody is there to be asked for its password.
int no_password(char*, int, int, void*) {
  return -1;
}

void use_key(SSL_CTX* context, const std::string& path) {
  constexpr std::string_view kFlag = "--tls-key";
  std::string pem = read_pem(kFlag, path);
  const KeyOwner key(PEM_read_bio_PrivateKey(over(pem).get(), nullptr, no_password, nullptr));
  OPENSSL_cleanse(pem.data(), pem.size());
  if (!key) corrupt(kFlag, path, "there is no unencrypted PEM key in it: " + reason());
  if (SSL_CTX_use_PrivateKey(context, key.get()) != 1 || SSL_CTX_check_private_key(context) != 1) {
    corrupt(kFlag, path, "it is not the key of the certificate: " + reason());
  }
}

// http/1.1 where the client lists protocols; who wants another one alone is told so.
int choose_protocol(SSL*, const unsigned char** out, unsigned char* out_bytes,
                    const unsigned char* offered, unsigned int offered_bytes, void*) {
  constexpr std::string_view kHttp = "http/1.1";
  for (unsigned int at = 0; at < offered_bytes; at += 1U + offered[at]) {
    if (at + 1 + offered[at] > offered_bytes) break;
    const std::string_view name(reinterpret_cast<const char*>(offered) + at + 1, offered[at]);
    if (name != kHttp) continue;
    *out = offered + at + 1;
    *out_bytes = offered[at];
    return SSL_TLSEXT_ERR_OK;
  }
  return SSL_TLSEXT_ERR_ALERT_FATAL;
}

void set_rules(SSL_CTX* context) {
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_cipher_list(context, "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL");  // of TLS 1.2
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                   SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  // Idle connections keep no record buffers; a write that waited may come again from elsewhere.
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                SSL_MODE_ENABLE_PARTIAL_WRITE);
  SSL_CTX_set_alpn_select_cb(context, choose_protocol, nullptr);
}

class TlsTransport final : public Transport {
 public:
  // SSL_new keeps the context alive.
  TlsTransport(SSL_CTX* context, int socket) : ssl_(SSL_new(context)), socket_(socket) {
    if (!ssl_ || SSL_set_fd(ssl_.get(), socket) != 1) {
      throw std::runtime_error("TLS cannot begin: " + reason());
    }
    SSL_set_accept_state(ssl_.get());
  }

  Moved open() override {
    ERR_clear_error();
    const int result = SSL_do_handshake(ssl_.get());
    if (result == 1) return {};
    const bool plain = ERR_GET_REASON(ERR_peek_error()) == SSL_R_HTTP_REQUEST;
    const Moved moved = outcome(result);
    if (plain && moved.ended) answer_plainly();
    return moved;
  }

  Moved read(std::span<char> space) override {
    ERR_clear_error();
    size_t bytes = 0;
    const int result = SSL_read_ex(ssl_.get(), space.data(), space.size(), &bytes);
    if (result == 1) return {.bytes = bytes};
    return outcome(result);
  }

  // One record for all of them, as far as a record reaches.
  Moved write(std::span<const boost::asio::const_buffer> buffers) override {
    thread_local std::string gathered;  // not one for each idle connection
    gathered.clear();
    for (const auto& buffer : buffers) {
      const size_t room = kRecordBytesMax - gathered.size();
      gathered.append(static_cast<const char*>(buffer.data()), std::min(buffer.size(), room));
    }
    ERR_clear_error();
    size_t bytes = 0;
    const int result = SSL_write_ex(ssl_.get(), gathered.data(), gathered.size(), &bytes);
    if (result == 1) return {.bytes = bytes};
    return outcome(result);
  }

  void end() override {
    if (!failed_ && SSL_is_init_finished(ssl_.get()) == 1) SSL_shutdown(ssl_.get());
    ERR_clear_error();
  }

 private:
  Moved outcome(int result) {
    switch (SSL_get_error(ssl_.get(), result)) {
      case SSL_ERROR_WANT_READ:
        return {.until = Waiting::readable};
      case SSL_ERROR_WANT_WRITE:
        return {.until = Waiting::writable};
      case SSL_ERROR_ZERO_RETURN:
        return {.ended = true};
      default:
        break;
    }
    failed_ = true;  // after these OpenSSL wants no further call
    return {.ended = true};
  }

  void answer_plainly() const {
    constexpr std::string_view kAnswer =
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 30\r\n"
        "Connection: close\r\n\r\nThis port speaks HTTPS alone.\n";
    // Whether it arrives is the client's concern.
    [[maybe_unused]] const auto sent =
        ::send(socket_, kAnswer.data(), kAnswer.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  }

  SslOwner ssl_;
  int socket_;
  bool failed_ = false;
};

}  // namespace

Certificate::Certificate(std::string chain, std::string key)
    : chain_(std::move(chain)), key_(std::move(key)) {
  chain_.changed(Clock::now());
  key_.changed(Clock::now());
  context_ = load();
}

Certificate::Context Certificate::load() const {
  ERR_clear_error();
  Context context(SSL_CTX_new(TLS_server_method()), SSL_CTX_free);
  if (!context) throw StartError(ExitCode::fault, "TLS cannot begin: " + reason());
  set_rules(context.get());
  use_chain(context.get(), chain_.path());
  use_key(context.get(), key_.path());
  return context;
}

Certificate::Context Certificate::current(Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  const bool chain_changed = chain_.changed(now);
  const bool key_changed = key_.changed(now);
  if (chain_changed || key_changed) {
    try {
      context_ = load();
      process::log_info("read {} and {} again", chain_.path(), key_.path());
    } catch (const StartError& error) {
      process::log_error("{}; the certificate read before stays in force", error.what());
    }
  }
  return context_;
}

std::unique_ptr<Transport> Certificate::make_transport(int socket, Clock::time_point now) {
  return std::make_unique<TlsTransport>(current(now).get(), socket);
}

}  // namespace chorus::http
