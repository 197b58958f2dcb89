use super::*;

fn wanted(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(m, f)| ((*m).into(), (*f).into())).collect()
}

fn files(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|n| (*n).into()).collect()
}

#[test]
fn present_plain_compressed_or_by_pattern() {
    let wanted =
        wanted(&[("bnx2", "bnx2/a.fw"), ("ice", "intel/ice/ddp/ice.pkg"), ("i40e", "x/*.bin")]);
    let files = files(&["bnx2/a.fw", "intel/ice/ddp/ice.pkg.zst", "x/1.bin.xz"]);
    assert_eq!(check(&wanted, &files, "").unwrap(), Report::default());
}

#[test]
fn missing_firmware_names_its_modules() {
    let wanted = wanted(&[("bnx2", "a.fw"), ("bnx2x", "a.fw")]);
    let missing =
        vec![Missing { firmware: "a.fw".into(), modules: vec!["bnx2".into(), "bnx2x".into()] }];
    assert_eq!(check(&wanted, &files(&[]), "").unwrap().missing, missing);
}

#[test]
fn a_waiver_needs_a_reason_and_a_use() {
    let wanted = wanted(&[("nfp", "netronome/a.nffw")]);
    let waivers = "# comment\n\nnfp:netronome/*  # 140 MiB for a NIC that no server here has\nold:*  # gone\n";
    let report = check(&wanted, &files(&[]), waivers).unwrap();
    assert_eq!(report, Report { missing: vec![], unused_waivers: vec!["old:*  # gone".into()] });
    assert!(check(&wanted, &files(&[]), "nfp:*\n").unwrap_err().contains("no reason"));
}

#[test]
fn stars_match_any_text() {
    for (pattern, text, expected) in [
        ("a*", "a", true),
        ("a*c", "abc", true),
        ("a*c", "ab", false),
        ("*", "", true),
        ("ab", "abc", false),
    ] {
        assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
    }
}
