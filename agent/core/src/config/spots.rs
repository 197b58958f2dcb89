//! Where every value of the file stands: line, column and YAML path, from the events of a parser that
//! keeps positions. `serde_yaml` decides what the values are; this says where they are.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser, ScanError, Span};

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

/// Nesting that no cluster file needs; the deepest of the schema is below 10.
const DEEPEST: usize = 32;

/// Values after expanding aliases. 1,000 nodes have about 60,000; an alias bomb has billions.
const MOST_VALUES: usize = 500_000;

impl Spots {
    /// An empty file's: only the root.
    pub(super) fn empty() -> Self {
        let start = Position { line: 1, column: 1, length: 0 };
        let root = Place::new(Spot::ROOT, Step::Root, start, None);
        Self { places: vec![root], secret_lines: HashSet::new() }
    }

    /// Reads the places of the one document in `text`.
    pub(super) fn locate(text: &str) -> Result<Self, Refusal> {
        let mut builder = Builder::default();
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|error| not_yaml(&error))?;
            builder.take(event, span)?;
        }
        let Builder { places, .. } = builder;
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

fn not_yaml(error: &ScanError) -> Refusal {
    let tab = error.info().contains("tab");
    Refusal {
        position: at(*error.marker(), 1),
        reason: format!("this is not YAML: {}", error.info()),
        help: Some(if tab { "indent with blanks, not with tabs" } else { NOT_YAML }),
    }
}

/// A key as it stands in a path: quoted if a dot or a bracket would mislead.
fn plain_key(key: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_alphanumeric() || "-_+<".contains(c);
    if !key.is_empty() && key.chars().all(plain) {
        return Cow::Borrowed(key);
    }
    Cow::Owned(format!("{key:?}"))
}

fn at(marker: saphyr_parser::Marker, length: usize) -> Position {
    Position { line: marker.line().max(1), column: marker.col() + 1, length }
}

/// The stretch of a span within its first line.
fn stretch(span: Span) -> Position {
    let one_line = span.start.line() == span.end.line();
    at(span.start, if one_line { span.end.index().saturating_sub(span.start.index()) } else { 1 })
}

impl Place {
    fn new(parent: Spot, step: Step, position: Position, scalar: Option<String>) -> Self {
        Self { parent, step, position, scalar, children: Vec::new(), secret: false }
    }
}

/// A list or a map that is still open.
#[derive(Debug)]
struct Open {
    spot: Spot,
    holds: Holds,
}

#[derive(Debug)]
enum Holds {
    Items,
    /// A map, and the key whose value comes next.
    Entries(Option<(String, Position)>),
}

