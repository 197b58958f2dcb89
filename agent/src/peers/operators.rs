//! The door for operators: what there is to read of this node ([`crate::diagnosis`]), by an operator's certificate.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tracing::info;
use trilith_core::operators::{PORT, who};
use trilith_core::secrets::certificate::Certificate;

use super::door::{Door, Guest, Refusal};

/// People at a time: each may have a few windows open.
const MOST: usize = 16;

/// The door, for those who have an operator's certificate of the cluster.
pub(super) fn door(tls: Arc<ServerConfig>) -> Rc<Door> {
    let refused = RefCell::new(BTreeMap::new());
    Rc::new(Door {
        name: "operators",
        port: PORT,
        most: MOST,
        tls,
        judge: Box::new(judge),
        refused,
    })
}

fn judge(certificate: &CertificateDer<'_>, from: SocketAddr) -> Result<Guest, Refusal> {
    let certificate = Certificate::from_der(certificate).ok();
    let operator = certificate.as_ref().and_then(who);
    let operator = operator.ok_or("the certificate is not an operator's")?;
    let name = &operator.name;
    info!(operator = name, from = %from.ip(), "operators: {name} looks at this node, from {}", from.ip());
    Ok(Guest::Operator(operator))
}
