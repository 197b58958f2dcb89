//! Golden plans.

use super::*;

#[test]
fn golden_plans() {
    crate::golden::check::<Install>("install", 20);
}

mod whose {
    use crate::belonging::Belonging;
    use crate::bundle::Bundle;
    use crate::config;
    use crate::install::{Desired, Release, Var};
    use crate::names::NodeId;
    use crate::secrets::sample;

    const FIVE: &str = include_str!("../../../../tests/clusters/valid/five.yaml");

    fn bundle(id: u16) -> Bundle {
        let node = NodeId::try_from(id).unwrap();
        let secrets = sample::secrets(&config::load(FIVE).unwrap(), node);
        Bundle::parse(&sample::bundle(node, FIVE, &secrets).unwrap()).unwrap()
    }

    #[test]
    fn a_var_is_nobodys_ours_or_somebody_elses() {
        let bundle = bundle(10);
        let own = Belonging::of(&bundle).unwrap().text().unwrap();
        assert_eq!(Var::of(None, None, &bundle), Var::Empty);
        assert_eq!(Var::of(Some(&own), Some("m"), &bundle), Var::Ours(Some("m".into())));
        let other = own.replace("node: 10", "node: 11");
        let Var::Others(whose) = Var::of(Some(&other), None, &bundle) else { panic!("ours") };
        assert!(
            whose.starts_with("its /var is that of node 11 (alder) of the cluster "),
            "{whose}"
        );
        assert!(matches!(Var::of(Some("?"), None, &bundle), Var::Unreadable(_)));
    }

    #[test]
    fn a_diskless_node_is_not_installed() {
        let of = |id| Desired::of(&bundle(id), Release::default(), "m".into());
        let desired = of(12).unwrap();
        assert_eq!((desired.osds.len(), desired.wipe.len()), (1, 1));
        assert!(of(10).unwrap().wipe.is_empty());
    }
}
