//! Resource controls as D-Bus has them (org.freedesktop.systemd1(5), systemd.resource-control(5)).

use std::collections::BTreeSet;

use trilith_core::services::Limits;
use zbus::zvariant::Value;

use super::unit::Object;

/// Of the controls that are wanted, what they are now. `kind` is the interface of the unit's kind.
pub(super) async fn observe(
    object: &Object<'_>,
    kind: &str,
    wanted: &Limits,
) -> zbus::Result<Limits> {
    let mut found = wanted.clone();
    for (name, value) in found.numbers_mut() {
        if value.is_some() {
            *value = Some(object.get(kind, name).await?);
        }
    }
    if let Some(allowed) = &mut found.allowed_cpus {
        *allowed = cpus(&object.get::<Vec<u8>>(kind, Limits::ALLOWED_CPUS).await?);
    }
    Ok(found)
}

/// The controls that are given, for `SetUnitProperties`.
pub(super) fn properties(limits: &Limits) -> Vec<(&'static str, Value<'static>)> {
    let numbers = limits.numbers().map(|(name, number)| (name, Value::from(number)));
    let cpus = limits.allowed_cpus.iter();
    numbers.chain(cpus.map(|cpus| (Limits::ALLOWED_CPUS, Value::from(mask(cpus))))).collect()
}

/// A bit for each CPU, the lowest first.
fn mask(cpus: &BTreeSet<u16>) -> Vec<u8> {
    let bytes = cpus.last().map_or(0, |last| usize::from(*last) / 8 + 1);
    let mut mask = vec![0; bytes];
    for cpu in cpus {
        mask[usize::from(*cpu) / 8] |= 1 << (cpu % 8);
    }
    mask
}

fn cpus(mask: &[u8]) -> BTreeSet<u16> {
    let set = |cpu: &u16| mask.get(usize::from(*cpu) / 8).is_some_and(|b| b >> (cpu % 8) & 1 == 1);
    let all = u16::try_from(mask.len() * 8).unwrap_or(u16::MAX);
    (0..all).filter(set).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_and_back() {
        let some = BTreeSet::from([0, 3, 8, 127]);
        assert_eq!(mask(&some)[..2], [0b1001, 1]);
        assert_eq!(cpus(&mask(&some)), some);
        // systemd may give more bytes than are needed.
        assert_eq!(cpus(&[2, 0, 0, 0]), BTreeSet::from([1]));
        assert_eq!(mask(&BTreeSet::new()), Vec::<u8>::new());
    }
}
