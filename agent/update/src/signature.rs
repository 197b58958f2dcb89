//! Signatures of programs (Authenticode; Microsoft's "Windows Authenticode Portable Executable Signature Format"), judged as
//! firmware judges them (UEFI specification 2.10, 32.5.3.3): the program or somebody on the way from its signer up must be in
//! db, and neither may be in dbx. When a certificate ends is of no meaning to firmware.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use authenticode::AuthenticodeSignature;
use cms::cert::CertificateChoices;
use cms::cert::x509::Certificate;
use cms::cert::x509::der::asn1::OctetString;
use cms::cert::x509::der::{Encode as _, Reader as _, SliceReader};
use cms::content_info::ContentInfo;
use cms::signed_data::{SignedData, SignerIdentifier};
use ring::digest::{Context, SHA256, digest};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use trilith_core::efi::signatures::Database;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

/// How much is read at a time.
const STEP: usize = 1 << 20;
/// How many certificates a chain may have.
const LONGEST: usize = 8;
/// The object identifier of the attribute that has the content's digest (RFC 5652, 11.2).
const MESSAGE_DIGEST: &str = "1.2.840.113549.1.9.4";

/// A program's digest and signatures.
#[derive(Debug)]
struct Program {
    digest: [u8; 32],
    signatures: Vec<Vec<u8>>,
}

/// Checks a program against the firmware's lists.
///
/// # Errors
/// It would not be started, and why.
pub(crate) fn check(path: &Path, db: &Database, dbx: &Database) -> Result<()> {
    let program = Program::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(!dbx.programs.contains(&program.digest), "it is in the firmware's dbx");
    if db.programs.contains(&program.digest) {
        return Ok(());
    }
    ensure!(!program.signatures.is_empty(), "it is not signed");
    let mut reasons = Vec::new();
    let mut trusted = false;
    for signature in &program.signatures {
        match judge(signature, &program.digest, db, dbx)? {
            Ok(()) => trusted = true,
            Err(reason) => reasons.push(reason),
        }
    }
    if trusted { Ok(()) } else { bail!("{}", reasons.join("; ")) }
}

/// Whether one signature counts, else why not.
///
/// # Errors
/// Somebody who signed it is in dbx: then no other signature counts either.
fn judge(
    signature: &[u8],
    program: &[u8; 32],
    db: &Database,
    dbx: &Database,
) -> Result<Result<(), String>> {
    let (signer, others) = match signed(signature, program) {
        Ok(found) => found,
        Err(error) => return Ok(Err(format!("{error:#}"))),
    };
    let mut certificate = signer;
    for _ in 0..LONGEST {
        match stand(&certificate, &others, db, dbx)? {
            Stand::Trusted => return Ok(Ok(())),
            Stand::Nobody(reason) => return Ok(Err(reason)),
            Stand::Under(above) => certificate = above,
        }
    }
    Ok(Err("its signer's chain is too long".into()))
}

/// What a certificate is to the firmware.
enum Stand {
    /// It is in db, or signed by one that is.
    Trusted,
    /// Signed by this one, which came with it.
    Under(Vec<u8>),
    /// Neither, in words.
    Nobody(String),
}

fn stand(der: &[u8], others: &[Vec<u8>], db: &Database, dbx: &Database) -> Result<Stand> {
    let certificate = parse(der)?;
    let who = certificate.subject().to_string();
    let tbs: [u8; 32] = digest(&SHA256, certificate.tbs_certificate.as_ref())
        .as_ref()
        .try_into()
        .context("a digest of another length")?;
    let is_in = |list: &Database| list.certificates.iter().any(|it| it == der);
    ensure!(
        !is_in(dbx) && !dbx.signed.contains(&tbs),
        "it is signed by {who}, which is in the firmware's dbx"
    );
    let above = |list: &[Vec<u8>]| list.iter().find(|it| signs(it, &certificate)).cloned();
    if is_in(db) || above(&db.certificates).is_some() {
        return Ok(Stand::Trusted);
    }
    let nobody =
        || Stand::Nobody(format!("it is signed by {who}, which is not in the firmware's db"));
    Ok(above(others).filter(|next| next != der).map_or_else(nobody, Stand::Under))
}

