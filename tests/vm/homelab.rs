//! One node of the example cluster.

use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use trilith_tests::artifact;
use trilith_tests::cluster::Cluster;
use trilith_tests::machine::REACTION;
use trilith_tests::network::Network;
use trilith_tests::node::Node;

use crate::kernel::{an_esp_is_written_on_fat, the_adapters_tests_pass_here};
use crate::screen::the_console_shows_the_node;

#[test]
fn a_node_converges_and_stays_so_through_kill_reload_and_corruption() -> Result<()> {
    let network = Network::isolate()?;
    let cluster = Cluster::sample(&artifact::cluster("homelab.yaml"))?;
    let mut node = Node::boot(&network, &cluster, 1)?;
    node.wait_booted()?;
    node.ping_all()?;
    nothing_has_failed(&node)?;
    nobody_can_enter_but_by_key(&node)?;
    a_killed_agent_comes_back_and_changes_nothing(&node)?;
    the_bundle_is_kept_encrypted(&node, &cluster)?;
    the_adapters_tests_pass_here(&node)?;
    an_esp_is_written_on_fat(&node)?;
    a_changed_bundle_is_taken_up(&node, &cluster)?;
    the_console_shows_the_node(&mut node)?;
    a_corrupted_block_reboots_the_machine(&mut node)
}

fn nothing_has_failed(node: &Node<'_>) -> Result<()> {
    let state = node.ssh("systemctl is-system-running --wait || true")?;
    let failed = node.ssh("systemctl list-units --failed --plain --no-legend")?;
    ensure!(state.trim() == "running" && failed.is_empty(), "{state}{failed}");
    Ok(())
}

fn nobody_can_enter_but_by_key(node: &Node<'_>) -> Result<()> {
    // A service that listens and that nobody thought of, such as one of an operator's own.
    node.ssh("systemd-run --quiet --unit=door python3 -m http.server --bind :: 9999")?;
    node.console().until("the door is open inside", REACTION, || {
        node.ssh("ss --no-header --listening --tcp --numeric 'sport = 9999' | grep -q .").map(drop)
    })?;
    let [ssh, door] = [22, 9999].map(|port| connect(node, port));
    ensure!(ssh?.is_ok() && door?.is_err(), "what listens without being opened must not be heard");
    node.ssh("systemctl stop door.service")?;

    let gettys = node.ssh("systemctl list-units --plain --no-legend '*getty@*'")?;
    ensure!(gettys.is_empty() && !node.console().since(0).contains("login:"), "{gettys}");
    let methods =
        node.ssh("sshd -T | grep -iE '^(passwordauthentication|kbdinteractiveauthentication) '")?;
    ensure!(!methods.contains("yes"), "{methods}");
    let passwords = node.ssh("cut -d: -f1,2 /etc/shadow | grep -v ':[!*]' || true")?;
    ensure!(passwords.is_empty(), "users with a password: {passwords}");
    Ok(())
}

/// A connection from outside to the node's first address.
fn connect(node: &Node<'_>, port: u16) -> Result<std::io::Result<TcpStream>> {
    Ok(TcpStream::connect_timeout(&(node.address()?, port).into(), Duration::from_secs(5)))
}

fn a_killed_agent_comes_back_and_changes_nothing(node: &Node<'_>) -> Result<()> {
    let (pid, before) = (agent(node)?, kernel_state(node)?);
    node.ssh("systemctl kill --signal=KILL trilithd.service")?;
    node.console().until("another agent runs", REACTION, || {
        ensure!(!["0", &pid].contains(&agent(node)?.as_str()));
        Ok(())
    })?;
    let status = node.wait_converged()?;
    // Services of a node alone may just be coming and going, for want of the others.
    let network = status.subjects.get("network");
    ensure!(network.is_some_and(|network| network.steps_applied == 0), "{status:#?}");
    let after = kernel_state(node)?;
    ensure!(before == after, "before: {before:#}\nafter: {after:#}");
    Ok(())
}

fn agent(node: &Node<'_>) -> Result<String> {
    Ok(node.ssh("systemctl show --property=MainPID --value trilithd.service")?.trim().to_owned())
}

/// Links with their details, addresses and routes, as the kernel has them, without what moves by itself.
fn kernel_state(node: &Node<'_>) -> Result<Value> {
    let text = node.ssh(
        "echo \"[$(ip -d -j link), $(ip -j address), $(ip -j route show table all), \
         $(ip -6 -j route show table all)]\"",
    )?;
    let mut state: Value = serde_json::from_str(&text)?;
    drop_moving(&mut state);
    Ok(state)
}

