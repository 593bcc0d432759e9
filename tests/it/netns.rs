//! Faults of the network, in network namespaces of the test's own: two machines and a cable.
//!
//! Making them takes root; without it there is nothing to try.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::support::{Desk, assert_schema, fhirctl};

const SERVER: &str = "10.77.0.2";
const PORT: u16 = 8080;

/// Two machines with a cable between them: `near` is 10.77.0.1 and fd77::1 and runs the program,
/// `far` is 10.77.0.2 and fd77::2 and runs the servers. They are gone with the value.
struct Net {
    near: String,
    far: String,
    cable: String,
    peers: Vec<Child>,
    /// The program runs without the capability for raw sockets.
    bounded: bool,
}

impl Net {
    /// `None` where this is not root.
    fn new() -> Option<Net> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !nix::unistd::geteuid().is_root() {
            return None;
        }
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("fx{}-{count}", std::process::id());
        let net = Net {
            near: format!("{name}n"),
            far: format!("{name}f"),
            cable: format!("{name}c"),
            peers: Vec::new(),
            bounded: false,
        };
        let (near, far, plug) = (net.near.as_str(), net.far.as_str(), format!("{name}d"));
        ip(&["netns", "add", near]);
        ip(&["netns", "add", far]);
        ip(&[
            "link", "add", &net.cable, "netns", near, "type", "veth", "peer", "name", &plug,
            "netns", far,
        ]);
        for (space, device, four, six) in [
            (near, net.cable.as_str(), "10.77.0.1/24", "fd77::1/64"),
            (far, &plug, "10.77.0.2/24", "fd77::2/64"),
        ] {
            ip(&["-n", space, "addr", "add", four, "dev", device]);
            ip(&["-n", space, "addr", "add", six, "dev", device, "nodad"]);
            ip(&["-n", space, "link", "set", "lo", "up"]);
            ip(&["-n", space, "link", "set", device, "up"]);
        }
        net.far_shell(
            "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv4/icmp_ratelimit",
        );
        Some(net)
    }

    /// A route of the far machine.
    fn far_route(&self, words: &[&str]) {
        ip(&[&["-n", &self.far, "route", "add"], words].concat());
    }

    /// A route of the near machine.
    fn near_route(&self, words: &[&str]) {
        ip(&[&["-n", &self.near, "route", "add"], words].concat());
    }

    fn far_shell(&self, script: &str) {
        let status = within(&self.far, &mut Command::new("sh")).args(["-c", script]).status();
        assert!(status.unwrap().success(), "{script}");
    }

    /// A file of `/etc` as the near machine sees it.
    fn near_file(&self, name: &str, text: &str) {
        let folder = PathBuf::from("/etc/netns").join(&self.near);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), text).unwrap();
    }

    /// A sandbox on the far machine, at both its addresses.
    fn sandbox(&mut self) {
        let mut command = fhirctl();
        let listen = format!("[::]:{PORT}");
        command.args(["-o", "json", "sandbox", "--expose", "--listen", &listen]);
        self.start(command);
    }

    /// A program in Python on the far machine, which prints a line when it is ready.
    fn python(&mut self, program: &str) {
        let mut command = Command::new("python3");
        command.args(["-u", "-c", program]);
        self.start(command);
    }

    fn start(&mut self, mut command: Command) {
        let mut child = within(&self.far, &mut command).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.peers.push(child);
        assert!(!line.is_empty(), "the peer did not start");
    }

    /// `diag` on the near machine, of a server at this host.
    fn diag(&self, host: &str, more: &str, topics: &[&str]) -> Value {
        let desk = Desk::new(&format!(
            "version: 1\nservers:\n  - name: s\n    url: http://{host}:{PORT}/fhir\n    \
             timeouts: {{connect: 1500ms, total: 4s}}\n{more}"
        ));
        let mut command = desk.fhirctl();
        command.args(["-o", "json", "diag", "s"]).args(topics);
        let mut inside = within(&self.near, &mut command);
        if self.bounded {
            inside = without_raw_sockets(&self.near, &mut command);
        }
        let output = inside.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let found = serde_json::from_str(&text).unwrap_or_else(|error| {
            panic!("{error}: {text}\n{}", String::from_utf8_lossy(&output.stderr))
        });
        assert_schema("diag", &found);
        found
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for child in &mut self.peers {
            if let Ok(id) = i32::try_from(child.id()) {
                let pid = nix::unistd::Pid::from_raw(id);
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
            }
            let _ = child.wait();
        }
        for name in [&self.near, &self.far] {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
        let _ = std::fs::remove_dir_all(Path::new("/etc/netns").join(&self.near));
    }
}