/// The certificate of who signed this program, and the others that came with it, in DER.
fn signed(bytes: &[u8], program: &[u8; 32]) -> Result<(Vec<u8>, Vec<Vec<u8>>)> {
    let signature = AuthenticodeSignature::from_bytes(bytes);
    let signature = signature.map_err(|error| anyhow::anyhow!("no signature: {error}"))?;
    ensure!(signature.digest() == program, "its signature is of another program");
    let content = signature.encapsulated_content().context("a signature of nothing")?;
    let info = signature.signer_info();
    let message = match &info.signed_attrs {
        None => content.to_vec(),
        Some(attributes) => {
            let found = attributes.iter().find(|it| it.oid.to_string() == MESSAGE_DIGEST);
            let value = found.and_then(|it| it.values.get(0)).context("no digest is signed")?;
            let said = value.decode_as::<OctetString>().map_err(broken)?;
            let is = digest(&SHA256, content);
            ensure!(said.as_bytes() == is.as_ref(), "what is signed is not what is in it");
            attributes.to_der().map_err(broken)?
        }
    };
    let all = certificates(bytes)?;
    let SignerIdentifier::IssuerAndSerialNumber(id) = &info.sid else {
        bail!("its signer is not named by issuer and serial number")
    };
    let is_signer = |it: &&Certificate| {
        let signed = &it.tbs_certificate;
        signed.issuer == id.issuer && signed.serial_number == id.serial_number
    };
    let signer = all.iter().find(is_signer).context("its signer did not come with it")?;
    let signer = signer.to_der().map_err(broken)?;
    let key = parse(&signer)?;
    let key = key.public_key().subject_public_key.data.to_vec();
    let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key);
    let verified = key.verify(&message, info.signature.as_bytes());
    verified.map_err(|_| anyhow::anyhow!("its signature does not count"))?;
    let others: Result<Vec<Vec<u8>>, _> = all.iter().map(Certificate::to_der).collect();
    Ok((signer, others.map_err(broken)?))
}

/// All certificates of a signature. It may have bytes behind it.
fn certificates(bytes: &[u8]) -> Result<Vec<Certificate>> {
    let mut reader = SliceReader::new(bytes).map_err(broken)?;
    let info: ContentInfo = reader.decode().map_err(broken)?;
    let data = info.content.decode_as::<SignedData>().map_err(broken)?;
    let choices = data.certificates.into_iter().flat_map(|set| set.0.into_vec());
    let certificate = |choice| match choice {
        CertificateChoices::Certificate(certificate) => Some(certificate),
        CertificateChoices::Other(_) => None,
    };
    Ok(choices.filter_map(certificate).collect())
}

fn broken(error: cms::cert::x509::der::Error) -> anyhow::Error {
    anyhow::anyhow!("its signature is broken: {error}")
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>> {
    let parsed = X509Certificate::from_der(der);
    parsed.map(|(_, it)| it).map_err(|error| anyhow::anyhow!("no certificate: {error}"))
}

/// Whether the owner of this certificate (DER) has signed that one.
fn signs(der: &[u8], other: &X509Certificate<'_>) -> bool {
    parse(der).is_ok_and(|it| {
        it.subject().as_raw() == other.issuer().as_raw()
            && other.verify_signature(Some(it.public_key())).is_ok()
    })
}

impl Program {
    fn read(path: &Path) -> Result<Self> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        let head = Head::read(&file, size)?;
        Ok(Self { digest: head.digest(&file, size)?, signatures: head.signatures(&file)? })
    }
}

