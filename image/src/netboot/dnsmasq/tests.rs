use super::*;

fn lan() -> Lan {
    Lan { interface: "eno1".into(), address: "10.9.0.1/24".parse().unwrap() }
}

fn written(dhcp: &str, ipxe: bool) -> String {
    let dhcp = dhcp.parse().unwrap();
    let (lan, folder) = (lan(), Path::new("/tmp/trilith-netboot-1"));
    config(&Plan { lan: &lan, dhcp: &dhcp, url: "http://10.9.0.1:29812/", folder, ipxe })
}

#[test]
fn each_configuration_is_as_it_stands_beside_this_file() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/netboot/dnsmasq");
    for (name, dhcp, ipxe) in [
        ("proxy", "proxy", true),
        ("own", "10.9.0.100-10.9.0.120", true),
        ("own-http-only", "10.9.0.100-10.9.0.120", false),
    ] {
        let (path, text) = (folder.join(format!("{name}.conf")), written(dhcp, ipxe));
        if std::env::var_os("TRILITH_BLESS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), text, "{name}");
    }
}

#[test]
fn ranges_are_judged() {
    let fits = |text: &str| text.parse::<Dhcp>().and_then(|dhcp| dhcp.fits(&lan()));
    assert_eq!(fits("proxy"), Ok(()));
    assert_eq!(fits("10.9.0.100-10.9.0.120"), Ok(()));
    for (bad, words) in [
        ("10.9.0.100", "either `proxy` or two"),
        ("10.9.0.9-10.9.0.8", "comes after"),
        ("10.9.1.1-10.9.1.9", "no host's in 10.9.0.0/24 on eno1"),
        ("10.9.0.0-10.9.0.9", "no host's"),
        ("10.9.0.2-10.9.0.255", "no host's"),
        ("10.9.0.1-10.9.0.9", "own address"),
    ] {
        let reason = fits(bad).unwrap_err();
        assert!(reason.contains(words), "{bad}: {reason}");
    }
}
