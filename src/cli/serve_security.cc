#include "cli/serve_security.h"

#include <unistd.h>

#include <algorithm>
#include <array>

#include "cli/settings.h"
#include "store/key_ring.h"

namespace hearth::cli {
namespace {

bool wants_tls(const SecurityOptions& options, const ListenAddress& address) {
  if (!address.unix_path.empty()) return false;
  if (options.self_signed || !options.certificate.empty()) return true;
  return !address.loopback() && !options.insecure_no_tls;
}

Result<std::vector<ListenAddress>> addresses(const SecurityOptions& options) {
  std::vector<std::string> texts = options.listen;
  if (texts.empty()) texts.emplace_back("127.0.0.1:8080");
  if (options.ollama) texts.emplace_back("127.0.0.1:11434");
  std::vector<ListenAddress> parsed;
  for (const std::string& text : texts) parsed.push_back(TRY(parse_listen_address(text)));
  return parsed;
}

Result<void> need_key(const SecurityOptions& options) {
  KeyRing keys = TRY(KeyRing::open(key_file(options)));
  if (!keys.entries().empty()) return {};
  KeyRights rights;
  rights.admin = true;
  const std::string key = TRY(keys.add("first", rights));
  fmt::print(stderr,
             "Others can reach this server, so they need a key. This is the first, shown only now:\n  {}\n"
             "More: hearth key add NAME\n",
             key);
  return {};
}

}  // namespace

std::filesystem::path serve_folder() {
  const std::filesystem::path folder = home_folder() / "serve";
  std::error_code ignored;
  std::filesystem::create_directories(folder, ignored);
  std::filesystem::permissions(folder, std::filesystem::perms::owner_all, ignored);
  return folder;
}

Result<Key> storage_key() { return Key::load_or_create(serve_folder() / "storage.key"); }

std::filesystem::path key_file(const SecurityOptions& options) {
  return options.key_file.empty() ? serve_folder() / "keys.json" : options.key_file;
}

std::vector<std::string> own_names(const SecurityOptions& options) {
  std::vector<std::string> names = options.allow_hosts;
  std::array<char, 256> host{};
  if (::gethostname(host.data(), host.size() - 1) == 0 && host[0] != '\0') {
    names.emplace_back(host.data());
    names.push_back(std::string(host.data()) + ".local");
  }
  for (const std::string& text : options.listen) {
    if (const auto address = parse_listen_address(text); address && !address->host.empty())
      names.push_back(address->host);
  }
  return names;
}

Result<std::shared_ptr<TlsContext>> load_certificate(const SecurityOptions& options) {
  if (options.certificate.empty() != options.certificate_key.empty())
    return fail(Code::kInvalidArgument, "--tls-cert and --tls-key belong together");
  if (!options.certificate.empty()) return TlsContext::load(options.certificate, options.certificate_key);
  const std::vector<ListenAddress> all = TRY(addresses(options));
  if (std::ranges::none_of(all, [&](const ListenAddress& each) { return wants_tls(options, each); })) return nullptr;
  const std::filesystem::path certificate = serve_folder() / "certificate.pem", key = serve_folder() / "key.pem";
  if (!std::filesystem::exists(certificate) || !std::filesystem::exists(key)) {
    std::vector<std::string> names = own_names(options);
    names.insert(names.end(), {"localhost", "127.0.0.1", "::1"});
    TRY(write_self_signed(certificate, key, names));
  }
  return TlsContext::load(certificate, key);
}

Result<void> secure(const SecurityOptions& options, HttpServerOptions& http) {
  http.tls = TRY(load_certificate(options));
  for (const ListenAddress& address : TRY(addresses(options)))
    http.listen.push_back({.address = address, .tls = wants_tls(options, address)});
  if (std::ranges::any_of(http.listen, [](const auto& each) { return !each.address.loopback(); }))
    TRY(need_key(options));
  return {};
}

}  // namespace hearth::cli