fn ip(words: &[&str]) {
    let output = Command::new("ip").args(words).output().unwrap();
    assert!(output.status.success(), "ip {words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The same command within a namespace.
fn within(name: &str, command: &mut Command) -> Command {
    behind(&["netns", "exec", name], command)
}

fn without_raw_sockets(name: &str, command: &mut Command) -> Command {
    let drop = ["setpriv", "--bounding-set", "-net_raw"];
    behind(&[&["netns", "exec", name][..], &drop].concat(), command)
}

fn behind(words: &[&str], command: &mut Command) -> Command {
    let mut inside = Command::new("ip");
    inside.args(words).arg(command.get_program()).args(command.get_args());
    for (variable, value) in command.get_envs() {
        match value {
            Some(value) => inside.env(variable, value),
            None => inside.env_remove(variable),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        inside.current_dir(folder);
    }
    inside.stdin(Stdio::null());
    inside
}

/// Status, layer, party and code of the verdict.
fn verdict(found: &Value) -> [&str; 4] {
    let verdict = &found["verdict"];
    ["status", "layer", "party", "code"].map(|key| verdict[key].as_str().unwrap_or("none"))
}

fn topic<'a>(found: &'a Value, name: &str) -> &'a Value {
    let topics = found["topics"].as_array().unwrap();
    topics
        .iter()
        .find(|topic| topic["name"] == name)
        .unwrap_or_else(|| panic!("no {name}: {found:#}"))
}

#[test]
fn a_cable_without_faults_is_healthy() {
    let Some(mut net) = Net::new() else { return };
    net.sandbox();
    let found = net.diag(SERVER, "", &[]);
    assert_eq!(verdict(&found)[0], "healthy", "{found:#}");
    assert_eq!(topic(&found, "tcp")["details"]["attempts"][0]["outcome"], "open");
    assert_eq!(topic(&found, "tcp")["details"]["attempts"][0]["local"], "10.77.0.1");
    assert_eq!(topic(&found, "dns")["code"], "check.not_applicable");
}

#[test]
fn a_dropped_syn_is_the_network_s() {
    let Some(mut net) = Net::new() else { return };
    net.sandbox();
    net.far_route(&["blackhole", "10.77.0.1/32"]);
    let found = net.diag(SERVER, "", &[]);
    assert_eq!(verdict(&found), ["critical", "tcp", "network", "tcp.timeout"], "{found:#}");
    assert_eq!(found["verdict"]["topic"], "tcp");
}

#[test]
fn a_connection_that_is_cut_at_once_is_cut_by_what_stands_before_the_server() {
    let Some(mut net) = Net::new() else { return };
    net.python(&format!(
        "import socket, struct\n\
         s = socket.create_server(('', {PORT}))\n\
         print('ready')\n\
         while True:\n    c, _ = s.accept()\n    \
         c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))\n    c.close()\n"
    ));
    let found = net.diag(SERVER, "", &[]);
    assert_eq!(verdict(&found), ["critical", "tcp", "network", "tcp.reset"], "{found:#}");
}

#[test]
fn a_port_where_nothing_listens_is_the_vendor_s() {
    let Some(net) = Net::new() else { return };
    let found = net.diag(SERVER, "", &[]);
    assert_eq!(verdict(&found), ["critical", "tcp", "vendor", "tcp.refused"], "{found:#}");
}

#[test]
fn a_router_that_knows_no_way_or_forbids_it_is_the_network_s() {
    for (kind, address) in [("unreachable", "10.88.0.2"), ("prohibit", "10.88.0.3")] {
        // A net for each: a router says so only a few times a second.
        let Some(net) = Net::new() else { return };
        net.far_route(&[kind, &format!("{address}/32")]);
        net.near_route(&[&format!("{address}/32"), "via", SERVER]);
        let found = net.diag(address, "", &["tcp", "health"]);
        let expected = ["critical", "tcp", "network", "tcp.unreachable"];
        assert_eq!(verdict(&found), expected, "{kind} {found:#}");
    }
}

#[test]
fn a_way_that_this_machine_itself_bars_is_ours() {
    let Some(net) = Net::new() else { return };
    for (kind, address) in
        [("unreachable", "10.88.0.2"), ("prohibit", "10.88.0.3"), ("blackhole", "10.88.0.4")]
    {
        net.near_route(&[kind, &format!("{address}/32")]);
        let found = net.diag(address, "", &[]);
        let expected = ["critical", "tcp", "ours", "tcp.unreachable"];
        assert_eq!(verdict(&found), expected, "{kind} {found:#}");
    }
    ip(&["-n", &net.near, "link", "set", &net.cable, "down"]);
    let found = net.diag(SERVER, "", &[]);
    assert_eq!(verdict(&found), ["critical", "tcp", "ours", "tcp.unreachable"], "{found:#}");
}

#[test]
fn an_ipv6_black_hole_behind_a_working_ipv4_is_seen() {
    let Some(mut net) = Net::new() else { return };
    net.sandbox();
    net.near_file("hosts", "10.77.0.2 ehr.test\nfd77::2 ehr.test\n");
    ip(&["-n", &net.far, "-6", "route", "add", "blackhole", "fd77::1/128"]);
    let found = net.diag("ehr.test", "", &["tcp", "health"]);
    assert_eq!(verdict(&found), ["warning", "tcp", "network", "tcp.timeout"], "{found:#}");
    let message = found["verdict"]["message"].as_str().unwrap();
    assert!(message.contains("fd77::2") && message.contains("IPv6"), "{message}");
}

/// A name server that treats every question alike.
fn name_server(answer: &str) -> String {
    format!(
        "import socket, struct\n\
         s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
         s.bind(('{SERVER}', 53))\n\
         print('ready')\n\
         def question(q):\n    at = 12\n    while q[at]: at += q[at] + 1\n    return q[12:at + 5]\n\
         def reply(q, code, records=b'', count=0):\n    \
         return q[:2] + struct.pack('>HHHHH', 0x8180 | code, 1, count, 0, 0) + question(q) + records\n\
         while True:\n    q, a = s.recvfrom(4096)\n    r = {answer}\n    \
         if r: s.sendto(r, a)\n"
    )
}

#[test]
fn a_wrong_name_server_in_our_own_settings_is_ours() {
    // A name that leads to itself: the pointer at 12 is the name that was asked for.
    let alias = r"reply(q, 0, b'\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x02\xc0\x0c', 1)";
    for (answer, code) in [
        ("reply(q, 3)", "dns.not_found"),
        ("reply(q, 2)", "dns.servfail"),
        ("reply(q, 5)", "dns.servfail"),
        ("None", "dns.timeout"),
        (alias, "dns.servfail"),
    ] {
        let Some(mut net) = Net::new() else { return };
        net.python(&name_server(answer));
        net.near_file(
            "resolv.conf",
            &format!("nameserver {SERVER}\noptions timeout:1 attempts:1\n"),
        );
        let found = net.diag("ehr.test", "", &["dns", "tcp", "health"]);
        assert_eq!(verdict(&found), ["critical", "dns", "ours", code], "{answer} {found:#}");
        assert_eq!(topic(&found, "tcp")["code"], "check.skipped");
    }
}

#[test]
fn a_silent_first_name_server_is_seen_behind_a_working_second() {
    let Some(mut net) = Net::new() else { return };
    net.sandbox();
    let address =
        r"reply(q, 0, b'\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x0a\x4d\x00\x02', 1)";
    let answer = format!("{address} if question(q)[-3] == 1 else reply(q, 0)");
    net.python(&name_server(&answer));
    net.near_file(
        "resolv.conf",
        &format!("nameserver 10.77.0.9\nnameserver {SERVER}\noptions timeout:1 attempts:1\n"),
    );
    let found = net.diag("ehr.test", "", &["dns", "tcp"]);
    assert_eq!(verdict(&found), ["warning", "dns", "ours", "dns.timeout"], "{found:#}");
    let servers = topic(&found, "dns")["details"]["servers"].as_array().unwrap();
    assert_eq!(servers[1]["a"]["addresses"][0], SERVER);
    assert_eq!(servers[1]["a"]["ttl_seconds"], 60);
}

#[test]
fn an_address_that_the_vendor_does_not_expect_is_ours() {
    let Some(mut net) = Net::new() else { return };
    net.sandbox();
    let other = "    network: {egress: [10.99.0.0/16]}\n";
    let found = net.diag(SERVER, other, &["tcp", "egress"]);
    let code = "network.egress_unexpected";
    assert_eq!(verdict(&found), ["warning", "proxy", "ours", code], "{found:#}");
    let own = "    network: {egress: [10.77.0.0/24]}\n";
    assert_eq!(verdict(&net.diag(SERVER, own, &["tcp", "egress"]))[0], "healthy");
    net.far_route(&["blackhole", "10.77.0.1/32"]);
    let found = net.diag(SERVER, other, &["tcp", "egress", "health"]);
    assert_eq!(verdict(&found), ["critical", "tcp", "ours", code], "{found:#}");
    let found = net.diag(SERVER, own, &["tcp", "egress", "health"]);
    assert_eq!(verdict(&found), ["critical", "tcp", "network", "tcp.timeout"], "{found:#}");
}

#[test]
fn echoes_and_hops_are_seen_and_are_never_the_reason() {
    let Some(mut net) = Net::new() else { return };
    net.sandbox();
    let found = net.diag(SERVER, "", &["ping", "trace"]);
    assert_eq!(verdict(&found)[0], "healthy");
    let echoes = &topic(&found, "ping")["details"][0];
    assert_eq!((echoes["sent"].as_u64(), echoes["received"].as_u64()), (Some(3), Some(3)));
    assert_eq!(echoes["means"], "icmp_raw");
    let path = &topic(&found, "trace")["details"][0];
    assert_eq!((&path["is_complete"], &path["hops"][0]["address"]), (&true.into(), &SERVER.into()));

    net.far_route(&["prohibit", "10.88.0.3/32"]);
    net.near_route(&["10.88.0.3/32", "via", SERVER]);
    let found = net.diag("10.88.0.3", "", &["ping", "trace"]);
    assert_eq!(verdict(&found)[0], "healthy", "{found:#}");
    let path = &topic(&found, "trace")["details"][0];
    assert_eq!(path["is_complete"], false);
    assert_eq!(
        (&path["hops"][0]["kind"], &path["hops"][0]["address"]),
        (&"forbidden".into(), &SERVER.into())
    );
}

#[test]
fn without_leave_for_icmp_connections_stand_in_and_it_is_said() {
    let Some(mut net) = Net::new() else { return };
    net.sandbox();
    net.bounded = true;
    let found = net.diag(SERVER, "", &["ping", "trace"]);
    let (ping, trace) = (topic(&found, "ping"), topic(&found, "trace"));
    assert_eq!(ping["details"][0]["means"], "tcp");
    assert_eq!(ping["details"][0]["received"], 3);
    assert_eq!(trace["details"][0]["shows_routers"], false);
    assert_eq!(trace["details"][0]["is_complete"], true);
}
