//! What a key does.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::view::{Page, Screen};

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Nothing.
    Nothing,
    /// Show what has changed.
    Draw,
    /// Show all of it, on a screen that somebody else wrote on.
    Repaint,
    /// Show another page.
    Turn(Page),
    /// Start the machine again.
    Reboot,
}

/// What this key does on this screen.
pub(crate) fn press(screen: &mut Screen, key: KeyEvent) -> Deed {
    if screen.page == Page::Reboot {
        return match key.code {
            KeyCode::Char('y' | 'Y') => Deed::Reboot,
            _ => Deed::Turn(Page::Status),
        };
    }
    match key.code {
        KeyCode::Char('l') if key.modifiers.contains(KeyModifiers::CONTROL) => Deed::Repaint,
        KeyCode::Char('l') => Deed::Turn(Page::Logs),
        KeyCode::Char('n') => Deed::Turn(Page::Net),
        KeyCode::Char('d') => Deed::Turn(Page::Disks),
        KeyCode::Char('r') => Deed::Turn(Page::Reboot),
        KeyCode::Char('s' | 'q') | KeyCode::Esc => Deed::Turn(Page::Status),
        KeyCode::Up | KeyCode::Char('k') => screen.scroll(-1),
        KeyCode::Down | KeyCode::Char('j') => screen.scroll(1),
        KeyCode::PageUp | KeyCode::Char('b') => screen.scroll(-screen.step()),
        KeyCode::PageDown | KeyCode::Char(' ') => screen.scroll(screen.step()),
        KeyCode::Home => screen.scroll(isize::MIN),
        KeyCode::End => screen.scroll(isize::MAX),
        _ => Deed::Nothing,
    }
}
