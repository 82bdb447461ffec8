// What is done where the site's authority is: certificates are given to machines, written down, and taken back.
//
//   issued        "SERIAL NAME", one a line: every certificate that was ever given
//   revoked.pem   the list of those that were taken back; every machine of the site has it
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "net/tls.h"

namespace hearth::cluster {

// The certificate for a machine's request. kInvalidArgument: a machine of that name is in the site, or the name is not allowed.
Result<std::string> issue_certificate(const std::filesystem::path& folder, std::string_view request_pem,
                                      const std::vector<std::string>& hosts = {});
// The names of machines that have a valid certificate, sorted; the broker's and the egress node's identities are not among them.
Result<std::vector<std::string>> site_machines(const std::filesystem::path& folder);
// Takes all certificates of that name back. The broker's users are written anew too.
Result<void> revoke_machine(const std::filesystem::path& folder, const std::string& name);

// The site's list of revoked certificates as this machine has it; empty if there is none.
Result<std::string> read_revoked(const std::filesystem::path& folder);
// Takes a list that came from elsewhere into `revoked`, and keeps it if it is newer than what was known. False: it is not newer.
Result<bool> take_revoked(const std::filesystem::path& folder, Revoked& revoked, std::string_view list_pem);

// Names of machines are shown to people, and are parts of subjects on the bus.
Result<void> check_machine_name(std::string_view machine);
// Identities of the site that are no machines.
inline constexpr std::string_view kBrokerName = "hearth-broker", kEgressName = "hearth-egress";

}  // namespace hearth::cluster
