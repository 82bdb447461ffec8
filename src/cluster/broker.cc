#include "cluster/broker.h"

#include <signal.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "base/limits.h"
#include "base/log.h"
#include "base/mapped_file.h"
#include "base/system_file.h"
#include "cluster/authority.h"
#include "net/relay.h"

namespace hearth::cluster {
namespace {

namespace fs = std::filesystem;

Result<void> write_text(const fs::path& path, std::string_view text) {
  return write_file_atomically(path, std::as_bytes(std::span(text)), 0600);
}

// Whatever is put between quotes in a configuration.
Result<void> check_quotable(std::string_view text) {
  if (text.find_first_of("\"\\\n\r") == std::string_view::npos) return {};
  return fail(Code::kInvalidArgument,
              "{}: a quote, backslash or end of line cannot stand in the broker's configuration", text);
}

Result<void> make_identity(const fs::path& folder, std::string_view name, const std::string& file,
                           const std::vector<std::string>& hosts) {
  const CertificateRequest request = TRY(make_request(std::string(name)));
  const std::string certificate = TRY(issue_certificate(folder, request.request_pem, hosts));
  TRY(write_text(folder / "broker" / (file + ".key"), request.key_pem));
  return write_text(folder / "broker" / (file + ".pem"), certificate);
}

std::string tls_block(const fs::path& folder, std::string_view identity, std::string_view more) {
  const std::string broker = (folder / "broker").string();
  return fmt::format(R"({{ cert_file: "{0}/{1}.pem", key_file: "{0}/{1}.key", ca_file: "{2}", {3}timeout: 5 }})",
                     broker, identity, (folder / "authority.pem").string(), more);
}

constexpr std::string_view kKnownMachines = "verify_and_map: true, min_version: \"1.3\", ";

// What a machine may say: its own heartbeats, leases, jobs. Streams it may make anew, for a broker can lose them; not delete.
std::string machine_user(const std::string& name) {
  std::string streams;
  for (const std::string_view stream : {"KV_hearth_nodes", "KV_hearth_leases", "hearth_jobs"}) {
    for (const std::string_view call : {"STREAM.CREATE.", "STREAM.INFO.", "STREAM.MSG.GET.", "DIRECT.GET."})
      streams += fmt::format("\"$JS.API.{}{}\", ", call, stream);
    for (const std::string_view call : {"DIRECT.GET.", "CONSUMER.CREATE.", "CONSUMER.DURABLE.CREATE.",
                                        "CONSUMER.DELETE.", "CONSUMER.INFO.", "CONSUMER.MSG.NEXT."})
      streams += fmt::format("\"$JS.API.{}{}.>\", ", call, stream);
    streams += fmt::format("\"$JS.API.CONSUMER.CREATE.{0}\",\n        ", stream);
  }
  return fmt::format(
      R"(      {{ user: "CN={0}", permissions: {{
        publish: {{ allow: ["hearth.beat.{0}", "hearth.hello", "hearth.revoked", "hearth.jobs.>", "up.>", "{2}",
        "$KV.hearth_nodes.{0}.>", "$KV.hearth_leases.>", "$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.ACK.>", "$JS.FC.>",
        {1}"_INBOX.>"], deny: ["cloud.>"] }}
        subscribe: {{ allow: ["hearth.>", "up.>", "_INBOX.{0}.>"], deny: ["cloud.>"] }} }} }}
)",
      name, streams, Relay::subjects_from(name));
}

std::string accounts(const std::vector<std::string>& machines) {
  std::string users;
  for (const std::string& name : machines) users += machine_user(name);
  return fmt::format(R"(# Written anew by `hearth cluster invite` and `hearth cluster revoke`.
accounts {{
  SITE {{
    jetstream: enabled
    users: [
{}    ]
  }}
  CLOUD {{  # what only the site's egress may say; no machine's account sees it
    users: [
      {{ user: "CN={}", permissions: {{ publish: ["cloud.>", "_INBOX.>"], subscribe: ["cloud.>", "_INBOX.>"] }} }}
    ]
  }}
}}
)",
                     users, kEgressName);
}

// The link to a hub: dialled from here, so that a site behind a firewall needs nothing open. Only `up.>` leaves the site, and
// `cloud.>` in an account and with an identity of its own.
std::string leaf_block(const fs::path& folder, const std::string& hub) {
  return fmt::format(R"(leafnodes {{
  reconnect: 2
  remotes: [
    {{ url: "tls://{0}", account: SITE, tls {1},
      deny_imports: ["hearth.>", "$KV.>"], deny_exports: ["hearth.>", "$KV.>"] }}
    {{ url: "tls://{0}", account: CLOUD, tls {2} }}
  ]
}}
)",
                     hub, tls_block(folder, "broker", ""), tls_block(folder, "egress", ""));
}

