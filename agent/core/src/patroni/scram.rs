//! What Postgres keeps in place of a password (RFC 5803, `pg_authid.rolpassword`): enough to tell whether a password is
//! the right one, not enough to log in with.

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac, pbkdf2};

use crate::secrets::Secret;

/// How often the hash is repeated (`scram_iterations`, Postgres' own default).
const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).expect("it is not zero");

/// The length of a salt, as Postgres makes it.
pub const SALT: usize = 16;

/// Makes the verifier of a password. Those of a cluster are letters and digits, which need no normalisation (RFC 4013).
pub fn verifier(password: &Secret, salt: &[u8]) -> String {
    made(password, salt, ITERATIONS)
}

fn made(password: &Secret, salt: &[u8], iterations: NonZeroU32) -> String {
    let mut salted = [0; digest::SHA256_OUTPUT_LEN];
    let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
    pbkdf2::derive(algorithm, iterations, salt, password.reveal().as_bytes(), &mut salted);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
    let client = hmac::sign(&key, b"Client Key");
    let stored = digest::digest(&digest::SHA256, client.as_ref());
    let server = hmac::sign(&key, b"Server Key");
    let text = |bytes: &[u8]| STANDARD.encode(bytes);
    let (salt, stored, server) = (text(salt), text(stored.as_ref()), text(server.as_ref()));
    format!("SCRAM-SHA-256${iterations}:{salt}${stored}:{server}")
}

/// Whether it is the verifier of this password. What is no verifier is none of any.
pub fn fits(verifier: &str, password: &Secret) -> bool {
    let parts = || {
        let (iterations, rest) = verifier.strip_prefix("SCRAM-SHA-256$")?.split_once(':')?;
        let (salt, _) = rest.split_once('$')?;
        Some((iterations.parse().ok()?, STANDARD.decode(salt).ok()?))
    };
    // The keys are no secret to whom may read the verifier, so that the time it takes to compare tells nothing new.
    parts().is_some_and(|(iterations, salt)| made(password, &salt, iterations) == verifier)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_fits_its_password_alone() {
        let secret = |text: &str| Secret::from(text.to_owned());
        // RFC 7677, 3: the salt and the password of its example.
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let made = verifier(&secret("pencil"), &salt);
        assert_eq!(
            made,
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
             WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        );
        assert!(fits(&made, &secret("pencil")));
        for (verifier, password) in [
            (made.as_str(), "pencils"),
            ("", "pencil"),
            ("md5ab", "pencil"),
            ("SCRAM-SHA-256$0:AA==$x:y", "pencil"),
        ] {
            assert!(!fits(verifier, &secret(password)), "{verifier}");
        }
    }
}