#[derive(Debug, Default)]
struct Builder {
    places: Vec<Place>,
    open: Vec<Open>,
    anchors: HashMap<usize, Spot>,
    documents: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Refusal> {
        let position = stretch(span);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => self.document(position),
            Event::Alias(anchor) => self.alias(anchor, position),
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, Some(_))
            | Event::MappingStart(_, Some(_)) => Err(refuse(
                position,
                "a YAML tag ('!…') means nothing in a cluster file",
                "remove the tag",
            )),
            Event::Scalar(text, _, anchor, None) => self.scalar(text, anchor, position),
            Event::SequenceStart(anchor, None) => self.begin(Holds::Items, anchor, position),
            Event::MappingStart(anchor, None) => self.begin(Holds::Entries(None), anchor, position),
            Event::SequenceEnd | Event::MappingEnd => {
                self.open.pop();
                Ok(())
            }
        }
    }

    fn document(&mut self, position: Position) -> Result<(), Refusal> {
        self.documents += 1;
        if self.documents == 1 {
            return Ok(());
        }
        let reason = "a second YAML document begins here; a cluster file is one document";
        Err(refuse(position, reason, "remove the '---', or put the rest into a file of its own"))
    }

    fn scalar(
        &mut self,
        text: Cow<'_, str>,
        anchor: usize,
        position: Position,
    ) -> Result<(), Refusal> {
        if let Some(Open { holds: Holds::Entries(key @ None), .. }) = self.open.last_mut() {
            *key = Some((text.into_owned(), position));
            return Ok(());
        }
        let spot = self.add(position, Some(text.into_owned()))?;
        self.anchors.insert(anchor, spot);
        Ok(())
    }

    fn begin(&mut self, holds: Holds, anchor: usize, position: Position) -> Result<(), Refusal> {
        self.no_key_awaited(position)?;
        let spot = self.add(Position { length: 1, ..position }, None)?;
        self.anchors.insert(anchor, spot);
        self.go_inside(spot, holds, position)
    }

    /// What is added next goes into this value.
    fn go_inside(&mut self, spot: Spot, holds: Holds, position: Position) -> Result<(), Refusal> {
        if self.open.len() >= DEEPEST {
            let reason =
                format!("the file is nested more than {DEEPEST} levels deep, aliases expanded");
            return Err(Refusal { position, reason, help: Some("close the brackets before this") });
        }
        self.open.push(Open { spot, holds });
        Ok(())
    }

    fn no_key_awaited(&self, position: Position) -> Result<(), Refusal> {
        match self.open.last() {
            Some(Open { holds: Holds::Entries(None), .. }) => {
                Err(refuse(position, "a key is a plain text here", "write the key as a word"))
            }
            _ => Ok(()),
        }
    }

    /// Adds a value below what is open.
    fn add(&mut self, position: Position, scalar: Option<String>) -> Result<Spot, Refusal> {
        let Some(Open { spot: parent, holds }) = self.open.last_mut() else {
            return self.push(Place::new(Spot::ROOT, Step::Root, position, scalar));
        };
        let parent = *parent;
        let step = match holds {
            Holds::Entries(key) => {
                key.take().map_or(Step::Root, |(key, position)| Step::Key(key, position))
            }
            Holds::Items => Step::Item(self.places[parent.0 as usize].children.len()),
        };
        let spot = self.push(Place::new(parent, step, position, scalar))?;
        self.places[parent.0 as usize].children.push(spot);
        Ok(spot)
    }

    fn push(&mut self, place: Place) -> Result<Spot, Refusal> {
        if self.places.len() >= MOST_VALUES {
            let reason = format!("the file has more than {MOST_VALUES} values, aliases expanded");
            return Err(Refusal {
                position: place.position,
                reason,
                help: Some("use fewer aliases"),
            });
        }
        self.places.push(place);
        Ok(Spot(u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX)))
    }

    /// An alias stands for a copy of what has the anchor; the copy keeps the positions of the text.
    fn alias(&mut self, anchor: usize, position: Position) -> Result<(), Refusal> {
        self.no_key_awaited(position)?;
        let target = self.anchors.get(&anchor).copied();
        let inside = self.open.iter().any(|open| Some(open.spot) == target);
        let Some(target) = target.filter(|_| !inside) else {
            return Err(refuse(
                position,
                "this alias stands for something that is not complete here",
                "write the value out",
            ));
        };
        self.copy(target)
    }

    fn copy(&mut self, target: Spot) -> Result<(), Refusal> {
        let original = self.places[target.0 as usize].clone();
        let copy = self.add(original.position, original.scalar)?;
        self.go_inside(copy, Holds::Items, original.position)?;
        for child in original.children {
            let step = self.places[child.0 as usize].step.clone();
            if let (Step::Key(key, position), Some(open)) = (step, self.open.last_mut()) {
                open.holds = Holds::Entries(Some((key, position)));
            }
            self.copy(child)?;
        }
        self.open.pop();
        Ok(())
    }
}

fn refuse(position: Position, reason: &str, help: &'static str) -> Refusal {
    Refusal { position, reason: reason.to_owned(), help: Some(help) }
}
