//! The first line of a bundle: the signature over everything after it, as a comment of YAML, so that the whole stays one
//! document for every tool that reads YAML.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::secrets::Secret;
use crate::secrets::certificate::{self, Certificate, CertificateError};

/// How the line begins.
const MARK: &str = "# signature: ";

/// What is signed begins with it: the authority's key also signs certificates (DER, which begins with 0x30), and one
/// can never be taken for the other.
const PURPOSE: &str = "trilith bundle\0";

/// Signs the text of a bundle with the key of the cluster's authority (PKCS #8 in PEM).
pub fn sign(body: &str, authority: &Secret) -> Result<String, CertificateError> {
    let signature = certificate::sign(&signed(body), authority)?;
    Ok(format!("{MARK}{}\n{body}", BASE64_STANDARD.encode(signature)))
}

/// The signature and what it is over. `None` if there is none.
pub(super) fn split(text: &str) -> Option<(Vec<u8>, &str)> {
    let (line, body) = text.strip_prefix(MARK)?.split_once('\n')?;
    Some((BASE64_STANDARD.decode(line.trim_end()).ok()?, body))
}

/// Whether this authority has signed the body.
pub(super) fn is_by(authority: &Certificate, body: &str, signature: &[u8]) -> bool {
    authority.authority && authority.has_signed(&signed(body), signature)
}

fn signed(body: &str) -> Vec<u8> {
    [PURPOSE, body].concat().into_bytes()
}
