//! Where every value of the file stands: line, column and YAML path, from the events of a parser that
//! keeps positions. `serde_yaml` decides what the values are; this says where they are.

mod builder; // events -> places

use std::borrow::Cow;
use std::collections::HashSet;

use super::problem::Position;

/// A value's place in the file; an index into [`Spots`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Spot(u32);

impl Spot {
    /// The whole file.
    pub(super) const ROOT: Self = Self(0);

    /// As a number, for the way through serde.
    pub(super) fn number(self) -> u32 {
        self.0
    }

    /// From a number that [`Spot::number`] gave.
    pub(super) fn from_number(number: u32) -> Self {
        Self(number)
    }
}

/// How a value hangs in its parent.
#[derive(Debug, Clone)]
enum Step {
    Root,
    Key(String, Position),
    Item(usize),
}

#[derive(Debug, Clone)]
struct Place {
    parent: Spot,
    step: Step,
    position: Position,
    /// The text of a scalar; `None` for lists and maps.
    scalar: Option<String>,
    children: Vec<Spot>,
    secret: bool,
}

/// Every value's place.
#[derive(Debug)]
pub(super) struct Spots {
    places: Vec<Place>,
    /// Lines that hold a secret and must not be shown.
    secret_lines: HashSet<usize>,
}

/// Why a text cannot be taken as one YAML document.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) position: Position,
    pub(super) reason: String,
    pub(super) help: Option<&'static str>,
}

impl Spots {
    /// An empty file's: only the root.
    pub(super) fn empty() -> Self {
        let start = Position { line: 1, column: 1, length: 0 };
        let root = Place::new(Spot::ROOT, Step::Root, start, None);
        Self { places: vec![root], secret_lines: HashSet::new() }
    }

    /// Reads the places of the one document in `text`.
    pub(super) fn locate(text: &str) -> Result<Self, Refusal> {
        let places = builder::places(text)?;
        let secret_lines = HashSet::new();
        Ok(if places.is_empty() { Self::empty() } else { Self { places, secret_lines } })
    }

    fn place(&self, spot: Spot) -> Option<&Place> {
        self.places.get(spot.0 as usize)
    }

    /// The values in a list or a map, in the order of the file.
    pub(super) fn children(&self, spot: Spot) -> &[Spot] {
        self.place(spot).map_or(&[], |place| &place.children)
    }

    /// The text of a scalar.
    pub(super) fn scalar(&self, spot: Spot) -> Option<&str> {
        self.place(spot).and_then(|place| place.scalar.as_deref())
    }

    /// The key under which the value stands in its map.
    pub(super) fn key(&self, spot: Spot) -> Option<&str> {
        match &self.place(spot)?.step {
            Step::Key(key, _) => Some(key),
            Step::Root | Step::Item(_) => None,
        }
    }

    /// Where to point for this value: a scalar itself; a list or a map by its key, if it has one.
    pub(super) fn position(&self, spot: Spot) -> Position {
        match self.place(spot) {
            Some(Place { step: Step::Key(_, key), scalar: None, .. }) => *key,
            Some(Place { step: Step::Key(_, key), position, .. }) if position.length == 0 => *key,
            Some(place) => place.position,
            None => Position { line: 1, column: 1, length: 0 },
        }
    }

    /// Where to point for the value's key.
    pub(super) fn key_position(&self, spot: Spot) -> Position {
        match self.place(spot) {
            Some(Place { step: Step::Key(_, key), .. }) => *key,
            _ => self.position(spot),
        }
    }

    /// The line on which the value stands, for "first given in line 7".
    pub(super) fn line(&self, spot: Spot) -> usize {
        self.key_position(spot).line
    }

    /// The YAML path.
    pub(super) fn path(&self, spot: Spot) -> String {
        let mut steps = Vec::new();
        let mut current = spot;
        while let Some(place) = self.place(current) {
            match &place.step {
                Step::Root => break,
                Step::Key(key, _) => steps.push(format!(".{}", plain_key(key))),
                Step::Item(index) => steps.push(format!("[{index}]")),
            }
            current = place.parent;
        }
        steps.reverse();
        steps.concat().trim_start_matches('.').to_owned()
    }

    /// Whether a value is `ancestor` or lies somewhere inside it.
    pub(super) fn is_below(&self, spot: Spot, ancestor: Spot) -> bool {
        let mut current = spot;
        while current != ancestor {
            match self.place(current) {
                Some(place) if current != Spot::ROOT => current = place.parent,
                _ => return false,
            }
        }
        true
    }

    /// Marks a value as one that must not be shown.
    pub(super) fn hide(&mut self, spot: Spot) {
        let Some(place) = self.places.get_mut(spot.0 as usize) else { return };
        place.secret = true;
        self.secret_lines.insert(place.position.line);
    }

    /// Whether the value must not be shown.
    pub(super) fn is_secret(&self, spot: Spot) -> bool {
        self.place(spot).is_some_and(|place| place.secret)
    }

    /// Whether the line must not be shown.
    pub(super) fn is_secret_line(&self, line: usize) -> bool {
        self.secret_lines.contains(&line)
    }

    /// Every place.
    pub(super) fn all(&self) -> impl Iterator<Item = Spot> + use<> {
        (0..u32::try_from(self.places.len()).unwrap_or(u32::MAX)).map(Spot)
    }
}

/// What to look for where the text is no YAML.
pub(super) const NOT_YAML: &str = "look for a bracket, a quote or a ':' that is missing, here or above, and for wrong indentation";

/// A key as it stands in a path: quoted if a dot or a bracket would mislead.
fn plain_key(key: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_alphanumeric() || "-_+<".contains(c);
    if !key.is_empty() && key.chars().all(plain) {
        return Cow::Borrowed(key);
    }
    Cow::Owned(format!("{key:?}"))
}

impl Place {
    fn new(parent: Spot, step: Step, position: Position, scalar: Option<String>) -> Self {
        Self { parent, step, position, scalar, children: Vec::new(), secret: false }
    }
}
