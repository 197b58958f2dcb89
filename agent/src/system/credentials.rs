//! Encrypts what is kept on the disk, by systemd-creds(1): with the TPM where there is one, and with a key of this
//! host. It listens on a Varlink socket (`varlinkctl introspect /run/systemd/io.systemd.Credentials`), so that the
//! agent needs neither the key nor a program of its own.

use std::io;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Where it listens.
const SOCKET: &str = "/run/systemd/io.systemd.Credentials";

/// How long it may take. A TPM takes a second or two.
const LIMIT: Duration = Duration::from_secs(20);

/// What failed. Nothing of what was to be encrypted is in it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialError {
    #[error("systemd-creds does not answer on {SOCKET}")]
    Socket(#[source] io::Error),
    #[error("systemd-creds gave no answer within {} s", LIMIT.as_secs())]
    Late,
    #[error("systemd-creds refuses: {0}")]
    Refused(String),
    #[error("systemd-creds gave an answer of another shape")]
    Answer,
}

/// Encrypts a text under a name. What comes back is text too.
pub(crate) async fn encrypt(name: &str, text: &str) -> Result<String, CredentialError> {
    let data = BASE64_STANDARD.encode(text);
    let answer = call("Encrypt", json!({ "name": name, "data": data, "scope": "system" })).await?;
    answer["blob"].as_str().map(str::to_owned).ok_or(CredentialError::Answer)
}

/// Decrypts what was encrypted on this host under the same name.
pub(crate) async fn decrypt(name: &str, blob: &str) -> Result<String, CredentialError> {
    let answer = call("Decrypt", json!({ "name": name, "blob": blob.trim() })).await?;
    let data = answer["data"].as_str().ok_or(CredentialError::Answer)?;
    let bytes = BASE64_STANDARD.decode(data).map_err(|_| CredentialError::Answer)?;
    String::from_utf8(bytes).map_err(|_| CredentialError::Answer)
}

async fn call(method: &str, parameters: Value) -> Result<Value, CredentialError> {
    let request = json!({
        "method": format!("io.systemd.Credentials.{method}"), "parameters": parameters,
    });
    let answer = timeout(LIMIT, exchange(Path::new(SOCKET), &request)).await;
    let answer = answer.map_err(|_| CredentialError::Late)?.map_err(CredentialError::Socket)?;
    let mut answer: Value = serde_json::from_slice(&answer).map_err(|_| CredentialError::Answer)?;
    if let Some(error) = answer["error"].as_str() {
        // Its parameters say more: the errno of a failed system call.
        let parameters = &answer["parameters"];
        return Err(CredentialError::Refused(format!("{error} {parameters}")));
    }
    Ok(answer["parameters"].take())
}

/// One request and its answer: each a JSON object with a zero byte after it.
async fn exchange(socket: &Path, request: &Value) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket).await?;
    let mut message = serde_json::to_vec(request)?;
    message.push(0);
    stream.write_all(&message).await?;
    let mut answer = Vec::new();
    BufReader::new(stream).read_until(0, &mut answer).await?;
    answer.pop_if(|last| *last == 0);
    Ok(answer)
}
