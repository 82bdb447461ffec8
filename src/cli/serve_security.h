// What `hearth serve` needs before it listens where others can reach it: keys and a certificate.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "net/http_server.h"
#include "vault/key.h"

namespace hearth::cli {

struct SecurityOptions {
  std::vector<std::string> listen{};  // empty: 127.0.0.1:8080
  bool ollama = false;                // 127.0.0.1:11434, too
  std::filesystem::path key_file{};   // empty: keys.json in serve_folder()
  std::filesystem::path certificate{}, certificate_key{};
  bool self_signed = false;      // TLS with a certificate of our own on every address
  bool insecure_no_tls = false;  // no TLS where others can reach us
  std::vector<std::string> allow_hosts{};
};

// $HEARTH_HOME/serve, mode 0700.
std::filesystem::path serve_folder();
// The key that seals what is kept of prompts and batches.
Result<Key> storage_key();
std::filesystem::path key_file(const SecurityOptions& options);

// The certificate as the files have it now; null if none is wanted.
Result<std::shared_ptr<TlsContext>> load_certificate(const SecurityOptions& options);

// Addresses with TLS where it belongs. An address that others can reach makes a certificate and a first key where there is
// none; the key is shown on stderr, this once.
Result<void> secure(const SecurityOptions& options, HttpServerOptions& http);

// The names and addresses this machine may be called by.
std::vector<std::string> own_names(const SecurityOptions& options);

}  // namespace hearth::cli
