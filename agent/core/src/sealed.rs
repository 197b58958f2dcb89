//! A node bundle that one TPM alone can open. A medium is read by whoever holds it; where the cluster file knows the
//! endorsement key of a node's TPM, its bundle lies there encrypted, and the key to it is wrapped to that TPM.
//!
//! What wraps it is what a TPM calls a duplicate: an object that was made outside and encrypted so that only the TPM
//! with this endorsement key can import it (TPM 2.0 Library, part 1, 23.3 "Duplication"). So it is written without
//! asking the TPM, by who has only the cluster file.

use serde::{Deserialize, Serialize};

use crate::names::{EndorsementKey, NodeId, NodeName};

/// How the name of such a file ends; of a plain bundle it is `.yaml`.
pub const ENDING: &str = ".sealed";

/// In [`crate::boot::FOLDER`]: the endorsement key of this machine's TPM, as `nodes[].match.tpm` has it.
pub const ENDORSEMENT: &str = "tpm";

/// The file. All values but the first three are in base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// The node that it is for.
    pub node: NodeId,
    /// Its name, for people.
    pub name: NodeName,
    /// The key that it is wrapped to.
    pub tpm: EndorsementKey,
    /// The object's public area (`TPM2B_PUBLIC`).
    pub public: String,
    /// The object's private area, wrapped (`TPM2B_PRIVATE`). The object's data is an age identity.
    pub duplicate: String,
    /// What the wrapping key is derived from, encrypted to the endorsement key (`TPM2B_ENCRYPTED_SECRET`).
    pub seed: String,
    /// The bundle, encrypted by age to that identity.
    pub bundle: String,
}

impl Sealed {
    /// Reads such a file; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        serde_yaml::from_str(text).ok()
    }
}
