#include "cluster/authority.h"

#include <algorithm>

#include "base/limits.h"
#include "base/mapped_file.h"
#include "cluster/broker.h"

namespace hearth::cluster {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMachinesMax = 1024;  // certificates that one authority gives

struct Issued {
  std::string serial, name;
};

Result<void> write_text(const fs::path& path, std::string_view text) {
  return write_file_atomically(path, std::as_bytes(std::span(text)), 0600);
}

Result<std::vector<Issued>> read_issued(const fs::path& folder) {
  std::vector<Issued> all;
  std::error_code error;
  if (!fs::exists(folder / "issued", error)) return all;
  const std::string text = TRY(read_file(folder / "issued", kMachinesMax * 256));
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    const size_t space = line.find(' ');
    if (space == std::string::npos)
      return fail(Code::kCorrupt, "{}: \"{}\" is not SERIAL NAME", (folder / "issued").string(), line);
    all.push_back({.serial = line.substr(0, space), .name = line.substr(space + 1)});
    begin = end + 1;
  }
  return all;
}

Result<std::shared_ptr<Revoked>> known_revoked(const fs::path& folder) {
  auto revoked = std::make_shared<Revoked>();
  const std::string list = TRY(read_revoked(folder));
  if (!list.empty()) TRY(revoked->take(folder / "authority.pem", list));
  return revoked;
}

Result<std::vector<Issued>> valid(const fs::path& folder) {
  std::vector<Issued> all = TRY(read_issued(folder));
  const auto revoked = TRY(known_revoked(folder));
  std::erase_if(all, [&](const Issued& each) { return revoked->has(each.serial); });
  return all;
}

}  // namespace

Result<void> check_machine_name(std::string_view machine) {
  const auto allowed = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_' ||
           c == '.';
  };
  const bool dots = machine.starts_with('.') || machine.ends_with('.') || machine.contains("..");
  if (machine.empty() || machine.size() > 63 || dots || !std::ranges::all_of(machine, allowed))
    return fail(Code::kInvalidArgument,
                "the name of a machine has 1 to 63 letters, digits, '-', '_' or, between others, '.'");
  return {};
}

Result<std::string> issue_certificate(const fs::path& folder, std::string_view request_pem,
                                      const std::vector<std::string>& hosts) {
  const std::string signed_pem =
      TRY(sign_request(folder / "authority.pem", folder / "authority.key", request_pem, hosts));
  const CertificateName made = TRY(certificate_name(signed_pem));
  TRY(check_machine_name(made.name));
  const std::vector<Issued> now = TRY(valid(folder));
  if (std::ranges::find(now, made.name, &Issued::name) != now.end())
    return fail(Code::kInvalidArgument,
                "the site has a machine named {}; choose another name (--name), or take that one's certificate back "
                "first: hearth cluster revoke {}",
                made.name, made.name);
  const std::vector<Issued> before = TRY(read_issued(folder));
  if (before.size() >= kMachinesMax)
    return fail(Code::kLimit, "the site gave {} certificates; it may give no more", before.size());
  std::string text;
  for (const Issued& each : before) text += fmt::format("{} {}\n", each.serial, each.name);
  TRY(write_text(folder / "issued", fmt::format("{}{} {}\n", text, made.serial, made.name)));
  TRY(write_broker_users(folder));
  return signed_pem;
}

Result<std::vector<std::string>> site_machines(const fs::path& folder) {
  std::vector<std::string> names;
  for (const Issued& each : TRY(valid(folder)))
    if (each.name != kBrokerName && each.name != kEgressName) names.push_back(each.name);
  std::ranges::sort(names);
  return names;
}

Result<void> revoke_machine(const fs::path& folder, const std::string& name) {
  std::error_code error;
  if (!fs::exists(folder / "authority.key", error))
    return fail(Code::kNotFound, "{}: the authority's key is not here; revoke where `hearth cluster init` was run",
                folder.string());
  const auto revoked = TRY(known_revoked(folder));
  std::vector<std::string> serials = revoked->serials();
  const size_t before = serials.size();
  for (const Issued& each : TRY(valid(folder)))
    if (each.name == name) serials.push_back(each.serial);
  if (serials.size() == before)
    return fail(Code::kNotFound, "no machine named {} has a certificate of this site", name);
  const std::string list =
      TRY(sign_revoked(folder / "authority.pem", folder / "authority.key", serials, revoked->number() + 1));
  TRY(write_text(folder / "revoked.pem", list));
  return write_broker_users(folder);
}

Result<std::string> read_revoked(const fs::path& folder) {
  std::error_code error;
  if (!fs::exists(folder / "revoked.pem", error)) return std::string();
  return read_file(folder / "revoked.pem", limits::kPemBytes);
}

Result<bool> take_revoked(const fs::path& folder, Revoked& revoked, std::string_view list_pem) {
  if (!TRY(revoked.take(folder / "authority.pem", list_pem))) return false;
  TRY(write_text(folder / "revoked.pem", list_pem));
  return true;
}

}  // namespace hearth::cluster
