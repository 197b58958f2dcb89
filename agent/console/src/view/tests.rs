//! Screens as they are seen, on a serial line's terminal and on a larger one.

use std::fs;
use std::path::Path;

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;

const SIZES: [(u16, u16); 2] = [(80, 24), (132, 43)];

/// Shows a screen in both sizes, and compares with what was read and found good.
fn golden(name: &str, mut screen: Screen) {
    for (columns, rows) in SIZES {
        let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
        terminal.draw(|frame| draw(frame, &mut screen)).unwrap();
        let text: Vec<String> = (0..rows).map(|row| line(&terminal, columns, row)).collect();
        let text = text.join("\n") + "\n";
        let path = format!("{}/screens/{name}-{columns}x{rows}.txt", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("TRILITH_BLESS").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let good = fs::read_to_string(Path::new(&path)).unwrap_or_default();
        assert!(text == good, "{path} is not what is shown:\n{text}");
    }
}

fn line(terminal: &Terminal<TestBackend>, columns: u16, row: u16) -> String {
    let cell = |column| terminal.backend().buffer()[(column, row)].symbol().to_owned();
    (0..columns).map(cell).collect::<String>().trim_end().to_owned()
}

fn status(text: &str) -> NodeStatus {
    serde_yaml::from_str(text).unwrap()
}

fn subjects(last: &str) -> String {
    let good =
        "has_converged: true, has_settled: true, steps_applied: 0, passes: 0, last_pass_us: 0";
    format!(
        "
version: 0.1.0
node: {{cluster: home, id: 1, name: hv1}}
bundle: {{source: /run/trilith/bundle.yaml, problems: []}}
addresses: [192.168.1.11, 'fd00::b']
peers: {{hv2: {{since: 1795264175}}, hv3: {{since: 1795264175, silent: '10.0.0.3:29810: no answer'}}}}
subjects:
  ceph: {{state: converged, since: 1795264175, {good}, details: {{role: leader, leader: hv1,
    members: {{hv1: leader, hv2: peon, hv3: out of the quorum}}}}}}
  network: {{state: converged, since: 1795264170, {good}}}
  patroni: {{state: waiting, on: 'ZooKeeper on this node', since: 1795264172, {good}}}
  services: {{state: running, since: 1795264171, {good}}}
  zookeeper: {{{last}, since: 1795264171, {good}}}
"
    )
}

fn shows(text: &str) -> Screen {
    let mut screen = Screen::default();
    screen.set_status(status(text));
    screen
}

#[test]
fn a_node_that_misses_another() {
    let reason = "state: degraded, problems: [{object: hv3, reason: 'its agent does not answer; two of three are enough \
        for the quorum, and one more loss would end it: look at its power, its cables and its console'}]";
    golden("degraded", shows(&subjects(reason)));
}

#[test]
fn a_node_whose_agent_is_away() {
    let mut screen = shows(&subjects("state: retry, error: 'the bus is away', at: 0"));
    screen.set_silent("the agent is away: No such file or directory".into());
    golden("silent", screen);
}

#[test]
fn a_machine_that_nobody_knows() {
    let seen = "  - id: 1\n    match:\n      macs: [52:54:00:00:63:01]\n      serial: unknown";
    let text = format!(
        "{{version: 0.1.0, node: null, bundle: {{source: null, problems: []}}, subjects: {{}}, sighting: {seen:?}}}"
    );
    golden("unknown", shows(&text));
}

#[test]
fn a_node_that_is_installed() {
    let text = subjects("state: waiting, on: the node bundle");
    let says = "installing on sda (500 GB, FAST 500, serial S1): copying the release: 40 %";
    golden("installing", shows(&format!("{text}installation: {says:?}\n")));
    let says = "not installed\n  system_disk: 2 disks fit the rule: sda, sdb; write a rule that only one fits, such as \
        its serial\n  sda: 500 GB, FAST 500, serial S1, blank: it fits\n  sdb: 500 GB, FAST 500, serial S2, gpt ext4: \
        it fits\n  sdz: 1.5 GB, STICK, serial USB1, blank: the machine was started from it";
    golden("not-installed", shows(&format!("{text}installation: {says:?}\n")));
}

#[test]
fn the_journal_from_its_end_and_back() {
    let mut screen = shows(&subjects("state: converged"));
    screen.turn(Page::Logs);
    screen.add_lines(
        (1..=60).map(|number| format!("2026-11-21T11:54:02Z test[1]: {number}")).collect(),
    );
    golden("logs", screen);
}

#[test]
fn a_reboot_is_asked_about() {
    let mut screen = shows(&subjects("state: converged"));
    screen.turn(Page::Reboot);
    golden("reboot", screen);
}

#[test]
fn keys_lead_from_page_to_page_and_only_yes_reboots() {
    use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

    use crate::keys::{Deed, press};

    let key = |letter| KeyEvent::new(KeyCode::Char(letter), KeyModifiers::NONE);
    let mut screen = shows(&subjects("state: converged"));
    for (letter, page) in
        [('l', Page::Logs), ('n', Page::Net), ('d', Page::Disks), ('s', Page::Status)]
    {
        assert_eq!(press(&mut screen, key(letter)), Deed::Turn(page));
        screen.turn(page);
    }
    assert_eq!(press(&mut screen, key('y')), Deed::Nothing);
    assert_eq!(press(&mut screen, key('r')), Deed::Turn(Page::Reboot));
    screen.turn(Page::Reboot);
    assert_eq!(press(&mut screen, key('n')), Deed::Turn(Page::Status));
    assert_eq!(press(&mut screen, key('y')), Deed::Reboot);
    let ctrl_l = KeyEvent::new(KeyCode::Char('l'), KeyModifiers::CONTROL);
    screen.turn(Page::Status);
    assert_eq!(press(&mut screen, ctrl_l), Deed::Repaint);
}
