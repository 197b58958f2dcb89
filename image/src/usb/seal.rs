//! Seals a bundle to the TPM of its node, knowing that TPM's public endorsement key alone: makes the object that the
//! TPM imports (TPM 2.0 Library, part 1: 11.4.10 key derivation, 23.3.2.3 outer duplication wrapper, C.6.1 seeds by ECDH;
//! part 2: structures).

use std::io::Write as _;

use aes::Aes128;
use age::secrecy::ExposeSecret as _;
use age::x25519::Identity;
use age::{Encryptor, Recipient};
use anyhow::{Context as _, Result, anyhow};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cfb_mode::Encryptor as Cfb;
use cfb_mode::cipher::{AsyncStreamCipher as _, KeyIvInit as _};
use ring::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::{digest, hmac};
use trilith_core::config::Node;
use trilith_core::names::EndorsementKey;
use trilith_core::sealed::Sealed;

/// `TPM_ALG_KEYEDHASH`: an object that holds data.
const KEYEDHASH: u16 = 0x0008;
/// `TPM_ALG_SHA256`.
const SHA256: u16 = 0x000b;
/// `TPM_ALG_NULL`.
const NONE: u16 = 0x0010;
/// `TPMA_OBJECT`: userWithAuth and noDA. Neither fixedTPM nor fixedParent, or it could not come from outside.
const ATTRIBUTES: u32 = 1 << 6 | 1 << 10;
/// The size of a coordinate of P-256, of a digest, and of the seeds here.
const SIZE: usize = 32;

/// The bundle of this node, for the TPM that its `match` names.
pub(super) fn seal(node: &Node, tpm: &EndorsementKey, bundle: &str) -> Result<Sealed> {
    let identity = Identity::generate();
    let secret = identity.to_string();
    let object = Object::new(secret.expose_secret().as_bytes())?;
    let wrapped = object.wrap(&BASE64_STANDARD.decode(tpm.as_str())?)?;
    Ok(Sealed {
        node: node.id,
        name: node.name.clone(),
        tpm: tpm.clone(),
        public: BASE64_STANDARD.encode(sized(&object.public)),
        duplicate: BASE64_STANDARD.encode(wrapped.duplicate),
        seed: BASE64_STANDARD.encode(wrapped.seed),
        bundle: BASE64_STANDARD.encode(encrypt(bundle, &identity)?),
    })
}

fn encrypt(bundle: &str, identity: &Identity) -> Result<Vec<u8>> {
    let recipient = identity.to_public();
    let recipients = std::iter::once::<&dyn Recipient>(&recipient);
    let mut writer = Encryptor::with_recipients(recipients)?.wrap_output(Vec::new())?;
    writer.write_all(bundle.as_bytes())?;
    Ok(writer.finish()?)
}

/// An object that holds data, before it is wrapped.
struct Object {
    /// `TPMT_PUBLIC`.
    public: Vec<u8>,
    /// `TPMT_SENSITIVE`.
    sensitive: Vec<u8>,
}

/// What a TPM imports.
struct Wrapped {
    /// `TPM2B_PRIVATE`.
    duplicate: Vec<u8>,
    /// `TPM2B_ENCRYPTED_SECRET`.
    seed: Vec<u8>,
}

impl Object {
    fn new(data: &[u8]) -> Result<Self> {
        let blinding: [u8; SIZE] = random()?;
        let unique = sha256(&[&blinding, data]);
        let public = [
            &KEYEDHASH.to_be_bytes()[..],
            &SHA256.to_be_bytes(),
            &ATTRIBUTES.to_be_bytes(),
            &sized(&[]), // no policy
            &NONE.to_be_bytes(),
            &sized(&unique),
        ]
        .concat();
        let no_authorization = sized(&[]);
        let sensitive =
            [&KEYEDHASH.to_be_bytes()[..], &no_authorization, &sized(&blinding), &sized(data)]
                .concat();
        Ok(Self { public, sensitive })
    }

    /// `TPM2B_NAME` without its size.
    fn name(&self) -> Vec<u8> {
        [&SHA256.to_be_bytes()[..], &sha256(&[&self.public])].concat()
    }

    /// Wraps it to an endorsement key, an uncompressed point of P-256.
    fn wrap(&self, endorsement: &[u8]) -> Result<Wrapped> {
        let (seed, encrypted_seed) = agree(endorsement)?;
        let name = self.name();
        let key = derive(&seed, "STORAGE", &name, 128);
        let mut content = sized(&self.sensitive);
        let zero = [0; 16];
        let cipher = Cfb::<Aes128>::new_from_slices(&key, &zero).context("AES key")?;
        cipher.encrypt(&mut content);
        let key = hmac::Key::new(hmac::HMAC_SHA256, &derive(&seed, "INTEGRITY", &[], 256));
        let integrity = hmac::sign(&key, &[&content[..], &name].concat());
        let duplicate = sized(&[&sized(integrity.as_ref())[..], &content].concat());
        Ok(Wrapped { duplicate, seed: encrypted_seed })
    }
}

/// A seed that only the holder of the endorsement key derives too, and what that one derives it from.
fn agree(endorsement: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
    let failed = |_| anyhow!("the endorsement key is no point of NIST P-256");
    let own = EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new()).map_err(failed)?;
    let public = own.compute_public_key().map_err(failed)?;
    let (x, y) = coordinates(public.as_ref())?;
    let (x_endorsement, _) = coordinates(endorsement)?;
    let theirs = UnparsedPublicKey::new(&ECDH_P256, endorsement);
    let seed = agree_ephemeral(own, &theirs, |shared| {
        // `KDFe`, of which one round is enough.
        let bytes: [&[u8]; 5] = [&1_u32.to_be_bytes(), shared, b"DUPLICATE\0", x, x_endorsement];
        sha256(&bytes)
    });
    let point = sized(&[sized(x), sized(y)].concat());
    Ok((seed.map_err(failed)?, point))
}

fn coordinates(point: &[u8]) -> Result<(&[u8], &[u8])> {
    let both = point.strip_prefix(&[4]).filter(|it| it.len() == 2 * SIZE);
    Ok(both.context("not an uncompressed point of NIST P-256")?.split_at(SIZE))
}

/// `KDFa`, of which one round is enough.
fn derive(seed: &[u8], label: &str, context: &[u8], bits: u32) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, seed);
    let message =
        [&1_u32.to_be_bytes()[..], label.as_bytes(), &[0], context, &bits.to_be_bytes()].concat();
    let mut derived = hmac::sign(&key, &message).as_ref().to_vec();
    derived.truncate(bits as usize / 8);
    derived
}

fn sha256(parts: &[&[u8]]) -> Vec<u8> {
    digest::digest(&digest::SHA256, &parts.concat()).as_ref().to_vec()
}

/// `TPM2B_…`: 16 bits of size before it. All that is sized here is far smaller than that allows.
fn sized(bytes: &[u8]) -> Vec<u8> {
    let size = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    [&size.to_be_bytes()[..], bytes].concat()
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| anyhow!("the kernel gives no randomness"))?;
    Ok(bytes)
}
