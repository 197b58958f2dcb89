//! The machine's bundle: asked for with a key that was just made, in whose fingerprint a person can see that it is this
//! machine that asks.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use age::Decryptor;
use age::x25519::Identity;
use anyhow::{Context as _, Result};
use hyper::StatusCode;
use serde_json::json;
use trilith_core::bundle::Bundle;
use trilith_core::identity::Machine;
use trilith_core::netboot::{Asking, Refusal, Report, fingerprint, path, proof};
use trilith_core::sighting::Firmware;
use trilith_core::subject::Plan;
use trilith_metal::machine;

use crate::http::Source;
use crate::pauses::Pauses;
use crate::say;

/// What a server says to one who asks.
enum Reply {
    /// The bundle.
    Bundle(String),
    /// Ask again.
    Wait(String),
    /// No.
    No(String),
    /// The machine is no node of the cluster.
    Unknown(String),
}

/// Gets the bundle and leaves it in `folder`, for the agent. Asks until it has one: a machine that is nobody has
/// nothing else to do, and its console says what is missing. One that has kept its /var on a disk, and its bundle there,
/// asks once: the server hands out none to a node that has reported in, and needs nobody's yes after a power cut.
pub(crate) async fn fetch(sources: &[Source], firmware: &Path, folder: &Path) -> Result<()> {
    let identity = Identity::generate();
    let key = identity.to_public().to_string();
    say(&format!("the key of this machine: {}", fingerprint(&key)));
    let mut pauses = Pauses::new();
    let mut said = String::new();
    for source in sources.iter().cycle() {
        // The NIC by which it is known may be late.
        let asking = asking(&key, firmware);
        let reply = ask(source, &asking, &identity).await;
        let (line, wait) = match reply {
            Ok(Reply::Bundle(text)) => match keep(&text, folder) {
                Ok(node) => {
                    say(&format!("this machine is {node}, says {}", source.url));
                    report(source, &key, &text).await;
                    return Ok(());
                }
                Err(error) => (format!("{} gave what is no bundle: {error:#}", source.url), true),
            },
            Ok(Reply::Wait(reason)) => (format!("{}: {reason}", source.url), false),
            Ok(Reply::No(reason)) => (format!("{} gives no bundle: {reason}", source.url), true),
            Ok(Reply::Unknown(reason)) => {
                (format!("{} gives no bundle: {reason}\n{}", source.url, lines(&asking)), true)
            }
            Err(error) => (format!("{error:#}"), true),
        };
        let (line, goes_on) = kept(line);
        if line != said {
            say(&line);
            said = line;
        }
        if goes_on {
            return Ok(());
        }
        if wait {
            pauses.wait().await;
        } else {
            pauses.progress();
        }
    }
    Ok(())
}

/// What the machine says of itself. No TPM is asked.
fn asking(key: &str, firmware: &Path) -> Asking {
    let Machine { macs, serial, uuid, tpm: _ } = machine::read(firmware);
    Asking { key: key.into(), macs: macs.into_iter().collect(), serial, uuid }
}

/// Whether the machine goes on without a bundle, and what is said then.
fn kept(line: String) -> (String, bool) {
    match trilith_metal::keep::without_bundle() {
        Ok(Plan { steps, .. }) if !steps.is_empty() => {
            (format!("{line}; going on with the /var that is kept on a disk"), true)
        }
        Ok(Plan { problems, .. }) => {
            let problems = problems.iter().map(|problem| format!("; {problem}"));
            (line + &problems.collect::<String>(), false)
        }
        Err(error) => (format!("{line}; {error:#}"), false),
    }
}

/// What the person at the console may paste into the cluster file.
fn lines(asking: &Asking) -> String {
    let (serial, uuid) = (asking.serial.clone(), asking.uuid.clone());
    Firmware { serial, uuid, ..Firmware::default() }.node_as_yaml(asking.macs.iter().copied())
}

async fn ask(source: &Source, asking: &Asking, identity: &Identity) -> Result<Reply> {
    let (status, body) = source.post(path::BUNDLE, &json!(asking)).await?;
    if status == StatusCode::OK {
        return Ok(Reply::Bundle(decrypt(&body, identity).context("it cannot be decrypted")?));
    }
    let reason = serde_json::from_slice::<Refusal>(&body);
    let reason = reason.map_or_else(|_| status.to_string(), |refusal| plain(&refusal.reason));
    Ok(match status {
        StatusCode::ACCEPTED => Reply::Wait(reason),
        StatusCode::NOT_FOUND => Reply::Unknown(reason),
        _ => Reply::No(reason),
    })
}

/// What comes over the network must not move the cursor of the console.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(500).collect()
}

fn decrypt(body: &[u8], identity: &Identity) -> Result<String> {
    let decryptor = Decryptor::new(body)?;
    let mut text = String::new();
    decryptor
        .decrypt(std::iter::once(identity as &dyn age::Identity))?
        .read_to_string(&mut text)?;
    Ok(text)
}

/// Puts the bundle where the agent looks for it, and says which node it is for.
fn keep(text: &str, folder: &Path) -> Result<String> {
    let bundle = Bundle::parse(text)?;
    let node = bundle.config.node(bundle.node).context("it has no such node")?;
    let name = format!("node {} ({}) of {}", bundle.node, node.name, bundle.config.name);
    let path = folder.join(format!("{}.yaml", bundle.node));
    let writing = || format!("cannot write {}", path.display());
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(writing)?;
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).with_context(writing)?;
    Ok(name)
}

/// Says that it has arrived. If that does not, the server gives it once more to the same key, which nobody else has.
async fn report(source: &Source, key: &str, text: &str) {
    let report = Report { key: key.to_owned(), proof: proof(text) };
    if let Err(error) = source.post(path::REPORT, &json!(report)).await {
        say(&format!("it cannot be told that the bundle has arrived: {error:#}"));
    }
}