fn drop_moving(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(drop_moving),
        Value::Object(fields) => {
            fields.retain(|key, _| !key.ends_with("_timer") && key != "expires");
            fields.values_mut().for_each(drop_moving);
        }
        _ => {}
    }
}

/// A boot without the credential finds what was kept; nobody who reads the disk does.
fn the_bundle_is_kept_encrypted(node: &Node<'_>, cluster: &Cluster) -> Result<()> {
    let kept = node.ssh("CREDENTIALS_DIRECTORY=/nonexistent trilithd check || true")?;
    let from = "node hv1 (ID 1) of cluster home, from /var/lib/trilith/bundle.cred";
    ensure!(kept.starts_with(from), "{kept}");
    let bundle = cluster.bundle(1)?;
    let password = bundle.lines().find_map(|line| line.strip_prefix("  bgp: "));
    // Looked for by a file, so that the secret stands in no command line.
    put(node, "/run/trilith/test.pattern", password.context("no password in the bundle")?)?;
    let found = node.ssh("grep -rlFf /run/trilith/test.pattern /var /etc /run/log || true")?;
    ensure!(found.is_empty(), "a secret is in {found}");
    Ok(())
}

/// The credential comes first and cannot change in a running machine, so the agent is told another file.
fn a_changed_bundle_is_taken_up(node: &Node<'_>, cluster: &Cluster) -> Result<()> {
    let bundle = cluster.bundle(1)?;
    put(node, "/run/trilith/test.yaml", &bundle)?;
    put(
        node,
        "/run/systemd/system/trilithd.service.d/test.conf",
        "[Service]\nExecStart=\nExecStart=/usr/bin/trilithd run --bundle /run/trilith/test.yaml\n",
    )?;
    node.ssh("systemctl daemon-reload && systemctl restart trilithd.service")?;
    let mtu = "ip -j link | grep -o '\"mtu\":1400' | wc -l";
    node.wait_converged()?;
    ensure!(node.ssh(mtu)?.trim() == "0");

    // Written beside and renamed, as a careful writer does; then the same by hand and a signal.
    let changed = bundle.replace("mtu: 1500", "mtu: 1400");
    put(node, "/run/trilith/test.yaml", &cluster.sign(&changed)?)?;
    node.console().until("the new MTU holds", REACTION, || {
        ensure!(node.ssh(mtu)?.trim() == "1");
        Ok(())
    })?;
    put(node, "/run/trilith/test.yaml", &bundle)?;
    node.ssh("systemctl reload trilithd.service")?;
    node.console().until("the old MTU holds again", REACTION, || {
        ensure!(node.ssh(mtu)?.trim() == "0");
        Ok(())
    })?;
    node.wait_converged().map(drop)
}

fn put(node: &Node<'_>, path: &str, text: &str) -> Result<()> {
    let command = format!(
        "mkdir -p $(dirname {path}) && umask 077 && cat >{path}.new <<'END' && mv {path}.new {path}\n{text}END"
    );
    node.ssh(&command).map(drop)
}

/// Some bytes of the last block of the root, which nothing reads once the node is up: reading it must reset the
/// machine. It would do so again at each boot, since udev looks at the end of every device.
fn a_corrupted_block_reboots_the_machine(node: &mut Node<'_>) -> Result<()> {
    let corrupt = r#"set -e
        root=$(readlink -f "$(findmnt --noheadings --output SOURCE --first-only /)")
        last=$(($(blockdev --getsize64 "$root") / 4096 - 1))
        # Of the two partitions below, the larger one holds the data, the other the hashes.
        data=$(cd "/sys/block/${root#/dev/}/slaves" && for name in *; do echo "$(cat "$name/size") $name"; done |
            sort -n | tail -n 1 | cut -d' ' -f2)
        head -c 64 /dev/urandom | dd of="/dev/$data" bs=64 seek=$((last * 64)) conv=notrunc,fsync status=none
        echo "$root $last""#;
    let found = node.ssh(corrupt)?;
    let (root, block) = found.trim().split_once(' ').unwrap_or_default();
    let before = node.console().mark();
    // The answer never comes: the machine is gone while it reads.
    let read =
        node.ssh(&format!("dd if={root} bs=4096 skip={block} count=1 iflag=direct of=/dev/null"));
    ensure!(read.is_err(), "the corrupted block {block} of {root} could be read");
    node.machine().wait_reset(REACTION)?;
    let corrupted = format!("data block {block} is corrupted");
    ensure!(node.console().since(before).contains(&corrupted), "the reset has another cause");
    Ok(())
}