std::string server_block(const fs::path& folder, std::string_view name, std::string_view listen,
                         const fs::path& streams, std::string_view pid_file) {
  return fmt::format(R"(server_name: "{0}"
listen: "{1}"
{2}jetstream {{ store_dir: "{3}", domain: "{0}", max_memory_store: 64MB, max_file_store: 1GB, sync_interval: always }}
tls {4}
)",
                     name, listen, pid_file, streams.string(), tls_block(folder, "broker", kKnownMachines));
}

}  // namespace

Result<void> write_broker(const fs::path& folder, const BrokerOptions& options) {
  for (const std::string& text : {folder.string(), options.address.text, options.domain, options.hub})
    TRY(check_quotable(text));
  std::error_code error;
  const fs::path broker = folder / "broker";
  fs::create_directories(broker, error);
  if (error) return fail(Code::kIo, "{}: {}", broker.string(), error.message());
  if (!fs::exists(broker / "broker.pem", error))
    TRY(make_identity(folder, kBrokerName, "broker", {"broker.hearth", options.address.host}));
  if (!fs::exists(broker / "egress.pem", error)) TRY(make_identity(folder, kEgressName, "egress", {}));
  std::string text = "# The site's broker: nats-server 2.12 or newer. Written by `hearth cluster init`.\n" +
                     server_block(folder, options.domain, options.address.text, broker / "streams",
                                  fmt::format("pid_file: \"{}\"\n", (broker / "pid").string()));
  if (!options.hub.empty()) text += leaf_block(folder, options.hub);
  TRY(write_text(broker / "nats.conf", text + "include \"users.conf\"\n"));
  return write_broker_users(folder);
}

Result<std::string> hub_configuration(const fs::path& folder, const fs::path& streams, const ListenAddress& clients,
                                      const ListenAddress& leaves) {
  for (const std::string& text : {folder.string(), streams.string()}) TRY(check_quotable(text));
  return server_block(folder, "hub", clients.text, streams, "") +
         fmt::format(R"(leafnodes {{
  listen: "{}"
  isolate_leafnode_interest: true
  tls {}
  authorization {{ users: [ {{ user: "CN={}", account: SITE }}, {{ user: "CN={}", account: CLOUD }} ] }}
}}
)",
                     leaves.text, tls_block(folder, "broker", kKnownMachines), kBrokerName, kEgressName) +
         accounts(TRY(site_machines(folder)));
}

Result<void> write_broker_users(const fs::path& folder) {
  const fs::path broker = folder / "broker";
  std::error_code error;
  if (!fs::exists(broker / "nats.conf", error)) return {};
  const std::vector<std::string> machines = TRY(site_machines(folder));
  TRY(write_text(broker / "users.conf", accounts(machines)));
  const std::string text = first_line(broker / "pid");
  int pid = 0;
  std::from_chars(text.data(), text.data() + text.size(), pid);
  // The number may be another program's by now.
  if (pid <= 0 || first_line(fmt::format("/proc/{}/comm", pid)) != "nats-server") return {};
  if (::kill(pid, SIGHUP) != 0) LOG(kWarning, "the broker (process {}) could not be told of new users", pid);
  return {};
}

Result<std::vector<std::string>> site_brokers(const fs::path& folder) {
  std::vector<std::string> brokers;
  std::error_code error;
  if (!fs::exists(folder / "brokers", error)) return brokers;
  const std::string text = TRY(read_file(folder / "brokers", limits::kFrameTextBytes));
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    if (end > begin) {
      const ListenAddress address = TRY(parse_listen_address(std::string_view(text).substr(begin, end - begin)));
      if (address.unix_path.empty()) brokers.push_back(address.text);
    }
    begin = end + 1;
  }
  return brokers;
}

Result<void> write_site_brokers(const fs::path& folder, const std::vector<std::string>& brokers) {
  std::string text;
  for (const std::string& each : brokers) text += each + "\n";
  if (text.size() > limits::kFrameTextBytes)
    return fail(Code::kLimit, "addresses of brokers: {} bytes, at most {}", text.size(), limits::kFrameTextBytes);
  return write_text(folder / "brokers", text);
}

}  // namespace hearth::cluster
