//! Resource controls as D-Bus has them (org.freedesktop.systemd1(5), systemd.resource-control(5)).

use std::collections::BTreeSet;

use trilith_core::services::Limits;
use zbus::zvariant::Value;

use super::unit::Object;

/// Of the controls that are wanted, what they are now.
pub(super) async fn observe(object: &Object<'_>, wanted: &Limits) -> zbus::Result<Limits> {
    let number = async |wanted: Option<u64>, name| match wanted {
        Some(_) => object.of_service::<u64>(name).await.map(Some),
        None => Ok(None),
    };
    let Limits { memory_max, memory_high, memory_low, cpu_weight, io_weight, allowed_cpus } =
        wanted;
    Ok(Limits {
        memory_max: number(*memory_max, "MemoryMax").await?,
        memory_high: number(*memory_high, "MemoryHigh").await?,
        memory_low: number(*memory_low, "MemoryLow").await?,
        cpu_weight: number(*cpu_weight, "CPUWeight").await?,
        io_weight: number(*io_weight, "IOWeight").await?,
        allowed_cpus: match allowed_cpus {
            Some(_) => Some(cpus(&object.of_service::<Vec<u8>>("AllowedCPUs").await?)),
            None => None,
        },
    })
}

/// The controls that are given, for `SetUnitProperties`.
pub(super) fn properties(limits: &Limits) -> Vec<(&'static str, Value<'static>)> {
    let Limits { memory_max, memory_high, memory_low, cpu_weight, io_weight, allowed_cpus } =
        limits;
    let numbers = [
        ("MemoryMax", memory_max),
        ("MemoryHigh", memory_high),
        ("MemoryLow", memory_low),
        ("CPUWeight", cpu_weight),
        ("IOWeight", io_weight),
    ];
    let numbers =
        numbers.into_iter().filter_map(|(name, number)| Some((name, Value::from((*number)?))));
    let cpus = allowed_cpus.iter().map(|cpus| ("AllowedCPUs", Value::from(mask(cpus))));
    numbers.chain(cpus).collect()
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