/// What there is in a program's head that a digest leaves out, and where it ends.
#[derive(Debug)]
struct Head {
    /// Where the sum over the file is: four bytes.
    checksum: u64,
    /// Where it says where the signatures are: eight bytes.
    entry: u64,
    /// Where the head ends.
    end: u64,
    /// The sections' bytes: where, and how many. In the order in which they lie there.
    sections: Vec<(u64, u64)>,
    /// The signatures: where, and how many bytes.
    table: (u64, u64),
}

impl Head {
    fn read(file: &File, size: u64) -> Result<Self> {
        let number = |at: u64| -> Result<u64> {
            let mut bytes = [0; 4];
            file.read_exact_at(&mut bytes, at).context("it ends in its head")?;
            Ok(u32::from_le_bytes(bytes).into())
        };
        let short = |at: u64| Ok::<u64, anyhow::Error>(number(at)? & 0xffff);
        ensure!(short(0)? == 0x5a4d, "it is no program");
        let head = number(0x3c)?;
        let optional = head + 24;
        ensure!(number(head)? == 0x4550 && short(optional)? == 0x20b, "it is no program for UEFI");
        // PE32+: the sum is at 64, the directories begin at 112, of which the fifth has the signatures.
        let entry = optional + 112 + 4 * 8;
        ensure!(number(optional + 108)? > 4, "it has no room for signatures");
        let table = (number(entry)?, number(entry + 4)?);
        let (count, length) = (short(head + 6)?, short(head + 20)?);
        let mut sections = Vec::new();
        for section in 0..count {
            let at = optional + length + section * 40;
            sections.push((number(at + 20)?, number(at + 16)?));
        }
        sections.retain(|(_, length)| *length > 0);
        sections.sort_unstable();
        let end = number(optional + 60)?;
        let signatures_fit = table.0.checked_add(table.1).is_some_and(|end| end <= size);
        ensure!(signatures_fit && end <= size && entry + 8 <= end, "its head does not fit");
        Ok(Self { checksum: optional + 64, entry, end, sections, table })
    }

    /// The digest that is signed.
    fn digest(&self, file: &File, size: u64) -> Result<[u8; 32]> {
        let mut context = Context::new(&SHA256);
        let mut step = vec![0; STEP];
        let mut add = |from: u64, to: u64| -> Result<()> {
            let mut at = from;
            while at < to {
                let length = usize::try_from((to - at).min(STEP as u64))?;
                file.read_exact_at(&mut step[..length], at).context("it is cut off")?;
                context.update(&step[..length]);
                at += length as u64;
            }
            Ok(())
        };
        add(0, self.checksum)?;
        add(self.checksum + 4, self.entry)?;
        add(self.entry + 8, self.end)?;
        let mut hashed = self.end;
        for (from, length) in &self.sections {
            add(*from, from + length)?;
            hashed += length;
        }
        // What lies behind the sections, but for the signatures, which come last.
        let rest = size.checked_sub(self.table.1).context("its head does not fit")?;
        add(hashed, rest)?;
        context.finish().as_ref().try_into().context("a digest of another length")
    }

    /// Every signature (PKCS #7, DER).
    fn signatures(&self, file: &File) -> Result<Vec<Vec<u8>>> {
        let mut table = vec![0; usize::try_from(self.table.1)?];
        file.read_exact_at(&mut table, self.table.0).context("its signatures are cut off")?;
        let (mut rest, mut all) = (table.as_slice(), Vec::new());
        // WIN_CERTIFICATE: length, revision 2.0, type PKCS #7; each begins at a multiple of eight.
        while let Some((head, _)) = rest.split_first_chunk::<8>() {
            let length = usize::try_from(u32::from_le_bytes([head[0], head[1], head[2], head[3]]))?;
            if length < 8 || length > rest.len() {
                break;
            }
            if head[4..] == [0, 2, 2, 0] {
                all.push(rest[8..length].to_vec());
            }
            rest = rest.get(length.next_multiple_of(8)..).unwrap_or_default();
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests;
