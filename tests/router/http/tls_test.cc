// TLS as clients meet it: OpenSSL's client on a blocking socket, certificates made on the spot.
#include "router/http/tls.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <atomic>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <catch2/catch.hpp>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include "process/exit_codes.h"
#include "router/http/server.h"
#include "tests/router/http/client.h"
#include "tests/router/http/echo.h"

namespace chorus {
namespace {

using http_test::Client;
using std::chrono::milliseconds;

class Files {
 public:
  Files() {
    std::signal(SIGPIPE, SIG_IGN);  // as chorus-router does: OpenSSL writes without MSG_NOSIGNAL
    std::string name = std::filesystem::temp_directory_path() / "chorus-XXXXXX";
    folder_ = mkdtemp(name.data());
  }
  ~Files() { std::filesystem::remove_all(folder_); }

  std::string path(const std::string& name) const { return folder_ / name; }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(path(name)) << text;
  }
  // A key in <name>.key and a certificate of its own for it, named `subject`, in <name>.pem.
  void make(const std::string& name, const std::string& subject) const {
    EVP_PKEY* key = EVP_EC_gen("P-256");
    X509* certificate = X509_new();
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -60);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>(subject.c_str()), -1, -1, 0);
    X509_sign(certificate, key, EVP_sha256());
    FILE* file = std::fopen(path(name + ".pem").c_str(), "w");
    PEM_write_X509(file, certificate);
    std::fclose(file);
    file = std::fopen(path(name + ".key").c_str(), "w");
    PEM_write_PrivateKey(file, key, nullptr, nullptr, 0, nullptr, nullptr);
    std::fclose(file);
    X509_free(certificate);
    EVP_PKEY_free(key);
  }

 private:
  std::filesystem::path folder_;
};

class TlsClient {
 public:
  explicit TlsClient(uint16_t port, int version_max = TLS1_3_VERSION,
                     const std::string& protocols = "")
      : context_(SSL_CTX_new(TLS_client_method())), ssl_(nullptr) {
    SSL_CTX_set_max_proto_version(context_, version_max);
    SSL_CTX_set_security_level(context_, 0);
    ssl_ = SSL_new(context_);
    if (!protocols.empty()) {
      SSL_set_alpn_protos(ssl_, reinterpret_cast<const unsigned char*>(protocols.data()),
                          static_cast<unsigned int>(protocols.size()));
    }
    fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const timeval patience{.tv_sec = 20, .tv_usec = 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
      throw std::runtime_error("cannot connect");
    }
    SSL_set_fd(ssl_, fd_);
    connected_ = SSL_connect(ssl_) == 1;
  }
  ~TlsClient() {
    close();
    SSL_free(ssl_);
    SSL_CTX_free(context_);
    ERR_clear_error();
  }
  TlsClient(const TlsClient&) = delete;
  TlsClient& operator=(const TlsClient&) = delete;

  bool connected() const { return connected_; }
  std::string version() const { return SSL_get_version(ssl_); }
  std::string protocol() const {
    const unsigned char* name = nullptr;
    unsigned int bytes = 0;
    SSL_get0_alpn_selected(ssl_, &name, &bytes);
    return std::string(reinterpret_cast<const char*>(name), bytes);
  }
  std::string subject() const {
    X509* peer = SSL_get1_peer_certificate(ssl_);
    char name[256] = {};
    X509_NAME_get_text_by_NID(X509_get_subject_name(peer), NID_commonName, name, sizeof name);
    X509_free(peer);
    return name;
  }

  void send(std::string_view bytes) {
    SSL_write(ssl_, bytes.data(), static_cast<int>(bytes.size()));
  }
  // What has come up to and with `last`; less where the connection ends before.
  std::string read_until(const std::string& last) {
    std::string all;
    char part[16384];
    while (all.find(last) == std::string::npos) {
      const int bytes = SSL_read(ssl_, part, sizeof part);
      if (bytes <= 0) break;
      all.append(part, static_cast<size_t>(bytes));
    }
    return all;
  }
  bool ended_in_order() {  // by the server's close_notify
    char byte = 0;
    return SSL_get_error(ssl_, SSL_read(ssl_, &byte, 1)) == SSL_ERROR_ZERO_RETURN;
  }
  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }

 private:
  SSL_CTX* context_;
  SSL* ssl_;
  int fd_ = -1;
  bool connected_ = false;
};

std::string get(const std::string& path, const std::string& lines = "") {
  return "GET " + path + " HTTP/1.1\r\nHost: x\r\n" + lines + "\r\n";
}

http::ServerOptions options_with(const Files& files, const std::string& name) {
  http::ServerOptions options{.address = "127.0.0.1", .port = 0};
  options.certificate =
      std::make_shared<http::Certificate>(files.path(name + ".pem"), files.path(name + ".key"));
  return options;
}

std::string refusal(const std::string& chain, const std::string& key) {
  try {
    http::Certificate certificate(chain, key);
  } catch (const process::StartError& error) {
    return std::to_string(static_cast<int>(error.code())) + " " + error.what();
  }
  return "(accepted)";
}

}  // namespace

TEST_CASE("requests of any cut are answered over TLS, and the end is announced") {
  const Files files;
  files.make("a", "chorus");
  http::Server server(options_with(files, "a"), http_test::echo);
  TlsClient client(server.port());
  REQUIRE(client.connected());
  CHECK(client.version() == "TLSv1.3");
  client.send(get("/1") + get("/2"));
  CHECK(client.read_until("/2").find("\"/1\"") != std::string::npos);
  for (char c : get("/3")) client.send(std::string_view(&c, 1));
  CHECK(client.read_until("/3").find("200 OK") != std::string::npos);
  const std::string body(300'000, 'x');
  client.send("POST /4 HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\nConnection: close\r\n\r\n");
  client.send(body);
  CHECK(client.read_until("\"/4\"").find(body) != std::string::npos);
  CHECK(client.read_until("nothing").find("POST") == std::string::npos);
  CHECK(client.ended_in_order());
}

TEST_CASE("TLS 1.2 is the oldest spoken, and http/1.1 the only protocol") {
  const Files files;
  files.make("a", "chorus");
  http::Server server(options_with(files, "a"), http_test::echo);
  CHECK(TlsClient(server.port(), TLS1_2_VERSION).version() == "TLSv1.2");
  CHECK_FALSE(TlsClient(server.port(), TLS1_1_VERSION).connected());
  CHECK(TlsClient(server.port(), TLS1_3_VERSION, "\x02h2\x08http/1.1").protocol() == "http/1.1");
  CHECK_FALSE(TlsClient(server.port(), TLS1_3_VERSION, "\x02h2").connected());
}

TEST_CASE("who does not begin TLS is closed, and plain HTTP is told why") {
  const Files files;
  files.make("a", "chorus");
  auto options = options_with(files, "a");
  options.limits.head_time = milliseconds(100);
  http::Server server(options, http_test::echo);
  Client silent(server.port());
  CHECK(silent.at_end());
  Client plain(server.port());
  plain.send(get("/a"));
  const auto answer = plain.read();
  REQUIRE(answer);
  CHECK(answer->status == 400);
  CHECK(answer->body == "This port speaks HTTPS alone.\n");
}

namespace {

std::atomic<int> left = 0;

// Waits until the client is gone.
api::Task<> waits(api::Exchange& exchange) {
  boost::asio::steady_timer timer(co_await boost::asio::this_coro::executor);
  timer.expires_after(std::chrono::seconds(20));
  exchange.watch([&] { timer.cancel(); });
  auto [error] = co_await timer.async_wait(boost::asio::as_tuple(boost::asio::use_awaitable));
  if (error) ++left;
}

}  // namespace

TEST_CASE("a client that leaves in mid-request is noticed over TLS too") {
  const Files files;
  files.make("a", "chorus");
  http::Server server(options_with(files, "a"), waits);
  left = 0;
  {
    TlsClient client(server.port());
    client.send(get("/a"));
    TlsClient pipelining(server.port());
    pipelining.send(get("/a") + get("/b"));
  }
  for (int i = 0; i < 2000 && left < 2; ++i) std::this_thread::sleep_for(milliseconds(5));
  CHECK(left == 2);
}

TEST_CASE("a certificate is renewed on change, without harm to connections or by broken files") {
  const Files files;
  files.make("a", "old");
  http::Certificate certificate(files.path("a.pem"), files.path("a.key"));
  auto now = http::Certificate::Clock::now();
  const auto subject_now = [&] {
    now += std::chrono::seconds(1);
    int ends[2];
    ::socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
    const auto transport = certificate.make_transport(ends[0], now);
    std::thread server([&] {
      while (transport->open().until != http::Waiting::none) {
      }
    });
    SSL_CTX* context = SSL_CTX_new(TLS_client_method());
    SSL* ssl = SSL_new(context);
    SSL_set_fd(ssl, ends[1]);
    char name[256] = {};
    if (SSL_connect(ssl) == 1) {
      X509* peer = SSL_get1_peer_certificate(ssl);
      X509_NAME_get_text_by_NID(X509_get_subject_name(peer), NID_commonName, name, sizeof name);
      X509_free(peer);
    }
    server.join();
    SSL_free(ssl);
    SSL_CTX_free(context);
    for (const int fd : ends) ::close(fd);
    return std::string(name);
  };
  CHECK(subject_now() == "old");
  files.write("a.pem", "no certificate");
  CHECK(subject_now() == "old");
  files.make("a", "new");
  CHECK(subject_now() == "new");
  files.make("b", "other");
  std::filesystem::copy_file(files.path("b.key"), files.path("a.key"),
                             std::filesystem::copy_options::overwrite_existing);
  CHECK(subject_now() == "new");  // the key is not the certificate's yet
  std::filesystem::copy_file(files.path("b.pem"), files.path("a.pem"),
                             std::filesystem::copy_options::overwrite_existing);
  CHECK(subject_now() == "other");
}

TEST_CASE("files that are no certificate and key are refused by name") {
  const Files files;
  files.make("a", "a");
  files.make("b", "b");
  files.write("empty", "");
  CHECK(refusal(files.path("a.pem"), files.path("a.key")) == "(accepted)");
  CHECK(refusal(files.path("none"), files.path("a.key")) ==
        "66 --tls-cert: " + files.path("none") + ": No such file or directory");
  CHECK(refusal(files.path("a.pem"), files.path("none")) ==
        "66 --tls-key: " + files.path("none") + ": No such file or directory");
  CHECK(refusal(files.path("empty"), files.path("a.key"))
            .starts_with("65 --tls-cert: " + files.path("empty") + ": there is no PEM cert"));
  CHECK(refusal(files.path("a.pem"), files.path("empty"))
            .starts_with("65 --tls-key: " + files.path("empty") + ": there is no unencrypted"));
  CHECK(refusal(files.path("a.pem"), files.path("b.key"))
            .starts_with("65 --tls-key: " + files.path("b.key") + ": it is not the key of"));
}

}  // namespace chorus
